"""The manifest of an artefact: its kind, the format of its layout, its parts, and the key of the step that wrote it."""

from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from openlum.artefact.json_file import read_json, write_json
from openlum.config import Settings, parse_settings
from openlum.errors import InputError

MANIFEST = "manifest.json"
"""The file that marks a directory as an artefact and names its kind. Only an artefact of the same kind may replace it."""
FORMAT = 2
"""Version of the layout of all artefacts. Increase it whenever older artefacts can no longer be read."""
Kind = Literal["log", "dataset", "model", "knowledge", "ranker", "retrieval", "head"]
MADE_BY: dict[Kind, str] = {
    "log": "lum data",
    "dataset": "lum prepare",
    "model": "lum pretrain",
    "knowledge": "lum query",
    "ranker": "lum rank",
    "retrieval": "lum retrieve",
    "head": "lum export head",
}
"""Kind to the command that writes it. `lum market` writes a simulated log, and `lum run` writes all kinds."""
PAGES = (".html", ".md")
"""File name endings of pages for people."""


class Part(Settings):
    """A file of an artefact."""

    bytes: int = Field(ge=0)
    """Size of the file."""
    sha256: str
    """SHA-256 of the file, in hexadecimal digits."""


class Manifest(Settings):
    """The content of `manifest.json`."""

    kind: Kind
    """Kind of the artefact."""
    format: int = Field(FORMAT, ge=1)
    """Version of the artefact's layout, `FORMAT` of the openlum version that wrote it."""
    key: dict[str, str] | None = None
    """Key of the step that wrote the artefact, from `step_key`; null if the step did not run in a pipeline."""
    parts: dict[str, Part]
    """Path within the directory, separated by `/`, to the size and checksum of the file."""

    @property
    def data(self) -> dict[str, str]:
        """Path to the checksum of every part that is not a page."""
        return {name: part.sha256 for name, part in self.parts.items() if not is_page(name)}


def read_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of an artefact; None if the directory has no manifest.

    From a manifest of another format, only kind and format are read.

    Raises:
        InputError: the manifest is damaged, or another program wrote it.
    """
    file = directory / MANIFEST
    if not file.is_file():
        return None
    try:
        content = read_json(file, "lum")
        if isinstance(content.get("format"), int) and content["format"] != FORMAT:
            content = {"kind": content.get("kind"), "format": content["format"], "parts": {}}
        return parse_settings(content, Manifest, where=str(file))
    except InputError as error:
        raise InputError(
            f"{error}. If lum wrote {directory}, remove it and run its step again; otherwise name another directory"
        ) from None


def record_key(directory: Path, key: dict[str, str]) -> None:
    """Write the key of the step that wrote an artefact into its manifest."""
    manifest = read_manifest(directory)
    assert manifest is not None
    write_json(directory / MANIFEST, manifest.model_copy(update={"key": key}).model_dump())


def check_format(path: Path, version: object, command: str) -> None:
    """Raise an `InputError` if an artefact has another format than this version of openlum reads.

    Args:
        path: the artefact, or its file that holds the format.
        version: its format.
        command: the command that writes the artefact again.
    """
    if version != FORMAT:
        raise InputError(
            f"{path}: has format {version}, but this version of openlum reads format {FORMAT}; run '{command}' again"
        )


def is_page(name: str) -> bool:
    """Return whether a file of an artefact is a page for people, who may edit it."""
    return PurePosixPath(name).suffix in PAGES
