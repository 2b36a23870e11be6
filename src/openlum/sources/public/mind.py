"""MIND: a week of news shown to readers of Microsoft News and what they clicked, as an event log and an impression log.

F. Wu, Y. Qiao, J.-H. Chen, C. Wu, T. Qi, J. Lian, D. Liu, X. Xie, J. Gao, W. Wu and M. Zhou. 2020. MIND: A
Large-scale Dataset for News Recommendation. ACL 2020, 3597-3606. https://doi.org/10.18653/v1/2020.acl-main.331. For
research only, under the Microsoft Research licence terms (https://msnews.github.io). Sizes: mind-small has 156,965
lines of behaviour in its training part (50,000 users) and 73,152 in its dev part, with 51,282 and 42,416 news;
mind-large has 2,232,748 and 376,471 lines, with 101,527 and 72,023 news. The test part of mind-large has no labels
and is not read.

What each thing is here:

- an *event* is a click on a news article: each click of the impression log, at the time of its page, and each click
  of a user's history, see below;
- its *condition* is the article's category (`sports`, `finance`), which a reader chooses or a page is made for before
  the article;
- an *impression* is one article of one page shown (a line of `behaviors.tsv`); its row id // 100,000 numbers the
  line;
- its *label* is 1 where the article was clicked. The publisher shuffled the articles of a page, so the position says
  nothing.

**The history** is most of what is known of a user: some 30 clicks, where the week itself has a few. The publisher
gives its order but no times; it comes from the four weeks before the impressions, 12 October to 8 November 2019. Left
out, users would have nearly no past. So its clicks are events, by this rule: the line of the user's earliest
impression says which history it is (a later line's may hold clicks made since), and its clicks are spread evenly over
the four weeks, in their order. All of them were made before the user's impressions, and that is where they stand, so
no impression knows its own future; and no two of one user share a second, so each knows those before it. But the
times say nothing beyond the order, so the schema has no time fields: a model would learn our rule. Times have no zone
in the files and are read as UTC.

Validation is the last day of the training part and test is the dev part, which is the day after. The schema gives the
fractions of events that lie before each.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from openlum.artefact.directory import whole_directory
from openlum.errors import InputError
from openlum.sources.public.source import Publisher, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PAGE = "https://msnews.github.io"
PUBLISHERS = {
    "mind-small": Publisher("mind-small", PAGE, size="50,000 training users, 8.6 M articles shown"),
    "mind-large": Publisher("mind-large", PAGE, size="2.6 M pages of news shown"),
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

LINE_COLUMNS = dict.fromkeys(("impression", "user", "time", "history", "shown"), "VARCHAR")
NEWS_COLUMNS = dict.fromkeys(
    ("news", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities"), "VARCHAR"
)
"""The files have no header."""

WEEK = datetime(2019, 11, 9, tzinfo=UTC)
"""The first day of impressions."""
HISTORY = [int((WEEK - timedelta(days=days)).timestamp()) for days in (28, 0)]
"""Begin and end of the history, in seconds since 1970."""

LINES = r"""
    number + {before} AS line, user, history, {dev} AS dev,
    CAST(epoch(strptime(time, '%m/%d/%Y %I:%M:%S %p')) AS BIGINT) AS time,
    CASE WHEN regexp_full_match(shown, '(\S+-[01] ?)+') THEN string_split(trim(shown), ' ')
         ELSE error('line ' || number || ': expected articles such as N123-0, found ' || coalesce(shown, 'nothing'))
    END AS shown
"""
"""Lines of a part, numbered on from those `before`."""
ARTICLES = """
    news, category, subcategory, title, json_extract_string(title_entities, '$[*].WikidataId') AS entities
"""
NEWS = """
    SELECT DISTINCT ON (news) * EXCLUDE part
    FROM (SELECT *, 0 AS part FROM news_train UNION ALL SELECT *, 1 FROM news_dev) ORDER BY news, part
"""
"""News of both parts: the one of the training part where both have it."""

LINES_PER_FILE = 100_000
"""Tables of events and impressions are written in files of this many lines, so that each fits into memory."""
ROWS_PER_LINE = 100_000
"""Row ids begin at the line's number times this."""

