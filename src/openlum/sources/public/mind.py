"""MIND: a week of news and clicks of the readers of Microsoft News, as an event log and an impression log.

F. Wu, Y. Qiao, J.-H. Chen, C. Wu, T. Qi, J. Lian, D. Liu, X. Xie, J. Gao, W. Wu and M. Zhou. 2020. MIND: A
Large-scale Dataset for News Recommendation. ACL 2020, 3597-3606. https://doi.org/10.18653/v1/2020.acl-main.331. For
research only, under the Microsoft Research licence terms (https://msnews.github.io). Sizes: mind-small has 156,965
lines of behaviour in its training part (50,000 users) and 73,152 in its dev part, with 51,282 and 42,416 news;
mind-large has 2,232,748 and 376,471 lines, with 101,527 and 72,023 news. The test part of mind-large has no labels
and is not read.

Definitions:

- an *event* is a click on a news article: each click of the impression log, at the time of its page, and each click
  of a user's history, see below;
- its *condition* is the article's category (`sports`, `finance`). The category is known when the article is ranked,
  because the reader has chosen it or the page is made for it;
- an *impression* is one article on one page (a line of `behaviors.tsv`). Its row id // 100,000 is the number of the
  line;
- its *label* is 1 if the article was clicked. The publisher shuffled the articles of a page, so the position has no
  information.

**The history** has most of the clicks of a user: about 30, while the week itself has a few. The clicks of a history were
made in the four weeks before the impressions, 12 October to 8 November 2019. The publisher gives their order but not
their times. Without them, users would have nearly no past. So they become events by this rule: the history is taken from
the line of the user's earliest impression (the history of a later line may also have later clicks), and its clicks are
spread evenly over the four weeks, in their order. So all history clicks lie before the user's impressions, and no
impression sees later clicks. No two clicks of a history have the same second, so each click sees the earlier clicks. But the
times have no information beyond the order, so the schema has no time fields: a model would learn this rule. The times in the
files have no time zone and are read as UTC.

The validation period is the last day of the training part. The test period is the dev part, which is the next day. The
schema gives the fraction of events before each of them.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from openlum.artefact.directory import whole_directory
from openlum.errors import InputError
from openlum.sources.public.source import PublishedDataset, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PAGE = "https://msnews.github.io"
PUBLISHED_DATASETS = {
    "mind-small": PublishedDataset("mind-small", PAGE, size="50,000 training users, 8.6 M articles shown"),
    "mind-large": PublishedDataset("mind-large", PAGE, size="2.6 M pages of news shown"),
}
FOLDERS = {"mind-small": "MINDsmall", "mind-large": "MINDlarge"}
PARTS = ("train", "dev")

COUNTS: dict[str, dict[str, int]] = {
    "mind-small": {
        "train lines": 156_965,
        "dev lines": 73_152,
        "train news": 51_282,
        "dev news": 42_416,
        "train users": 50_000,
    },
    "mind-large": {"train lines": 2_232_748, "dev lines": 376_471, "train news": 101_527, "dev news": 72_023},
}

LINE_COLUMNS = dict.fromkeys(("impression", "user", "time", "history", "shown_articles"), "VARCHAR")
NEWS_COLUMNS = dict.fromkeys(
    ("news", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities"), "VARCHAR"
)
"""Columns of the files, which have no header."""

FIRST_DAY = datetime(2019, 11, 9, tzinfo=UTC)
"""The first day of impressions."""
HISTORY = [int((FIRST_DAY - timedelta(days=days)).timestamp()) for days in (28, 0)]
"""Start and end of the histories, in seconds since 1970."""

LINES = r"""
    number + {before} AS line, user, history, {dev} AS dev,
    CAST(epoch(strptime(time, '%m/%d/%Y %I:%M:%S %p')) AS BIGINT) AS time,
    CASE WHEN regexp_full_match(shown_articles, '(\S+-[01] ?)+') THEN string_split(trim(shown_articles), ' ')
         ELSE error('line ' || number || ': expected articles such as N123-0, but found ' || coalesce(shown_articles, 'nothing'))
    END AS shown_articles
"""
"""Columns of the lines of a part; the numbers of the lines continue after `before`."""
ARTICLES = """
    news, category, subcategory, title, json_extract_string(title_entities, '$[*].WikidataId') AS entities
"""
"""Columns of the news of a part."""
NEWS = """
    SELECT DISTINCT ON (news) * EXCLUDE part
    FROM (SELECT *, 0 AS part FROM news_train UNION ALL SELECT *, 1 FROM news_dev) ORDER BY news, part
