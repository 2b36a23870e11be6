"""The plan of rankers: numbers for keys that are `auto`, from the number of training rows and events."""

from openlum.data.dataset import Dataset
from openlum.rank.settings import RankSettings
from openlum.training.plan import passes, power_of_two

STEPS = 1000
"""Fewest steps of a ranker, if that takes at most `MOST_EPOCHS` passes."""
FEWEST_EPOCHS, MOST_EPOCHS = 8, 16
LEAVES, MOST_LEAVES = ((300_000, 15), (1_000_000, 31)), 63
"""Up to so many training rows, a tree has so many leaves; with more rows, `MOST_LEAVES`."""


def plan_ranking(rows: int, events: int, settings: RankSettings) -> RankSettings:
    """Return settings with a number for every key. Keys that the user has set stay.

    Args:
        rows: number of training rows.
        events: number of events of all histories.
        settings: of the rankers.
    """
    batch = power_of_two(rows / 50, 128, 1024)
    batch = batch if settings.is_auto("batch_size") else settings.batch_size
    epochs = passes(rows, batch, STEPS, FEWEST_EPOCHS, MOST_EPOCHS)
    leaves = next((leaves for most_rows, leaves in LEAVES if rows <= most_rows), MOST_LEAVES)
    trees = settings.trees.with_plan({"leaves": leaves, "min_rows": min(max(rows // 250, 20), 100)})
    sequence = settings.sequence.with_plan({"batch_events": power_of_two(events / 100, 256, 2048)})
    return settings.model_copy(update={"trees": trees, "sequence": sequence}).with_plan(
        {
            "batch_size": batch,
            "learning_rate": 3e-3 if batch >= 512 else 1e-3,
            "max_epochs": epochs,
            "patience": 2 if epochs <= FEWEST_EPOCHS else 3,
        }
    )


def plan_in_words(rows: int, settings: RankSettings) -> str:
    """Return the plan of rankers that read rows in one line.

    Args:
        rows: number of training rows.
        settings: with a number for every key.
    """
    batch = min(settings.batch_size, rows)
    steps = settings.max_epochs * -(-rows // max(batch, 1))
    return f"{rows:,} rows: at most {steps:,} steps of {batch:,} rows"


def plan_ranking_for(dataset: Dataset, settings: RankSettings) -> RankSettings:
    """Return `plan_ranking` for a dataset."""
    return plan_ranking(dataset.info.impressions["train"], dataset.info.counts["events"], settings)