IMPRESSIONS = f"""
    WITH placed AS (
        SELECT line, user, time, unnest(shown) AS pair, generate_subscripts(shown, 1) - 1 AS place
        FROM lines WHERE line BETWEEN {{first}} AND {{last}}
    )
    SELECT line * {ROWS_PER_LINE} + place AS row, user, time, left(pair, -2) AS news, category,
        CAST(right(pair, 1) AS UTINYINT) AS clicked
    FROM placed LEFT JOIN news ON left(pair, -2) = news.news ORDER BY row
"""
EARLIEST = "SELECT arg_min(line, (time, line)) AS line FROM lines GROUP BY user"
"""The line whose history counts, of each user."""
EVENTS = f"""
    WITH histories AS (
        SELECT line, user, string_split(trim(history), ' ') AS news
        FROM lines SEMI JOIN earliest USING (line) WHERE trim(history) <> '' AND line BETWEEN {{first}} AND {{last}}
    ),
    placed AS (
        SELECT line, user, unnest(news) AS news, generate_subscripts(news, 1) AS place, len(news) AS number FROM histories
    ),
    clicks AS (
        SELECT line, user, {HISTORY[0]} + place * ({HISTORY[1]} - {HISTORY[0]}) // (number + 1) AS time, news FROM placed
        UNION ALL
        SELECT row // {ROWS_PER_LINE}, user, time, news FROM impressions WHERE clicked = 1
    )
    SELECT user, time, news, category FROM clicks LEFT JOIN news USING (news) ORDER BY line, time, news
"""
"""The clicks of some lines: the history, then those on the impressions."""
BOUNDARIES = """
    SELECT epoch(date_trunc('day', to_timestamp(max(time) FILTER (NOT dev)))), min(time) FILTER (dev) FROM lines
"""
BEFORE = """
    SELECT count(*) FILTER (time < $1), count(*) FILTER (time < $2), count(*)
    FROM (SELECT DISTINCT user, time, news FROM events)
"""
"""`prepare` refuses repeated events, so they don't count."""

SCHEMA = """\
# MIND (Wu et al. 2020), written by `lum data {name}`.

# Name of the data set.
name: {name}

# The behaviour log: one row a click. Clicks of a history have made-up times, in the right order, before all others.
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
  # Under what condition the event happened.
  condition:
    # The article's category, known before it.
    category:
      # One id a category.
      type: categorical

# The impression log: one row an article shown.
impressions:
  # A directory of Parquet files, relative to this file.
  path: impressions
  # Column of the user id.
  user: user
  # Column of the item id.
  item: news
  # Column of the time.
  time: time
  # Column of the label: 1 where the article was clicked.
  label: clicked
  # Column of the row id; divided by 100,000 it numbers the page that the article was shown on.
  row: row

# The item table: one row an article.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: news
  # Column of a title for people to read.
  title: title
  # What is known of an article.
  features:
    # Its category.
    category:
      # One id a category.
      type: categorical
    # Its subcategory.
    subcategory:
      # One id a subcategory.
      type: categorical
    # What its title names: Wikidata's ids of people, teams, places.
    entities:
      # A list of categories.
      type: multi
      # Only those that this many articles name.
      min_count: 2

# No time fields: most events have a made-up time.
time_fields: []

# One global time split: validation and test begin at these fractions of the time-ordered events,
splits:
  # here: the last day of the publisher's training part,
  valid: {valid:.12f}
  # and the publisher's dev part.
  test: {test:.12f}
"""