"""
"""News of both parts; if both parts have an article, the version of the training part."""

LINES_PER_FILE = 100_000
"""Lines per file of the tables of events and impressions, so that each file fits into memory."""
ROWS_PER_LINE = 100_000
"""The row ids of a line begin at its number times this value."""

IMPRESSIONS = f"""
    WITH articles AS (
        SELECT line, user, time, unnest(shown_articles) AS pair, generate_subscripts(shown_articles, 1) - 1 AS position
        FROM lines WHERE line BETWEEN {{first}} AND {{last}}
    )
    SELECT line * {ROWS_PER_LINE} + position AS row, user, time, left(pair, -2) AS news, category,
        CAST(right(pair, 1) AS UTINYINT) AS clicked
    FROM articles LEFT JOIN news ON left(pair, -2) = news.news ORDER BY row
"""
EARLIEST = "SELECT arg_min(line, (time, line)) AS line FROM lines GROUP BY user"
"""For each user, the line of the earliest impression, whose history is used."""
EVENTS = f"""
    WITH histories AS (
        SELECT line, user, string_split(trim(history), ' ') AS news
        FROM lines SEMI JOIN earliest USING (line) WHERE trim(history) <> '' AND line BETWEEN {{first}} AND {{last}}
    ),
    history_clicks AS (
        SELECT line, user, unnest(news) AS news, generate_subscripts(news, 1) AS position, len(news) AS number FROM histories
    ),
    clicks AS (
        SELECT line, user, {HISTORY[0]} + position * ({HISTORY[1]} - {HISTORY[0]}) // (number + 1) AS time, news
        FROM history_clicks
        UNION ALL
        SELECT row // {ROWS_PER_LINE}, user, time, news FROM impressions WHERE clicked = 1
    )
    SELECT user, time, news, category FROM clicks LEFT JOIN news USING (news) ORDER BY line, time, news
"""
"""The clicks of some lines: the clicks of the histories and the clicks on the impressions."""
BOUNDARIES = """
    SELECT epoch(date_trunc('day', to_timestamp(max(time) FILTER (NOT dev)))), min(time) FILTER (dev) FROM lines
"""
"""Start of the last day of the training part and first time of the dev part, in seconds since 1970."""
EVENTS_BEFORE = """
    SELECT count(*) FILTER (time < $1), count(*) FILTER (time < $2), count(*)
    FROM (SELECT DISTINCT user, time, news FROM events)
"""
"""Numbers of events before each boundary and in all. Repeated events are not counted, because `prepare` rejects them."""

SCHEMA = """\
# MIND (Wu et al. 2020), written by `lum data {name}`.

# Name of the data set.
name: {name}

# The behaviour log: one row per click. The clicks of a history have artificial times, in the right order and before all
# other clicks.
events:
  # A directory of Parquet files, relative to this file.
  path: events
  # Column of the user id.
  user: user
  # Column of the item id.
  item: news
  # Column of the time.
  time: time
  # Unit of the time: seconds since 1970.
  time_unit: s
  # The condition fields of an event.
  condition:
    # The article's category, which is known before the article.
    category:
      # One id per category.
      type: categorical

# The impression log: one row per article shown.
impressions:
  # A directory of Parquet files, relative to this file.
  path: impressions
  # Column of the user id.
  user: user
  # Column of the item id.
  item: news
  # Column of the time.
  time: time
  # Column of the label: 1 if the article was clicked.
  label: clicked
  # Column of the row id; divided by 100,000, it is the number of the page that showed the article.
  row: row

# The item table: one row per article.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: news
  # Column of the title.
  title: title
  # The features of an article.
  features:
    # The category of the article.
    category:
      # One id per category.
      type: categorical
    # The subcategory of the article.
    subcategory:
      # One id per subcategory.
      type: categorical
    # The people, teams and places that the title names, as Wikidata ids.
    entities:
      # A list of categories.
      type: multi
      # Values in fewer articles than this become unknown.
      min_count: 2

# No time fields, because most events have an artificial time.
time_fields: []

# One global time split: validation and test begin at these fractions of the time-ordered events.
splits:
  # Validation is the last day of the publisher's training part.
  valid: {valid:.12f}
  # Test is the publisher's dev part.
  test: {test:.12f}
