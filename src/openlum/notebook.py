"""HTML for notebooks."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any


def html_table(title: str, figures: Mapping[str, Any], path: Path | None = None) -> str:
    """Return a small HTML table of names and values, with a title and the path of an artefact."""
    where = f" <code>{escape(str(path))}</code>" if path else ""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(_text(value))}</td></tr>"
        for name, value in figures.items()
    )
    return f"<div><strong>{escape(title)}</strong>{where}<table>{rows}</table></div>"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else str(value)
