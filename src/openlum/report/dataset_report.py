"""The figures of a data set, as tables in the terminal and as the page `report.html`. `lum prepare` shows them at its end."""

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
from openlum.field_spec import FieldSpec
from openlum.report.dataset_plots import length_plot, popularity_plot, time_plot
from openlum.report.rendering import format_count, format_share, one_line, terminal_table, write_page

SPLIT_NAMES = dict(zip(SPLITS, ("train", "validation", "test"), strict=True))
TERMINAL_VALUES, PAGE_VALUES = 3, 10
"""Numbers of a field's most frequent values in the terminal and on the page."""


class TableCounts(NamedTuple):
    """Numbers of rows of one input table."""

    table: str
    read: int
    accepted: int
    rejected: int
    reasons: dict[str, int]
    """Reason of a rejection to number of rows."""


class Total(NamedTuple):
    """Total number of users, items, events or impressions."""

    name: str
    number: int
    remark: str


class ValueShare(NamedTuple):
    """The events with one value of a field, with any of its other values, or with an unknown value."""

    label: str
    events: int
    share: float
    """Part of all events, 0 to 1."""
    kind: str
    """`value`, `rest` or `unknown`."""


def write_dataset_report(info: DatasetInfo, path: Path) -> None:
    """Write the page of a data set: the figures of `dataset_summary` with plots, in one file that loads no other file.

    Args:
        info: the content of `dataset.json`.
        path: the file to write.
    """
    profile, specs = info.profile, {spec.name: spec for spec in info.condition}
    days = list(profile.days)
    write_page(
        path,
        "dataset.html.j2",
        field_kind,
        minute,
        info=info,
        specs=specs,
        period=f"{days[0]} to {days[-1]}",
        split_names=SPLIT_NAMES,
        tables=_table_counts(info),
        totals=_totals(info),
        value_shares={
            name: _value_shares(field, specs[name], info, PAGE_VALUES) for name, field in profile.conditions.items()
        },
        plots=[length_plot(profile), popularity_plot(profile)],
        time_plot=time_plot(profile, {"validation": info.valid_time, "test": info.test_time}),
    )


def dataset_summary(info: DatasetInfo) -> Group:
    """Return the figures of a data set as tables for terminals of at least 80 columns.

    Args:
        info: the content of `dataset.json`.
    """
    builders = (_rows_table, _size_table, _length_table, _condition_table, _collision_table, _split_table, _note_table)
    tables: list[Table | str] = []
    for table in (build(info) for build in builders):
        if table.row_count:
            table.show_edge = False
            tables += [table, ""]
    return Group(*tables)


def field_kind(spec: FieldSpec) -> str:
    """Return the type of a field and its properties, in words."""
    return ", ".join(
        [spec.type]
        + ["hashed"] * spec.hashed
        + ["a number in buckets"] * bool(spec.edges)
        + ["feedback"] * spec.feedback
    )


def minute(iso: str) -> str:
    """Return an ISO 8601 time without its seconds."""
    return iso[:16].replace("T", " ")


def _table_counts(info: DatasetInfo) -> list[TableCounts]:
    tables = [key.removesuffix("_in") for key in info.counts if key.endswith("_in")]
    reasons: dict[str, dict[str, int]] = {table: {} for table in tables}
    for key, number in sorted(info.rejected.items(), key=lambda entry: -entry[1]):
        table, _, reason = key.partition(": ")
        reasons[table][reason] = number
    counts = Counter(info.counts)  # a missing key counts as 0
    return [
        TableCounts(
            table.replace("_", " "), counts[f"{table}_in"], counts[table], counts[f"{table}_rejected"], reasons[table]
        )
        for table in tables
    ]


def _totals(info: DatasetInfo) -> list[Total]:
    profile, days = info.profile, list(info.profile.days)
    labelled = sum(split.impressions for split in profile.splits.values())
    positives = sum(split.positives for split in profile.splits.values())
    unlabelled = info.counts.get("impressions_unlabelled", 0)
    remarks = [f"{format_share(positives, labelled)} positive"] * bool(labelled) + [
        f"{format_count(unlabelled)} unlabelled"
    ] * bool(unlabelled)
    return [
        Total("users", info.counts["users"], f"{format_count(sum(profile.lengths.values()))} with events"),
        Total("items", info.counts["items"], f"{format_count(max(profile.popularity))} with events"),
        Total("events", info.counts["events"], f"{days[0]} to {days[-1]}"),
        Total("impressions", labelled + unlabelled, "; ".join(remarks)),
    ]


