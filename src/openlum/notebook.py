"""HTML for notebooks."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any


def html_table(title: str, figures: Mapping[str, Any], path: Path | None = None) -> str:
    """Return a small HTML table of names and values, with a title and the path of an artefact."""
    return html_rows(title, [], figures.items(), path)


def html_rows(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]], path: Path | None = None) -> str:
    """Return a small HTML table, with a title and the path of an artefact. The first cell of a row is its name."""
    where = f" <code>{escape(str(path))}</code>" if path else ""
    head = f"<tr>{''.join(_cell('th', name) for name in header)}</tr>" if header else ""
    body = "".join(
        f"<tr>{_cell('th', row[0])}{''.join(_cell('td', _text(value)) for value in row[1:])}</tr>" for row in rows
    )
    return f"<div><strong>{escape(title)}</strong>{where}<table>{head}{body}</table></div>"


def _cell(tag: str, text: str) -> str:
    return f"<{tag} style='text-align:left'>{escape(text)}</{tag}>"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else str(value)
