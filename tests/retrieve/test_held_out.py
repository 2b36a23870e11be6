"""The protocol of retrieval: which event is held out, what lies before it, and what is left out of the ranking."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.data.packing import Protocol, kept_from_training, training_end
from openlum.errors import InputError
from openlum.retrieve.held_out import HeldOut
from openlum.schema import Holdout
from tests.recode import recode

ITEMS = 21
"""V of the small data set."""


def loop(dataset: Dataset, split: str) -> Iterator[tuple[list[int], int]]:
    """The history, and the held-out item, of every user who has one."""
    sequences = dataset.sequences
    cuts = sequences.test_at if split == "test" else sequences.valid_at
    for place, cut in enumerate(cuts.tolist()):
        events = sequences.item[sequences.offsets[place] : sequences.offsets[place + 1]].tolist()
        if cut < len(events):
            yield events[:cut], events[cut]


def test_the_test_event_is_the_last_and_the_validation_event_the_one_before_it(small_dataset: Dataset) -> None:
    valid, test = (HeldOut(small_dataset, split, ITEMS, exclude_seen=True) for split in ("valid", "test"))
    lengths = np.diff(small_dataset.sequences.offsets)
    assert np.array_equal(valid.users, test.users)
    assert np.array_equal(test.cut, lengths[test.users] - 1)
    assert np.array_equal(valid.cut, lengths[valid.users] - 2)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_history_lies_before_the_held_out_event(small_dataset: Dataset, split: Literal["valid", "test"]) -> None:
    held_out, sequences = HeldOut(small_dataset, split, ITEMS, exclude_seen=True), small_dataset.sequences
    at = sequences.offsets[held_out.users] + held_out.cut
    assert np.array_equal(held_out.target, sequences.item[at])
    for place, event in zip(held_out.users, at, strict=True):
        history = sequences.time[sequences.offsets[place] : event]
        assert len(history)
        assert (history <= sequences.time[event]).all()
    assert [target for _, target in loop(small_dataset, split)] == held_out.target.tolist()


@pytest.mark.parametrize("users", [1, 3, 100])
def test_every_user_has_one_turn(small_dataset: Dataset, users: int) -> None:
    held_out = HeldOut(small_dataset, "test", ITEMS, exclude_seen=True)
    turns = held_out.turns(users)
    assert np.concatenate(turns).tolist() == list(range(len(held_out.users)))
    assert max(map(len, turns)) <= users


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_ranks_equal_a_loop_over_users(
    small_dataset: Dataset, split: Literal["valid", "test"], exclude_seen: bool
) -> None:
    """What a user had is left out, but not the held-out item; what comes later takes part."""
    held_out = HeldOut(small_dataset, split, ITEMS, exclude_seen)
    scores = np.random.default_rng(0).normal(size=(len(held_out.users), ITEMS))
    expected, again = [], 0
    for own, (history, target) in zip(scores, loop(small_dataset, split), strict=True):
        again += target in history
        others = set(range(1, ITEMS)) - {target} - (set(history) if exclude_seen else set())
        expected.append(1 + sum(own[other] >= own[target] for other in others))
    assert 0 < again < len(expected)  # both cases are there
    for users in (3, 100):
        turns = held_out.turns(users)
        ranks = [held_out.rank(turn, torch.from_numpy(scores[turn])) for turn in turns]
        assert np.concatenate(ranks).tolist() == expected


def test_the_unknown_item_is_no_candidate(small_dataset: Dataset) -> None:
    held_out = HeldOut(small_dataset, "test", ITEMS, exclude_seen=False)
    turn = held_out.turns(100)[0]
    scores = torch.zeros(len(turn), ITEMS)
    scores[:, 0] = 9
    scores[turn, held_out.target] = 1
    assert (held_out.rank(turn, scores) == 1).all()
    assert held_out.protocol("both")["candidates"] == ITEMS - 1


def test_an_unknown_item_is_not_held_out(small_dataset: Dataset, tmp_path: Path) -> None:
    event = int(small_dataset.sequences.offsets[1] + small_dataset.sequences.test_at[1])
    unknown = recode(small_dataset, tmp_path / "unknown", {}, {"sequences": {"item": {event: 0}}})
    assert 1 in HeldOut(small_dataset, "test", ITEMS, exclude_seen=True).users
    assert 1 not in HeldOut(unknown, "test", ITEMS, exclude_seen=True).users


def test_without_held_out_events_the_message_says_why(small_dataset: Dataset) -> None:
    nobody = Dataset(small_dataset.path)
    nobody.sequences.test_at[:] = np.diff(nobody.sequences.offsets)
    with pytest.raises(InputError, match="no user has three events"):
        HeldOut(nobody, "test", ITEMS, exclude_seen=True)


def test_the_protocol_says_what_holdout_does(small_dataset: Dataset) -> None:
    def protocol(dataset: Dataset) -> dict[str, str]:
        return HeldOut(dataset, "test", ITEMS, exclude_seen=True).protocol("last")

    plain, limited = protocol(small_dataset), Dataset(small_dataset.path)
    assert plain["held_out"].startswith("of each user with at least three events, the last event; ")
    assert plain["kept_from_training"] == "of each user with at least three events, the last two"
    holdout = Holdout(field="rating", values=["5", 4])
    schema = limited.info.data_schema.model_copy(update={"holdout": holdout})
    limited.info = limited.info.model_copy(update={"data_schema": schema})
    said = protocol(limited)
    assert said["held_out"].startswith(
        "of each user with at least three events whose rating is 5 or 4, the last of these; "
    )
    assert said["kept_from_training"].endswith(
        "at least three events whose rating is 5 or 4, all events from the last but one of these on"
    )


@pytest.mark.parametrize("protocol", ["time", "last", "both"])
def test_what_is_said_to_be_kept_from_training_is_kept(small_dataset: Dataset, protocol: Protocol) -> None:
    sequences, info = small_dataset.sequences, small_dataset.info
    end, words = training_end(small_dataset, protocol), kept_from_training(info, protocol)
    for place, (begin, stop) in enumerate(zip(sequences.offsets, sequences.offsets[1:], strict=False)):
        times, number = sequences.time[begin:stop], stop - begin
        kept = times < info.valid_time if " UTC on" in words else np.ones(number, bool)
        if "the last two" in words and number >= 3:
            kept &= np.arange(number) < number - 2
        assert end[place] == kept.sum()
