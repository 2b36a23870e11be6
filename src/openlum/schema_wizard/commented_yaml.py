"""YAML with comments, written line by line."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openlum.yaml_file import dump_yaml

COMMENT_COLUMN = 34
"""Column at which comments begin, if the line is shorter."""
MAX_LINE_LENGTH = 140
"""Longest line with its comment, in characters; a longer comment is written on the line above."""


@dataclass(frozen=True)
class YamlLine:
    """A line of a YAML file."""

    indent: int
    """Indentation, in levels."""
    text: str
    """`key: value`; empty for a blank line, or for a comment on lines of its own."""
    comment: str = ""
    """The comment on the line, without its `#`."""
    commented_out: bool = False
    """Whether the line itself is commented out."""


def format_scalar(value: Any) -> str:
    """Return a value as YAML on one line, quoted where YAML needs quotes."""
    text = dump_yaml(value, width=10**6, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")


def render_yaml(head: Sequence[str], lines: Sequence[YamlLine]) -> str:
    """Return the text of a file: the comments of its head, a blank line, and the lines."""
    return "\n".join([*(f"# {_printable(line)}" for line in head), "", *(_render_line(line) for line in lines), ""])


def _render_line(line: YamlLine) -> str:
    space = "  " * line.indent
    if not line.text:
        return _render_comment(space, line.comment)
    text = space + ("# " if line.commented_out else "") + line.text
    if not line.comment:
        return text
    comment = f"# {_printable(line.comment)}"
    joined = f"{text:<{COMMENT_COLUMN - 1}} {comment}"
    return joined if len(joined) <= MAX_LINE_LENGTH else f"{_render_comment(space, line.comment)}\n{text}"


def _render_comment(space: str, comment: str) -> str:
    """Return a comment on lines of its own; nothing for an empty comment."""
    mark = f"{space}# "
    return textwrap.fill(_printable(comment), MAX_LINE_LENGTH, initial_indent=mark, subsequent_indent=mark)


def _printable(text: str) -> str:
    """Return the text with `?` in place of every character that cannot be printed."""
    return "".join(character if character.isprintable() else "?" for character in text)
