"""The figures of a data set that `lum prepare` shows at its end: the summary in the terminal and the page."""

import datetime as dt
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from openlum.data.dataset import DatasetInfo
from openlum.data.profile import FieldProfile, Profile, SplitProfile
from openlum.field_spec import FieldSpec
from openlum.report.dataset_plots import BARS, events_over_time
from openlum.report.dataset_report import dataset_summary, write_dataset_report
from openlum.report.rendering import format_count, format_share, one_line
from openlum.schema import Schema
from tests.report.page import Page, check_layout

HTML = "<script src='https://example.org/x.js'>alert(1)</script> & \"[bold]shoes"
CONTROL = "\x1b[2Jred\nline $x^2$"


def days(first: str, number: int, events: int, decay: float = 1.0) -> dict[str, int]:
    """Return the events of consecutive days with the sum `events` and a weekly rhythm. Each day has `decay` times the last."""
    weights = decay ** np.arange(number) * (1 + 0.3 * np.sin(np.arange(number) * 2 * np.pi / 7))
    cut = np.diff(np.round(events * np.concatenate([[0], np.cumsum(weights / weights.sum())]))).astype(int)
    start = dt.date.fromisoformat(first)
    return {(start + dt.timedelta(n)).isoformat(): int(c) for n, c in enumerate(cut) if c}


def make_info(
    name: str,
    when: dict[str, int],
    users: int,
    items: int,
    impressions: int,
    lengths: dict[int, int],
    conditions: dict[str, tuple[FieldProfile, dict[str, Any]]],
    **changes: Any,
) -> DatasetInfo:
    """Return the description of a data set with the splits at 80 % and 90 % of its events."""
    events, dates, so_far = sum(when.values()), list(when), np.cumsum(list(when.values()))
    starts = [0, int(np.searchsorted(so_far, 0.8 * events)), int(np.searchsorted(so_far, 0.9 * events))]
    seconds = [int(dt.datetime.fromisoformat(f"{dates[s]}T00:00:00+00:00").timestamp()) for s in starts]
    seconds = [seconds[0], max(seconds[1], seconds[0] + 60_000), max(seconds[2], seconds[0] + 70_000)]
    parts = {"train": 0.8, "valid": 0.1, "test": 0.1}
    splits = {
        split: SplitProfile(
            begin=dt.datetime.fromtimestamp(second, dt.UTC).isoformat(),
            end=f"{end}T23:59:59+00:00",
            events=int(part * events),
            impressions=int(part * impressions),
            positives=int(part * impressions * 0.575),
        )
        for (split, part), second, end in zip(
            parts.items(), seconds, (dates[starts[1]], dates[starts[2]], dates[-1]), strict=True
        )
    }
    ends = np.cumsum([lengths[n] for n in sorted(lengths)])
    quantiles = {"min": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}
    return DatasetInfo(
        name=name,
        data_schema=Schema.model_validate(
            {"name": name, "events": {"path": "log.parquet", "user": "u", "item": "i", "time": "t"}}
        ),
        condition=[FieldSpec(name=field, **spec) for field, (_, spec) in conditions.items()],
        item=[],
        user=[],
        context=[],
        counts={
            "events_in": events,
            "events": events,
            "users": users,
            "items": items,
        }
        | changes.pop("counts", {}),
        valid_time=seconds[1],
        test_time=seconds[2],
        impressions={split: figures.impressions for split, figures in splits.items()},
        label_rule="Every event is an impression; the label is 1 where rating is at least 4.",
        profile=Profile(
            length_quantiles={
                quantile: sorted(lengths)[int(np.searchsorted(ends, q * ends[-1]))] for quantile, q in quantiles.items()
            },
            lengths=lengths,
            popularity={
                int(rank): max(1, int(events * 0.0035 / rank**0.4 * (1 - rank / (items + 1)) ** 2))
                for rank in sorted({2**n for n in range(30) if 2**n < items} | {items})
            },
            days=when,
            conditions={field: figures for field, (figures, _) in conditions.items()},
            splits=splits,
            collisions=changes.pop("collisions", {}),
        ),
        fingerprint="0123456789abcdef",
        **changes,
    )


def field(values: dict[str, int], distinct: int | None = None, known: float = 1.0) -> FieldProfile:
    return FieldProfile(known=known, values=values, distinct=len(values) if distinct is None else distinct)


CATEGORICAL: dict[str, Any] = {"type": "categorical", "size": 6}


def movielens() -> DatasetInfo:
    stars = {"4": 348971, "3": 261197, "5": 226310, "2": 107557, "1": 56174}
    return make_info(
        "ml-1m",
        days("2000-04-25", 1039, 1_000_209, 0.99),
        6040,
        3706,
        1_000_209,
        {16: 1184, 32: 1567, 64: 1383, 128: 1022, 256: 604, 512: 240, 1024: 39, 2048: 1},
        {"rating": (field(stars), CATEGORICAL | {"feedback": True})},
        counts={"items": 3883, "items_table_in": 3883, "items_table": 3883},
        notes={"events: lists of 'item_tags' longer than 'max_values' (cut)": 12_345},
    )


