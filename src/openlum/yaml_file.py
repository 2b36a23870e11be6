"""Reading and writing of YAML files. Every value has one plain meaning, and every mistake is named with its line.

YAML 1.1 has surprises: `on` is true, `010` is 8, `1:30` is 90 and `2025-12-31` is a date. Here an unquoted value is null, true,
false, or a number in the form in which Python prints it. Every other unquoted value is text, for example `010`, `7.10` and
`1e3`, which may be ids. Numeric and boolean settings accept such text too (`config.py`). A tag never creates an object.
"""

import codecs
import math
import re
from collections.abc import Iterator, Mapping
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
"""Path to a value: keys of mappings, and indices of lists."""

MAX_BYTES = 1_000_000
"""Largest size of a file in bytes. A schema with 1,000 columns has 5 % of this size."""
MAX_LEVELS = 50
"""Largest depth of nested mappings and lists."""
MAX_VALUES = 100_000
"""Largest number of values in a file after aliases are expanded: aliases of aliases grow exponentially."""
MAX_DIGITS = 100
"""Largest number of characters of a number."""

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
"""Kind of an unquoted value to its regular expression and its possible first characters (NUL stands for an empty value)."""
_PATTERNS = {kind: re.compile(pattern) for kind, (pattern, _) in _PLAIN.items()}
_MERGE = _TAG + "merge"


@dataclass(frozen=True)
class Document:
    """The content of a YAML file."""

    content: dict[str, Any]
    """Its keys and values."""
    lines: Mapping[Key, int | str]
    """Path of a value to the number of its first line, counted from 1; or to the override that gave the value."""


def read_yaml(path: str | Path) -> Document:
    """Return the content of a YAML file in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        InputError: the file cannot be read, or it is not one YAML mapping. The message names the line.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory; name the YAML file in it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read ({reason})") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: has more than {MAX_BYTES:,} bytes; expected a YAML file of settings, not data")
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8 text; save the file as UTF-8") from None
    return parse_yaml(text, where=str(path))


def parse_yaml(text: str, where: str) -> Document:
    """Return the content of YAML text, as `read_yaml` does. `where` is the origin of the text, for messages."""
    content, lines = _parse(text, where, "a mapping of keys")
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else repr(content)[:80]
        raise InputError(f"{where}: expected a mapping of keys at the top, found {kind}")
    return Document(content, lines)


def parse_value(text: str, where: str) -> Any:
    """Return any one value of YAML text: text, a number, true, false, null, a list or a mapping.

    Raises:
        InputError: the text is empty or not valid YAML. The message begins with `where`.
    """
    return _parse(text, where, "a value, such as null")[0]


def _parse(text: str, where: str, expected: str) -> tuple[Any, dict[Key, int]]:
    """Return the value of YAML text, and the lines of its parts; `expected` describes the value in the message for empty text."""
    composer = None
    try:
        composer = _Composer(text)
        root = composer.get_single_node()
        if root is None:
            raise InputError(f"is empty; expected {expected}")
        builder = _Builder()
        return builder.value(root, ()), builder.lines
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{where}: not valid YAML: line {line}: the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not valid YAML: {_problem(error)}") from None
    except (ValueError, OverflowError):  # a code beyond Unicode, or the version of a directive with thousands of digits
        line = composer.get_mark().line + 1 if composer else 1
        raise InputError(f"{where}: not valid YAML: line {line}: a number is out of range") from None


def dump_yaml(content: Any, **style: Any) -> str:
    """Return a value as YAML text that `read_yaml` reads back. Text that a YAML reader could misread is quoted.

    Args:
        content: mappings, lists, text, numbers, true, false and null.
        style: options of `yaml.dump`.
    """
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True} | style
    text: str = yaml.dump(content, Dumper=_Dumper, **options)
    return text


def _problem(error: yaml.YAMLError) -> str:
    """Return place, problem and remedy of a YAML error, in one line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = ", ".join(" ".join(part.split()) for part in (error.context, error.problem) if part)
    if "'\\t'" in problem:
        problem += "; indent with spaces, not tabs"
    elif "another document" in problem:
        problem += "; remove the line '---' and the document after it"
    elif "alias" in problem:
        problem += "; put text that begins with '*' or '&' in quotes"
    return where + problem


class _Resolver(BaseResolver):
    """Resolver of the kinds of unquoted values."""


