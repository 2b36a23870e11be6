"""The plain baselines of retrieval against loops over users."""

from pathlib import Path

import numpy as np
import pytest

from openlum.data.dataset import Dataset
from openlum.data.item_activity import WINDOWS, refreshed
from openlum.model import ModelSettings
from openlum.prepare.run import prepare
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import pretrain
from openlum.retrieve.baselines import baseline_ranks
from openlum.retrieve.evaluate import retrieve
from openlum.retrieve.held_out import HeldOut, excludes_seen
from openlum.retrieve.settings import POPULARITY, RECENT_POPULARITY, REPEAT, RetrieveSettings
from tests.prepare.logs import write_log

ITEMS = 21
"""V of the small data set."""


def plain_rank(scores: dict[int, float], target: int, excluded: set[int]) -> int:
    """Return the rank of the target; items of the same score are ranked before it."""
    return 1 + sum(score >= scores[target] for item, score in scores.items() if item not in {target, 0} | excluded)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("shards", ["small_dataset", "sharded_dataset"])
def test_ranks_equal_a_loop_over_users(request: pytest.FixtureRequest, shards: str, exclude_seen: bool) -> None:
    dataset: Dataset = request.getfixturevalue(shards)
    ranks = baseline_ranks(dataset, ITEMS, exclude_seen, batch_users=3)
    sequences = dataset.sequences
    held_out = HeldOut(sequences, "test", ITEMS, exclude_seen)
    all_items, all_times = sequences.item, sequences.time
    by_window: dict[str, list[int]] = {window: [] for window in WINDOWS}
    for index, (user, cut, target) in enumerate(
        zip(held_out.user_index, held_out.cut, held_out.target.tolist(), strict=True)
    ):
        first = sequences.offsets[user]
        history = sequences.item[first : first + cut].tolist()
        moment = int(refreshed(all_times[first + cut]))
        seen = set(history) - {target} if exclude_seen else set()
        counts = {item: float(((all_items == item) & (all_times < moment)).sum()) for item in range(ITEMS)}
        assert ranks[POPULARITY][index] == plain_rank(counts, target, seen)
        for window, seconds in WINDOWS.items():
            recent = (all_times < moment) & (all_times >= moment - seconds)
            by_window[window].append(
                plain_rank({item: float((recent & (all_items == item)).sum()) for item in range(ITEMS)}, target, seen)
            )
        if not exclude_seen:
            distance = {item: position for position, item in enumerate(history)}  # the last position counts
            repeat = {item: counts[item] + (1e6 + distance[item] if item in distance else 0.0) for item in counts}
            assert ranks[REPEAT][index] == plain_rank(repeat, target, set())
    assert ranks[RECENT_POPULARITY].tolist() in by_window.values()
    assert (REPEAT in ranks) == (not exclude_seen)


def repeating_log(directory: Path, share: float) -> Dataset:
    """Return a data set in which this share of the events repeats the user's last item."""
    rng, rows = np.random.default_rng(0), []
    for user in range(300):
        item, time = 0, 1_600_000_000 + int(rng.integers(10**6))
        for event in range(int(rng.integers(4, 12))):
            if not event or rng.random() >= share:
                item = int(rng.integers(150))
            time += int(rng.integers(60, 10_000))
            rows.append((f"u{user}", f"i{item}", time))
    user, item, time = zip(*rows, strict=True)
    columns = {"user": list(user), "item": list(item), "time": list(time)}
    schema = write_log(
        directory, {"events": columns}, events={"path": "events.parquet", **{name: name for name in columns}}
    )
    prepare(schema, directory / "dataset")
    return Dataset(directory / "dataset")


def test_a_model_learns_to_repeat_and_seen_items_stay_in_the_ranking(tmp_path: Path) -> None:
    """Two thirds of the next items are the last item: the answer to *any* is about as good as repeating it."""
    dataset = repeating_log(tmp_path, 2 / 3)
    assert not excludes_seen(dataset, len(dataset.vocabulary("items")), None)
    settings = PretrainSettings(protocol="last", batch_events=64, epochs=8, feedback_prediction_weight=0)
    pretrain(dataset.path, tmp_path / "model", ModelSettings(width=16, layers=1, heads=2, embedding_width=16), settings)
    metrics = retrieve(dataset.path, tmp_path / "model", tmp_path / "retrieval", RetrieveSettings(at=[1]))
    assert metrics[REPEAT]["hr@1"] > 0.6
    assert metrics["any"]["hr@1"] >= metrics[REPEAT]["hr@1"] - 0.03
    assert metrics["any"]["mrr"] > metrics[POPULARITY]["mrr"] + 0.5


def test_seen_items_are_excluded_where_users_do_not_return(tmp_path: Path) -> None:
    dataset = repeating_log(tmp_path, 0.0)
    assert excludes_seen(dataset, len(dataset.vocabulary("items")), None)
    assert not excludes_seen(dataset, len(dataset.vocabulary("items")), setting=False)


def test_a_question_may_not_have_the_name_of_a_baseline() -> None:
    with pytest.raises(ValueError, match="repeat last"):
        RetrieveSettings(questions={REPEAT: {}})
