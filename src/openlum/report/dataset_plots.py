"""The plots of a data set's page."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from openlum.data.profile import Profile
from openlum.report.rendering import ACCENT, GRID, INK, PLAIN, QUIET, count, new_figure, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 400
"""About how many bars of time fit side by side: a longer log is drawn by the week, then by the month."""
FLAG = 0.1
"""Height of a flag, as a part of the plot's."""
UNITS = {"D": "day", "W": "week", "M": "month"}


def length_plot(profile: Profile) -> Markup:
    """Users by their number of events, in bins of doubling width."""
    edges = 2 ** np.arange(math.log2(max(profile.lengths)) + 2)
    users = [profile.lengths.get(int(edge), 0) for edge in edges[:-1]]
    plot = new_figure(3.8, 2.3)
    axes = plot.add_subplot()
    axes.stairs(users, edges, fill=True, color=PLAIN)
    axes.set_xscale("log")
    axes.set_xlim(1, max(edges[-1], 10))
    _style(axes, "Users by number of events", "events of a user")
    told = ", ".join(f"{name} {count(value)}" for name, value in profile.length_quantiles.items())
    return svg(plot, f"Users by number of events: {told}")


def popularity_plot(profile: Profile) -> Markup:
    """Events of an item over its rank, both logarithmic."""
    ranks, events = zip(*sorted(profile.popularity.items()), strict=True)
    plot = new_figure(3.8, 2.3)
    axes = plot.add_subplot()
    axes.plot(ranks, events, marker="o", markersize=3.5, linewidth=1.6, color=ACCENT, clip_on=False)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.8, max(ranks[-1], 10))
    axes.set_ylim(0.8 * 10 ** math.floor(math.log10(events[-1])), 10 ** math.ceil(math.log10(events[0] + 1)))
    _style(axes, "Events of an item by its rank", "rank of the item")
    told = f"{count(events[0])} of the most popular item, {count(events[-1])} of the one at rank {count(ranks[-1])}"
    return svg(plot, f"Events of an item by its rank: {told}")


def time_plot(profile: Profile, boundaries: dict[str, int]) -> Markup:
    """Events over time, with a flag where each split begins.

    Args:
        profile: figures of the data set.
        boundaries: name of a later split to its first second since 1970; the first period is the training.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    unit, edges, events = events_over_time(profile.days)
    plot = new_figure(5.2, 2.5)
    axes = plot.add_subplot()
    axes.stairs(events, date2num(edges), fill=True, color=PLAIN)
    first, last = (float(date2num(edge)) for edge in (edges[0], edges[-1]))
    space = max(0.0, (7 - (last - first)) / 2)  # a log of a day or two: its bars need no width of hundreds of hours
    left, right = first - space, last + space
    axes.set_xlim(left, right)
    starts = {"train": first} | {name: float(date2num(np.datetime64(s, "s"))) for name, s in boundaries.items()}
    rows = _flags(axes, {name: (start - left) / (right - left) for name, start in starts.items()})
    locator = AutoDateLocator(minticks=2, maxticks=8, interval_multiples=True)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(9)
    _style(axes, f"Events per {unit} (UTC)", title_at=1.03 + FLAG * rows)
    told = f"from {edges[0].astype('datetime64[D]')} on, at most {count(float(events.max()))} a {unit}"
    return svg(plot, f"Events per {unit}, {told}; marked: the beginnings of {', '.join(starts)}")


def events_over_time(days: dict[str, int]) -> tuple[str, np.ndarray, np.ndarray]:
    """Events in bars of equal units of time, empty ones too.

    Args:
        days: ISO date to events.

    Returns:
        The unit, the edges of the bars (n + 1 dates) and the events in them (n).
    """
    dates = np.array(list(days), "datetime64[D]")
    span = int(np.ptp(dates).astype(int)) + 1
    code = "D" if span <= BARS else "W" if span <= 7 * BARS else "M"
    bars = dates.astype(f"datetime64[{code}]")
    edges = np.arange(bars.min(), bars.max() + 2)
    events = np.bincount((bars - bars.min()).astype(int), weights=list(days.values()))
    return UNITS[code], edges, events


def _flags(axes: "Axes", places: dict[str, float]) -> int:
    """A line at each place (0 left, 1 right), ascending, its name above the plot, on the lowest row that is free there.

    From right to left, for then no line crosses a name. Returns the number of rows.
    """
    free: list[float] = []
    for name, place in reversed(places.items()):
        width = 0.014 * len(name) + 0.02
        row = next((row for row, end in enumerate(free) if place + width <= end), len(free))
        free[row : row + 1] = [place]
        foot = 1.01 + FLAG * row
        across: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "color": INK}
        axes.plot([place, place], [0, foot + 0.8 * FLAG], linewidth=0.9, **across)
        axes.text(place + 0.01, foot, name, fontsize=9, **across)
    return len(free)


def _style(axes: "Axes", title: str, across: str = "", title_at: float | None = None) -> None:
    """Title, name of the horizontal axis, and few round ticks: 1, 10 k, 2 M."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_title(title, loc="left", y=title_at, fontsize=10, color=INK, weight="bold")
    axes.set_xlabel(across)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(EngFormatter())
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.yaxis.set_major_formatter(EngFormatter())
    axes.minorticks_off()
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.tick_params(axis="y", length=0, colors=QUIET)
