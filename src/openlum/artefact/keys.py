"""Keys that decide whether a step must run again. `lum run`, `lum bench` and the checkpoints of a training use them.

A key holds a hash of the step's code, of its settings, and of the current content of each of its inputs. The versions of
libraries are not part of a key: an upgrade of torch does not make a trained model out of date.
"""

import ast
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from openlum.artefact.checksums import checksums
from openlum.artefact.directory import data_checksums
from openlum.artefact.json_file import fingerprint
from openlum.artefact.manifest import FORMAT, MANIFEST, read_manifest

Step = Literal["data", "prepare", "pretrain", "query", "rank", "retrieve", "bench ranking", "bench retrieval"]
Key = dict[str, str]
"""`code`, `settings` and the name of each input, each to a hash."""

ENTRY_MODULES: dict[Step, list[str]] = {
    "data": ["openlum.sources.market.write"],
    "prepare": ["openlum.prepare.run"],
    "pretrain": ["openlum.pretrain.train"],
    "query": ["openlum.query.bulk"],
    "rank": ["openlum.rank.run"],
    "retrieve": ["openlum.retrieve.evaluate"],
    "bench ranking": ["openlum.bench.trials"],
    "bench retrieval": ["openlum.pretrain.train", "openlum.retrieve.evaluate", "openlum.retrieve.sequential"],
}
"""For each step, its entry modules. The step's code is these modules and all modules that they import, directly or indirectly.

Imports inside functions count too.
"""
IGNORED_MODULES = {
    "openlum.artefact.checksums",
    "openlum.artefact.directory",
    "openlum.artefact.json_file",
    "openlum.artefact.keys",
    "openlum.artefact.lock",
    "openlum.artefact.manifest",
    "openlum.bench.progress",
    "openlum.capacity",
    "openlum.errors",
    "openlum.pretrain.card",
    "openlum.processes",
    "openlum.report.dataset_report",
    "openlum.training.memory",
}
"""Modules that do not change results: messages, pages, locks, processes, memory. Modules that only they import are ignored."""
PACKAGE = Path(__file__).parents[1]


def step_key(
    step: Step, settings: Any, inputs: Mapping[str, Path | Sequence[Path]], entry: Sequence[str] | None = None
) -> Key:
    """Return the key of a step with its current code, settings and inputs.

    Args:
        step: name of the step.
        settings: JSON-like values; the result of the step depends on them and on its inputs alone.
        inputs: name to an artefact, or to files of the user.
        entry: the entry modules of the step; by default the modules in `ENTRY_MODULES`.
    """
    contents = {name: content_hash(source) for name, source in inputs.items()}
    return {"code": code_hash(tuple(entry or ENTRY_MODULES[step])), "settings": fingerprint(settings)} | contents


def content_hash(source: Path | Sequence[Path]) -> str:
    """Return a hash of the current content of an artefact or of files, and of the files' paths relative to each other.

    Only relative paths are hashed, and directory names such as `dt=2026-01-01`, because they are read as columns.
    """
    if isinstance(source, Path) and source.is_dir():
        return fingerprint(data_checksums(source))
    files = [Path(os.path.abspath(file)) for file in ([source] if isinstance(source, Path) else source)]
    top = os.path.commonpath(files) if files else ""
    names = [[os.path.relpath(file, top), *(part for part in file.parts if "=" in part)] for file in files]
    return fingerprint(list(zip(names, checksums(files), strict=True)))


def rerun_reason(directory: Path, key: Key) -> str | None:
    """Return why a step must run again; None if its artefact is up to date.

    Args:
        directory: the artefact that the step writes.
        key: the current key of the step.

    Returns:
        `inputs changed: dataset`, `settings changed`, `code changed`, `output was edited: FILE`, `output has format 1, not 2`;
        empty before the first run.

    Raises:
        InputError: the directory's manifest is damaged.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        return f"output has no {MANIFEST}" if directory.is_dir() and any(directory.iterdir()) else ""
    if manifest.format != FORMAT:
        return f"output has format {manifest.format}, not {FORMAT}"
    if manifest.key is None:
        return "output was written by a single step"
    reasons = _changes(manifest.key, key)
    current = data_checksums(directory)
    edited = [name for name in {**manifest.data, **current} if manifest.data.get(name) != current.get(name)]
    if edited:
        reasons.append(f"output was edited: {', '.join(edited[:3])}{' ...' * (len(edited) > 3)}")
    return ", ".join(reasons) or None


def _changes(former: Key, key: Key) -> list[str]:
    differ = [name for name in {**key, **former} if former.get(name) != key.get(name)]
    inputs = [name for name in differ if name not in ("code", "settings")]
    reasons = [f"inputs changed: {', '.join(inputs)}"] if inputs else []
    return reasons + [f"{name} changed" for name in ("settings", "code") if name in differ]


@cache
def code_hash(entry: tuple[str, ...], package: Path = PACKAGE) -> str:
    """Return a hash of modules and of all modules of the package that they import, without comments and docstrings."""
    hashes: dict[str, str] = {}
    queue = list(entry)
    while queue:
        name = queue.pop()
        file = _file(name, package)
        if file and name not in hashes and name not in IGNORED_MODULES:
            parent = name if file.name == "__init__.py" else name.rpartition(".")[0]
            imported, hashes[name] = _module(file.read_bytes(), parent)
            queue += imported
    return fingerprint(hashes)


def _file(name: str, package: Path) -> Path | None:
    """Return the file of a module of the package; None for any other name."""
    first, *rest = name.split(".")
    if first != package.name:
        return None
    path = package.joinpath(*rest)
    return next((f for f in (path.with_suffix(".py") if rest else path, path / "__init__.py") if f.is_file()), None)


@cache
def _module(source: bytes, package: str) -> tuple[list[str], str]:
    """Return the names that a module imports, and a hash of its code without comments, layout and docstrings."""
    tree = ast.parse(source)
    imported = list(_imported(tree, package))
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                setattr(node, name, [statement for statement in statements if not _is_text(statement)])
    return imported, fingerprint(ast.dump(tree))


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the names that a module imports or mentions as text (for `importlib`). Some of them are not modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"\w+(\.\w+)+", node.value)
        ):
            yield node.value


def _is_text(statement: ast.AST) -> bool:
    """Return whether a statement is only a text: a docstring of a module, class, function or field."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
