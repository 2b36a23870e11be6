"""Plots of the page of a data set."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from openlum.data.profile import Profile
from openlum.report.rendering import ACCENT, GRID, INK, PLAIN, QUIET, format_count, new_plot, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 400
"""Largest number of bars over time. A longer log has a bar for each week or month."""
FLAG = 0.1
"""Height of a flag relative to the height of the plot."""
UNITS = {"D": "day", "W": "week", "M": "month"}


def length_plot(profile: Profile) -> Markup:
    """Return a histogram of users by their number of events, in bins of doubling width."""
    edges = 2 ** np.arange(math.log2(max(profile.lengths)) + 2)
    users = [profile.lengths.get(int(edge), 0) for edge in edges[:-1]]
    plot = new_plot(3.8, 2.3)
    axes = plot.add_subplot()
    axes.stairs(users, edges, fill=True, color=PLAIN)
    axes.set_xscale("log")
    axes.set_xlim(1, max(edges[-1], 10))
    _style(axes, "Users by number of events", "events of a user")
    quantiles = ", ".join(f"{name} {format_count(value)}" for name, value in profile.length_quantiles.items())
    return svg(plot, f"Users by number of events: {quantiles}")


def popularity_plot(profile: Profile) -> Markup:
    """Return a plot of the events of an item over its popularity rank, on logarithmic axes."""
    ranks, events = zip(*sorted(profile.popularity.items()), strict=True)
    plot = new_plot(3.8, 2.3)
    axes = plot.add_subplot()
    axes.plot(ranks, events, marker="o", markersize=3.5, linewidth=1.6, color=ACCENT, clip_on=False)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.8, max(ranks[-1], 10))
    axes.set_ylim(0.8 * 10 ** math.floor(math.log10(events[-1])), 10 ** math.ceil(math.log10(events[0] + 1)))
    _style(axes, "Events of an item by its rank", "rank of the item")
    most, last, rank = format_count(events[0]), format_count(events[-1]), format_count(ranks[-1])
    ends = f"{most} of the most popular item, {last} of the item at rank {rank}"
    return svg(plot, f"Events of an item by its rank: {ends}")


def time_plot(profile: Profile, boundaries: dict[str, int]) -> Markup:
    """Return a plot of the events over time, with a flag at the start of each split.

    Args:
        profile: figures of the data set.
        boundaries: name of each split after the training split to its first second since 1970.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    unit, edges, events = events_over_time(profile.days)
    plot = new_plot(5.2, 2.5)
    axes = plot.add_subplot()
    axes.stairs(events, date2num(edges), fill=True, color=PLAIN)
    first, last = (float(date2num(edge)) for edge in (edges[0], edges[-1]))
    space = max(0.0, (7 - (last - first)) / 2)  # the bars of a log of one or two days would be too wide
    left, right = first - space, last + space
    axes.set_xlim(left, right)
    starts = {"train": first} | {name: float(date2num(np.datetime64(s, "s"))) for name, s in boundaries.items()}
    rows = _flags(axes, {name: (start - left) / (right - left) for name, start in starts.items()})
    locator = AutoDateLocator(minticks=2, maxticks=8, interval_multiples=True)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(9)
    _style(axes, f"Events per {unit} (UTC)", title_y=1.03 + FLAG * rows)
    summary = f"from {edges[0].astype('datetime64[D]')} on, at most {format_count(float(events.max()))} a {unit}"
    return svg(plot, f"Events per {unit}, {summary}; flags at the begin of {', '.join(starts)}")


def events_over_time(days: dict[str, int]) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the events in bars of equal units of time, including empty bars.

    Args:
        days: ISO date to number of events.

    Returns:
        The unit, the edges of the bars, (n + 1,) dates, and the events in them, (n,).
    """
    dates = np.array(list(days), "datetime64[D]")
    span = int(np.ptp(dates).astype(int)) + 1
    code = "D" if span <= BARS else "W" if span <= 7 * BARS else "M"
    bars = dates.astype(f"datetime64[{code}]")
    edges = np.arange(bars.min(), bars.max() + 2)
    events = np.bincount((bars - bars.min()).astype(int), weights=list(days.values()))
    return UNITS[code], edges, events


def _flags(axes: "Axes", positions: dict[str, float]) -> int:
    """Draw a line at each position (0 left, 1 right) with its name above the plot. Return the number of rows of names.

    Positions ascend. Each name is on the lowest row with free space. Names are placed from right to left, so that no line
    crosses a name.
    """
    row_ends: list[float] = []
    for name, x in reversed(positions.items()):
        width = 0.014 * len(name) + 0.02
        row = next((row for row, end in enumerate(row_ends) if x + width <= end), len(row_ends))
        row_ends[row : row + 1] = [x]
        y = 1.01 + FLAG * row
        style: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "color": INK}
        axes.plot([x, x], [0, y + 0.8 * FLAG], linewidth=0.9, **style)
        axes.text(x + 0.01, y, name, fontsize=9, **style)
    return len(row_ends)


def _style(axes: "Axes", title: str, x_label: str = "", title_y: float | None = None) -> None:
    """Set the title, the name of the horizontal axis, and few round ticks such as 1, 10 k, 2 M."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_title(title, loc="left", y=title_y, fontsize=10, color=INK, weight="bold")
    axes.set_xlabel(x_label)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(EngFormatter())
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.yaxis.set_major_formatter(EngFormatter())
    axes.minorticks_off()
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.tick_params(axis="y", length=0, colors=QUIET)