def _value_shares(field: FieldProfile, spec: FieldSpec, info: DatasetInfo, limit: int) -> list[ValueShare]:
    """Return the `limit` most frequent values of a field, then all other values, then the unknown values."""
    events = info.counts["events"]
    known_events = round(field.known * events)
    values = sorted(field.values.items(), key=lambda entry: -entry[1])[:limit]
    parts = [(one_line(value), number, "value") for value, number in values]
    if spec.type != "multi":  # an event of a multi field has several values, so their shares do not add up
        other_values = field.distinct - len(values)
        name = f"{format_count(other_values)} other{'s' * (other_values > 1)}" if values else "known"
        parts.append((name, known_events - sum(number for _, number in values), "rest"))
    parts.append(("unknown", events - known_events, "unknown"))
    return [ValueShare(label, number, number / events, kind) for label, number, kind in parts if number > 0]


def _rows_table(info: DatasetInfo) -> Table:
    table = terminal_table(f"Data set {one_line(info.name)}", "Rows", "Read", "Accepted", "Rejected")
    for counts in _table_counts(info):
        table.add_row(counts.table, *map(format_count, (counts.read, counts.accepted, counts.rejected)))
        for reason, number in counts.reasons.items():
            table.add_row(
                Padding(Text(one_line(reason, limit=400)), (0, 0, 0, 2)), "", "", format_count(number), style="dim"
            )
    return table


def _size_table(info: DatasetInfo) -> Table:
    table = terminal_table("Size", "", "Number", "")
    table.columns[-1].justify = "left"
    for total in _totals(info):
        table.add_row(total.name, format_count(total.number), total.remark)
    return table


def _length_table(info: DatasetInfo) -> Table:
    quantiles = info.profile.length_quantiles
    table = terminal_table("Events of a user", *quantiles)
    table.columns[0].justify = "right"
    table.add_row(*map(format_count, quantiles.values()))
    return table


def _condition_table(info: DatasetInfo) -> Table:
    table = terminal_table("Condition fields", "Field", "Known", "Values", "Most frequent", "Share")
    column = table.columns[3]
    column.justify, column.max_width, column.no_wrap, column.overflow = "left", 28, True, "ellipsis"
    specs = {spec.name: spec for spec in info.condition}
    for name, field in info.profile.conditions.items():
        spec = specs[name]
        values = [part for part in _value_shares(field, spec, info, TERMINAL_VALUES) if part.kind == "value"]
        columns = Text(name), format_share(field.known), format_count(field.distinct) if spec.size else ""
        if not values:
            table.add_row(*columns, Text(f"({field_kind(spec)})", style="dim"), "")
        for value in values:
            table.add_row(*columns, Text(value.label), format_share(value.share))
            columns = Text(), "", ""
    return table


def _collision_table(info: DatasetInfo) -> Table:
    table = terminal_table("Hashed fields", "Field", "Values that share an id")
    for name, part in info.profile.collisions.items():
        table.add_row(Text(name), format_share(part))
    return table


def _split_table(info: DatasetInfo) -> Table:
    table = terminal_table("Splits (UTC)", "", "From", "To", "Events", "Impressions", "Positive", "Share")
    days = list(info.profile.days)
    is_short = (date.fromisoformat(days[-1]) - date.fromisoformat(days[0])).days < 3
    for split, name in SPLIT_NAMES.items():
        figures = info.profile.splits[split]
        period = (minute(moment)[5:] if is_short else moment[:10] for moment in (figures.begin, figures.end))
        numbers = map(format_count, (figures.events, figures.impressions, figures.positives))
        table.add_row(name, *period, *numbers, format_share(figures.positives, figures.impressions))
    return table


def _note_table(info: DatasetInfo) -> Table:
    table = terminal_table("Notes", "Handled without rejecting a row", "Rows")
    for note, number in info.notes.items():
        table.add_row(Text(one_line(note, limit=400)), format_count(number))
    return table
