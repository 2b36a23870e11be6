"""The page of all settings, generated from the pydantic models, so that it always agrees with the code.

MkDocs calls `on_files` when it builds the site. The page has one section for each model: its keys, their types, their
defaults, and the docstrings that stand below the fields in the code.
"""

import types
import typing
from typing import Any

import yaml
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from openlum.config import AUTO, PlannedSettings

PAGE = "reference/settings.md"
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
"""Name of a constraint to the words of the page."""
NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "text, number, true or false"}
"""Type to the words of the page."""
INTRODUCTION = """# Settings

All keys of the three kinds of files, generated from the code. An unknown key is an error, and the message names the nearest
known key.

- [Experiment file](#experiment): `lum run FILE`. The commands `pretrain`, `query`, `rank` and `retrieve` read the section of
  their name with `--config FILE`; `pretrain` also reads `model`.
- [Schema](#schema): `lum prepare FILE`. It describes the tables of your log.
- [Benchmark file](#bench): `lum bench ranking --dataset FILE`.

Values are plain YAML. Without quotes, `null`, `true`, `false` and numbers have their usual meaning. Everything else is text:
also `on`, `010`, `1:30` and `2025-12-31`, which other YAML readers change into `true`, 8, 90 and a date. Anchors, aliases and
`<<` work. Tags, `.inf` and `.nan` are errors. A whole number may be written `1e6`. The same key twice is an error.
"""


def on_files(files: Files, config: Any) -> Files:
    """Add the generated page to the files of the site."""
    files.append(File.generated(config, PAGE, content=settings_page()))
    return files


def settings_page() -> str:
    """Return the Markdown of the page."""
    from openlum.bench.settings import Bench
    from openlum.pipeline.experiment import Experiment
    from openlum.schema import Schema

    parts = [INTRODUCTION]
    shown: set[type[BaseModel]] = set()
    for title, root in (("Experiment file", Experiment), ("Schema", Schema), ("Benchmark file", Bench)):
        parts.append(f"## {title} {{ #{anchor(root)} }}\n")
        for model, paths in models_below(root).items():
            if model not in shown:
                shown.add(model)
                parts.append(section(model, paths))
    return "\n".join(parts)


def models_below(root: type[BaseModel]) -> dict[type[BaseModel], list[str]]:
    """Return `root` and all models that its fields contain, each with the keys that lead to it: `events.condition.NAME`."""
    paths: dict[type[BaseModel], list[str]] = {root: []}
    waiting = [root]
    for model in waiting:
        for name, field in model.model_fields.items():
            for inner, path in models_in(field.annotation, ".".join([*paths[model][:1], name])):
                if inner not in paths:
                    waiting.append(inner)
                paths.setdefault(inner, []).append(path)
    return paths


def models_in(annotation: Any, path: str) -> list[tuple[type[BaseModel], str]]:
    """Return the models that the type of the key `path` contains: `X` for `X | None`, `list[X]` and `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, path)]
    step = {dict: ".NAME", list: "[]"}.get(typing.get_origin(annotation), "")  # type: ignore[arg-type]
    return [found for inner in typing.get_args(annotation) for found in models_in(inner, path + step)]


def section(model: type[BaseModel], paths: list[str]) -> str:
    """Return heading, docstring and table of one model; `paths` are the keys that lead to it, none for a whole file."""
    heading = f"### {', '.join(f'`{path}`' for path in paths)} {{ #{anchor(model)} }}\n\n" if paths else ""
    planned = model.planned_keys if issubclass(model, PlannedSettings) else frozenset()
    rows = [row(name, field, name in planned) for name, field in model.model_fields.items()]
    table = "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])
    return f"{heading}{one_line(model.__doc__ or '')}\n\n{table}\n"


def row(name: str, field: FieldInfo, is_planned: bool) -> str:
    """Return one row of a table. The default of a planned key is `auto`."""
    kind = type_in_words(field.annotation) + bounds(field) + f", or `{AUTO}`" * is_planned
    cells = [f"`{name}`", kind, f"`{AUTO}`" if is_planned else default(field), one_line(field.description or "")]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def anchor(model: type[BaseModel]) -> str:
    """Return the anchor of a model's section."""
    return model.__name__.lower()


def one_line(text: str) -> str:
    """Return a docstring as one line."""
    return " ".join(text.split())


def type_in_words(annotation: Any) -> str:
    """Return a type as a reader of YAML knows it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_in_words(arguments[0])
    if origin in (typing.Union, types.UnionType):
        options = [type_in_words(option) for option in arguments if option is not type(None)]
        return " or ".join(options + ["`null`"] * (type(None) in arguments))
    if origin is typing.Literal:
        return ", ".join(f"`{option}`" for option in arguments)
    if origin is list:
        return f"list of {type_in_words(arguments[0])}"
    if origin is dict:
        return f"mapping: {type_in_words(arguments[0])} to {type_in_words(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{anchor(annotation)})"
    return NAMES.get(annotation, f"`{getattr(annotation, '__name__', annotation)}`")


def bounds(field: FieldInfo) -> str:
    """Return the limits of a number, in words."""
    limits = [
        f"{words} {number(getattr(constraint, name))}"
        for constraint in field.metadata
        for name, words in BOUNDS.items()
        if getattr(constraint, name, None) is not None
    ]
    return f", {', '.join(limits)}" if limits else ""


def number(value: float) -> str:
    """Return a limit with separators of thousands."""
    return f"{int(value) if value == int(value) else value:,}"


def default(field: FieldInfo) -> str:
    """Return the default of a field as YAML writes it."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "*required*"
    if isinstance(value, BaseModel):
        return f"[its defaults](#{anchor(type(value))})"
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return f"`{text.removesuffix(chr(10)).removesuffix('...').strip()}`"