def market() -> DatasetInfo:
    scenarios = {"home": 60_123, "search": 31_456, "similar": 18_001, "cart": 10_765}
    queries = {f"{colour} tents": 900 - n for n, colour in enumerate(("red", "blue", HTML, CONTROL, "green", "grey"))}
    return make_info(
        "market",
        days("2025-01-01", 60, 120_345),
        1000,
        1500,
        240_000,
        {1: 12, 2: 20, 4: 31, 8: 60, 16: 145, 32: 280, 64: 301, 128: 151},
        {
            "scenario": (field(scenarios), CATEGORICAL),
            "query": (field(queries, distinct=1_877, known=0.26), CATEGORICAL | {"hashed": True}),
            "price": (field({}, known=0.9, distinct=0), {"type": "numeric"}),
        },
        counts={"events_in": 120_445, "events_rejected": 100}
        | {"impressions_in": 240_007, "impressions": 240_000, "impressions_rejected": 7}
        | {"users_table_in": 1000, "users_table": 999, "users_table_rejected": 1},
        rejected={"events: duplicate": 91, f"events: {HTML}": 9, "impressions: no label": 7, "users_table: no id": 1},
        collisions={"condition.query": 0.0375, "item.brand": 0.0},
    )


def one_user_one_day() -> DatasetInfo:
    return make_info("one", {"2024-02-29": 10}, 1, 1, 0, {8: 1}, {})


def twenty_years() -> DatasetInfo:
    names = {f"{'長い名前の値' * 12}{n} ünïcödé 🎉": 600_000 - 1000 * n for n in range(200)}
    return make_info(
        "twenty years, 100 M",
        days("2004-01-01", 7305, 100_000_000, 1.0002),
        12_000_000,
        4_000_000,
        100_000_000,
        {2**n: max(1, 4_000_000 >> n) for n in range(18)},
        {
            "category of the item, as long as a name may well be": (field(names, known=0.987), CATEGORICAL),
            "never seen": (field({}, known=0.0), CATEGORICAL),
            "tags": (field({"a": 90_000_000, "b": 80_000_000}, distinct=70), {"type": "multi", "size": 71, "width": 8}),
            "age": (field({"under 20": 20_000_000}, distinct=8), {"type": "categorical", "size": 9, "edges": [20.0]}),
        },
        counts={"events_in": 100_500_000, "events_rejected": 500_000},
        rejected={"events: user with more than 100,000 events, and a reason that goes on and on": 500_000},
    )


INFOS = [movielens(), market(), one_user_one_day(), twenty_years()]
EACH = pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)


