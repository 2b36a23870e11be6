"""DuckDB and Spark produce the same dataset, row for row."""

import importlib.util
import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.prepare.engines.opening import open_engine
from openlum.prepare.row_checks import LATE_LABEL
from openlum.prepare.run import append, prepare
from openlum.schema import EngineSettings
from openlum.sources.market.settings import MarketSettings
from openlum.sources.market.write import write_market
from openlum.sources.public import write
from tests.data.test_canonical import COLUMNS, texts_by, texts_in_python
from tests.prepare.logs import random_events, write_log
from tests.prepare.test_append import SCHEMA, log
from tests.prepare.test_files import rows, write_compatible_types
from tests.prepare.test_impressions import odd_names
from tests.prepare.test_sampled_impressions import EVENTS, IMPRESSIONS, requests

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="needs PySpark: pip install '.[spark]'"),
    pytest.mark.skipif(shutil.which("java") is None, reason="needs Java 17 or newer on the path"),
]
SPARK = {"name": "spark", "spark": {"spark.master": "local[2]", "spark.sql.shuffle.partitions": "4"}}
KEYS = {"items.parquet": "item", "users.parquet": "user"}
PART_KEYS = {"sequences": "user"} | {
    f"impressions/{split}": "row" for split in ("train", "valid", "test", "unlabelled")
}


def with_spark(schema: Path) -> Path:
    """Return the path of the same schema with Spark as its engine."""
    other = schema.with_name("spark.yaml")
    content = yaml.safe_load(schema.read_text())
    content["engine"] = content.get("engine", {}) | SPARK
    other.write_text(yaml.safe_dump(content, sort_keys=False))
    return other


def tables(dataset: Path) -> dict[str, pa.Table]:
    """Return every table of a dataset, the tables of each shard one by one, ordered by their keys."""
    parts = {f"{name}/{part.name}": key for name, key in PART_KEYS.items() for part in (dataset / name).iterdir()}
    keys = KEYS | parts | {f"vocab/{file.name}": "id" for file in (dataset / "vocab").iterdir()}
    found = {name: pq.read_table(dataset / name).sort_by(key) for name, key in keys.items()}
    rejected = {f.name: pq.read_table(f).sort_by("row_number") for f in (dataset / "rejected").glob("*.parquet")}
    return found | rejected


def assert_same(first: Path, second: Path, rounded: str | None = None) -> None:
    """Assert that two datasets are the same; the condition field `rounded`, a number, may differ by rounding."""
    one, other = tables(first), tables(second)
    assert one.keys() == other.keys()
    column = f"condition.{rounded}"
    for name, table in one.items():
        assert table.column_names == other[name].column_names, name
        if column in table.column_names:
            columns = [each[column] for each in (table, other[name])]
            values = [pc.list_flatten(c) if pa.types.is_list(c.type) else c for c in columns]
            np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-6)
            table, other[name] = table.drop(column), other[name].drop(column)
        # `equals` treats two missing numbers as equal, and the cast ignores which fields are nullable.
        assert table.cast(other[name].schema).equals(other[name]), name
    infos = [json.loads((path / "dataset.json").read_text()) for path in (first, second)]
    for info in infos:
        del info["data_schema"]["engine"]
    for spec in infos[1]["condition"]:
        if spec["name"] == rounded:
            spec |= {key: pytest.approx(spec[key], rel=1e-6) for key in ("mean", "std")}
    assert infos[0] == infos[1]


