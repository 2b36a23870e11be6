"""MovieLens: its formats on a few artificial lines, and the real 1M if a copy exists."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from openlum.config import load_settings
from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.prepare.run import prepare
from openlum.schema import Schema
from openlum.sources import public
from openlum.sources.public import movielens
from tests.sources.public.schemas import checked_schema

OLD = {
    "ratings.dat": "1::3::5::978300760\n2::1::3::978300800\n1::1::4::978300760\n2::3::1::978300700\n",
    "movies.dat": '1::Amélie: "A" (2001)::Comedy|Romance\n3::Heat (1995)::Action\n',
    "users.dat": "1::F::1::10::48067\n2::M::56::16::02460-1234\n",
}
NEW = {
    # The validation period begins at 500, with the fifth of five ratings.
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,3.5,100\n2,10,5.0,500\n1,20,0.5,200\n2,20,4.0,300\n3,20,4.5,400\n",
    "movies.csv": "movieId,title,genres\n"
    '10,"American President, The (1995)",Comedy|Drama\n20,Heat (1995) ,Action\n30,Untitled,(no genres listed)\n',
    "tags.csv": "userId,movieId,tag,timestamp\n1,10,witty,150\n2,10,Politics,160\n"
    '3,10," politics",170\n3,10,politics,180\n1,20,,190\n1,10,future,500\n2,30,"odd, ""quoted""",499\n',
}
COUNTS = {
    "ml-1m": {"ratings": 4, "movies": 2, "users": 2},
    "ml-20m": {"ratings": 5, "movies": 3, "users": 3, "tags": 7},
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with folders `ml-1m` and `ml-20m` of the publisher's files."""
    for name, files, encoding in (("ml-1m", OLD, "latin-1"), ("ml-20m", NEW, "utf-8")):
        (tmp_path / "source" / name).mkdir(parents=True)
        for file, text in files.items():
            (tmp_path / "source" / name / file).write_bytes(text.encode(encoding))
    return tmp_path / "source"


def rows(log: Path, table: str) -> list[dict[str, object]]:
    records: list[dict[str, object]] = pq.read_table(log / f"{table}.parquet").to_pylist()
    return records


@pytest.mark.parametrize("folder", ["", "ml-1m"])
def test_1m_becomes_a_log(source: Path, tmp_path: Path, folder: str) -> None:
    schema = movielens.write("ml-1m", tmp_path / "log", source / folder, counts=COUNTS)
    assert rows(tmp_path / "log", "items")[0] == {
        "movie_id": 1,
        "title": 'Amélie: "A" (2001)',
        "genres": ["Comedy", "Romance"],
        "year": 2001,
    }
    user = {"user_id": 2, "gender": "M", "age": 56, "occupation": 16, "region": "0"}
    assert rows(tmp_path / "log", "users")[1] == user
    assert checked_schema(schema).users is not None
    info = prepare(schema, tmp_path / "dataset")
    assert (info.counts["events"], info.counts["items"], info.counts["users"]) == (4, 2, 2)
    dataset = Dataset(tmp_path / "dataset")
    sequences = dataset.sequences
    (position,) = sequences.user_index(dataset.vocabulary("users").encode(["1"]))
    events = slice(sequences.offsets[position], sequences.offsets[position] + 2)
    items = dataset.vocabulary("items").decode(sequences.item[events])
    assert items == ["3", "1"]  # both were rated in the same second, so they keep the order of the file


def test_20m_becomes_a_log(source: Path, tmp_path: Path) -> None:
    schema = movielens.write("ml-20m", tmp_path / "log", source, counts=COUNTS)
    assert rows(tmp_path / "log", "events")[1] == {"user_id": 2, "movie_id": 10, "rating": 5.0, "timestamp": 500}
    by_id = {row.pop("movie_id"): row for row in rows(tmp_path / "log", "items")}
    # Tags are ordered by their number of users, and only tags before the validation period are used.
    president = {"title": "American President, The (1995)", "genres": ["Comedy", "Drama"], "year": 1995}
    assert by_id[10] == president | {"tags": ["politics", "witty"]}
    assert by_id[20] == {"title": "Heat (1995) ", "genres": ["Action"], "year": 1995, "tags": []}
    assert by_id[30] == {"title": "Untitled", "genres": [], "year": None, "tags": ['odd, "quoted"']}
    settings = checked_schema(schema)
    assert settings.items is not None
    assert settings.items.features["tags"].type == "multi"
    assert settings.splits.valid == movielens.TRAINING


def test_tags_after_the_split_of_prepare_are_left_out(source: Path, tmp_path: Path) -> None:
    ratings = (source / "ml-20m" / "ratings.csv").read_text().replace("2,10,5.0,500", "2,10,5.0,150")
    (source / "ml-20m" / "ratings.csv").write_text(ratings)
    movielens.write("ml-20m", tmp_path / "log", source, counts=COUNTS)
    tags = {row["movie_id"]: row["tags"] for row in rows(tmp_path / "log", "items")}
    assert tags == {10: ["politics", "witty"], 20: [], 30: []}  # validation begins at 400 now


def test_a_wrong_number_of_rows_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ratings\.dat: 4 ratings, but the original of ml-1m has 1,000,209"):
        movielens.write("ml-1m", tmp_path / "log", source)
    assert not (tmp_path / "log").exists()
    movielens.write("ml-1m", tmp_path / "log", source, partial=True)
    assert (tmp_path / "log" / "schema.yaml").exists()


def test_missing_and_broken_files_are_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no ratings\.dat, movies\.dat, users\.dat in .* folder 'ml-1m'"):
        movielens.write("ml-1m", tmp_path / "log", tmp_path)
    (source / "ml-1m" / "users.dat").write_text("1::F\n")
    with pytest.raises(InputError, match=r"users\.dat: not in the publisher's format .*Line: 1"):
        movielens.write("ml-1m", tmp_path / "log", source, counts=COUNTS)
    (source / "ml-20m" / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,10,witty,soon\n")
    with pytest.raises(InputError, match=r"tags\.csv: not in the publisher's format .*soon"):
        movielens.write("ml-20m", tmp_path / "log", source, counts=COUNTS)
    assert not (tmp_path / "log").exists()


def test_without_internet_the_message_names_the_option_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **settings: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(InputError, match=r"no route to host.*lum data ml-1m --from DIR"):
        movielens.write("ml-1m", tmp_path / "log", None)


@pytest.fixture(scope="module")
def real(real_sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the log and the prepared dataset of the real 1M, in `log/` and `dataset/`."""
    directory = tmp_path_factory.mktemp("ml-1m")
    schema = public.write("ml-1m", directory / "log", real_sources)
    prepare(schema, directory / "dataset")
    return directory


def test_the_real_movielens_data(real: Path) -> None:
    dataset = Dataset(real / "dataset")
    counts = dataset.info.counts
    assert (counts["events"], counts["users"], counts["items"]) == (1_000_209, 6_040, 3_883)
    assert (counts["users_with_events"], counts["items_with_events"]) == (6_040, 3_706)
    assert not dataset.info.rejected
    assert dataset.info.impressions == {"train": 800_164, "valid": 100_024, "test": 100_021}
    log = pq.read_table(real / "log" / "events.parquet")
    user, item, rating, time = (log[name].to_numpy() for name in ("user_id", "movie_id", "rating", "timestamp"))
    user, item = dataset.vocabulary("users").encode(user), dataset.vocabulary("items").encode(item)
    order = np.lexsort((time, user))
    assert (dataset.sequences.item == item[order]).all()
    assert (dataset.sequences.time == time[order]).all()
    parts = [dataset.impressions(split) for split in SPLITS]
    row = np.concatenate([part.row for part in parts])  # index of the row in the log
    assert (np.sort(row) == np.arange(len(log))).all()
    assert (np.concatenate([part.user for part in parts]) == user[row]).all()
    assert (np.concatenate([part.item for part in parts]) == item[row]).all()
    assert (np.concatenate([part.label for part in parts]) == (rating[row] >= 4)).all()
    prefix = np.concatenate([part.prefix for part in parts])
    for index in np.random.default_rng(0).integers(0, len(user), 100):
        assert prefix[index] == ((user == user[row[index]]) & (time < time[row[index]])).sum()


def test_the_schema_of_movielens_has_no_time_finer_than_a_day(real: Path) -> None:
    schema = load_settings(real / "log" / "schema.yaml", Schema)
    assert schema.time_fields == ["weekday", "gap"]
    assert schema.gap_unit == "d"
