"""Where a publisher's files come from: a directory that has them, or the published archive; and whether they are whole."""

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
class Publisher:
    """Who publishes a data set, and how one gets it."""

    name: str
    """On the command line: `ml-20m`."""
    page: str
    """Web page where people get it and read its terms."""
    archive: str | None = None
    """URL of the zip or tar file that has the files; one that ends in `/` has each of them under it. None: terms or a login
    stand before it."""
    folder: str = ""
    """Folder inside the archive, or in the directory of `--from`, that holds the files."""
    size: str = ""
    """What is in it, in a few words: `20 M ratings`."""


def locate(
    publisher: Publisher, names: Sequence[str], source: Path | None, scratch: Path, optional: Collection[str] = ()
) -> dict[str, Path]:
    """Find the publisher's files, or download them.

    Args:
        publisher: of the files.
        names: of the files, with the folders that they have in the publisher's archive.
        source: the directory with the files; None downloads the archive.
        scratch: an existing directory for the archive and the files unpacked from it.
        optional: those of `names` that `source` may lack.

    Returns:
        Name to path. Where there is only `NAME.gz`, it is unpacked to `scratch`: readers of CSV do not notice one that was
        cut short. A name that ends in `.gz` may be found without it.

    Raises:
        InputError: files are missing, or cannot be downloaded. The message says how to get them.
    """
    if source is None:
        return _download(publisher, names, scratch)
    source = Path(source)
    if not source.is_dir():
        raise InputError(f"{source}: no such directory; --from names the directory with {names[0]}")
    found = {name: path for name in names if (path := find(publisher, name, source))}
    missing = [name for name in names if name not in found and name not in optional]
    if missing:
        beside = f" or its folder '{publisher.folder}'" if publisher.folder else ""
        raise InputError(f"{source}: no {', '.join(missing)} in this directory{beside}; {_remedy(publisher)}")
    return {
        name: _plain(path, scratch / "unpacked" / name) if _packed(path, name) else path for name, path in found.items()
    }


def find(publisher: Publisher, name: str, source: Path) -> Path | None:
    """The path of one of the publisher's files in `source` or in its folder, packed by gzip or not; None where it is absent."""
    places = [source / name, source / publisher.folder / name, source / PurePosixPath(name).name]
    other = name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"
    spellings = [path for place in places for path in (place, place.with_name(PurePosixPath(other).name))]
    return next((path for path in spellings if path.is_file()), None)


def check_count(publisher: Publisher, file: str, what: str, found: int, published: int, partial: bool) -> None:
    """Compare a count with the published one.

    Args:
        publisher: of the file.
        file: its name, for the message.
        what: is counted: `ratings`.
        found: the count.
        published: what it must be.
        partial: fewer are accepted, with a line on stderr; more never are.

    Raises:
        InputError: the counts differ.
    """
    if found == published:
        return
    differ = f"{file}: {found:,} {what}, but the original of {publisher.name} has {published:,}"
    if found > published:
        raise InputError(f"{differ}; this is another file: {_remedy(publisher)}")
    if not partial:
        raise InputError(f"{differ}; get the file again, or give --partial to take what is there")
    console.print(f"{differ}; taken as it is (--partial)", soft_wrap=True, highlight=False)


def _remedy(publisher: Publisher) -> str:
    return (
        f"get the files from {publisher.page}, unpack them and give the directory: lum data {publisher.name} --from DIR"
    )


def _packed(path: Path, name: str) -> bool:
    """The file was packed by somebody else than its publisher."""
    return path.suffix == ".gz" and not name.endswith(".gz")


def _plain(path: Path, unpacked: Path) -> Path:
    """Unpack a gzip file."""
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(path) as file:
            _copy(file, unpacked)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}); get the file again") from None
    return unpacked


def _download(publisher: Publisher, names: Sequence[str], scratch: Path) -> dict[str, Path]:
    if publisher.archive is None:
        raise InputError(f"{publisher.name}: cannot be downloaded without agreeing to its terms; {_remedy(publisher)}")
    if publisher.archive.endswith("/"):
        return {name: _fetch(publisher, publisher.archive + name, scratch / name) for name in names}
    archive = _fetch(publisher, publisher.archive, scratch / PurePosixPath(publisher.archive).name)
    try:
        found = _unpack(publisher, archive, names, scratch)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{publisher.archive}: not the expected archive ({error}); {_remedy(publisher)}") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"{publisher.archive}: has no {', '.join(missing)}; {_remedy(publisher)}")
    archive.unlink()
    return found


def _fetch(publisher: Publisher, url: str, path: Path) -> Path:
    """Stream `url` to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            size = int(response.headers.get("Content-Length") or 0)
            columns = "{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn()
            with new_progress(*columns, console=console, transient=True) as shown:
                _copy(shown.wrap_file(response, size, description=path.name), path)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{url}: cannot be downloaded ({error}); {_remedy(publisher)}") from None
    if size and path.stat().st_size != size:
        raise InputError(f"{url}: the connection broke after {path.stat().st_size:,} of {size:,} bytes; try again")
    return path


def _unpack(publisher: Publisher, archive: Path, names: Sequence[str], scratch: Path) -> dict[str, Path]:
    """Unpack only the named files. Where they go depends on `names` alone: no path in the archive leads anywhere."""
    wanted = {str(PurePosixPath(publisher.folder) / name): name for name in names}
    found: dict[str, Path] = {}
    for member, file in _members(archive):
        if member in wanted:
            found[wanted[member]] = path = scratch / "unpacked" / wanted[member]
            path.parent.mkdir(parents=True, exist_ok=True)
            _copy(file, path)
    return found


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The regular files of a zip or tar archive: name and content, one at a time."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    with packed.open(info) as file:
                        yield info.filename, file
        return
    with tarfile.open(archive, "r|*") as tar:  # a stream: the archive is read once
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                yield member.name.removeprefix("./"), content


def _copy(file: Any, path: Path) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(file, out, 1 << 20)
