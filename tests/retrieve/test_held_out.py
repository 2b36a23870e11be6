"""The protocol of retrieval: the held-out event, the history before it, and the items that are excluded from the ranking."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.data.packing import Protocol, kept_from_training, training_end
from openlum.errors import InputError
from openlum.retrieve.held_out import all_held_out, protocol_description
from openlum.schema import Holdout
from tests.recode import recode

ITEMS = 21
"""V of the small data set."""


def loop(dataset: Dataset, split: str) -> Iterator[tuple[list[int], int]]:
    """Yield the history and the held-out item of every user who has one."""
    sequences = dataset.sequences
    cuts = sequences.test_at if split == "test" else sequences.valid_at
    for user_index, cut in enumerate(cuts.tolist()):
        events = sequences.item[sequences.offsets[user_index] : sequences.offsets[user_index + 1]].tolist()
        if cut < len(events):
            yield events[:cut], events[cut]


def test_the_test_event_is_the_last_and_the_validation_event_is_before_it(small_dataset: Dataset) -> None:
    valid, test = (all_held_out(small_dataset, split, ITEMS, exclude_seen=True) for split in ("valid", "test"))
    lengths = np.diff(small_dataset.sequences.offsets)
    assert np.array_equal(valid.user_index, test.user_index)
    assert np.array_equal(test.cut, lengths[test.user_index] - 1)
    assert np.array_equal(valid.cut, lengths[valid.user_index] - 2)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_history_lies_before_the_held_out_event(small_dataset: Dataset, split: Literal["valid", "test"]) -> None:
    held_out, sequences = all_held_out(small_dataset, split, ITEMS, exclude_seen=True), small_dataset.sequences
    events = sequences.offsets[held_out.user_index] + held_out.cut
    assert np.array_equal(held_out.target, sequences.item[events])
    for user_index, event in zip(held_out.user_index, events, strict=True):
        history = sequences.time[sequences.offsets[user_index] : event]
        assert len(history)
        assert (history <= sequences.time[event]).all()
    assert [target for _, target in loop(small_dataset, split)] == held_out.target.tolist()


@pytest.mark.parametrize("users", [1, 3, 100])
def test_every_user_is_in_one_batch(small_dataset: Dataset, users: int) -> None:
    held_out = all_held_out(small_dataset, "test", ITEMS, exclude_seen=True)
    batches = held_out.batches(users)
    assert np.concatenate(batches).tolist() == list(range(len(held_out.user_index)))
    assert max(map(len, batches)) <= users


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_ranks_equal_a_loop_over_users(
    small_dataset: Dataset, split: Literal["valid", "test"], exclude_seen: bool
) -> None:
    """Items of the history are excluded, but not the held-out item; items of later events take part."""
    held_out = all_held_out(small_dataset, split, ITEMS, exclude_seen)
    scores = np.random.default_rng(0).normal(size=(len(held_out.user_index), ITEMS))
    expected, repeated = [], 0
    for user_scores, (history, target) in zip(scores, loop(small_dataset, split), strict=True):
        repeated += target in history
        candidates = set(range(1, ITEMS)) - {target} - (set(history) if exclude_seen else set())
        expected.append(1 + sum(user_scores[item] >= user_scores[target] for item in candidates))
    assert 0 < repeated < len(expected)  # both cases occur
    for users in (3, 100):
        batches = held_out.batches(users)
        ranks = [held_out.rank(batch, torch.from_numpy(scores[batch])) for batch in batches]
        assert np.concatenate(ranks).tolist() == expected


def test_the_unknown_item_is_not_a_candidate(small_dataset: Dataset) -> None:
    held_out = all_held_out(small_dataset, "test", ITEMS, exclude_seen=False)
    batch = held_out.batches(100)[0]
    scores = torch.zeros(len(batch), ITEMS)
    scores[:, 0] = 9
    scores[batch, held_out.target] = 1
    assert (held_out.rank(batch, scores) == 1).all()
    protocol = protocol_description(small_dataset.info, held_out.target, ITEMS, exclude_seen=False, trained="both")
    assert protocol["candidates"] == ITEMS - 1


def test_an_unknown_item_is_not_held_out(small_dataset: Dataset, tmp_path: Path) -> None:
    event = int(small_dataset.sequences.offsets[1] + small_dataset.sequences.test_at[1])
    unknown = recode(small_dataset, tmp_path / "unknown", {}, {"sequences": {"item": {event: 0}}})
    assert 1 in all_held_out(small_dataset, "test", ITEMS, exclude_seen=True).user_index
    assert 1 not in all_held_out(unknown, "test", ITEMS, exclude_seen=True).user_index


def test_without_held_out_events_the_error_says_why(small_dataset: Dataset) -> None:
    dataset = Dataset(small_dataset.path)
    dataset.sequences.test_at[:] = np.diff(dataset.sequences.offsets)
    with pytest.raises(InputError, match="no user has three events, so no event can be held out"):
        all_held_out(dataset, "test", ITEMS, exclude_seen=True)


def test_the_protocol_describes_holdout(small_dataset: Dataset) -> None:
    def protocol(dataset: Dataset) -> dict[str, str]:
        return protocol_description(dataset.info, np.array([3]), ITEMS, exclude_seen=True, trained="last")

    plain, limited = protocol(small_dataset), Dataset(small_dataset.path)
    assert plain["held_out"].startswith("of each user with at least three events, the last event; ")
    assert plain["kept_from_training"] == "of each user with at least three events, the last two"
    holdout = Holdout(field="rating", values=["5", 4])
    schema = limited.info.data_schema.model_copy(update={"holdout": holdout})
    limited.info = limited.info.model_copy(update={"data_schema": schema})
    limited_protocol = protocol(limited)
    assert limited_protocol["held_out"].startswith(
        "of each user with at least three events whose rating is 5 or 4, the last of these; "
    )
    assert limited_protocol["kept_from_training"].endswith(
        "at least three events whose rating is 5 or 4, all events from the last but one of these on"
    )


@pytest.mark.parametrize("protocol", ["time", "last", "both"])
def test_the_description_of_events_kept_from_training_is_true(small_dataset: Dataset, protocol: Protocol) -> None:
    sequences, info = small_dataset.sequences, small_dataset.info
    end, words = training_end(sequences, info, protocol), kept_from_training(info, protocol)
    for user_index, (begin, stop) in enumerate(zip(sequences.offsets, sequences.offsets[1:], strict=False)):
        times, number = sequences.time[begin:stop], stop - begin
        trained = times < info.valid_time if " UTC on" in words else np.ones(number, bool)
        if "the last two" in words and number >= 3:
            trained &= np.arange(number) < number - 2
        assert end[user_index] == trained.sum()
