"""No file is read in a format that can hold code: nothing is unpickled, and no text is executed."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(file for folder in ("src", "benchmarks", "examples") for file in (ROOT / folder).rglob("*.py"))

MODULES = {
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "pickle",
    "shelve",
    "torch.distributed.checkpoint",
    "torch.package",
}
CALLS = {"eval", "exec", "__import__"}
"""Functions that are called by their own name."""
METHODS = {
    "full_load", "full_load_all", "load_all", "read_pickle", "unsafe_load", "unsafe_load_all", "yaml.load", "jit.load",
    "torch.load",
}  # fmt: skip
"""Ends of the dotted names of functions."""


def dotted(node: ast.expr) -> str:
    """Return the dotted name `a.b.c` of an expression. `?` stands for a part that is not a name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def risks(text: str) -> list[str]:
    """Return the imports and calls of a source that could run code from a file."""
    risky = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names = {f"{source}{alias.name}" for alias in node.names} | {source.rstrip(".")}
            risky += [name for name in names if any(f"{name}.".startswith(f"{module}.") for module in MODULES)]
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS or any(f".{name}".endswith(f".{method}") for method in METHODS):
                risky.append(name)
            arguments = {keyword.arg: keyword.value for keyword in node.keywords}
            allow_pickle = arguments.get("allow_pickle")
            is_refused = isinstance(allow_pickle, ast.Constant) and allow_pickle.value is False
            if not is_refused and (allow_pickle is not None or name in ("np.load", "numpy.load")):
                risky.append(f"{name} with allow_pickle")
            if "weights_only" in arguments or "trust_remote_code" in arguments:
                risky.append(name)
    return risky


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_source_reads_code_from_a_file(file: Path) -> None:
    assert risks(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "import torch.distributed.checkpoint as dcp",
        "from torch.distributed import checkpoint",
        "torch.load(file, weights_only=True)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "pd.read_pickle(file)",
        "exec(text)",
    ],
)
def test_the_check_finds_a_risk(text: str) -> None:
    assert risks(text)


def test_safe_calls_pass() -> None:
    assert risks("yaml.safe_load(text); np.load(file, allow_pickle=False); json.load(file); model.eval()") == []
