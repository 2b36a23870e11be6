"""Typed settings, read from YAML. An error names the key and the line, what was expected and the likely correction."""

import copy
import difflib
import re
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from openlum.errors import InputError
from openlum.yaml_file import Document, Key, parse_value, read_yaml

MAX_MISTAKES = 5
"""A message names at most this many mistakes."""
AUTO = "auto"
"""Value of a key whose number is planned from the data."""
MAX_DIGITS = 100
"""Longest number in a message, in digits. Python refuses to print thousands of digits."""


class _ShortRepr(reprlib.Repr):
    """Short representations of values, for messages."""

    def repr_int(self, x: int, level: int) -> str:
        """Return the digits of a number, or that it has too many."""
        return super().repr_int(x, level) if abs(x) < 10**MAX_DIGITS else f"more than {MAX_DIGITS} digits"


_short = _ShortRepr()
_short.maxstring = 100


class Settings(BaseModel):
    """Base of every settings model. Unknown keys are errors, values are checked, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false as numbers, and accept 1e6 as a whole number."""
        assert info.field_name is not None
        annotation = _plain(cls.model_fields[info.field_name].annotation)
        if isinstance(value, list | tuple):
            return [_number(element, _element(annotation)) for element in value]
        return _number(value, annotation)


class PlannedSettings(Settings):
    """Base of settings with keys that are planned from the data unless the user sets them.

    The value of such a key is `auto` in files and in `model_dump()`. As an attribute it is the default in the code until
    `with_plan` replaces it, so that a part that is used without a dataset has a number too.
    """

    planned_keys: ClassVar[frozenset[str]] = frozenset()
    """The keys that may be `auto`."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_auto(cls, content: Any) -> Any:
        """Treat a key that is `auto` as a key that is not set."""
        if not isinstance(content, Mapping):
            return content
        is_auto = {key for key in cls.planned_keys if isinstance(content.get(key), str) and content[key] == AUTO}
        return {key: value for key, value in content.items() if key not in is_auto}

    @model_serializer(mode="wrap")
    def _write_auto(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: AUTO if self.is_auto(key) else value for key, value in serialize(self).items()}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(key, AUTO if key and self.is_auto(key) else value) for key, value in super().__repr_args__()]

    def is_auto(self, key: str) -> bool:
        """Return whether the value of a key is still to be planned."""
        return key in self.planned_keys and key not in self.model_fields_set

    def with_plan(self, plan: Mapping[str, Any]) -> Self:
        """Return settings in which every key is set: by the user, otherwise by `plan`, otherwise by the default in the code."""
        planned = {key: value for key, value in plan.items() if self.is_auto(key)}
        return self.model_copy(update=dict(self) | planned)


S = TypeVar("S", bound=Settings)


def _number(value: Any, kind: Any) -> Any:
    if isinstance(value, bool) and kind in (int, float):
        raise ValueError("expected a number, not true or false")
    if kind is int and isinstance(value, str) and re.fullmatch(r"[1-9][0-9]?[eE][0-9]{1,2}", value.strip()):
        return int(float(value))
    return value


def _check_raw(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise ValueError("expected text, a number, true or false")
    return value


RawValue = Annotated[Any, AfterValidator(_check_raw)]
"""A value of a field as in the log: text, a number, true or false."""


def _check_question(value: Any) -> Any:
    for element in value if isinstance(value, list | tuple) else [value]:
        _check_raw(element)
    return value


Question = dict[str, Annotated[Any, AfterValidator(_check_question)]]
"""Condition field to its raw value or a list of raw values. A field that is not named is *any*."""


def load_settings(path: str | Path, kind: type[S], overrides: Sequence[str] = ()) -> S:
    """Read a YAML file and return its settings.

    Args:
        path: the file.
        kind: the settings model.
        overrides: changes of the file's content, `KEY=VALUE` each (`with_overrides`).

    Raises:
        InputError: the file is missing, is not YAML, or does not match the model `kind`. The message names each key and line.
    """
    document = with_overrides(read_yaml(path), overrides)
    return parse_settings(document.content, kind, str(path), document.lines)


def with_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """Return the content of a file with some values replaced.

    Args:
        document: the content.
        overrides: `KEY=VALUE` each: a path of keys joined by dots, and a value in YAML. A later one replaces an earlier one.

    Raises:
        InputError: an override has no key or no value, or a key on its path has a value without keys.

    Example:
        >>> with_overrides(Document({"pretrain": {"epochs": 5}}, {}), ["pretrain.epochs=3"]).content
        {'pretrain': {'epochs': 3}}
    """
    content = copy.deepcopy(document.content)
    lines: dict[Key, int | str] = dict(document.lines)
    for override in overrides:
        where = f"--set {_short.repr(override)[1:-1]}"
        text, separator, value = override.partition("=")
        key = tuple(part.strip() for part in text.split("."))
        if not separator or not all(key):
            raise InputError(f"{where}: expected KEY=VALUE, such as pretrain.epochs=3")
        section = content
        for end, name in enumerate(key[:-1], 1):
            section[name] = {} if section.get(name) is None else section[name]
            if not isinstance(section[name], dict):
                raise InputError(f"{where}: key '{'.'.join(key[:end])}' has no keys in it; set its whole value instead")
            section = section[name]
        section[key[-1]] = parse_value(value, where)
        lines = {other: line for other, line in lines.items() if other[: len(key)] != key} | {key: where}
    return Document(content, lines)


def parse_settings(content: Any, kind: type[S], where: str, lines: Mapping[Key, int | str] | None = None) -> S:
    """Validate keys and values and return them as settings.

    Args:
        content: keys and values.
        kind: the settings model.
        where: origin of the content, for messages.
        lines: the key of a value to its first line in the file, or to the override that gave it, if the content is from a file.

    Raises:
        InputError: the content does not match the model. The message names each key.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        details = error.errors()
        mistakes = [_explain(kind, detail) + _line(lines or {}, detail["loc"]) for detail in details[:MAX_MISTAKES]]
        more = [f"and {len(details) - MAX_MISTAKES} more"] if len(details) > MAX_MISTAKES else []
        raise InputError(f"{where}: " + "; ".join(mistakes + more)) from None


