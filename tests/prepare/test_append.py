"""A dataset after an append equals a dataset prepared from both logs at once, except for the order of ids."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.prepare.run import append, prepare
from tests.prepare.logs import EVENTS, START, random_events, write_log

CONDITION = {
    "rating": {"type": "numeric", "feedback": True},
    "scenario": {"min_count": 2},
    "words": {"type": "multi", "max_values": 2},
    "source": {"hash_rows": 5},
}
SCHEMA: dict[str, Any] = {
    "events": EVENTS | {"condition": CONDITION},
    "items": {
        "path": "items.parquet",
        "id": "id",
        "title": "name",
        "features": {"price": {"type": "numeric", "buckets": 3}},
    },
    "users": {"path": "users.parquet", "id": "id", "features": {"city": {}}},
    "impressions": {"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "click"}
    | {"context": {"place": {"type": "numeric"}}},
    "holdout": {"field": "scenario", "values": ["home", "cart"]},
}

Tables = dict[str, dict[str, list[Any]]]


def log(seed: int = 0) -> Tables:
    """Return the tables of several days; new scenarios, words and users appear late, and seeds give different days."""
    events = random_events(seed, 300, users=12, items=15, seconds=500)
    late = [time > START + 300 for time in events["time"]]
    events["user"] = [
        f"{user} late" if new and user == "u3" else user for user, new in zip(events["user"], late, strict=True)
    ]
    events["scenario"] = [
        "voice" if new and s == "cart" else s for s, new in zip(events["scenario"], late, strict=True)
    ]
    events["words"] = [
        [f"w{(t + k) % (9 if new else 5)}" for k in range(t % 4)] for t, new in zip(events["time"], late, strict=True)
    ]
    events["source"] = [f"s{row % 40}" for row in range(len(late))]
    shown = {name: events[name][::2] for name in ("user", "item", "time", "scenario", "words", "source")}
    shown |= {"time": [time + 1 for time in shown["time"]], "click": [r % 2 for r in events["rating"][::2]]}
    shown["place"] = [float(row % 7) for row in range(len(shown["time"]))]
    items = [f"i{n}" for n in range(15)]
    return {
        "events": events,
        "shown": shown,
        "items": {"id": items, "name": [f"Item {n}" for n in items], "price": [float(n % 5) for n in range(15)]},
        "users": {"id": sorted(set(events["user"])), "city": [f"c{n % 3}" for n in range(len(set(events["user"])))]},
    }


def rows_of(table: dict[str, list[Any]], which: np.ndarray) -> dict[str, list[Any]]:
    return {name: [column[row] for row in which] for name, column in table.items()}


def raw_content(dataset: Dataset) -> dict[str, Any]:
    """Return the content of a dataset in raw values, so that the order of ids and rows does not matter."""
    users, items = dataset.vocabulary("users"), dataset.vocabulary("items")
    words = dataset.vocabularies("condition")
    sequences, histories = dataset.sequences, {}

    def value(name: str, values: np.ndarray) -> list[Any]:
        if name in words:
            return [words[name].decode(row) if row.ndim else words[name].decode([row])[0] for row in values]
        return values.round(4).tolist()

    for user_index, user in enumerate(users.decode(sequences.user)):
        own = slice(sequences.offsets[user_index], sequences.offsets[user_index + 1])
        histories[user] = {
            "time": sequences.time[own].tolist(),
            "item": items.decode(sequences.item[own]),
            "held": (sequences.valid_at[user_index], sequences.test_at[user_index]),
        } | {name: value(name, column[own]) for name, column in sequences.condition.items() if name != "rating"}
    shown = {}
    for split in SPLITS:
        part = dataset.impressions(split)
        columns = [users.decode(part.user), items.decode(part.item), part.time, part.label, part.prefix, part.row]
        columns += [value(name, column) for name, column in part.condition.items() if name not in ("rating", "gap")]
        shown[split] = [tuple(map(str, row)) for row in zip(*columns, strict=True)]
    titles = dict(zip(items.decode(np.arange(len(items))), dataset.item_titles(), strict=True))
    counts = {
        name: dict(zip(v.values, v.counts[1:].tolist(), strict=True)) for name, v in (words | {"items": items}).items()
    }
    return {"sequences": histories, "impressions": shown, "titles": titles, "counts": counts}


@pytest.mark.parametrize("overlap", [0, 40])
@pytest.mark.parametrize("parts", [1, 3])
def test_an_appended_dataset_equals_one_prepared_at_once(tmp_path: Path, overlap: int, parts: int) -> None:
    tables, extra = log(), {"engine": {"events_per_part": 300 // parts}}
    order = {name: np.argsort(tables[name]["time"], kind="stable") for name in ("events", "shown")}
    tables |= {name: rows_of(tables[name], order[name]) for name in order}
    whole = prepare(write_log(tmp_path / "whole", tables, **SCHEMA, **extra), tmp_path / "whole" / "dataset")
    first, second = {}, {}
    for name in order:
        n, cut = len(tables[name]["time"]), int(0.6 * len(tables[name]["time"]))
        # Some events arrive late: they happened before other events of the first log.
        late = np.arange(10, 20)
        first[name] = rows_of(tables[name], np.setdiff1d(np.arange(cut), late))
        second[name] = rows_of(tables[name], np.concatenate([np.arange(cut - overlap, n), late]))
    known = [row for row, user in enumerate(tables["users"]["id"]) if "late" not in user]
    first |= {"items": tables["items"], "users": rows_of(tables["users"], np.array(known))}
    schema = write_log(tmp_path / "day", first, **SCHEMA, **extra)
    prepare(schema, tmp_path / "day" / "dataset")
    before = Dataset(tmp_path / "day" / "dataset")
    ids = {name: before.vocabulary(name).values for name in ("users", "items", "condition.scenario", "condition.words")}
    specs = {spec.name: spec for spec in before.info.condition + before.info.item + before.info.context}
    write_log(tmp_path / "new", second | {"users": tables["users"]}, **SCHEMA)
    info = append(
        tmp_path / "day" / "dataset",
        tmp_path / "new" / "events.parquet",
        impressions=tmp_path / "new" / "shown.parquet",
        users=tmp_path / "new" / "users.parquet",
    )
    after = Dataset(tmp_path / "day" / "dataset")
    for name, values in ids.items():
        assert after.vocabulary(name).values[: len(values)] == values
        assert name in ("items", "condition.words") or len(after.vocabulary(name)) > len(values) + 1 or name == "items"
    assert {spec.name: spec.model_copy(update={"size": specs[spec.name].size}) for spec in after.info.context} == {
        spec.name: specs[spec.name] for spec in after.info.context
    }
    assert (info.valid_time, info.test_time) == (whole.valid_time, whole.test_time)
    assert info.counts["events"] == whole.counts["events"]
    assert info.rejected.get("events: already in the dataset", 0) == overlap
    content, expected = raw_content(after), raw_content(Dataset(tmp_path / "whole" / "dataset"))
    for name in ("sequences", "titles", "counts"):
        assert content[name] == expected[name], name
    strip = {split: sorted(row[:5] + row[6:] for row in rows) for split, rows in content["impressions"].items()}
    assert strip == {
        split: sorted(row[:5] + row[6:] for row in rows) for split, rows in expected["impressions"].items()
    }


def test_appending_twice_keeps_every_rejected_row(tmp_path: Path) -> None:
    events = random_events(2)
    events["user"][0] = None
    prepare(write_log(tmp_path / "a", {"events": events}), tmp_path / "dataset")
    for day in (1, 2):
        more = {name: column[:20] for name, column in random_events(10 + day).items()}
        more["time"] = [time + 86_400 * day for time in more["time"]]
        more["item"][3] = None
        write_log(tmp_path / "b", {"events": more})
        info = append(str(tmp_path / "dataset"), str(tmp_path / "b" / "events.parquet"))
    assert info.preparations == 3
    assert info.rejected == {"events: no user": 1, "events: no item": 2}
    files = sorted(path.name for path in (tmp_path / "dataset" / "rejected").iterdir())
    assert files == ["events-1.parquet", "events-2.parquet", "events.parquet"]
    assert [pq.read_metadata(tmp_path / "dataset" / "rejected" / file).num_rows for file in files] == [1, 1, 1]
    assert info.counts["events_in"] == info.counts["events"] + sum(info.rejected.values())


def test_rows_of_a_new_item_table_replace_earlier_rows(tmp_path: Path) -> None:
    tables = log()
    schema = write_log(tmp_path / "a", tables, **SCHEMA)
    prepare(schema, tmp_path / "dataset")
    new = {"id": ["i3", "i99"], "name": ["New name", "New item"], "price": [1.0, 2.0]}
    write_log(tmp_path / "b", {"events": rows_of(tables["events"], np.arange(5)), "items": new})
    append(tmp_path / "dataset", tmp_path / "b" / "events.parquet", items=tmp_path / "b" / "items.parquet")
    dataset = Dataset(tmp_path / "dataset")
    titles = dict(zip(dataset.vocabulary("items").values, dataset.item_titles()[1:], strict=True))
    assert (titles["i3"], titles["i4"], titles["i99"]) == ("New name", "Item i4", "New item")


def test_a_table_that_the_dataset_does_not_have_is_refused(tmp_path: Path) -> None:
    prepare(write_log(tmp_path, {"events": random_events(3)}), tmp_path / "dataset")
    with pytest.raises(InputError, match="has no 'items'; prepare the whole log again with a schema that has 'items'"):
        append(tmp_path / "dataset", tmp_path / "events.parquet", items=tmp_path / "events.parquet")


def test_a_failed_append_leaves_the_dataset_unchanged(tmp_path: Path) -> None:
    info = prepare(write_log(tmp_path, {"events": random_events(4)}), tmp_path / "dataset")
    (tmp_path / "broken.parquet").write_text("no")
    with pytest.raises(InputError, match=r"broken\.parquet: cannot be read"):
        append(tmp_path / "dataset", tmp_path / "broken.parquet")
    assert Dataset(tmp_path / "dataset").info == info


def test_a_user_who_exceeds_the_limit_keeps_the_earlier_events(tmp_path: Path) -> None:
    events = random_events(5, users=3)
    prepare(write_log(tmp_path, {"events": events}, max_user_events=120), tmp_path / "dataset")
    before = Dataset(tmp_path / "dataset").sequences
    more = {name: column[:80] for name, column in random_events(6, users=1).items()}
    more |= {"user": ["u0"] * 75 + ["new"] * 5, "time": [time + 86_400 for time in more["time"]]}
    write_log(tmp_path / "b", {"events": more})
    info = append(tmp_path / "dataset", tmp_path / "b" / "events.parquet")
    assert info.rejected == {"events: user with more than 120 events": 75}
    assert len(Dataset(tmp_path / "dataset").sequences.item) == len(before.item) + 5
    assert pq.read_metadata(tmp_path / "dataset" / "rejected" / "events-1.parquet").num_rows == 75