"""


def write(
    name: str,
    out: Path,
    source: Path | None = None,
    partial: bool = False,
    counts: Mapping[str, Mapping[str, int]] = COUNTS,
) -> Path:
    """Write MIND as an event log, an impression log and an item table, and return the path of their schema.

    Args:
        name: `mind-small` or `mind-large`.
        out: the directory to write; it appears complete or not at all.
        source: a directory with the publisher's folders, `MINDsmall_train` and `MINDsmall_dev` (`MINDlarge_...`).
        partial: whether to accept fewer lines than were published.
        counts: published counts: data set to unit to count.
    """
    with (
        whole_directory(out, "log") as draft,
        TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):
        lines = _create_views(connection, name, source, Path(scratch), partial, counts[name])
        save(connection.sql(NEWS), draft / "items.parquet", f"news.tsv of {name}")
        read_parquet(connection, draft / "items.parquet").create_view("news")
        connection.execute(f"CREATE TABLE earliest AS {EARLIEST}")
        boundaries = connection.sql(BOUNDARIES).fetchall()[0]
        event_counts = [(0, 0, 0)]
        for first in range(1, lines + 1, LINES_PER_FILE):
            for table, query in (("impressions", IMPRESSIONS), ("events", EVENTS)):
                path = draft / table / f"part-{first // LINES_PER_FILE:03}.parquet"
                path.parent.mkdir(exist_ok=True)
                rows = connection.sql(query.format(first=first, last=first + LINES_PER_FILE - 1))
                save(rows, path, f"behaviors.tsv of {name}")
                read_parquet(connection, path).create_view(table, replace=True)
            event_counts += connection.execute(EVENTS_BEFORE, boundaries).fetchall()
        valid, test = _fractions(name, *(sum(column) for column in zip(*event_counts, strict=True)))
        (draft / "schema.yaml").write_text(SCHEMA.format(name=name, valid=valid, test=test), encoding="utf-8")
    return Path(out) / "schema.yaml"


def _create_views(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Path | None,
    scratch: Path,
    partial: bool,
    counts: Mapping[str, int],
) -> int:
    """Create the views `lines` (line, user, time, history, shown_articles, dev), `news_train` and `news_dev`.

    Returns:
        The number of lines.
    """
    dataset = PUBLISHED_DATASETS[name]
    names = [f"{FOLDERS[name]}_{part}/{file}" for part in PARTS for file in ("behaviors.tsv", "news.tsv")]
    files = locate(dataset, names, source, scratch)
    if len(set(files.values())) < len(names):
        raise InputError(
            f"{source}: has one part of {name}; give the directory with the folders of both parts, such as {names[0]}"
        )

    def create_view(file: str, columns: Mapping[str, str], projection: str, view: str) -> int:
        raw = read_csv(connection, [files[file]], columns, header=False, delimiter="\t", quote="")
        path = scratch / f"{view}.parquet"
        rows = save(raw.project("row_number() OVER () AS number, *").project(projection), path, str(files[file]))
        read_parquet(connection, path).create_view(view)
        return rows

    lines = 0
    for part in PARTS:
        behaviors, news = (f"{FOLDERS[name]}_{part}/{file}" for file in ("behaviors.tsv", "news.tsv"))
        projection = LINES.format(before=lines, dev=part == "dev")
        actual_counts = {
            f"{part} lines": create_view(behaviors, LINE_COLUMNS, projection, f"lines_{part}"),
            f"{part} news": create_view(news, NEWS_COLUMNS, ARTICLES, f"news_{part}"),
        }
        lines += actual_counts[f"{part} lines"]
        users, first = connection.sql(f"SELECT count(DISTINCT user), min(time) FROM lines_{part}").fetchall()[0]
        actual_counts[f"{part} users"] = users
        for unit in (unit for unit in actual_counts if unit in counts):
            file = news if "news" in unit else behaviors
            check_count(dataset, file, unit, actual_counts[unit], counts[unit], partial)
        if first is not None and first < FIRST_DAY.timestamp():
            raise InputError(
                f"{files[behaviors]}: an impression has the time {datetime.fromtimestamp(first, UTC)}, but the impressions "
                f"of {name} begin on {FIRST_DAY:%d %B %Y}; get the file again"
            )
    connection.sql("FROM lines_train UNION ALL FROM lines_dev").create_view("lines")
    return lines


def _fractions(name: str, train: int, train_and_valid: int, events: int) -> tuple[float, float]:
    """Return the fractions of the events at which validation and test begin.

    Args:
        name: name of the data set, for the message.
        train: number of events before validation.
        train_and_valid: number of events before test.
        events: number of all events.
    """
    if not 0 < train < train_and_valid < events:
        raise InputError(
            f"{name}: of {events:,} clicks, {train:,} are before the last day of the training part and {train_and_valid:,} "
            "before the dev part; all three periods need clicks, so give more lines"
        )
    # With half an event more, the event at this fraction is the first of its period, however the product is rounded.
    return (train + 0.5) / events, (train_and_valid + 0.5) / events
