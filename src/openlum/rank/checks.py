"""What can stop the training of rankers, found before it begins."""

from collections.abc import Sequence
from functools import partial

from openlum.capacity import check_memory, check_training
from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.rank.batches import check_questions, plain_config, where_ids
from openlum.rank.rankers import lightgbm, new_network
from openlum.rank.settings import RankSettings


def check_ranking(dataset: Dataset, settings: RankSettings) -> None:
    """Find now what would stop the training of rankers.

    Raises:
        InputError: rows or settings from which rankers cannot learn, or a library that one needs is not installed.
    """
    where_ids(dataset, settings.history_where)
    check_rows(dataset)
    for architecture in settings.rankers:
        if architecture == "lightgbm":
            lightgbm.library()
            continue
        config = plain_config(dataset, architecture, settings)
        check_training(partial(new_network, config), f"'{architecture}'", "lower the widths of 'rank'")


def check_knowledge(
    dataset: Dataset, settings: RankSettings, questions: Sequence[str], feedback_names: Sequence[str], width: int
) -> None:
    """The knowledge that there will be has what the settings take of it, and fits into memory.

    Args:
        dataset: whose impressions will be answered.
        settings: of the rankers.
        questions: names of those that will be asked.
        feedback predictions: names of those that there will be.
        width: E of the answers.

    Raises:
        InputError: it has not, or does not fit.
    """
    check_questions(settings.knowledge, list(questions), list(feedback_names))
    answers = settings.knowledge.answers
    taken = len(questions) if answers is None else len(answers)
    rows = sum(dataset.info.impressions.values())
    check_memory(
        rows * (taken * width * 2 + (len(questions) + len(feedback_names)) * 4),
        f"knowledge of {rows:,} impressions",
        "name fewer rank.knowledge.direct_questions, or lower model.embedding_width",
    )


def check_rows(dataset: Dataset) -> None:
    """Every split must have rows with both labels, or there is nothing to learn or to judge."""
    remedy = (
        "check the impressions and 'splits' in the schema, or leave rankers out ('rank: null' in an experiment file)"
    )
    for split in SPLITS:
        labels = dataset.labels(split)
        if not labels:
            unlabelled = dataset.info.counts.get("impressions_unlabelled", 0)
            besides = f" (of {unlabelled:,} the label is missing)" if unlabelled else ""
            raise InputError(f"{dataset.path}: has no {split} impressions with a label{besides}; {remedy}")
        if len(labels) < 2:
            raise InputError(
                f"{dataset.path}: all {split} impressions have the label {labels.pop():.0f}, and rankers need both; {remedy}"
            )
