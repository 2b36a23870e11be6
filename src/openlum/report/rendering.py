"""Rendering of pages, of tables in the terminal, and of the numbers in both.

A page is one HTML file that contains everything, including its plots. It can be sent by mail and opens without a network.
"""

import datetime as dt
import io
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Placeholder colours of the plots, and the CSS variables that replace them on the page, for light and dark mode.
INK, QUIET, GRID, PLAIN, ACCENT = "#010101", "#020202", "#030303", "#040404", "#050505"
PAGE_COLOURS = {INK: "--ink", QUIET: "--quiet", GRID: "--line", PLAIN: "--plain", ACCENT: "--accent"}


def write_page(path: Path, template: str, *filters: Callable[..., str], **content: Any) -> None:
    """Write a page, completely or not at all.

    Args:
        path: the file to write.
        template: file of this package that extends `page.html.j2`.
        filters: further functions that the template calls by their names, besides those of this module.
        content: variables of the template. Everything except the plots of `svg` is escaped.
    """
    environment = Environment(
        loader=PackageLoader("openlum", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        {
            f.__name__: f
            for f in (
                with_contents,
                one_line,
                format_number,
                format_count,
                format_share,
                byte_size,
                utc_minute,
                *filters,
            )
        }
    )
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(environment.get_template(template).render(content), encoding="utf-8")
    os.replace(draft, path)


def with_contents(sections: str) -> Markup:
    """Return the HTML of sections, each with an `<h2>`, after a list of links to them in the same order."""
    titles = re.findall(r"<h2>(.*?)</h2>", sections)
    names = {title: re.sub(r"\W+", "-", title.lower()).strip("-") for title in titles}
    links = "".join(f'<li><a href="#{names[title]}">{title}</a></li>' for title in titles)
    linked = re.sub(r"<h2>(.*?)</h2>", lambda match: f'<h2 id="{names[match[1]]}">{match[1]}</h2>', sections)
    return Markup(f'<nav aria-label="Contents"><ol>{links}</ol></nav>\n{linked}')


def one_line(value: object, limit: int = 100) -> str:
    """Return a raw value on one line of at most `limit` characters. Unprintable characters are replaced."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(str(value).split()))
    line = line or '""'
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def terminal_table(title: str, *columns: str) -> Table:
    """Return an empty table: text in the first column; numbers in the others, right-aligned and never cut."""
    heading = Text(title, style="table.title")
    table = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold" if index else "ellipsis")
    return table


def format_number(value: float | None, digits: int = 4, missing: str = "n/a") -> str:
    """Return a number with a fixed number of digits after the point."""
    return missing if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def format_count(value: float) -> str:
    """Return a number with separated thousands and few decimals."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{int(value):,}"


def format_share(part: float, whole: float = 1) -> str:
    """Return a part of a whole in per cent. Only an exact 0 gives 0 %, and only the exact whole gives 100 %."""
    if not whole:
        return "n/a"
    if 0 < part < 0.001 * whole:
        return "<0.1 %"
    if 0.999 * whole < part < whole:
        return ">99.9 %"
    return f"{part / whole:.1%}".replace(".0%", "%").replace("%", " %")


def byte_size(value: float) -> str:
    """Return a number of bytes in MiB or GiB."""
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def utc_minute(seconds: int) -> str:
    """Return seconds since 1970 as a date and time in UTC, to the minute."""
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M} UTC"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def spread(metric: dict[str, Any] | None) -> str:
    """Return mean and standard deviation over the seeds; only the mean if there is one seed."""
    if metric is None:
        return "n/a"
    mean = format_number(metric["mean"])
    return mean if len(metric["seeds"]) < 2 or metric["std"] is None else f"{mean} ± {format_number(metric['std'])}"


def p_value(p: float) -> str:
    """Return a p-value in the usual notation."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def new_plot(width: float, height: float) -> "Figure":
    """Return an empty matplotlib figure with a size in inches. It needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(plot: "Figure", label: str) -> Markup:
    """Return a plot as SVG for a page, with the page's colours and font. `label` describes it for screen readers."""
    import matplotlib

    for axes in plot.axes:
        axes.set_facecolor("none")
        axes.set_axisbelow(True)
        axes.tick_params(colors=QUIET, labelsize=9)
        axes.xaxis.label.set(color=QUIET, fontsize=9)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(GRID)
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "font.family": "sans-serif"}):
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        plot.savefig(out, format="svg", transparent=True, metadata=no_metadata)
    text = out.getvalue()
    # The ids of groups are removed: they are the same in all plots, and nothing refers to them.
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])
    for colour, variable in PAGE_COLOURS.items():
        text = text.replace(colour, f"var({variable})")
    return Markup(text.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(label), 1))
