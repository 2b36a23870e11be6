"""KuaiRand: its format on a few artificial lines, and the real last 14 days of Pure if a copy exists."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.prepare.run import prepare
from openlum.sources import public
from openlum.sources.public import kuairand
from tests.sources.public.schemas import checked_schema

LOG = [
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
]
EXPOSURES = {
    "log_standard_4_08_to_4_21_27k_part1": ["0,5,20220408,400,1649300000001,1,0,0,0,0,0,1,9000,8000,0,0,0,0,1"],
    "log_standard_4_08_to_4_21_27k_part2": ["1,5,20220408,400,1649300000002,0,0,0,0,0,0,0,10,8000,0,0,0,0,4"],
    "log_standard_4_22_to_5_08_27k_part1": ["0,6,20220422,400,1650600000003,1,1,0,0,0,0,0,7001,8000,0,0,0,0,1"],
    "log_standard_4_22_to_5_08_27k_part2": ["1,6,20220422,400,1650600000004,0,0,0,0,0,1,0,20,8000,0,0,0,0,1"],
    "log_random_4_22_to_5_08_27k": ["1,7,20220423,400,1650700000005,1,0,0,0,0,0,1,9000,8000,0,0,0,1,1"],
}
USERS = [
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,follow_user_num_range,"
    "fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,register_days_range,"
    + ",".join(f"onehot_feat{i}" for i in range(18)),
    '0,full_active,0,-124,1,514,500+,150,"[100,1k)",34,"[30,60)",799,730+,' + ",".join(["1"] * 12 + ["1.0"] * 6),
    '1,UNKNOWN,0,0,0,5,"(0,10]",0,0,0,0,20,15-30,' + ",".join(["0"] * 12) + "," * 6,
]
VIDEOS = [
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
    "music_id,music_type,tag",
    # Columns with missing values were written as floating-point numbers.
    '5,70,NORMAL,2022-04-01,Web,0.0,8000.0,720.0,1280.0,900,9.0,"39,12"',
    "6,71,AD,2022-04-02,Kmovie,0.0,,720.0,1280.0,901,,",
    "7,71,NORMAL,2022-04-02,Kmovie,0.0,100.0,720.0,1280.0,901,4.0,3",
]
COUNTS = {"kuairand-27k": {"exposures": 4, "random exposures": 1, "users": 2, "videos": 3}}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with the publisher's folder of 27K, whose logs are in parts."""
    data = tmp_path / "source" / "KuaiRand-27K" / "data"
    data.mkdir(parents=True)
    files = {name: LOG + lines for name, lines in EXPOSURES.items()}
    files |= {"user_features_27k": USERS, "video_features_basic_27k": VIDEOS}
    for name, lines in files.items():
        (data / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "source"


def rows(log: Path, table: str) -> list[dict[str, object]]:
    records: list[dict[str, object]] = pq.read_table(log / f"{table}.parquet").to_pylist()
    return records


@pytest.mark.parametrize("folder", ["", "KuaiRand-27K", "KuaiRand-27K/data"])
def test_the_publishers_files_become_a_log(source: Path, tmp_path: Path, folder: str) -> None:
    schema = kuairand.write("kuairand-27k", tmp_path / "log", source / folder, counts=COUNTS)
    events = rows(tmp_path / "log", "events")
    assert [row["time_ms"] % 10 for row in events] == [1, 2, 3, 4]  # type: ignore[operator]
    assert [(row["tab"], row["is_click"], row["long_view"]) for row in events[:3]] == [(1, 1, 1), (4, 0, 0), (1, 1, 0)]
    assert [row["video_id"] for row in rows(tmp_path / "log", "random")] == [7]
    videos = [(row["tag"], row["video_duration"]) for row in rows(tmp_path / "log", "items")]
    assert videos == [(["39", "12"], 8000), (None, None), (["3"], 100)]
    user = rows(tmp_path / "log", "users")[0]
    assert (user["fans_user_num_range"], user["is_live_streamer"], user["onehot_feat17"]) == ("[100,1k)", -124, 1)
    settings = checked_schema(schema)
    assert {name for name, field in settings.events.condition.items() if not field.feedback} == {"tab"}
    assert settings.impressions is not None
    assert settings.impressions.label == "is_click"


def test_the_activity_of_users_is_not_a_feature(source: Path, tmp_path: Path) -> None:
    schema = checked_schema(kuairand.write("kuairand-27k", tmp_path / "log", source, counts=COUNTS))
    assert schema.users is not None
    assert not {"user_active_degree", "is_lowactive_period"} & set(schema.users.features)


def test_the_random_log_has_the_columns_of_the_impressions(source: Path, tmp_path: Path) -> None:
    schema = kuairand.write("kuairand-27k", tmp_path / "log", source, counts=COUNTS)
    text = schema.read_text()
    start = text.index("impressions:\n")
    schema.write_text(text[:start] + text[start:].replace("path: events.parquet", "path: random.parquet"))
    settings = checked_schema(schema)
    assert settings.impressions is not None
    assert settings.impressions.path == "random.parquet"


def test_missing_logs_need_partial(source: Path, tmp_path: Path) -> None:
    data = source / "KuaiRand-27K" / "data"
    for name in list(EXPOSURES)[1:]:
        (data / f"{name}.csv").unlink()
    with pytest.raises(InputError, match=r"no data/log_standard_4_08_to_4_21_27k_part2\.csv, .*--partial"):
        kuairand.write("kuairand-27k", tmp_path / "log", source, counts=COUNTS)
    kuairand.write("kuairand-27k", tmp_path / "log", source, partial=True, counts=COUNTS)
    assert len(rows(tmp_path / "log", "events")) == 1
    assert not (tmp_path / "log" / "random.parquet").exists()
    (data / "log_standard_4_08_to_4_21_27k_part1.csv").unlink()
    with pytest.raises(InputError, match="no file of the standard log"):
        kuairand.write("kuairand-27k", tmp_path / "new", source, partial=True, counts=COUNTS)


def test_bad_files_are_refused(source: Path, tmp_path: Path) -> None:
    data = source / "KuaiRand-27K" / "data"
    with pytest.raises(
        InputError, match="the standard log: 4 exposures, but the original of kuairand-27k has 322,278,385"
    ):
        kuairand.write("kuairand-27k", tmp_path / "log", source)
    log = data / "log_standard_4_22_to_5_08_27k_part2.csv"
    lines = log.read_text()
    log.write_text(lines.replace("1650600000004", "yesterday"))
    with pytest.raises(InputError, match=r"4_22_to_5_08_27k_part2\.csv: not in the publisher's format .*yesterday"):
        kuairand.write("kuairand-27k", tmp_path / "log", source, counts=COUNTS)
    log.write_text(lines.replace("is_click", "clicked"))
    with pytest.raises(InputError, match=r"part2\.csv: no column is_click"):
        kuairand.write("kuairand-27k", tmp_path / "log", source, counts=COUNTS)
    (data / "user_features_27k.csv").unlink()
    with pytest.raises(InputError, match=r"no data/user_features_27k\.csv in .*--from DIR"):
        kuairand.write("kuairand-27k", tmp_path / "log", source, partial=True, counts=COUNTS)
    assert not (tmp_path / "log").exists()


def test_the_real_pure_data(real_sources: Path, tmp_path: Path) -> None:
    source = real_sources / "kuairand-pure"
    with pytest.raises(InputError, match=r"no data/log_standard_4_08_to_4_21_pure\.csv"):
        public.write("kuairand-pure", tmp_path / "log", source)
    schema = public.write("kuairand-pure", tmp_path / "log", source, partial=True)
    log = pq.read_table(tmp_path / "log" / "events.parquet")
    assert log.num_rows == 228_329
    assert (pq.read_metadata(tmp_path / "log" / "users.parquet").num_rows, log["tab"].to_numpy().max()) == (27_285, 14)
    info = prepare(schema, tmp_path / "dataset")
    rejected = log.num_rows - info.counts["events"]
    assert 0 < rejected < 0.03 * log.num_rows  # repeated exposures
    dataset = Dataset(tmp_path / "dataset")
    clicks = sum(int(dataset.impressions(split).label.sum()) for split in SPLITS)
    assert abs(clicks / sum(info.impressions.values()) - 0.44) < 0.01
