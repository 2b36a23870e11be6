"""The order of events and the leave-last-out split equal plain Python."""

from pathlib import Path

import pytest

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.prepare.run import prepare
from tests.prepare.logs import random_events, write_log


@pytest.mark.parametrize("values", [None, ["4", "5"]])
def test_order_and_held_out_events_equal_brute_force(tmp_path: Path, values: list[str] | None) -> None:
    events = random_events(3, n=60, users=12)
    holdout = {"holdout": {"field": "rating", "values": values}} if values else {}
    prepare(write_log(tmp_path, {"events": events}, **holdout), tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    sequences, items, ratings = dataset.sequences, dataset.vocabulary("items"), dataset.vocabulary("condition.rating")
    short = 0
    for user_index, user in enumerate(dataset.vocabulary("users").decode(sequences.user)):
        rows = [row for row in range(len(events["user"])) if events["user"][row] == user]
        rows.sort(key=lambda row: (events["time"][row], row))
        own = slice(sequences.offsets[user_index], sequences.offsets[user_index + 1])
        assert sequences.time[own].tolist() == [events["time"][row] for row in rows]
        assert items.decode(sequences.item[own]) == [events["item"][row] for row in rows]
        event_ratings = [ratings.values[index - 1] if index else None for index in sequences.condition["rating"][own]]
        assert all(
            rating in (None, str(events["rating"][row])) for rating, row in zip(event_ratings, rows, strict=True)
        )
        held = [at for at, row in enumerate(rows) if values is None or str(events["rating"][row]) in values]
        expected = (held[-2], held[-1]) if len(held) >= 3 else (len(rows), len(rows))
        assert (sequences.valid_at[user_index], sequences.test_at[user_index]) == expected
        short += len(held) < 3
    assert 0 < short < len(sequences.user)


def test_a_numeric_field_can_restrict_the_holdout(tmp_path: Path) -> None:
    events = random_events(4)
    log = {"path": "events.parquet", "user": "user", "item": "item", "time": "time"}
    condition = {"rating": {"type": "numeric", "feedback": True}}
    found = []
    for directory, fields, values in (("a", {"rating": {"feedback": True}}, ["5"]), ("b", condition, ["5.0"])):
        schema = write_log(
            tmp_path / directory,
            {"events": events},
            events=log | {"condition": fields},
            holdout={"field": "rating", "values": values},
        )
        prepare(schema, tmp_path / directory / "out")
        found.append(Dataset(tmp_path / directory / "out").sequences.test_at.tolist())
    assert found[0] == found[1]


def test_a_holdout_on_a_list_field_is_refused(tmp_path: Path) -> None:
    log = {"path": "events.parquet", "user": "user", "item": "item", "time": "time"}
    schema = write_log(
        tmp_path,
        {"events": random_events(4)},
        events=log | {"condition": {"scenario": {"type": "multi"}}},
        holdout={"field": "scenario", "values": ["home"]},
    )
    with pytest.raises(InputError, match=r"schema\.yaml: key 'holdout.field': 'scenario' is multi"):
        prepare(schema, tmp_path / "dataset")
