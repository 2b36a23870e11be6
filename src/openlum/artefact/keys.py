"""Keys that tell whether a step must run again: one function for `lum run`, `lum bench` and the checkpoints of a training.

A key is a mapping with a hash of the step's code, of its settings, and of the content of each of its inputs as it is now. The
versions of libraries are no part of it: who upgrades torch keeps what was trained.
"""

import ast
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from openlum.artefact.checksums import checksums
from openlum.artefact.directory import MANIFEST, data_checksums, fingerprint, read_manifest

Step = Literal["data", "prepare", "pretrain", "query", "rank", "retrieve", "bench ranking", "bench retrieval"]
Key = dict[str, str]
"""`code`, `settings` and the name of each input to a hash."""

ENTRY: dict[Step, list[str]] = {
    "data": ["openlum.sources.market.write"],
    "prepare": ["openlum.prepare.run"],
    "pretrain": ["openlum.pretrain.train"],
    "query": ["openlum.query.bulk"],
    "rank": ["openlum.rank.run"],
    "retrieve": ["openlum.retrieve.evaluate"],
    "bench ranking": ["openlum.bench.trials"],
    "bench retrieval": ["openlum.pretrain.train", "openlum.retrieve.evaluate", "openlum.retrieve.sequential"],
}
"""The modules that a step begins in. What these import, at any depth and wherever in a function, is its code."""
BESIDE = {
    "openlum.artefact.checksums",
    "openlum.artefact.directory",
    "openlum.artefact.keys",
    "openlum.artefact.lock",
    "openlum.bench.workers",
    "openlum.errors",
    "openlum.pretrain.card",
    "openlum.report.dataset_report",
    "openlum.training.memory",
}
"""Modules that change no result: messages, pages for people, locks, processes. What only they import does not count either."""
PACKAGE = Path(__file__).parents[1]


def step_key(
    step: Step, settings: Any, inputs: Mapping[str, Path | Sequence[Path]], entry: Sequence[str] | None = None
) -> Key:
    """The key of what a step would make now.

    Args:
        step: which.
        settings: everything that its result depends on beside its inputs, JSON-like.
        inputs: name to an artefact, or to files of the user.
        entry: the modules that it begins in, where these are not those of `ENTRY`.
    """
    contents = {name: content_of(given) for name, given in inputs.items()}
    return {"code": code_of(tuple(entry or ENTRY[step])), "settings": fingerprint(settings)} | contents


def content_of(given: Path | Sequence[Path]) -> str:
    """A hash of the content of an artefact or of files, as it is now, and of how the files lie to each other.

    Where they lie does not matter, but for directories such as `dt=2026-01-01`, which are columns.
    """
    if isinstance(given, Path) and given.is_dir():
        return fingerprint(data_checksums(given))
    files = [Path(os.path.abspath(file)) for file in ([given] if isinstance(given, Path) else given)]
    top = os.path.commonpath(files) if files else ""
    names = [[os.path.relpath(file, top), *(part for part in file.parts if "=" in part)] for file in files]
    return fingerprint(list(zip(names, checksums(files), strict=True)))


def why_again(directory: Path, key: Key) -> str | None:
    """Say why a step must run again; None where its directory holds what it would make.

    Args:
        directory: that it writes.
        key: of what it would make now.

    Returns:
        `inputs changed: dataset`, `settings changed`, `code changed`, `output was edited: FILE`; empty where it has not run yet.

    Raises:
        InputError: the directory's manifest is damaged.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        return f"output has no {MANIFEST}" if directory.is_dir() and any(directory.iterdir()) else ""
    if manifest.key is None:
        return "output is of another run"
    reasons = _changes(manifest.key, key)
    now = data_checksums(directory)
    edited = [name for name in {**manifest.data, **now} if manifest.data.get(name) != now.get(name)]
    if edited:
        reasons.append(f"output was edited: {', '.join(edited[:3])}{' ...' * (len(edited) > 3)}")
    return ", ".join(reasons) or None


def _changes(former: Key, key: Key) -> list[str]:
    differ = [name for name in {**key, **former} if former.get(name) != key.get(name)]
    inputs = [name for name in differ if name not in ("code", "settings")]
    told = [f"inputs changed: {', '.join(inputs)}"] if inputs else []
    return told + [f"{name} changed" for name in ("settings", "code") if name in differ]


@cache
def code_of(entry: tuple[str, ...], package: Path = PACKAGE) -> str:
    """A hash of modules of the package and of all that they import of it, without comments and docstrings."""
    reached: dict[str, str] = {}
    ahead = list(entry)
    while ahead:
        name = ahead.pop()
        file = _file(name, package)
        if file and name not in reached and name not in BESIDE:
            above = name if file.name == "__init__.py" else name.rpartition(".")[0]
            imported, reached[name] = _module(file.read_bytes(), above)
            ahead += imported
    return fingerprint(reached)


def _file(name: str, package: Path) -> Path | None:
    """The file of a module of the package; None for any other name."""
    first, *rest = name.split(".")
    if first != package.name:
        return None
    path = package.joinpath(*rest)
    return next((f for f in (path.with_suffix(".py") if rest else path, path / "__init__.py") if f.is_file()), None)


@cache
def _module(source: bytes, package: str) -> tuple[list[str], str]:
    """What a module of a package imports, and a hash of its code: comments, layout and docstrings leave no trace."""
    tree = ast.parse(source)
    imported = list(_imported(tree, package))
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            lines = getattr(node, name, None)
            if isinstance(lines, list):
                setattr(node, name, [line for line in lines if not _is_text(line)])
    return imported, fingerprint(ast.dump(tree))


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Names that a module imports, or mentions as text (`importlib`), and that may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"\w+(\.\w+)+", node.value)
        ):
            yield node.value


def _is_text(line: ast.AST) -> bool:
    """Whether a statement is a text and nothing else: a docstring, or that of a field."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
