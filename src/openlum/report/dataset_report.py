"""What `lum prepare` shows at its end: the figures of a data set, as tables in the terminal and as the page `report.html`."""

from collections import Counter
from datetime import date
from pathlib import Path
from typing import NamedTuple

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from openlum.data.dataset import SPLITS, DatasetInfo
from openlum.data.profile import FieldProfile
from openlum.report.dataset_plots import length_plot, popularity_plot, time_plot
from openlum.report.rendering import count, readable, share, terminal_table, write_page
from openlum.schema import FieldSpec

SPLIT_NAMES = dict(zip(SPLITS, ("train", "validation", "test"), strict=True))
TERMINAL_VALUES, PAGE_VALUES = 3, 10
"""How many of a field's most frequent values are shown."""


class Rows(NamedTuple):
    """What became of the rows of one table."""

    table: str
    read: int
    accepted: int
    refused: int
    reasons: dict[str, int]


class Size(NamedTuple):
    """How many there are of something."""

    name: str
    number: int
    remark: str


class Part(NamedTuple):
    """A part of the events: those with one value of a field, with any of its rarer values, or with none."""

    label: str
    events: int
    share: float
    kind: str


def write_dataset_report(info: DatasetInfo, path: Path) -> None:
    """Write the page of a data set: the figures of `dataset_summary` with plots, in one file that requests nothing.

    Args:
        info: the content of `dataset.json`.
        path: the file to write.
    """
    profile, specs = info.profile, {spec.name: spec for spec in info.condition}
    days = list(profile.days)
    write_page(
        path,
        "dataset.html.j2",
        kind,
        minute,
        info=info,
        specs=specs,
        period=f"{days[0]} to {days[-1]}",
        split_names=SPLIT_NAMES,
        tables=_rows(info),
        sizes=_sizes(info),
        parts={name: _parts(field, specs[name], info, PAGE_VALUES) for name, field in profile.conditions.items()},
        plots=[length_plot(profile), popularity_plot(profile)],
        time_plot=time_plot(profile, {"validation": info.valid_time, "test": info.test_time}),
    )


def dataset_summary(info: DatasetInfo) -> Group:
    """The figures of a data set, for terminals from 80 columns on.

    Args:
        info: the content of `dataset.json`.
    """
    makers = (_rows_table, _size_table, _length_table, _condition_table, _collision_table, _split_table, _note_table)
    shown: list[Table | str] = []
    for table in (make(info) for make in makers):
        if table.row_count:
            table.show_edge = False
            shown += [table, ""]
    return Group(*shown)


def kind(spec: FieldSpec) -> str:
    """In words, what a field is."""
    return ", ".join(
        [spec.type]
        + ["hashed"] * spec.hashed
        + ["a number in buckets"] * bool(spec.edges)
        + ["feedback"] * spec.feedback
    )


def minute(iso: str) -> str:
    """An ISO 8601 moment without its seconds."""
    return iso[:16].replace("T", " ")


def _rows(info: DatasetInfo) -> list[Rows]:
    tables = [key.removesuffix("_in") for key in info.counts if key.endswith("_in")]
    refused: dict[str, dict[str, int]] = {table: {} for table in tables}
    for reason, number in sorted(info.rejected.items(), key=lambda entry: -entry[1]):
        table, _, why = reason.partition(": ")
        refused[table][why] = number
    counts = Counter(info.counts)  # which may lack what there is none of
    return [
        Rows(table.replace("_", " "), counts[f"{table}_in"], counts[table], counts[f"{table}_rejected"], refused[table])
        for table in tables
    ]


def _sizes(info: DatasetInfo) -> list[Size]:
    profile, days = info.profile, list(info.profile.days)
    shown = sum(split.impressions for split in profile.splits.values())
    positives = sum(split.positives for split in profile.splits.values())
    unlabelled = info.counts.get("impressions_unlabelled", 0)
    remarks = [f"{share(positives, shown)} positive"] * bool(shown) + [f"{count(unlabelled)} unlabelled"] * bool(
        unlabelled
    )
    return [
        Size("users", info.counts["users"], f"{count(sum(profile.lengths.values()))} with events"),
        Size("items", info.counts["items"], f"{count(max(profile.popularity))} with events"),
        Size("events", info.counts["events"], f"{days[0]} to {days[-1]}"),
        Size("impressions", shown + unlabelled, "; ".join(remarks)),
    ]