def _line(lines: Mapping[Key, int | str], location: Key) -> str:
    """Return the line or the override of a key, or of its nearest parent that has one, as the end of a message."""
    key = next((location[:end] for end in range(len(location), -1, -1) if location[:end] in lines), None)
    if not key:
        return ""
    return f" (line {lines[key]})" if isinstance(lines[key], int) else f" ({lines[key]})"


def _explain(kind: type[BaseModel], detail: Any) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    value = detail.get("input")
    found_text = f" (found {_short.repr(value)})" if isinstance(value, str | int | float | bool) else ""
    match detail["type"]:
        case "extra_forbidden":
            parent = _model_at(kind, detail["loc"][:-1])
            keys = list(parent.model_fields) if parent else []
            similar = difflib.get_close_matches(str(detail["loc"][-1]), keys, n=1)
            hint = f"did you mean '{similar[0]}'?" if similar else f"known keys: {', '.join(keys)}"
            return f"unknown key '{path}'; {hint}"
        case "missing":
            return f"key '{path}' is missing"
        case "model_type" | "dict_type":
            message = "expected keys and values, found nothing" if value is None else "expected keys and values"
        case "list_type":
            message = "expected a list, [a, b]"
        case "string_type" if isinstance(value, int | float):
            message = "expected text; put it in quotes"
        case _:
            message = detail["msg"].removeprefix("Value error, ")
    return f"key '{path}': {message}{found_text}" if path else message


def _model_at(kind: type[BaseModel], location: tuple[Any, ...]) -> type[BaseModel] | None:
    """Return the settings model at the path of keys `location`; None if there is no settings model."""
    current: Any = kind
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            if part not in current.model_fields:
                return None
            current = _plain(current.model_fields[part].annotation)
        elif typing.get_origin(current) in (dict, list):
            current = _plain(typing.get_args(current)[-1])
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _plain(annotation: Any) -> Any:
    """Return `X` for `X | None`, and any other annotation unchanged."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(annotation) if option is not type(None)]
        return options[0] if len(options) == 1 else annotation
    return annotation


def _element(annotation: Any) -> Any:
    """Return `X` for `list[X]` and for a list of annotated `X`; None for any other annotation."""
    if typing.get_origin(annotation) is not list:
        return None
    (element,) = typing.get_args(annotation)
    return typing.get_args(element)[0] if typing.get_origin(element) is Annotated else element
