"""The files that a path names, and the columns that directory names define."""

import os
from pathlib import Path

import pytest

from openlum.errors import InputError
from openlum.prepare.inputs.paths import count_other_files, find_files, find_files_of_schema, partition_columns

TREE = [
    "log/a.parquet",
    "log/b.csv",
    "log/deep/er/c.CSV.GZ",
    "log/day=1/d.parquet",
    "log/_day=2/e.parquet",
    "log/README.md",
    "log/_SUCCESS",
    "log/_f.parquet",
    "log/.g.parquet",
    "log/_temporary/0/h.parquet",
    "log/deep/.ipynb_checkpoints/i.parquet",
    "_old/[1]/j.parquet",
    "_old/1/k.parquet",
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("[tree]*")
    for name in TREE:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    return directory


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("log", "_day=2/e a b day=1/d deep/er/c"),
        ("./log/../log/", "_day=2/e a b day=1/d deep/er/c"),
        ("log/*.parquet", "a"),
        ("log/[ab].*", "a b"),
        ("log/_*.parquet", "_f"),
        ("log/.*.parquet", ".g"),
        ("log/_temporary", "_temporary/0/h"),
        ("log/d*", "day=1/d deep/er/c"),
        ("log/**/*.parquet", "_day=2/e a day=1/d"),
        ("log/*/*/*", "deep/er/c"),
        ("log/**", "_day=2/e a b day=1/d deep/er/c"),
        ("_old/[1]/*.parquet", "../_old/[1]/j"),
        ("_old/*/*.parquet", "../_old/1/k ../_old/[1]/j"),
        ("_old/[1]/j.parquet", "../_old/[1]/j"),
    ],
)
@pytest.mark.parametrize("relative", [True, False])
def test_a_path_names_its_data_files(
    tree: Path, path: str, expected: str, relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    files = find_files(Path() if relative else tree, path)
    assert sorted(_stem(os.path.relpath(file, tree / "log")) for file in files) == sorted(expected.split())


def _stem(name: str) -> str:
    return name.removesuffix(".parquet").removesuffix(".csv").removesuffix(".CSV.GZ")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no", "no such file"),
        ("log/*.txt", "no file matches"),
        ("log/_tmp*", "no file matches"),
        ("log/READ*", "expected a file that ends in"),
    ],
)
def test_a_path_that_names_no_data_is_an_error(tree: Path, path: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        find_files(tree, path)
    assert path.split("*")[0] in str(error.value)
    assert "schema" not in str(error.value)
    with pytest.raises(InputError, match=f"{message}.*; check the path in the schema$"):
        find_files_of_schema(tree, path)


def test_a_file_of_another_ending_is_data_if_the_path_names_it_or_its_ending(tree: Path) -> None:
    assert find_files(tree, "log/README.md") == find_files(tree, "log/*.md") == [tree / "log" / "README.md"]


def test_a_directory_that_links_lead_to_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.parquet").touch()
    (tmp_path / "log").mkdir()
    for name in ("day", "latest"):
        (tmp_path / "log" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "log" / "itself").symlink_to(tmp_path / "log")
    for path in ("log", "log/*"):
        assert [file.name for file in find_files(tmp_path, path)] == ["a.parquet"]


def test_files_that_are_neither_parquet_nor_csv_are_counted(tree: Path) -> None:
    assert count_other_files(tree, "log") == 1
    assert count_other_files(tree, "log/a.parquet") == 0


def test_directory_names_define_columns() -> None:
    file = "/data/year=2026/city=S%C3%A3o%20Tom%C3%A9/a%3Db=1=2/x=__HIVE_DEFAULT_PARTITION__/y=/=z/k=1.parquet"
    assert partition_columns(file) == {"year": "2026", "city": "São Tomé", "a=b": "1=2", "x": None, "y": None}