class _Composer(Reader, Scanner, Parser, Composer, _Resolver):
    """Composer of nodes from YAML text, with a limit for the depth of nested nodes."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)
        self.level = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Return the next node."""
        if self.level > MAX_LEVELS:
            line = self.peek_event().start_mark.line + 1
            raise InputError(f"more than {MAX_LEVELS} nested mappings and lists (line {line})")
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


@dataclass
class _Builder:
    """Builder of values from nodes."""

    lines: dict[Key, int] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    """Ids of the nodes that are being built. An alias of one of them would contain itself."""
    count: int = 0

    def value(self, node: Node, key: Key) -> Any:
        """Return the value of a node."""
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
        """Return each key of a mapping with its line and value. The mapping's own keys override keys that `<<` merges in."""
        lines: dict[str, int] = {}
        own: dict[str, tuple[int, Node]] = {}
        merged: dict[str, tuple[int, Node]] = {}
        for key_node, child in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag not in (_TAG + "str", _MERGE):
                key_text = (
                    key_node.value or "(empty)" if isinstance(key_node, ScalarNode) else "that is a list or a mapping"
                )
                raise _mistake(key_node, key, f"the key {key_text} is not text; put it in quotes")
            name, line = _scalar(key_node, key), key_node.start_mark.line + 1
            if name in lines:
                problem = f"occurs twice, first in line {lines[name]}; remove one of them"
                raise _mistake(key_node, (*key, name), problem)
            lines[name] = line
            if key_node.tag == _MERGE:
                for merged_name, pair in self._merged(child, key):
                    merged.setdefault(merged_name, pair)
            else:
                own[name] = line, child
        return merged | own

    def _merged(self, node: Node, key: Key) -> Iterator[tuple[str, tuple[int, Node]]]:
        """Yield the keys that `<<` merges in from one mapping or from several. The first mapping with a key wins."""
        self._admit(node, key)
        self.open.add(id(node))
        if isinstance(node, SequenceNode):
            for child in node.value:
                yield from self._merged(child, key)
        elif isinstance(node, MappingNode):
            yield from self._pairs(node, key).items()
        else:
            raise _mistake(node, key, f"'<<' needs a mapping, such as *name; found {node.value!r}")
        self.open.discard(id(node))

    def _admit(self, node: Node, key: Key) -> None:
        self.count += 1
        if id(node) in self.open:
            raise _mistake(node, key, "an alias lies inside of the value that it refers to")
        if self.count > MAX_VALUES:
            raise _mistake(node, key, f"more than {MAX_VALUES:,} values after aliases are expanded")


def _scalar(node: ScalarNode, key: Key) -> Any:
    text, kind = node.value, node.tag.removeprefix(_TAG)
    if kind == "str":
        if "\0" in text or re.search("[\ud800-\udfff]", text):
            raise _mistake(node, key, "text cannot contain the character NUL or a surrogate")
        return text
    if kind not in _PATTERNS:
        raise _wrong_tag(node, key)
    if not _PATTERNS[kind].fullmatch(text):
        raise _mistake(node, key, f"{text!r} is not a valid {kind}; write the value without '!!{kind}'")
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "merge":
            return text
    if len(text) > MAX_DIGITS:
        raise _mistake(node, key, f"a number of {len(text):,} characters; if it is text, put it in quotes")
    number = math.nan if text[-1].isalpha() else float(text)
    if not math.isfinite(number):
        raise _mistake(node, key, f"{text} is not a finite number; expected one, or text in quotes")
    if kind == "int":
        return int(text)
    return number if "e" in text.lower() or repr(number) == text else text


def _wrong_tag(node: Node, key: Key) -> InputError:
    tag = node.tag.replace(_TAG, "!!")
    return _mistake(node, key, f"the tag '{tag}' is not supported; write the value without it")


def _mistake(node: Node, key: Key, message: str) -> InputError:
    """Return an error that names the key and the line."""
    where = f"key '{'.'.join(map(str, key))}': " if key else ""
    return InputError(f"{where}{message} (line {node.start_mark.line + 1})")


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes text that a YAML reader could misread, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: every value is written out."""
        return True

    def represent_str(self, data: str) -> ScalarNode:
        """Return a scalar node. Unprintable characters are escaped: PyYAML writes some that it cannot read back."""
        return self.represent_scalar(_TAG + "str", data, style=None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_str)

for _kind, (_pattern, _first) in _PLAIN.items():
    for _class in (_Resolver, _Dumper):
        _class.add_implicit_resolver(
            _TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), [character.strip("\0") for character in _first]
        )
