"""Taobao ad display: a few artificial lines in the publisher's format."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.prepare.run import prepare
from openlum.sources.public import taobao_ads
from tests.sources.public.schemas import checked_schema

LINES = {
    "raw_sample.csv": [
        "user,time_stamp,adgroup_id,pid,nonclk,clk",
        "581738,1494137644,1,430548_1007,1,0",
        "449818,1494638778,3,430548_1007,1,0",
        "914836,1494650879,4,430539_1007,0,1",
        "914836,1494650000,3,430548_1007,1,0",
        *(f"581738,{1494137700 + 60 * n},{1 + n % 4},430539_1007,{n % 2},{1 - n % 2}" for n in range(20)),
    ],
    "ad_feature.csv": [
        "adgroup_id,cate_id,campaign_id,customer,brand,price",
        "1,6406,83237,1,95471,170.0",
        "2,6406,83237,1,NULL,199.0",
        "3,6407,2,9,95471,99999999.0",
        "4,6408,3,9,,0.01",
    ],
    "user_profile.csv": [
        # The publisher's header ends in a space.
        "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,"
        "new_user_class_level ",
        "581738,0,5,2,5,,3,0,3",
        "914836,4,2,2,2,1,3,1,",
    ],
}
COUNTS = {file: len(lines) - 1 for file, lines in LINES.items()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with the publisher's files."""
    (tmp_path / "source").mkdir()
    for file, lines in LINES.items():
        _write(tmp_path / "source" / file, lines)
    return tmp_path / "source"


def test_exposures_become_events_with_clicks_as_feedback(source: Path, tmp_path: Path) -> None:
    taobao_ads.write("taobao-ads", tmp_path / "log", source, counts=COUNTS)
    events = pq.read_table(tmp_path / "log" / "events.parquet").to_pylist()
    assert [",".join(map(str, row.values())) for row in events] == LINES["raw_sample.csv"][1:]
    items = pq.read_table(tmp_path / "log" / "items.parquet").to_pylist()
    assert [item["brand"] for item in items] == [95471, None, 95471, None]  # NULL and an empty value are missing
    assert [item["price"] for item in items] == [170.0, 199.0, 99999999.0, 0.01]
    users = pq.read_table(tmp_path / "log" / "users.parquet").to_pylist()
    assert users[0]["pvalue_level"] is None
    assert [user["new_user_class_level"] for user in users] == [3, None]


def test_every_exposure_is_an_impression_labelled_by_the_click(source: Path, tmp_path: Path) -> None:
    schema = taobao_ads.write("taobao-ads", tmp_path / "log", source, counts=COUNTS)
    info = prepare(schema, tmp_path / "dataset")
    assert info.counts["events"] == COUNTS["raw_sample.csv"] == sum(info.impressions.values())
    dataset = Dataset(tmp_path / "dataset")
    parts = [dataset.impressions(split) for split in SPLITS]
    assert sum(int(part.label.sum()) for part in parts) == 11  # clicks
    assert [(spec.name, spec.feedback) for spec in info.condition[:2]] == [("pid", False), ("clk", True)]
    assert {spec.name: spec.hashed for spec in info.item}["customer"]
    assert {spec.name: bool(spec.edges) for spec in info.item}["price"]


def test_a_file_with_a_row_that_is_clicked_and_not_clicked_is_refused(source: Path, tmp_path: Path) -> None:
    _write(source / "raw_sample.csv", [*LINES["raw_sample.csv"][:-1], "1,1494137644,1,430548_1007,1,1"])
    with pytest.raises(
        InputError, match=r"raw_sample\.csv: expected 1 in one of the columns clk and nonclk .* found the row \(1,"
    ):
        taobao_ads.write("taobao-ads", tmp_path / "log", source, counts=COUNTS)


@pytest.mark.parametrize("file", list(LINES))
def test_counts_must_equal_the_published_counts(source: Path, tmp_path: Path, file: str) -> None:
    with pytest.raises(InputError, match=rf"{file}: {COUNTS[file]} rows, but .* has 1,000"):
        taobao_ads.write("taobao-ads", tmp_path / "log", source, counts=COUNTS | {file: 1_000})
    taobao_ads.write("taobao-ads", tmp_path / "log", source, partial=True, counts=COUNTS | {file: 1_000})


@pytest.mark.parametrize("file", list(LINES))
def test_missing_and_broken_files_are_named(source: Path, tmp_path: Path, file: str) -> None:
    _write(source / file, [*LINES[file], "1,2"])
    with pytest.raises(InputError, match=rf"{file}: .*Line: {len(LINES[file]) + 1}"):
        taobao_ads.write("taobao-ads", tmp_path / "log", source, partial=True)
    _write(source / file, LINES[file][1:])
    with pytest.raises(InputError, match=rf"{file}: no column"):
        taobao_ads.write("taobao-ads", tmp_path / "log", source, partial=True)
    (source / file).unlink()
    with pytest.raises(InputError, match=rf"no {file}"):
        taobao_ads.write("taobao-ads", tmp_path / "log", source, partial=True)
    assert not (tmp_path / "log").exists()


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")


def test_the_schema_names_columns_of_the_tables(source: Path, tmp_path: Path) -> None:
    schema = taobao_ads.write("taobao-ads", tmp_path / "log", source, counts=COUNTS)
    assert checked_schema(schema).name == "taobao-ads"