def page_of(info: DatasetInfo, directory: Path) -> str:
    write_dataset_report(info, directory / "report.html")
    assert [path.name for path in directory.iterdir()] == ["report.html"]
    return (directory / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The page of each data set, by name."""
    return {info.name: page_of(info, tmp_path_factory.mktemp("page")) for info in INFOS}


def summary_of(info: DatasetInfo, width: int = 80, **options: Any) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, **options)
    console.print(dataset_summary(info))
    return console.export_text()


def figures(info: DatasetInfo) -> set[str]:
    """Return every number that both the summary and the page must show, in its printed form."""
    profile = info.profile
    texts = [format_count(n) for n in [*info.counts.values(), *info.rejected.values(), *info.notes.values()]]
    texts += [format_count(n) for n in profile.length_quantiles.values()]
    texts += [format_share(part) for part in profile.collisions.values()]
    for split in profile.splits.values():
        texts += [format_count(split.events), format_count(split.impressions), format_count(split.positives)]
    for field in profile.conditions.values():
        top = sorted(field.values.values(), reverse=True)[:3]
        texts += [format_share(field.known), *(format_share(n, info.counts["events"]) for n in top)]
        texts += [format_count(field.distinct)] if field.distinct else []
    return set(texts)


@EACH
def test_page_is_complete_and_requests_nothing(info: DatasetInfo, pages: dict[str, str]) -> None:
    text = pages[info.name]
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not re.search(r"@import|url\((?!#)", text)


@EACH
def test_plots_have_a_description(info: DatasetInfo, pages: dict[str, str]) -> None:
    tags = Page(pages[info.name]).tags
    plots = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(plots) == 3
    assert all(plot["role"] == "img" and len(plot["aria-label"] or "") > 30 for plot in plots)
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")


@EACH
def test_contents_are_the_sections_and_tables_scroll(info: DatasetInfo, pages: dict[str, str]) -> None:
    page = Page(pages[info.name])
    check_layout(page)
    titles = [title for _, title in page.sections]
    assert titles[0] == "Rows"
    assert ("Handled without rejecting a row" in titles) == bool(info.notes)
    assert ("Hashed fields" in titles) == bool(info.profile.collisions)


@EACH
def test_ids_are_unique(info: DatasetInfo, pages: dict[str, str]) -> None:
    ids = [attributes["id"] for _, attributes in Page(pages[info.name]).tags if "id" in attributes]
    assert ids
    assert len(ids) == len(set(ids))


@EACH
def test_page_and_summary_show_every_figure(info: DatasetInfo, pages: dict[str, str]) -> None:
    words = Page(pages[info.name]).words
    for text in (words, summary_of(info, 80), summary_of(info, 120)):
        missing = {
            figure for figure in figures(info) if not re.search(rf"(?<![\d,.]){re.escape(figure)}(?![\d,])", text)
        }
        assert not missing


@EACH
@pytest.mark.parametrize("width", [80, 120])
def test_summary_fits_the_terminal(info: DatasetInfo, width: int) -> None:
    lines = summary_of(info, width).splitlines()
    assert max(map(cell_len, lines)) <= width
    impressions = next(line for line in lines if line.startswith("train"))
    assert format_count(info.profile.splits["train"].impressions) in impressions.split()


@EACH
def test_page_and_summary_depend_only_on_the_figures(info: DatasetInfo, pages: dict[str, str], tmp_path: Path) -> None:
    again = DatasetInfo.model_validate_json(info.model_dump_json())
    assert page_of(again, tmp_path) == pages[info.name]
    assert summary_of(again) == summary_of(info)


def test_values_from_data_are_escaped(tmp_path: Path) -> None:
    info = market().model_copy(update={"name": HTML})
    text = page_of(info, tmp_path)
    assert "<script" not in text
    assert "\x1b" not in text
    page = Page(text)
    assert HTML in page.words, "the reason, in full"
    assert any((attributes.get("title") or "").startswith(HTML) for _, attributes in page.tags), "the value"
    summary = summary_of(info, 200, force_terminal=True)
    assert "[bold]shoes" in summary
    assert "\x1b[2J" not in summary


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("plain", "plain"),
        ("", '""'),
        (" two\n\tlines ", "two lines"),
        ("\x1b[31mred", "\N{REPLACEMENT CHARACTER}[31mred"),
        ("\u202eturned", "\N{REPLACEMENT CHARACTER}turned"),
        ("値" * 500, "値" * 99 + "…"),
    ],
)
def test_values_are_shown_on_one_line(raw: str, line: str) -> None:
    assert one_line(raw) == line


def test_a_field_shows_its_values_the_other_values_and_the_unknown(pages: dict[str, str]) -> None:
    words = " ".join(Page(pages["market"]).words.split())
    query = words[words.index("query Categorical, hashed") : words.index("price Numeric")]
    top = sum(n for n in market().profile.conditions["query"].values.values()) / 120_345
    assert f"1,871 others {format_share(0.26 - top)} unknown 74 %" in query
    assert words.count("known 90 % unknown 10 %") == 1, "a numeric field has no values to show"


def test_events_with_several_values_have_no_others(pages: dict[str, str]) -> None:
    words = " ".join(Page(pages["twenty years, 100 M"]).words.split())
    assert "70 different values a 90 % b 80 % age" in words
    assert "190 others" in words


@EACH
def test_splits_are_named_in_the_plot_of_time(info: DatasetInfo, pages: dict[str, str]) -> None:
    plot = pages[info.name].split("<svg")[3]
    assert sorted(re.findall(r">(train|validation|test)</text>", plot)) == ["test", "train", "validation"]


@pytest.mark.parametrize(
    ("number", "unit"), [(1, "day"), (BARS, "day"), (BARS + 1, "week"), (7 * BARS + 1, "month"), (40 * 365, "month")]
)
def test_events_over_time_are_drawn_in_bars_of_one_unit(number: int, unit: str) -> None:
    when = days("1985-03-31", number, 1_000_003)
    bar_unit, edges, events = events_over_time(when)
    assert bar_unit == unit
    assert events.sum() == 1_000_003
    assert len(edges) == len(events) + 1 <= 500
    start, end = edges[[0, -1]].astype("datetime64[D]")
    assert start <= np.datetime64(min(when)) <= np.datetime64(max(when)) < end


def test_days_without_events_are_empty_bars() -> None:
    _, edges, events = events_over_time({"2024-02-28": 3, "2024-03-02": 4})
    assert edges.astype(str).tolist() == ["2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02", "2024-03-03"]
    assert events.tolist() == [3, 0, 0, 4]


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (1, 10**8, "<0.1 %"),
        (10**8 - 1, 10**8, ">99.9 %"),
        (1, 8, "12.5 %"),
        (0, 0, "n/a"),
    ],
)
def test_only_exact_shares_read_0_or_100_per_cent(part: int, whole: int, text: str) -> None:
    assert format_share(part, whole) == text
