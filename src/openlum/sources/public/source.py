"""Locate the files of a public data set in a directory, or download and unpack them, and check that they are complete."""

import gzip
import http.client
import shutil
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

from openlum.console import new_console, new_progress
from openlum.errors import InputError

console = new_console(stderr=True)


@dataclass(frozen=True)
class PublishedDataset:
    """A public data set: its name, web page, archive and size."""

    name: str
    """Name of the data set on the command line, such as `ml-20m`."""
    page: str
    """Web page with the files and their terms."""
    archive: str | None = None
    """URL of the zip or tar file with the files, or, if it ends in `/`, of the folder with the files. None if the publisher
    demands a login or agreement to terms."""
    folder: str = ""
    """Folder with the files, inside the archive or inside the directory of `--from`."""
    size: str = ""
    """Size of the data set in a few words, such as `20 M ratings`."""


def locate(
    dataset: PublishedDataset, names: Sequence[str], source: Path | None, scratch: Path, optional: Collection[str] = ()
) -> dict[str, Path]:
    """Return the paths of the publisher's files by name; download the files if there is no source.

    If there is only `NAME.gz`, it is unpacked to `scratch`, because readers of CSV do not notice that a gzip file is cut
    short. A name that ends in `.gz` may be in the source without this ending.

    Args:
        dataset: the data set of the files.
        names: the names of the files, with their folders in the publisher's archive.
        source: the directory with the files; None downloads the archive.
        scratch: an existing directory for the archive and for unpacked files.
        optional: the names of the files that may be missing in `source`.

    Raises:
        InputError: files are missing or cannot be downloaded. The message says how to get them.
    """
    if source is None:
        return _download(dataset, names, scratch)
    source = Path(source)
    if not source.is_dir():
        raise InputError(f"{source}: no such directory; give --from the directory with {names[0]}")
    paths = {name: path for name in names if (path := find(dataset, name, source))}
    missing = [name for name in names if name not in paths and name not in optional]
    if missing:
        folder = f" or its folder '{dataset.folder}'" if dataset.folder else ""
        raise InputError(f"{source}: no {', '.join(missing)} in this directory{folder}; {_remedy(dataset)}")
    return {
        name: _unpack_gzip(path, scratch / "unpacked" / name) if _is_packed(path, name) else path
        for name, path in paths.items()
    }


def find(dataset: PublishedDataset, name: str, source: Path) -> Path | None:
    """Return the path of a publisher's file in `source` or in its folder, with or without `.gz`; None if it is missing."""
    candidates = [source / name, source / dataset.folder / name, source / PurePosixPath(name).name]
    other_name = PurePosixPath(name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz").name
    paths = [path for candidate in candidates for path in (candidate, candidate.with_name(other_name))]
    return next((path for path in paths if path.is_file()), None)


def check_count(dataset: PublishedDataset, file: str, unit: str, count: int, published: int, partial: bool) -> None:
    """Raise an error if a count differs from the published count.

    Args:
        dataset: the data set of the file.
        file: the name of the file, for the message.
        unit: the counted things, such as `ratings`.
        count: the count in the file.
        published: the published count.
        partial: whether to accept a smaller count, with a line on stderr. A larger count is never accepted.

    Raises:
        InputError: the counts differ.
    """
    if count == published:
        return
    difference = f"{file}: {count:,} {unit}, but the original of {dataset.name} has {published:,}"
    if count > published:
        raise InputError(f"{difference}; this is a different file: {_remedy(dataset)}")
    if not partial:
        raise InputError(f"{difference}; get the file again, or use the incomplete file with --partial")
    console.print(f"{difference}; the incomplete file is used (--partial)", soft_wrap=True, highlight=False)


def _remedy(dataset: PublishedDataset) -> str:
    return (
        f"get the files from {dataset.page}, unpack them, and give their directory: lum data {dataset.name} --from DIR"
    )


def _is_packed(path: Path, name: str) -> bool:
    """Return whether the file is packed although the publisher's file is not."""
    return path.suffix == ".gz" and not name.endswith(".gz")


def _unpack_gzip(path: Path, unpacked: Path) -> Path:
    """Unpack a gzip file and return the path of the unpacked file."""
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(path) as file:
            _copy(file, unpacked)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}); get the file again") from None
    return unpacked


def _download(dataset: PublishedDataset, names: Sequence[str], scratch: Path) -> dict[str, Path]:
    if dataset.archive is None:
        raise InputError(
            f"{dataset.name}: cannot be downloaded without a login or agreement to terms; {_remedy(dataset)}"
        )
    if dataset.archive.endswith("/"):
        return {name: _fetch(dataset, dataset.archive + name, scratch / name) for name in names}
    archive = _fetch(dataset, dataset.archive, scratch / PurePosixPath(dataset.archive).name)
    try:
        paths = _unpack_archive(dataset, archive, names, scratch)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{dataset.archive}: not the expected archive ({error}); {_remedy(dataset)}") from None
    missing = [name for name in names if name not in paths]
    if missing:
        raise InputError(f"{dataset.archive}: has no {', '.join(missing)}; {_remedy(dataset)}")
    archive.unlink()
    return paths


def _fetch(dataset: PublishedDataset, url: str, path: Path) -> Path:
    """Download `url` to `path` and return `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            size = int(response.headers.get("Content-Length") or 0)
            columns = "{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn()
            with new_progress(*columns, console=console, transient=True) as progress:
                _copy(progress.wrap_file(response, size, description=path.name), path)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{url}: cannot be downloaded ({error}); {_remedy(dataset)}") from None
    if size and path.stat().st_size != size:
        raise InputError(f"{url}: the connection broke after {path.stat().st_size:,} of {size:,} bytes; try again")
    return path


def _unpack_archive(dataset: PublishedDataset, archive: Path, names: Sequence[str], scratch: Path) -> dict[str, Path]:
    """Unpack only the named files and return their paths by name.

    Each path depends on `names` alone, so that no path in the archive can point outside `scratch`.
    """
    name_of_member = {str(PurePosixPath(dataset.folder) / name): name for name in names}
    paths: dict[str, Path] = {}
    for member, file in _members(archive):
        if member in name_of_member:
            name = name_of_member[member]
            paths[name] = path = scratch / "unpacked" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _copy(file, path)
    return paths


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the name and the content of each regular file of a zip or tar archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    with packed.open(info) as file:
                        yield info.filename, file
        return
    with tarfile.open(archive, "r|*") as tar:  # a stream reads the archive once
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                yield member.name.removeprefix("./"), content


def _copy(file: Any, path: Path) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(file, out, 1 << 20)