def _parts(field: FieldProfile, spec: FieldSpec, info: DatasetInfo, most: int) -> list[Part]:
    """The most frequent values, then the others, then the unknown."""
    events = info.counts["events"]
    known = round(field.known * events)
    values = sorted(field.values.items(), key=lambda entry: -entry[1])[:most]
    parts = [(readable(value), number, "value") for value, number in values]
    if spec.type != "multi":  # whose events have several values, which don't add up
        others = field.distinct - len(values)
        name = f"{count(others)} other{'s' * (others > 1)}" if values else "known"
        parts.append((name, known - sum(number for _, number in values), "rest"))
    parts.append(("unknown", events - known, "unknown"))
    return [Part(label, number, number / events, of) for label, number, of in parts if number > 0]


def _rows_table(info: DatasetInfo) -> Table:
    table = terminal_table(f"Data set {readable(info.name)}", "Rows", "In", "Accepted", "Rejected")
    for rows in _rows(info):
        table.add_row(rows.table, *map(count, (rows.read, rows.accepted, rows.refused)))
        for reason, number in rows.reasons.items():
            table.add_row(Padding(Text(readable(reason, most=400)), (0, 0, 0, 2)), "", "", count(number), style="dim")
    return table


def _size_table(info: DatasetInfo) -> Table:
    table = terminal_table("Size", "", "Number", "")
    table.columns[-1].justify = "left"
    for size in _sizes(info):
        table.add_row(size.name, count(size.number), size.remark)
    return table


def _length_table(info: DatasetInfo) -> Table:
    quantiles = info.profile.length_quantiles
    table = terminal_table("Events of a user", *quantiles)
    table.columns[0].justify = "right"
    table.add_row(*map(count, quantiles.values()))
    return table


def _condition_table(info: DatasetInfo) -> Table:
    table = terminal_table("Condition fields", "Field", "Known", "Values", "Most frequent", "Share")
    values = table.columns[3]
    values.justify, values.max_width, values.no_wrap, values.overflow = "left", 28, True, "ellipsis"
    specs = {spec.name: spec for spec in info.condition}
    for name, field in info.profile.conditions.items():
        spec = specs[name]
        parts = [part for part in _parts(field, spec, info, TERMINAL_VALUES) if part.kind == "value"]
        facts = Text(name), share(field.known), count(field.distinct) if spec.size else ""
        if not parts:
            table.add_row(*facts, Text(f"({kind(spec)})", style="dim"), "")
        for part in parts:
            table.add_row(*facts, Text(part.label), share(part.share))
            facts = Text(), "", ""
    return table


def _collision_table(info: DatasetInfo) -> Table:
    table = terminal_table("Hashed fields", "Field", "Values that share an id")
    for name, part in info.profile.collisions.items():
        table.add_row(Text(name), share(part))
    return table


def _split_table(info: DatasetInfo) -> Table:
    table = terminal_table("Splits (UTC)", "", "From", "To", "Events", "Impressions", "Positive", "Share")
    days = list(info.profile.days)
    short = (date.fromisoformat(days[-1]) - date.fromisoformat(days[0])).days < 3
    for split, name in SPLIT_NAMES.items():
        figures = info.profile.splits[split]
        period = (minute(moment)[5:] if short else moment[:10] for moment in (figures.begin, figures.end))
        numbers = map(count, (figures.events, figures.impressions, figures.positives))
        table.add_row(name, *period, *numbers, share(figures.positives, figures.impressions))
    return table


def _note_table(info: DatasetInfo) -> Table:
    table = terminal_table("Notes", "Handled without rejecting a row", "Rows")
    for note, number in info.notes.items():
        table.add_row(Text(readable(note, most=400)), count(number))
    return table
