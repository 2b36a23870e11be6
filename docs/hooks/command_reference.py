"""The page of all commands, generated from the command line itself, so that it always agrees with `lum --help`."""

import inspect
from typing import Any

from mkdocs.structure.files import File, Files

PAGE = "reference/commands.md"
INTRODUCTION = """# Commands

All commands with their arguments and options, generated from the code. `lum COMMAND --help` shows the same text.

Exit status: 0 success; 1 an internal error of openlum, or values that differ in `lum knowledge audit`;
2 a mistake in the input, which the message explains; 130 interrupted.
"""


def on_files(files: Files, config: Any) -> Files:
    """Add the generated page to the files of the site."""
    files.append(File.generated(config, PAGE, content=commands_page()))
    return files


def commands_page() -> str:
    """Return the Markdown of the page."""
    import typer

    from openlum.cli import app

    root = typer.main.get_command(app)
    return INTRODUCTION + "".join(sections(root, "lum"))


def sections(command: Any, name: str) -> list[str]:
    """Return the sections of a command and of all commands below it."""
    below = getattr(command, "commands", None)
    if below is not None:
        return [part for key, inner in below.items() for part in sections(inner, f"{name} {key}")]
    help_text = inspect.cleandoc(command.help or "")
    return [f"\n## `{name}`\n\n{help_text}\n\n{table(command)}\n"]


def table(command: Any) -> str:
    """Return the arguments and options of a command as a table."""
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        flags = (
            parameter.opts + parameter.secondary_opts
            if parameter.param_type_name == "option"
            else [parameter.name.upper()]
        )
        cells = [", ".join(f"`{flag}`" for flag in flags), default(parameter), " ".join((parameter.help or "").split())]
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(["| argument or option | default | meaning |", "|---|---|---|", *rows]) if rows else ""


def default(parameter: Any) -> str:
    """Return the default of an argument or option in words."""
    if parameter.required:
        return "*required*"
    words = getattr(parameter, "show_default", None)
    if isinstance(words, str):
        return words
    value = parameter.default
    if value is None or callable(value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value}`"
