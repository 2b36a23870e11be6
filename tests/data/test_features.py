"""Vocabularies, scales, lists and vectors."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlum.data.dataset import Dataset
from openlum.data.prepare import prepare
from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from tests.data.logs import EVENTS, random_events, write_log


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


def test_ids_go_by_training_count_then_value(tmp_path: Path) -> None:
    events = random_events(8, items=60)
    info = prepare(write_log(tmp_path, {"events": events}), tmp_path / "dataset")
    training = [row for row, time in enumerate(events["time"]) if time < info.valid_time]
    for name, column in (("items", "item"), ("users", "user")):
        counts = Counter(events[column][row] for row in training)
        expected = sorted(set(events[column]), key=lambda value: (-counts[value], value))
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
    """A log with this item table, prepared."""
    tables = {"events": random_events(10), name.removesuffix(".parquet"): items}
    table = {"path": name, "id": "id", "features": features}
    prepare(write_log(directory, tables, items=table), directory / "dataset")
    return Dataset(directory / "dataset")


def by_key(dataset: Dataset, field: str) -> dict[str, Any]:
    """Raw item id to the values of a field."""
    keys = ["(unknown)", *dataset.vocabulary("items").values]
    return dict(zip(keys, dataset.item_features()[field].tolist(), strict=True))


def test_lists_keep_their_order_lose_unknown_values_and_are_cut(tmp_path: Path) -> None:
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
    padded = [words + ["(unknown)"] * (2 - len(words)) for words in events["words"]]
    assert found == Counter((u, i, *words) for u, i, words in zip(events["user"], events["item"], padded, strict=True))
    assert dataset.impressions("train").condition["words"].shape[1] == 2


def test_numbers_are_standardised_and_missing_ones_are_nan(tmp_path: Path) -> None:
    price = [1.0, 2.0, 6.0, None, float("nan")]
    items = {"id": [f"i{n}" for n in range(5)], "price": price, "same": [3] * 5}
    features = {"price": {"type": "numeric"}, "same": {"type": "numeric"}}
    dataset = item_log(tmp_path, items, features)
    found, scale = by_key(dataset, "price"), dataset.info.item[0]
    assert (scale.mean, scale.std) == (3.0, pytest.approx(np.std([1, 2, 6])))
    expected = [*((np.array([1, 2, 6]) - 3) / scale.std), np.nan, np.nan]
    assert [found[f"i{n}"] for n in range(5)] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert np.isnan(found["(unknown)"])
    assert {by_key(dataset, "same")[f"i{n}"] for n in range(5)} == {0}


@pytest.mark.parametrize("name", ["items.parquet", "items.csv"])
def test_vectors_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    vectors: list[Any] = [[0.5, 1.0], None, [2.0, -3.0]]
    texts = ["0.5|1.0", None, "2|-3"]
    items = {"id": ["i0", "i1", "i2"], "content": vectors if name == "items.parquet" else texts}
    found = by_key(item_log(tmp_path, items, {"content": {"type": "vector", "width": 2}}, name), "content")
    assert [found[f"i{n}"] for n in range(3)] == [[0.5, 1.0], [0.0, 0.0], [2.0, -3.0]]


@pytest.mark.parametrize("wrong", [[1.0], [1.0, 2.0, 3.0], [1.0, float("nan")]])
def test_vector_of_the_wrong_width_or_not_of_numbers_stops(tmp_path: Path, wrong: list[float]) -> None:
    items = {"id": ["i0", "i1"], "content": [[1.0, 2.0], wrong]}
    with pytest.raises(InputError, match=r"row 2, column 'content': expected a list of 2 finite numbers"):
        item_log(tmp_path, items, {"content": {"type": "vector", "width": 2}})


def test_whole_numbers_become_text_without_a_point(tmp_path: Path) -> None:
    events = random_events(12)
    numbers = [int(item[1:]) for item in events["item"]]
    events["item"] = [float(number) for number in numbers]
    items = {"id": sorted(set(numbers)), "year": [1990 + number for number in sorted(set(numbers))]}
    table = {"path": "items.parquet", "id": "id", "features": {"year": {}}}
    info = prepare(write_log(tmp_path, {"events": events, "items": items}, items=table), tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    assert set(dataset.vocabulary("items").values) == {str(number) for number in numbers}
    assert dataset.vocabulary("item.year").values == [str(1990 + number) for number in sorted(set(numbers))]
    assert not any("item table" in note for note in info.notes)