def test_the_market_dataset_has_the_same_shards_in_both(tmp_path: Path) -> None:
    schema = write_market(MarketSettings(users=150, items=120, sessions=4), tmp_path / "log")
    rows = prepare(schema, tmp_path / "one shard").counts["impressions"]
    content = yaml.safe_load(schema.read_text()) | {"engine": {"events_per_part": -(-rows // 3)}}
    schema.write_text(yaml.safe_dump(content, sort_keys=False))
    prepare(schema, tmp_path / "duckdb")
    prepare(with_spark(schema), tmp_path / "spark")
    assert_same(tmp_path / "duckdb", tmp_path / "spark")
    datasets = [Dataset(tmp_path / name) for name in ("one shard", "duckdb", "spark")]
    for dataset, shards in zip(datasets, (1, 3, 3), strict=True):
        users = np.concatenate([shard.sequences.user for shard in dataset.shards()])
        assert len(dataset.shards()) == shards
        assert sorted(users) == datasets[0].sequences.user.tolist()
        np.testing.assert_array_equal(dataset.sequences.item, datasets[0].sequences.item)


@pytest.mark.parametrize("source", ["sampled negatives", "an impression log with requests"])
def test_requests_are_the_same_in_both(tmp_path: Path, source: str) -> None:
    events, shown = requests()
    by_source = {"impressions_from_events": {"negatives": 2}}
    if source != "sampled negatives":
        by_source = {"impressions": IMPRESSIONS | {"request": "page"}}
    schema = write_log(tmp_path / "log", {"events": events, "shown": shown}, events=EVENTS, **by_source)
    prepare(schema, tmp_path / "duckdb")
    prepare(with_spark(schema), tmp_path / "spark")
    assert_same(tmp_path / "duckdb", tmp_path / "spark")


def test_every_field_type_rejected_rows_and_append_are_the_same_in_both(tmp_path: Path) -> None:
    """In several shards, whose number grows with the appended rows."""
    days: list[dict[str, Any]] = [log(0), log(1)]
    days[0]["events"]["time"][7] = None
    days[0]["events"]["item"][9] = "no such item"
    for column in days[0]["events"].values():
        column[11] = column[10]
    waiting = {name: column[:4] for name, column in days[0]["shown"].items()}
    days[0]["shown"]["click"][:4] = [None] * 4
    days[1]["shown"] = {name: waiting[name] + column for name, column in days[1]["shown"].items()}
    days[1]["shown"]["click"][3] = None
    for day, each in enumerate(days):
        write_log(tmp_path / f"day {day}", each, **SCHEMA, engine={"events_per_part": 150})
    for name in ("duckdb", "spark"):
        schema = tmp_path / "day 0" / "schema.yaml"
        prepare(with_spark(schema) if name == "spark" else schema, tmp_path / name)
        append(tmp_path / name, tmp_path / "day 1" / "events.parquet", tmp_path / "day 1" / "shown.parquet")
    assert Dataset(tmp_path / "duckdb").info.rejected[f"impressions: {LATE_LABEL}"] == 3
    assert_same(tmp_path / "duckdb", tmp_path / "spark")


def test_every_type_of_value_has_the_canonical_texts_of_python(tmp_path: Path) -> None:
    settings = EngineSettings.model_validate(SPARK)
    with open_engine(settings, tmp_path / "scratch") as engine:
        assert texts_by(engine, COLUMNS, tmp_path / "columns.parquet") == texts_in_python(COLUMNS)


def test_files_of_any_name_and_type_are_read_the_same_in_both(tmp_path: Path) -> None:
    write_compatible_types(tmp_path)
    settings = [EngineSettings(), EngineSettings(name="spark", spark={"spark.master": "local[2]"})]
    found = []
    for setting in settings:
        with open_engine(setting, tmp_path / "it's [scratch]") as engine:
            found.append(
                rows(engine, tmp_path, id="identity", x="numeric", t="row_time", tags="multi", a="categorical")
            )
    for row in found[0] + found[1]:
        row["t"] = row["t"] and row["t"].replace(tzinfo=None)  # Spark says that it is UTC
    assert found[0] == found[1]
    assert len(found[0]) == 6


def test_movielens_is_the_same_in_both(tmp_path: Path, real_sources: Path) -> None:
    schema = write("ml-1m", tmp_path / "log", real_sources)
    prepare(schema, tmp_path / "duckdb")
    prepare(with_spark(schema), tmp_path / "spark")
    assert_same(tmp_path / "duckdb", tmp_path / "spark")


def test_columns_may_have_names_that_engines_use_internally(tmp_path: Path) -> None:
    log, schema = odd_names()
    path = write_log(tmp_path / "log", log, **schema)
    prepare(path, tmp_path / "duckdb")
    prepare(with_spark(path), tmp_path / "spark")
    assert_same(tmp_path / "duckdb", tmp_path / "spark")


def test_broken_parquet_is_named(tmp_path: Path) -> None:
    schema = write_log(tmp_path, {"events": random_events(1)})
    content = bytearray((tmp_path / "events.parquet").read_bytes())
    content[10:200] = b"\xff" * 190
    (tmp_path / "events.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"events\.parquet: cannot be read"):
        prepare(with_spark(schema), tmp_path / "spark")


def test_spellings_of_times_are_the_same_in_both(tmp_path: Path) -> None:
    moments = [datetime(2022, 4, n % 28 + 1, n % 24, n % 60, n % 59) for n in range(60)]
    spellings = [
        "%d-%b-%Y %H:%M:%S",
        "%Y/%m/%d %I:%M %p",
        "%B %d, %Y",
        "%a %b %d %H:%M:%S +0530 %Y",
        "%d.%m.%Y",
        "%Y-%m-%d",
    ]
    texts = [moment.strftime(spellings[n % len(spellings)]) for n, moment in enumerate(moments)]
    rows = [f"{n % 5};{n % 7};{text};{n},5;{20220101 + n % 28}\n" for n, text in enumerate(texts)]
    (tmp_path / "log.txt").write_text("".join(rows))
    condition = {"price": {"type": "numeric"}, "day": {"type": "time", "time_unit": "yyyymmdd"}}
    csv = {"columns": ["u", "i", "t", "price", "day"], "delimiter": ";", "decimal": ","}
    events = {
        "path": "log.txt",
        "user": "u",
        "item": "i",
        "time": "t",
        "date_order": "dmy",
        "csv": csv,
        "condition": condition,
    }
    schema = tmp_path / "schema.yaml"
    schema.write_text(yaml.safe_dump({"name": "x", "events": events}, sort_keys=False))
    assert prepare(schema, tmp_path / "duckdb").counts["events"] == 60
    prepare(with_spark(schema), tmp_path / "spark")
    assert_same(tmp_path / "duckdb", tmp_path / "spark", rounded="day")
