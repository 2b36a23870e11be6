"""MovieLens-1M: its form on a few made-up lines, and the real one where there is a copy."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from openlum.config import load_settings
from openlum.data import public
from openlum.data.dataset import SPLITS, Dataset
from openlum.data.prepare import prepare
from openlum.data.public import ml_1m
from openlum.errors import InputError
from openlum.schema import Schema

SHARED = Path(__file__).parents[4] / "shared" / "data"
LINES = {
    "ratings.dat": "1::3::5::978300760\n2::1::3::978300800\n1::1::4::978300760\n2::3::1::978300700\n",
    "movies.dat": '1::Amélie: "A" (2001)::Comedy|Romance\n3::Heat (1995)::Action\n',
    "users.dat": "1::F::1::10::48067\n2::M::56::16::02460-1234\n",
}
ROWS = {name: text.count("\n") for name, text in LINES.items()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with a folder `ml-1m` of the publisher's files."""
    (tmp_path / "source" / "ml-1m").mkdir(parents=True)
    for name, text in LINES.items():
        (tmp_path / "source" / "ml-1m" / name).write_bytes(text.encode("latin-1"))
    return tmp_path / "source"


@pytest.mark.parametrize("folder", ["", "ml-1m"])
def test_publishers_files_become_a_log(source: Path, tmp_path: Path, folder: str) -> None:
    schema = ml_1m.write(tmp_path / "log", source / folder, ROWS)
    items, users = (pq.read_table(tmp_path / "log" / f"{name}.parquet").to_pylist() for name in ("items", "users"))
    assert items[0] == {"movie_id": 1, "title": 'Amélie: "A" (2001)', "genres": ["Comedy", "Romance"], "year": 2001}
    assert users[1] == {"user_id": 2, "gender": "M", "age": 56, "occupation": 16, "region": "0"}
    info = prepare(schema, tmp_path / "dataset")
    assert (info.counts["events"], info.counts["items"], info.counts["users"]) == (4, 2, 2)
    dataset = Dataset(tmp_path / "dataset")
    items_of_1 = dataset.vocabulary("items").decode(dataset.sequences.item[:2])
    assert dataset.vocabulary("users").decode([dataset.sequences.user[0]]) == ["1"]
    assert items_of_1 == ["3", "1"]  # rated in one second: the order of the file stays


def test_every_key_of_the_schema_has_a_comment() -> None:
    lines = ml_1m.SCHEMA.splitlines()
    for above, line in itertools.pairwise(lines):
        if line.strip() and not line.strip().startswith("#"):
            assert above.strip().startswith("#"), f"no comment above '{line}'"


def test_wrong_number_of_rows_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ratings\.dat: 4 rows, but the original has 1,000,209"):
        ml_1m.write(tmp_path / "log", source)
    assert not (tmp_path / "log").exists()


def test_missing_and_broken_files_are_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither this directory nor its folder 'ml-1m' has ratings\.dat"):
        ml_1m.write(tmp_path / "log", tmp_path)
    (source / "ml-1m" / "users.dat").write_text("1::F\n")
    with pytest.raises(InputError, match=r"users\.dat: expected lines 'user_id::gender"):
        ml_1m.write(tmp_path / "log", source, ROWS)
    (source / "ml-1m" / "users.dat").unlink()
    with pytest.raises(InputError, match=r"no users\.dat"):
        ml_1m.write(tmp_path / "log", source, ROWS)


def test_without_internet_the_message_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **settings: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(InputError, match=r"no route to host.*--from DIR"):
        ml_1m.write(tmp_path / "log", None)


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(InputError, match="no public data set 'ml-2m'; there are: ml-1m"):
        public.write("ml-2m", Path("unused"))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real data set, prepared: `log/` and `dataset/` in one directory."""
    if not (SHARED / "unpack.py").is_file():
        pytest.skip("no copy of MovieLens-1M in ../shared/data")
    directory = tmp_path_factory.mktemp("ml-1m")
    command = [sys.executable, str(SHARED / "unpack.py"), str(directory / "source")]
    subprocess.run(command, check=True, capture_output=True)
    schema = public.write("ml-1m", directory / "log", directory / "source")
    prepare(schema, directory / "dataset")
    return directory


def test_real_movielens(real: Path) -> None:
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
    by_row = np.lexsort((item, user, time))
    parts = [dataset.impressions(split) for split in SPLITS]
    assert (np.concatenate([part.item for part in parts]) == item[by_row]).all()
    assert (np.concatenate([part.label for part in parts]) == (rating[by_row] >= 4)).all()
    prefix = np.concatenate([part.prefix for part in parts])
    for at in np.random.default_rng(0).integers(0, len(user), 100):
        row = by_row[at]
        assert prefix[at] == ((user == user[row]) & (time < time[row])).sum()


def test_real_movielens_uses_no_time_finer_than_the_day(real: Path) -> None:
    schema = load_settings(real / "log" / "schema.yaml", Schema)
    assert schema.time_fields == ["weekday", "gap"]
    assert schema.gap_unit == "d"
