"""A publisher's files are located, downloaded, unpacked and counted."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from openlum.errors import InputError
from openlum.sources import public
from openlum.sources.public.source import PublishedDataset, check_count, find, locate
from openlum.sources.public.tables import local_duckdb, read_csv, save

FILES = {"data/a.csv": b"a,b\n1,2\n", "data/b.csv": b"a,b\n3,4\n"}


def toys_dataset(archive: str | None = None) -> PublishedDataset:
    return PublishedDataset("toys", "https://example.org/toys", archive, folder="toys-1")


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def make_tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def dataset_of_archive(directory: Path, content: bytes, name: str) -> PublishedDataset:
    """Return a data set whose archive is a file on this machine."""
    (directory / name).write_bytes(content)
    return toys_dataset((directory / name).as_uri())


@pytest.mark.parametrize("folder", ["", "toys-1", "data", "toys-1/data"])
def test_files_are_located_in_the_directory_its_folder_or_the_innermost_folder(tmp_path: Path, folder: str) -> None:
    source = tmp_path / "source" if folder != "data" else tmp_path / "source" / "data"
    for name, content in FILES.items():
        path = tmp_path / "source" / (folder if folder == "toys-1" else "") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    paths = locate(toys_dataset(), list(FILES), source, tmp_path)
    assert {name: path.read_bytes() for name, path in paths.items()} == FILES


def test_a_gzip_file_is_unpacked_and_a_truncated_one_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(range(256)) * 1000)
    (tmp_path / "a.csv.gz").write_bytes(packed)
    assert locate(toys_dataset(), ["a.csv"], tmp_path, tmp_path)["a.csv"].read_bytes() == bytes(range(256)) * 1000
    assert find(toys_dataset(), "a.csv.gz", tmp_path) == tmp_path / "a.csv.gz"
    (tmp_path / "a.csv.gz").write_bytes(packed[:-20])
    with pytest.raises(InputError, match=r"a\.csv\.gz: cannot be unpacked"):
        locate(toys_dataset(), ["a.csv"], tmp_path, tmp_path)
    (tmp_path / "a.csv").write_bytes(b"plain")
    assert locate(toys_dataset(), ["a.csv"], tmp_path, tmp_path)["a.csv"].read_bytes() == b"plain"


def test_a_message_names_all_missing_files_and_the_way_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(
        InputError, match=r"no b\.csv, c\.csv in .* folder 'toys-1'; .*example\.org.*lum data toys --from"
    ):
        locate(toys_dataset(), ["a.csv", "b.csv", "c.csv"], tmp_path, tmp_path)
    assert list(locate(toys_dataset(), ["a.csv", "b.csv"], tmp_path, tmp_path, optional=["b.csv"])) == ["a.csv"]
    with pytest.raises(InputError, match="no such directory"):
        locate(toys_dataset(), ["a.csv"], tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize("make_archive", [make_zip, make_tar])
def test_only_the_named_files_of_an_archive_are_unpacked(tmp_path: Path, make_archive: object) -> None:
    members = {f"toys-1/{name}": content for name, content in FILES.items()}
    hostile_members = {
        "../evil.csv": b"",
        "toys-1/../../evil.csv": b"",
        "/tmp/evil.csv": b"",
        "toys-1/big.csv": b"x" * 100,
    }
    (tmp_path / "scratch").mkdir()
    archive = make_archive(members | hostile_members)  # type: ignore[operator]
    paths = locate(dataset_of_archive(tmp_path, archive, "toys.archive"), list(FILES), None, tmp_path / "scratch")
    assert {name: path.read_bytes() for name, path in paths.items()} == FILES
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"a.csv", "b.csv", "toys.archive"}  # the downloaded archive was removed


def test_a_url_that_ends_in_a_slash_is_a_folder_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "site" / "data").mkdir(parents=True)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "site" / "data" / "a.csv").write_bytes(FILES["data/a.csv"])
    site = toys_dataset((tmp_path / "site").as_uri() + "/")
    assert locate(site, ["data/a.csv"], None, tmp_path / "scratch")["data/a.csv"].read_bytes() == FILES["data/a.csv"]
    with pytest.raises(InputError, match=r"data/b\.csv: cannot be downloaded .*--from DIR"):
        locate(site, ["data/b.csv"], None, tmp_path / "scratch")


def test_an_incomplete_download_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Response(io.BytesIO):
        headers = {"Content-Length": "1000"}

    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Response(b"x" * 10))
    with pytest.raises(InputError, match=r"toys\.zip: the connection broke after 10 of 1,000 bytes; try again"):
        locate(toys_dataset("https://example.org/toys.zip"), list(FILES), None, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>Sorry</html>", "not the expected archive"),
        (make_tar({"toys-1/data/a.csv": b"x" * 100_000})[:-30], "not the expected archive"),
        (make_zip({"toys-1/data/a.csv": b""}), r"has no data/b\.csv"),
    ],
)
def test_a_broken_archive_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "scratch").mkdir()
    with pytest.raises(InputError, match=message):
        locate(dataset_of_archive(tmp_path, content, "toys.zip"), list(FILES), None, tmp_path / "scratch")


def test_without_an_archive_the_message_names_the_page_of_the_terms(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"agreement to terms.*example\.org.*--from DIR"):
        locate(toys_dataset(), ["a.csv"], None, tmp_path)


def test_counts_must_equal_the_published_counts(capsys: pytest.CaptureFixture[str]) -> None:
    check_count(toys_dataset(), "a.csv", "rows", 1_000, 1_000, partial=False)
    with pytest.raises(InputError, match=r"a\.csv: 999 rows, but the original of toys has 1,000; .*--partial"):
        check_count(toys_dataset(), "a.csv", "rows", 999, 1_000, partial=False)
    check_count(toys_dataset(), "a.csv", "rows", 999, 1_000, partial=True)
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(InputError, match="1,001 rows"):
        check_count(toys_dataset(), "a.csv", "rows", 1_001, 1_000, partial=True)


def test_csv_columns_are_read_by_name_from_paths_with_any_characters(tmp_path: Path) -> None:
    directory = tmp_path / "it's [odd]*"
    directory.mkdir()
    (directory / "a.csv").write_text('x,y,z\n1,"two, ""quoted""",3\n4,,6\n')
    (directory / "b.csv").write_text("x,y,z\n7,eight,9\n")
    with local_duckdb(tmp_path) as connection:
        relation = read_csv(connection, [directory / "a.csv", directory / "b.csv"], {"z": "INTEGER", "y": "VARCHAR"})
        assert relation.fetchall() == [(3, 'two, "quoted"'), (6, None), (9, "eight")]
        assert save(relation, directory / "out.parquet", "a.csv") == 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("x,y\n1,2\n3\n", r"bad\.csv: not in the publisher's format .*Line: 3"),
        ("x,y\n1,2\n3,4,5\n", r"bad\.csv: not in the publisher's format .*Line: 3"),
        ("x,y\n1,2\nthree,4\n", r"bad\.csv: not in the publisher's format .*three"),
        ("x,z\n1,2\n", "no column y in the first line"),
        ("", "no column x, y in the first line"),
    ],
)
def test_the_message_for_broken_csv_names_the_line(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(lines)
    with local_duckdb(tmp_path) as connection, pytest.raises(InputError, match=message):
        save(read_csv(connection, [tmp_path / "bad.csv"], {"x": "INTEGER", "y": "INTEGER"}), tmp_path / "o", "bad.csv")


def test_every_data_set_has_a_page_and_a_size() -> None:
    for name, dataset in public.published_datasets().items():
        assert dataset.name == name
        assert dataset.size
        assert dataset.page.startswith("https://")


def test_the_message_for_an_unknown_name_suggests_a_similar_name() -> None:
    with pytest.raises(InputError, match="unknown public data set 'ml-2m'; did you mean 'ml-2"):
        public.write("ml-2m", Path("unused"))
    with pytest.raises(InputError, match="unknown public data set 'xyz'; choose from ml-1m, "):
        public.write("xyz", Path("unused"))
    with pytest.raises(InputError, match="did you mean 'amazon-2014-CATEGORY'"):
        public.write("amazon-2014-", Path("unused"))
