"""Vocabularies, scales, buckets, hashed fields, lists and vectors."""

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlum.data.dataset import Dataset
from openlum.data.vocabulary import Vocabulary, hashed_id
from openlum.prepare.run import prepare
from tests.prepare.logs import EVENTS, random_events, write_log


@given(values=st.lists(st.text(), unique=True, max_size=30), data=st.data())
def test_vocabulary_round_trip(
    tmp_path_factory: pytest.TempPathFactory, values: list[str], data: st.DataObject
) -> None:
    counts = data.draw(st.lists(st.integers(0, 2**40), min_size=len(values), max_size=len(values)))
    path = tmp_path_factory.getbasetemp() / "vocabulary.parquet"
    Vocabulary(values, counts).save(path)
    loaded = Vocabulary.load(path)
    assert loaded.decode(loaded.encode(values)) == values
    assert loaded.encode(values).tolist() == list(range(1, len(values) + 1))
    assert loaded.counts.tolist() == [0, *counts]
    assert loaded.decode([0]) == ["(unknown)"]


def test_ids_are_ordered_by_first_event_then_value_and_training_events_are_counted(tmp_path: Path) -> None:
    events = random_events(8, items=60)
    info = prepare(write_log(tmp_path, {"events": events}), tmp_path / "dataset")
    training = [row for row, time in enumerate(events["time"]) if time < info.valid_time]
    for name, column in (("items", "item"), ("users", "user")):
        counts = Counter(events[column][row] for row in training)
        first = {
            value: min(t for t, other in zip(events["time"], events[column], strict=True) if other == value)
            for value in events[column]
        }
        expected = sorted(first, key=lambda value: (first[value], value))
        found = Dataset(tmp_path / "dataset").vocabulary(name)
        assert found.values == expected
        assert found.counts[1:].tolist() == [counts[value] for value in expected]


