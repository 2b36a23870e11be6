"""An id or category that is written in different types or files is the same value in the dataset."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.prepare.canonical_expression import check_canonical
from openlum.prepare.conversion import Column, convert
from openlum.prepare.engines.engine import ROW_NUMBER
from openlum.prepare.engines.opening import open_engine
from openlum.prepare.run import prepare
from openlum.schema import EngineSettings
from tests.prepare.logs import START, write_log

USERS, ROUNDS = 4, 8
USER = [user for user in range(1, USERS + 1) for _ in range(ROUNDS)]
ITEM = [1 + (user * round_ + round_) % 5 for user in range(1, USERS + 1) for round_ in range(ROUNDS)]
TIME = [START + 1000 * user + 86_400 * round_ for user in range(1, USERS + 1) for round_ in range(ROUNDS)]
LABEL = [round_ % 2 for _ in range(USERS) for round_ in range(ROUNDS)]
ROWS = [2**62 + row for row in range(len(USER))]
"""Row ids that floats cannot represent."""
EVENTS = {"path": "events.csv", "user": "user", "item": "item", "time": "time"}
SHOWN = {"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "label"}


def impressions_after_events(**columns: Any) -> dict[str, Any]:
    """Return impressions five seconds after the events."""
    return {"user": USER, "item": ITEM, "time": [time + 5 for time in TIME], "label": LABEL} | columns


def test_one_value_in_different_types_is_one_value_in_the_dataset(tmp_path: Path) -> None:
    flags, stars = [item % 2 == 0 for item in ITEM], [0.5 * (item + 1) for item in ITEM]
    tags = [[float(item), 0.1] for item in ITEM]
    events = {
        "user": USER,
        "item": [f"{item}.0" for item in ITEM],
        "time": TIME,
        "mobile": [str(flag) for flag in flags],
    }
    events |= {"stars": stars, "tags": ["|".join(map(str, row)) for row in tags]}
    impressions = impressions_after_events(
        row=pa.array([Decimal(row) for row in ROWS], pa.decimal128(38, 0)),
        user=[float(user) for user in USER],
        item=pa.array([Decimal(item) for item in ITEM], pa.decimal128(38, 0)),
        mobile=flags,
        stars=pa.array([Decimal(str(star)) for star in stars], pa.decimal128(4, 2)),
        tags=pa.array(tags, pa.list_(pa.float32())),
    )
    items = {"id": pa.array(range(1, 6), pa.uint64()), "title": ["7.0", "True", "c", "d", "e"]}
    users = {"id": [f"{user}.0" for user in range(1, USERS + 1)], "age": ["old"] * USERS}
    schema = write_log(
        tmp_path,
        {"events.csv": events, "shown": impressions, "items": items, "users.csv": users},
        events=EVENTS | {"condition": {"mobile": {}, "stars": {}, "tags": {"type": "multi"}}},
        impressions=SHOWN | {"row": "row"},
        items={"path": "items.parquet", "id": "id", "title": "title"},
        users={"path": "users.csv", "id": "id", "features": {"age": {}}},
        holdout={"field": "mobile", "values": ["TRUE"]},
        max_rejected=0,
    )
    info = prepare(schema, tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    assert (info.counts["users"], info.counts["items"], info.notes) == (USERS, 5, {})
    assert sorted(dataset.vocabulary("items").values) == ["1", "2", "3", "4", "5"]
    assert set(dataset.item_titles()[1:]) == {"7.0", "True", "c", "d", "e"}  # for people: as they are
    assert set(dataset.vocabulary("condition.mobile").values) == {"true", "false"}
    assert set(dataset.vocabulary("condition.stars").values) == {"1", "1.5", "2", "2.5", "3"}
    assert set(dataset.vocabulary("condition.tags").values) == {"0.1", "1", "2", "3", "4", "5"}
    sequences = dataset.sequences
    moments = zip(np.repeat(sequences.user, ROUNDS), sequences.time, strict=True)
    event = {moment: number for number, moment in enumerate(moments)}
    rows_of = {}
    for split in ("train", "valid", "test"):
        rows = dataset.impressions(split)
        assert (rows.prefix > 0).all()
        rows_of[split] = rows.row.tolist()
        same = [event[user, time - 5] for user, time in zip(rows.user, rows.time, strict=True)]
        assert (rows.item == sequences.item[same]).all()
        for name, values in rows.condition.items():
            if name in ("mobile", "stars", "tags"):
                assert (values == sequences.condition[name][same]).all(), name
    assert sorted(row for rows in rows_of.values() for row in rows) == ROWS


def test_inexact_float_ids_and_ids_like_missing_values_are_noted(tmp_path: Path) -> None:
    big = [2.0**53 + user for user in USER]  # 2^53 + 1 is no float, and becomes 2^53
    events = {"user": [*big, float("inf"), float("nan")], "item": ["nan", "None", *map(str, ITEM[2:]), "1", "1"]}
    events["time"] = [*TIME, START, START]
    impressions = impressions_after_events(user=[f"{value:.17e}" for value in big], item=["NULL", *map(str, ITEM[1:])])
    info = prepare(
        write_log(
            tmp_path,
            {"events": events, "shown.csv": impressions, "users": {"id": pa.array([1.0, 2.0**25], pa.float32())}},
            events=EVENTS | {"path": "events.parquet"},
            impressions=SHOWN | {"path": "shown.csv"},
            users={"path": "users.parquet", "id": "id"},
        ),
        tmp_path / "dataset",
    )
    beyond = "floats beyond 2^53"
    merged = {note.split(":")[0]: number for note, number in info.notes.items() if beyond in note}
    assert merged == {"events": 3, "impressions": 3, "users_table": 1}
    empty = {note.split(":")[0]: number for note, number in info.notes.items() if "nan, None or null" in note}
    assert empty == {"events": 2, "impressions": 1}
    assert info.rejected == {"events: no user": 2}
    found = Dataset(tmp_path / "dataset").vocabulary("users").values
    assert set(found) == {"1", str(2**25), *(str(int(value)) for value in big)}
    assert {"nan", "None", "NULL"} <= set(Dataset(tmp_path / "dataset").vocabulary("items").values)


@pytest.mark.parametrize(
    ("values", "of", "expected"),
    [
        ([str(2**62 + 1), " 7 ", "7.0", None, ""], pa.string(), [2**62 + 1, 7, 7, None, None]),
        (["7.5", "1e5", "x", "9.1e+15", str(2**63)], pa.string(), ["wrong"] * 5),
        ([Decimal(2**62 + 1), Decimal("7.5"), Decimal(2**63)], pa.decimal128(38, 1), [2**62 + 1, "wrong", "wrong"]),
        ([2**63 - 1, 2**63, None], pa.uint64(), [2**63 - 1, "wrong", None]),
        ([7.0, 7.5, 2.0**53], pa.float64(), [7, "wrong", "wrong"]),
    ],
)
def test_row_ids_are_exact_whole_numbers(
    tmp_path: Path, values: list[Any], of: pa.DataType, expected: list[Any]
) -> None:
    pq.write_table(pa.table({"row": pa.array(values, of)}), tmp_path / "rows.parquet")
    with open_engine(EngineSettings(threads=1), tmp_path / "scratch") as engine:
        table = engine.scan("rows", [str(tmp_path / "rows.parquet")], ["row"])
        found = convert(table["row"], Column("row", "row", "row"))
        rows = engine.fetch_rows(
            table.select(ROW_NUMBER, value=found.value, wrong=found.faults[0][0]).order_by(ROW_NUMBER)
        )
    assert ["wrong" if row["wrong"] else row["value"] for row in rows] == expected


def test_decimals_that_duckdb_reads_as_floats_are_refused(tmp_path: Path) -> None:
    user = pa.array([Decimal(10**44 + user) for user in USER], pa.decimal256(50, 0))
    schema = write_log(
        tmp_path, {"events": {"user": user, "item": ITEM, "time": TIME}}, events=EVENTS | {"path": "events.parquet"}
    )
    with pytest.raises(
        InputError, match=r"events\.parquet: column 'user' has the type decimal256\(50, 0\); .*write it as text"
    ):
        prepare(schema, tmp_path / "dataset")


def test_a_vocabulary_that_is_not_canonical_is_refused(tmp_path: Path) -> None:
    with open_engine(EngineSettings(threads=1), tmp_path / "scratch") as engine:
        canonical, other = (
            engine.materialize(str(number), ibis.memtable({"value": values}))
            for number, values in enumerate((["7", "true", "1.10"], ["1", "7.0"]))
        )
        check_canonical(engine, canonical, "users.parquet")
        with pytest.raises(
            InputError,
            match=r"users\.parquet: an older version wrote the value '7\.0', which this version writes as '7'",
        ):
            check_canonical(engine, other, "users.parquet")
