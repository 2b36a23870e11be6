"""`lum verify`: whether artefacts hold, byte for byte, what was written."""

from collections.abc import Callable
from pathlib import Path

from openlum.artefact.checksums import checksums
from openlum.artefact.directory import MADE_BY, MANIFEST, Manifest, differences, read_manifest
from openlum.errors import InputError

SHOWN = 20
"""How many files that differ a message names."""


def verify(directory: str | Path, done: Callable[[Path, int], None] = lambda file, size: None) -> int:
    """Compare every file of an artefact, or of all artefacts in a directory, with its checksum.

    Args:
        directory: an artefact, or runs/NAME.
        done: called with the path and the size of every file that was read.

    Returns:
        How many files there are; all of them are as they were written.

    Raises:
        InputError: names the files that are missing, that differ or that were added, and what makes them anew; or nothing there
            has a manifest.
    """
    problems: list[str] = []
    files = 0
    for artefact, manifest in artefacts_in(Path(directory)).items():
        wrong = dict(differences(artefact, manifest))
        left = {name: part for name, part in manifest.parts.items() if name not in wrong}
        found = checksums([artefact / name for name in left], fresh=True)
        for (name, part), checksum in zip(left.items(), found, strict=True):
            done(artefact / name, part.bytes)
            if checksum != part.sha256:
                wrong[name] = "has another content than was written"
        files += len(manifest.parts)
        problems += [
            f"{artefact / name}: {what} ('{MADE_BY[manifest.kind]}' makes it anew)" for name, what in wrong.items()
        ]
    if problems:
        more = [f"and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
        raise InputError("; ".join(problems[:SHOWN] + more))
    return files


def artefacts_in(directory: Path) -> dict[Path, Manifest]:
    """The artefact in a directory, or those at any depth below it, with what they say of themselves.

    Raises:
        InputError: there is none, or a manifest is damaged.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; name one that lum wrote, such as runs/market")
    places = [directory] if (directory / MANIFEST).is_file() else sorted(f.parent for f in directory.rglob(MANIFEST))
    places = [place for place in places if not any(part.startswith(".") for part in place.relative_to(directory).parts)]
    manifests = {place: manifest for place in places if (manifest := read_manifest(place))}
    if not manifests:
        raise InputError(f"{directory}: has no {MANIFEST}, so there are no checksums to compare with")
    return manifests
