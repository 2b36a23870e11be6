"""`lum verify`: compares every byte of artefacts with the checksums in their manifests."""

from collections.abc import Callable
from pathlib import Path

from openlum.artefact.checksums import checksums
from openlum.artefact.directory import differences
from openlum.artefact.manifest import MADE_BY, MANIFEST, Manifest, check_format, read_manifest
from openlum.errors import InputError

MAX_FILES = 20
"""A message names at most this many files."""


def verify(directory: str | Path, report: Callable[[Path, int], None] = lambda file, size: None) -> int:
    """Compare every file of an artefact, or of all artefacts in a directory, with its checksum.

    Args:
        directory: an artefact, or runs/NAME.
        report: called with the path and the size of every file after it was read.

    Returns:
        The number of files. All of them have the content that was written.

    Raises:
        InputError: files are missing, were added or have changed; the message names them and the command that writes
            them again. Or no directory has a manifest, or an artefact has another format.
    """
    problems: list[str] = []
    files = 0
    for artefact, manifest in artefacts_in(Path(directory)).items():
        check_format(artefact, manifest.format, MADE_BY[manifest.kind])
        damage = dict(differences(artefact, manifest))
        parts = {name: part for name, part in manifest.parts.items() if name not in damage}
        current = checksums([artefact / name for name in parts], fresh=True)
        for (name, part), checksum in zip(parts.items(), current, strict=True):
            report(artefact / name, part.bytes)
            if checksum != part.sha256:
                damage[name] = "has changed since it was written"
        files += len(manifest.parts)
        command = MADE_BY[manifest.kind]
        problems += [f"{artefact / name}: {problem} ('{command}' writes it again)" for name, problem in damage.items()]
    if problems:
        more = [f"and {len(problems) - MAX_FILES:,} more"] if len(problems) > MAX_FILES else []
        raise InputError("; ".join(problems[:MAX_FILES] + more))
    return files


def artefacts_in(directory: Path) -> dict[Path, Manifest]:
    """Return the artefact in a directory, or all artefacts at any depth below it, with their manifests.

    Raises:
        InputError: there is no artefact, or a manifest is damaged.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; name one that lum wrote, such as runs/market")
    paths = [directory] if (directory / MANIFEST).is_file() else sorted(f.parent for f in directory.rglob(MANIFEST))
    paths = [path for path in paths if not any(name.startswith(".") for name in path.relative_to(directory).parts)]
    manifests = {path: manifest for path in paths if (manifest := read_manifest(path))}
    if not manifests:
        raise InputError(f"{directory}: has no {MANIFEST}, so there are no checksums to compare with")
    return manifests