def write(
    name: str,
    out: Path,
    source: Path | None = None,
    partial: bool = False,
    counts: Mapping[str, Mapping[str, int]] = COUNTS,
) -> Path:
    """Write MIND as an event log, an impression log, an item table and their schema.

    Args:
        name: `mind-small` or `mind-large`.
        out: the directory to write; it appears whole or not at all.
        source: a directory with the publisher's folders, `MINDsmall_train` and `MINDsmall_dev` (`MINDlarge_...`).
        partial: fewer lines than published are accepted.
        counts: the published numbers of each data set.

    Returns:
        The path of the schema, for `lum prepare`.
    """
    with (
        whole_directory(out, "log") as draft,
        TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):
        lines = _read(connection, name, source, Path(scratch), partial, counts[name])
        save(connection.sql(NEWS), draft / "items.parquet", f"news.tsv of {name}")
        read_parquet(connection, draft / "items.parquet").create_view("news")
        connection.execute(f"CREATE TABLE earliest AS {EARLIEST}")
        boundaries = connection.sql(BOUNDARIES).fetchall()[0]
        before = [(0, 0, 0)]
        for first in range(1, lines + 1, LINES_PER_FILE):
            for table, query in (("impressions", IMPRESSIONS), ("events", EVENTS)):
                path = draft / table / f"part-{first // LINES_PER_FILE:03}.parquet"
                path.parent.mkdir(exist_ok=True)
                some = connection.sql(query.format(first=first, last=first + LINES_PER_FILE - 1))
                save(some, path, f"behaviors.tsv of {name}")
                read_parquet(connection, path).create_view(table, replace=True)
            before += connection.execute(BEFORE, boundaries).fetchall()
        valid, test = _fractions(name, *(sum(column) for column in zip(*before, strict=True)))
        (draft / "schema.yaml").write_text(SCHEMA.format(name=name, valid=valid, test=test), encoding="utf-8")
    return Path(out) / "schema.yaml"


def _read(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Path | None,
    scratch: Path,
    partial: bool,
    counts: Mapping[str, int],
) -> int:
    """Make the views `lines` (line, user, time, history, shown, dev), `news_train` and `news_dev`.

    Returns:
        The number of lines.
    """
    publisher = PUBLISHERS[name]
    names = [f"{FOLDERS[name]}_{part}/{file}" for part in PARTS for file in ("behaviors.tsv", "news.tsv")]
    files = locate(publisher, names, source, scratch)
    if len(set(files.values())) < len(names):
        raise InputError(
            f"{source}: is one part of {name}; give the directory with the folders of both, such as {names[0]}"
        )

    def load(file: str, columns: Mapping[str, str], picked: str, view: str) -> int:
        raw = read_csv(connection, [files[file]], columns, header=False, delimiter="\t", quote="")
        path = scratch / f"{view}.parquet"
        rows = save(raw.project("row_number() OVER () AS number, *").project(picked), path, str(files[file]))
        read_parquet(connection, path).create_view(view)
        return rows

    lines = 0
    for part in PARTS:
        behaviors, news = (f"{FOLDERS[name]}_{part}/{file}" for file in ("behaviors.tsv", "news.tsv"))
        picked = LINES.format(before=lines, dev=part == "dev")
        found = {
            f"{part} lines": load(behaviors, LINE_COLUMNS, picked, f"lines_{part}"),
            f"{part} news": load(news, NEWS_COLUMNS, ARTICLES, f"news_{part}"),
        }
        lines += found[f"{part} lines"]
        users, first = connection.sql(f"SELECT count(DISTINCT user), min(time) FROM lines_{part}").fetchall()[0]
        found[f"{part} users"] = users
        for what in (what for what in found if what in counts):
            check_count(publisher, news if "news" in what else behaviors, what, found[what], counts[what], partial)
        if first is not None and first < WEEK.timestamp():
            raise InputError(
                f"{files[behaviors]}: an impression of {datetime.fromtimestamp(first, UTC)}; "
                f"those of {name} begin on {WEEK:%d %B %Y}; get the file again"
            )
    connection.sql("FROM lines_train UNION ALL FROM lines_dev").create_view("lines")
    return lines


def _fractions(name: str, train: int, train_and_valid: int, events: int) -> tuple[float, float]:
    """The fractions of the events at which validation and test begin, from the numbers of events before each and of all."""
    if not 0 < train < train_and_valid < events:
        raise InputError(
            f"{name}: of {events:,} clicks {train:,} are before the last day of the training part and "
            f"{train_and_valid:,} before the dev part; all three periods need some, so give more lines"
        )
    # Half an event more: the event at this fraction is then the first of its period, however the product is rounded.
    return (train + 0.5) / events, (train_and_valid + 0.5) / events