def test_values_rare_in_training_are_unknown(tmp_path: Path) -> None:
    events = random_events(9)
    late = np.argsort(events["time"])[-10:]
    events["scenario"] = ["late" if row in late else scenario for row, scenario in enumerate(events["scenario"])]
    events["scenario"][np.argmin(events["time"])] = "once"
    condition = {"rating": {"feedback": True}, "scenario": {"min_count": 2}}
    info = prepare(write_log(tmp_path, {"events": events}, events=EVENTS | {"condition": condition}), tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    assert sorted(dataset.vocabulary("condition.scenario").values) == ["cart", "home", "search"]
    assert (dataset.sequences.condition["scenario"] == 0).sum() == 11
    assert next(spec.size for spec in info.condition if spec.name == "scenario") == 4


def item_log(directory: Path, items: dict[str, Any], features: dict[str, Any], name: str = "items.parquet") -> Dataset:
    """Prepare a log with this item table."""
    tables = {"events": random_events(10), name.removesuffix(".parquet"): items}
    table = {"path": name, "id": "id", "features": features, "complete": False}
    prepare(write_log(directory, tables, items=table), directory / "dataset")
    return Dataset(directory / "dataset")


def by_key(dataset: Dataset, field: str) -> dict[str, Any]:
    """Return the values of a field by raw item id."""
    keys = ["(unknown)", *dataset.vocabulary("items").values]
    return dict(zip(keys, dataset.item_features()[field].tolist(), strict=True))


def test_lists_keep_their_order_lose_unknown_values_and_are_truncated(tmp_path: Path) -> None:
    tags = [["b", "a"], ["a", "rare", "b"], ["b", "a", "a", "b", "a"], None, [], [None, "a"]]
    items = {"id": [f"i{n}" for n in range(6)], "tags": tags}
    features = {"tags": {"type": "multi", "max_values": 4, "min_count": 2}}
    dataset = item_log(tmp_path / "a", items, features)
    vocabulary, found = dataset.vocabulary("item.tags"), by_key(dataset, "tags")
    kept = {key: [vocabulary.values[index - 1] for index in ids if index] for key, ids in found.items()}
    assert [kept[f"i{n}"] for n in range(6)] == [["b", "a"], ["a", "b"], ["b", "a", "a", "b"], [], [], ["a"]]
    assert vocabulary.values == ["a", "b"]
    assert dataset.specs("item")[0].width == 4
    joined = items | {"tags": ["|".join(value or "" for value in row) if row else None for row in tags]}
    assert by_key(item_log(tmp_path / "b", joined, features, "items.csv"), "tags") == found


def test_lists_in_conditions(tmp_path: Path) -> None:
    events = random_events(11)
    events["words"] = [["w", f"w{row % 3}"][: row % 3] for row in range(len(events["user"]))]
    condition = {"words": {"type": "multi"}, "rating": {"feedback": True}}
    schema = write_log(
        tmp_path,
        {"events": events},
        events=EVENTS | {"condition": condition},
        impressions_from_events={"field": "rating", "at_least": 3},
    )
    prepare(schema, tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    sequences, decode = dataset.sequences, dataset.vocabulary("condition.words").decode
    item, user = (
        dataset.vocabulary("items").decode(sequences.item),
        np.repeat(sequences.user, np.diff(sequences.offsets)),
    )
    user = dataset.vocabulary("users").decode(user)
    found = Counter((*row, *decode(w)) for *row, w in zip(user, item, sequences.condition["words"], strict=True))
    padded = [words + ["(unknown)"] * (8 - len(words)) for words in events["words"]]
    assert found == Counter((u, i, *words) for u, i, words in zip(events["user"], events["item"], padded, strict=True))
    assert dataset.impressions("train").condition["words"].shape[1] == 8


def test_numbers_are_standardised_and_missing_ones_are_nan(tmp_path: Path) -> None:
    items = {"id": [f"i{n}" for n in range(4)], "price": [1.0, 2.0, 6.0, None], "same": [3] * 4}
    features = {"price": {"type": "numeric"}, "same": {"type": "numeric"}}
    dataset = item_log(tmp_path, items, features)
    found, scale = by_key(dataset, "price"), dataset.info.item[0]
    assert (scale.mean, scale.std) == (3.0, pytest.approx(np.std([1, 2, 6])))
    expected = [*((np.array([1, 2, 6]) - 3) / scale.std), np.nan]
    assert [found[f"i{n}"] for n in range(4)] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert np.isnan(found["(unknown)"])
    assert {by_key(dataset, "same")[f"i{n}"] for n in range(4)} == {0}


def test_buckets_hold_equally_many_rows_and_missing_numbers_are_unknown(tmp_path: Path) -> None:
    price = [*np.random.default_rng(0).permutation(12).astype(float), None, 11.0]
    items = {"id": [f"i{n}" for n in range(14)], "price": price, "same": [5.0] * 14}
    dataset = item_log(tmp_path, items, {name: {"type": "numeric", "buckets": 3} for name in ("price", "same")})
    spec, found = dataset.info.item[0], by_key(dataset, "price")
    assert (spec.type, spec.size, spec.edges) == ("categorical", 4, [4.0, 8.0])
    ids = [found[f"i{n}"] for n in range(14)]
    assert ids == [0 if value is None else 1 + int(np.searchsorted([4, 8], value)) for value in price]
    assert {by_key(dataset, "same")[f"i{n}"] for n in range(14)} == {1}


def test_times_are_days_since_1970(tmp_path: Path) -> None:
    dates = [date(2020, 1, 1), date(2020, 1, 2), None]
    texts = ["2020-01-01", "2020-01-02T00:00:00+00:00", ""]
    for name, column in (("a", dates), ("b", texts)):
        items = {"id": ["i0", "i1", "i2"], "released": column}
        dataset = item_log(tmp_path / name, items, {"released": {"type": "time"}})
        spec, found = dataset.info.item[0], by_key(dataset, "released")
        assert (spec.type, spec.unit, spec.mean) == ("numeric", "days since 1970", 18262.5)
        assert [found[f"i{n}"] * spec.std + spec.mean for n in range(3)] == pytest.approx(
            [18262, 18263, np.nan], nan_ok=True
        )


def test_hashed_fields_have_no_vocabulary_and_report_their_collisions(tmp_path: Path) -> None:
    tags = [[f"t{n}", "é"] if n % 3 else None for n in range(40)]
    items = {"id": [f"i{n}" for n in range(40)], "brand": [f"b{n}" if n else None for n in range(40)], "tags": tags}
    features = {"brand": {"hash_rows": 30}, "tags": {"type": "multi", "hash_rows": 30}}
    dataset = item_log(tmp_path, items, features)
    brands, found = by_key(dataset, "brand"), by_key(dataset, "tags")
    assert [brands[f"i{n}"] for n in range(40)] == [0, *(hashed_id(f"b{n}", 30) for n in range(1, 40))]
    assert found["i1"][:3] == [hashed_id("t1", 30), hashed_id("é", 30), 0]
    assert not any(found["i0"])
    rows = Counter(hashed_id(f"b{n}", 30) for n in range(1, 40))
    shared = sum(n for n in rows.values() if n > 1) / 39
    assert dataset.info.profile.collisions["item.brand"] == pytest.approx(shared)
    assert not (dataset.path / "vocab" / "item.brand.parquet").exists()


@pytest.mark.parametrize("name", ["items.parquet", "items.csv"])
def test_vectors_are_not_changed(tmp_path: Path, name: str) -> None:
    vectors: list[Any] = [[0.5, 1.0], None, [2.0, -3.0]]
    texts = ["0.5|1.0", None, "2|-3"]
    items = {"id": ["i0", "i1", "i2"], "content": vectors if name == "items.parquet" else texts}
    found = by_key(item_log(tmp_path, items, {"content": {"type": "vector", "width": 2}}, name), "content")
    assert [found[f"i{n}"] for n in range(3)] == [[0.5, 1.0], [0.0, 0.0], [2.0, -3.0]]


def test_vectors_of_half_precision_are_read(tmp_path: Path) -> None:
    vectors = pa.array(list(np.array([[0.5, 1.0], [2.0, -3.0]], np.float16)), pa.list_(pa.float16()))
    dataset = item_log(tmp_path, {"id": ["i0", "i1"], "content": vectors}, {"content": {"type": "vector", "width": 2}})
    assert by_key(dataset, "content")["i1"] == [2.0, -3.0]


def test_whole_numbers_become_text_without_a_point(tmp_path: Path) -> None:
    events = random_events(12)
    numbers = [int(item[1:]) for item in events["item"]]
    events["item"] = [float(number) for number in numbers]
    items = {"id": sorted(set(numbers)), "year": [1990 + number for number in sorted(set(numbers))]}
    table = {"path": "items.parquet", "id": "id", "complete": False, "features": {"year": {}}}
    info = prepare(write_log(tmp_path, {"events": events, "items": items}, items=table), tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    assert set(dataset.vocabulary("items").values) == {str(number) for number in numbers}
    assert dataset.vocabulary("item.year").values == [str(1990 + number) for number in sorted(set(numbers))]
    assert not any("item table" in note for note in info.notes)
