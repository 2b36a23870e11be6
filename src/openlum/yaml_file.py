"""YAML files: read with one plain meaning for every value and a line for every mistake, and written so that they read back.

YAML 1.1 has surprises: `on` is true, `010` is 8, `1:30` is 90 and `2025-12-31` is a date. Here an unquoted value is null, true,
false, or a number that is written as it is printed; everything else is text as it stands, such as `010`, `7.10` and `1e3`, which
may be ids. Settings that are numbers or switches take them from text too (`config.py`). Nothing is ever made of a tag.
"""

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from openlum.errors import InputError

Key = tuple[str | int, ...]
"""Where a value lies: keys of mappings, and indices of lists."""

MOST_BYTES = 1_000_000
"""Of a file. A schema of a thousand columns has a twentieth of it."""
MOST_LEVELS = 50
"""Of mappings and lists in each other."""
MOST_VALUES = 100_000
"""In a file, with what its aliases stand for: an alias of aliases of aliases grows without end."""
MOST_DIGITS = 100
"""Of a number."""

_TAG = "tag:yaml.org,2002:"
_PLAIN = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"-?(0|[1-9][0-9]*)", "-0123456789"),
    "float": (
        r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}
"""Kind of an unquoted value to how it is written, and the characters that it begins with (NUL stands for an empty one)."""
_WRITTEN = {kind: re.compile(pattern) for kind, (pattern, _) in _PLAIN.items()}
_MERGE = _TAG + "merge"


@dataclass(frozen=True)
class Document:
    """The content of a YAML file."""

    content: dict[str, Any]
    """Its keys and values."""
    lines: dict[Key, int]
    """Where a value lies to the line, counted from 1, that it begins in."""


def read_yaml(path: str | Path) -> Document:
    """Read a YAML file: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        InputError: it cannot be read, or is not one mapping of keys in YAML; the message names the line.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory; name the YAML file in it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read ({reason})") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{path}: has more than {MOST_BYTES:,} bytes; expected a YAML file of settings, not data")
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8 text; save the file as UTF-8") from None
    return parse_yaml(text, where=str(path))


def parse_yaml(text: str, where: str) -> Document:
    """The same for text; `where` names its origin in messages."""
    composer = None
    try:
        composer = _Composer(text)
        root = composer.get_single_node()
        if root is None:
            raise InputError("holds nothing; expected a mapping of keys")
        builder = _Builder()
        content = builder.value(root, ())
        if not isinstance(content, dict):
            kind = "a list" if isinstance(content, list) else repr(content)[:80]
            raise InputError(f"expected a mapping of keys at the top, found {kind}")
        return Document(content, builder.lines)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{where}: not valid YAML: line {line}: the character U+{ord(text[error.position]):04X} cannot stand in YAML"
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not valid YAML: {_problem(error)}") from None
    except (ValueError, OverflowError):  # a code of no character, the version of a directive with thousands of digits
        line = composer.get_mark().line + 1 if composer else 1
        raise InputError(f"{where}: not valid YAML: line {line}: a number is out of range") from None


def dump_yaml(content: Any, **style: Any) -> str:
    """A value as YAML that `read_yaml` reads back; text that any reader of YAML could take for something else is quoted.

    Args:
        content: mappings, lists, text, numbers, true, false and null.
        style: options of `yaml.dump`.
    """
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True} | style
    written: str = yaml.dump(content, Dumper=_Dumper, **options)
    return written


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong where, in one line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    told = ", ".join(" ".join(part.split()) for part in (error.context, error.problem) if part)
    if "'\\t'" in told:
        told += "; indent with spaces, not tabs"
    elif "another document" in told:
        told += "; remove what begins with '---'"
    elif "alias" in told:
        told += "; text that begins with '*' or '&' stands in quotes"
    return where + told


class _Resolver(BaseResolver):
    """What an unquoted value is."""


class _Composer(Reader, Scanner, Parser, Composer, _Resolver):
    """YAML text to nodes, of which there are not too many in each other."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)
        self.level = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """The next node."""
        if self.level > MOST_LEVELS:
            line = self.peek_event().start_mark.line + 1
            raise InputError(f"more than {MOST_LEVELS} mappings and lists in each other (line {line})")
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


