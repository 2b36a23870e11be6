"""What an experiment is made of: typed settings, read from YAML, with errors that a reader can act on."""

import difflib
import re
import reprlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from openlum.errors import InputError
from openlum.yaml_file import Key, read_yaml

MOST_SHOWN = 5
"""Mistakes in one message."""
MOST_DIGITS = 100
"""Of a number in a message; Python refuses to write thousands."""


class _Shown(reprlib.Repr):
    """Short forms of values, for messages."""

    def repr_int(self, x: int, level: int) -> str:
        """A number, unless it is endless."""
        return super().repr_int(x, level) if abs(x) < 10**MOST_DIGITS else f"more than {MOST_DIGITS} digits"


_SHORT = _Shown()
_SHORT.maxstring = 100


class Settings(BaseModel):
    """Base of every settings model: unknown keys are errors, values are checked, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """True is no number; a whole number may be written 1e6."""
        assert info.field_name is not None
        annotation = _plain(cls.model_fields[info.field_name].annotation)
        if isinstance(value, list | tuple):
            return [_number(one, _element(annotation)) for one in value]
        return _number(value, annotation)


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
"""A value of a field as it stands in the log: text, a number, true or false."""


def _check_question(value: Any) -> Any:
    for one in value if isinstance(value, list | tuple) else [value]:
        _check_raw(one)
    return value


Question = dict[str, Annotated[Any, AfterValidator(_check_question)]]
"""Condition fields and their raw values, or lists of them; what is not named is *any*."""


def load_settings(path: str | Path, kind: type[S]) -> S:
    """Read a YAML file into a settings model.

    Raises:
        InputError: the file is missing, is not YAML, or does not fit `kind`. The message names each line and key.
    """
    document = read_yaml(path)
    return parse_settings(document.content, kind, str(path), document.lines)


def parse_settings(content: Any, kind: type[S], where: str, lines: Mapping[Key, int] | None = None) -> S:
    """Validate `content` as `kind`.

    Args:
        content: keys and values.
        kind: the model.
        where: names the origin in messages.
        lines: the line that a value begins in, where it was read from a file.

    Raises:
        InputError: the content does not fit; the message names each key.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        details = error.errors()
        told = [_explain(kind, detail) + _line(lines or {}, detail["loc"]) for detail in details[:MOST_SHOWN]]
        more = [f"and {len(details) - MOST_SHOWN} more"] if len(details) > MOST_SHOWN else []
        raise InputError(f"{where}: " + "; ".join(told + more)) from None


def _line(lines: Mapping[Key, int], location: Key) -> str:
    """The line of a key, or of the nearest one around it, to end a message."""
    here = next((location[:end] for end in range(len(location), -1, -1) if location[:end] in lines), None)
    return f" (line {lines[here]})" if here else ""


def _explain(kind: type[BaseModel], detail: Any) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    given = detail.get("input")
    shown = f" (found {_SHORT.repr(given)})" if isinstance(given, str | int | float | bool) else ""
    match detail["type"]:
        case "extra_forbidden":
            parent = _model_at(kind, detail["loc"][:-1])
            known = list(parent.model_fields) if parent else []
            near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
            return f"unknown key '{path}'; {hint}"
        case "missing":
            return f"key '{path}' is missing"
        case "model_type" | "dict_type":
            message = "expected keys and values, and there is nothing" if given is None else "expected keys and values"
        case "list_type":
            message = "expected a list, [a, b]"
        case "string_type" if isinstance(given, int | float):
            message = "expected text; put it in quotes"
        case _:
            message = detail["msg"].removeprefix("Value error, ")
    return f"key '{path}': {message}{shown}" if path else message


def _model_at(kind: type[BaseModel], location: tuple[Any, ...]) -> type[BaseModel] | None:
    """The settings model that the keys in `location` lead to, if they lead to one."""
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
    """`X` from `X | None`; anything else as it is."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(annotation) if option is not type(None)]
        return options[0] if len(options) == 1 else annotation
    return annotation


def _element(annotation: Any) -> Any:
    """`X` from `list[X]`, without what it is annotated with; None from anything else."""
    if typing.get_origin(annotation) is not list:
        return None
    (element,) = typing.get_args(annotation)
    return typing.get_args(element)[0] if typing.get_origin(element) is Annotated else element
