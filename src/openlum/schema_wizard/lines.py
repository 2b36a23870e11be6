"""YAML with comments, written line by line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openlum.yaml_file import dump_yaml

NOTES_AT = 34
"""Column where comments begin, if the line is shorter."""
WIDEST = 140
"""Characters of a line; a longer comment stands above."""


@dataclass(frozen=True)
class Line:
    """A line of the file."""

    indent: int
    """Levels."""
    text: str
    """`key: value`; empty for a blank line."""
    note: str = ""
    """The comment."""
    off: bool = False
    """It is commented out."""


def scalar(value: Any) -> str:
    """A value as YAML, quoted where it must be."""
    text = dump_yaml(value, width=10**6, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")


def render(head: Sequence[str], lines: Sequence[Line]) -> str:
    """The whole file: comments, a blank line, and the lines."""
    return "\n".join([*(f"# {_printable(line)}" for line in head), "", *(_rendered(line) for line in lines), ""])


def _rendered(line: Line) -> str:
    space = "  " * line.indent
    text = space + ("# " if line.off else "") + line.text
    if not line.note:
        return text
    note = f"# {_printable(line.note)}"
    beside = f"{text:<{NOTES_AT - 1}} {note}"
    return beside if len(beside) <= WIDEST else f"{space}{note}\n{text}"


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)
