"""What an experiment is made of: typed settings, read from YAML, with errors that a reader can act on."""

import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from openlum.errors import InputError


class Settings(BaseModel):
    """Base of every settings model: unknown keys are errors, values are checked, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


S = TypeVar("S", bound=Settings)


def load_settings(path: str | Path, kind: type[S]) -> S:
    """Read a YAML file into a settings model.

    Raises:
        InputError: the file is missing, is not YAML, or does not fit `kind`. The message names each key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of keys at the top, found {type(content).__name__}")
    return parse_settings(content, kind, where=str(path))


def parse_settings(content: dict[str, Any], kind: type[S], where: str) -> S:
    """Validate `content` as `kind`; `where` names its origin in the error message."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = [_explain(kind, detail) for detail in error.errors()]
        raise InputError(f"{where}: " + "; ".join(lines)) from None


def _explain(kind: type[BaseModel], detail: Any) -> str:
    path = ".".join(str(part) for part in detail["loc"]) or "(top level)"
    if detail["type"] == "extra_forbidden":
        parent = _model_at(kind, detail["loc"][:-1])
        known = list(parent.model_fields) if parent else []
        near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key '{path}'; {hint}"
    if detail["type"] == "missing":
        return f"key '{path}' is missing"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail.get("input")
    shown = f" (found {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"key '{path}': {message}{shown}"


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