@dataclass
class _Builder:
    """Nodes to values."""

    lines: dict[Key, int] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    """Nodes that are being built: an alias of one of them would stand in itself."""
    count: int = 0

    def value(self, node: Node, key: Key) -> Any:
        """What a node stands for."""
        self.lines.setdefault(key, node.start_mark.line + 1)
        self._admit(node, key)
        if isinstance(node, ScalarNode):
            return _scalar(node, key)
        if node.tag != _TAG + ("map" if isinstance(node, MappingNode) else "seq"):
            raise _wrong_tag(node, key)
        self.open.add(id(node))
        value: Any
        if isinstance(node, MappingNode):
            value = {}
            for name, (line, child) in self._pairs(node, key).items():
                self.lines[*key, name] = line
                value[name] = self.value(child, (*key, name))
        else:
            value = [self.value(child, (*key, index)) for index, child in enumerate(node.value)]
        self.open.discard(id(node))
        return value

    def _pairs(self, node: MappingNode, key: Key) -> dict[str, tuple[int, Node]]:
        """Key to its line and value; a mapping's own keys stand before those that `<<` takes from others."""
        lines: dict[str, int] = {}
        own: dict[str, tuple[int, Node]] = {}
        merged: dict[str, tuple[int, Node]] = {}
        for key_node, child in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag not in (_TAG + "str", _MERGE):
                written = key_node.value if isinstance(key_node, ScalarNode) else "a list or a mapping"
                raise _mistake(key_node, key, f"{written or 'nothing'} as a key; a key is text: put it in quotes")
            name, line = _scalar(key_node, key), key_node.start_mark.line + 1
            if name in lines:
                twice = f"is there twice, first in line {lines[name]}; remove one of them"
                raise _mistake(key_node, (*key, name), twice)
            lines[name] = line
            if key_node.tag == _MERGE:
                for taken, pair in self._merged(child, key):
                    merged.setdefault(taken, pair)
            else:
                own[name] = line, child
        return merged | own

    def _merged(self, node: Node, key: Key) -> Iterator[tuple[str, tuple[int, Node]]]:
        """The keys that `<<` takes from a mapping, or from several of which the first has the say."""
        self._admit(node, key)
        self.open.add(id(node))
        if isinstance(node, SequenceNode):
            for child in node.value:
                yield from self._merged(child, key)
        elif isinstance(node, MappingNode):
            yield from self._pairs(node, key).items()
        else:
            raise _mistake(node, key, f"'<<' takes the keys of a mapping, such as *name; found {node.value!r}")
        self.open.discard(id(node))

    def _admit(self, node: Node, key: Key) -> None:
        self.count += 1
        if id(node) in self.open:
            raise _mistake(node, key, "an alias stands inside of what it is an alias of")
        if self.count > MOST_VALUES:
            raise _mistake(node, key, f"more than {MOST_VALUES:,} values, with what aliases stand for")


def _scalar(node: ScalarNode, key: Key) -> Any:
    written, kind = node.value, node.tag.removeprefix(_TAG)
    if kind == "str":
        if "\0" in written or re.search("[\ud800-\udfff]", written):
            raise _mistake(node, key, "text cannot hold the character NUL, or half of a character")
        return written
    if kind not in _WRITTEN:
        raise _wrong_tag(node, key)
    if not _WRITTEN[kind].fullmatch(written):
        raise _mistake(node, key, f"{written!r} is no {kind}; write the value without '!!{kind}'")
    match kind:
        case "null":
            return None
        case "bool":
            return written.lower() == "true"
        case "merge":
            return written
    if len(written) > MOST_DIGITS:
        raise _mistake(node, key, f"a number of {len(written):,} characters; if it is text, put it in quotes")
    number = math.nan if written[-1].isalpha() else float(written)
    if not math.isfinite(number):
        raise _mistake(node, key, f"{written} is not a finite number; expected one, or text in quotes")
    if kind == "int":
        return int(written)
    return number if "e" in written.lower() or repr(number) == written else written


def _wrong_tag(node: Node, key: Key) -> InputError:
    tag = node.tag.replace(_TAG, "!!")
    return _mistake(node, key, f"the tag '{tag}' has no meaning here; write the value without it")


def _mistake(node: Node, key: Key, message: str) -> InputError:
    """An error that names key and line."""
    where = f"key '{'.'.join(map(str, key))}': " if key else ""
    return InputError(f"{where}{message} (line {node.start_mark.line + 1})")


class _Dumper(yaml.SafeDumper):
    """Quotes what this reader or another one would not take for text, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Every value is written out."""
        return True

    def represent_str(self, data: str) -> ScalarNode:
        """Line breaks and other signs that are not printed are escaped: PyYAML does not read back all that it writes."""
        return self.represent_scalar(_TAG + "str", data, style=None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_str)

for _kind, (_pattern, _first) in _PLAIN.items():
    for _class in (_Resolver, _Dumper):
        _class.add_implicit_resolver(
            _TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), [sign.strip("\0") for sign in _first]
        )
