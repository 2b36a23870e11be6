"""MovieLens 1M, 20M and 25M: ratings of movies, as an event log.

F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM Transactions on
Interactive Intelligent Systems 5, 4, Article 19. https://doi.org/10.1145/2827872. For research only; see the README of
each data set for its terms.

What each thing is here:

- an *event* is one rating: user, movie, second;
- the *condition* of an event is the rating, 1 to 5 (in halves from 0.5 in 20M and 25M): feedback, known after the event and
  never when a movie is ranked;
- an *impression* is every rated movie, at the moment when it was rated: the data set has no record of what was shown;
- its *label* is 1 where the rating is 4 or more.

20M and 25M have tags that users gave to movies at any time. A movie's `tags` are only those given in the training period
(before the first `TRAINING` of the time-ordered ratings), so that none speaks of the future of validation and test. The tag
genome is left out: it was computed from the ratings and tags of the whole period.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from duckdb import DuckDBPyConnection, DuckDBPyRelation

from openlum.artefact.directory import whole_directory
from openlum.sources.public.source import Publisher, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PUBLISHERS = {
    name: Publisher(
        name=name,
        page=f"https://grouplens.org/datasets/movielens/{name.removeprefix('ml-')}/",
        archive=f"https://files.grouplens.org/datasets/movielens/{name}.zip",
        folder=name,
        size=size,
    )
    for name, size in {
        "ml-1m": "1 M ratings, 6 k users, 4 k movies",
        "ml-20m": "20 M ratings, 138 k users, 27 k movies",
        "ml-25m": "25 M ratings, 163 k users, 62 k movies",
    }.items()
}

COUNTS: dict[str, dict[str, int]] = {
    "ml-1m": {"ratings": 1_000_209, "movies": 3_883, "users": 6_040},
    "ml-20m": {"ratings": 20_000_263, "movies": 27_278, "users": 138_493, "tags": 465_564},
    "ml-25m": {"ratings": 25_000_095, "movies": 62_423, "users": 162_541, "tags": 1_093_360},
}
"""What the publisher's README counts."""

TRAINING = 0.8
"""`splits.valid` of the schema: tags count up to here."""

HEAD = """\
# MovieLens (Harper and Konstan 2015), written by `lum data {name}`.

# Name of the data set.
name: {name}

# The behaviour log: one row a rating, in the publisher's order of rows, which is not the order of time.
events:
  # Parquet or CSV, relative to this file.
  path: events.parquet
  # Column of the user id.
  user: user_id
  # Column of the item id.
  item: movie_id
  # Column of the time.
  time: timestamp
  # Unit of the time: seconds since 1970.
  time_unit: s
  # Under what condition the event happened.
  condition:
    # The stars that the user gave, up to 5.
    rating:
      # One id a value.
      type: categorical
      # The user's reaction: unknown when a movie is ranked.
      feedback: true

# The item table: one row a movie. Some were never rated.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: movie_id
  # Column of a title for people to read.
  title: title
  # What is known of a movie.
  features:
    # One or more of the publisher's genres.
    genres:
      # A list of categories.
      type: multi
      # Values of a movie that are kept: no movie of 1M has more than six.
      max_values: {genres}
    # Year of release, from the title.
    year:
      # One id a year.
      type: categorical
"""

TAGS = """\
    # Tags that users gave before the validation period, those of most users first. Written for splits.valid: 0.8; with an
    # earlier validation period they would speak of the future.
    tags:
      # A list of categories.
      type: multi
      # Values of a movie that are kept.
      max_values: 10
      # Rarer tags are unknown.
      min_count: 5
"""

USERS = """\

# The user table: one row a user.
users:
  # Parquet or CSV, relative to this file.
  path: users.parquet
  # Column of the user id.
  id: user_id
  # What is known of a user. The table also has `region`, the first digit of the ZIP code.
  features:
    # F or M.
    gender:
      # One id a value.
      type: categorical
    # The lower end of one of seven age ranges.
    age:
      # One id a range.
      type: categorical
    # One of 21 occupations, by the publisher's number.
    occupation:
      # One id an occupation.
      type: categorical
"""

REST = """\

# There is no log of impressions: every rating is one, and its label says whether the user liked the movie.
impressions_from_events:
  # The condition field that makes the label.
  field: rating
  # The label is 1 where the field is at least this.
  at_least: 4

# Time known when a question is asked. Nothing finer than the day: users rate whole pages of movies in one sitting, so
# the hours, minutes and seconds between ratings tell how the site was operated more than what the user wants. Fine gaps
# are not to be trusted.
time_fields: [weekday, gap]

# Gaps between events are counted in whole days, for the same reason.
gap_unit: d

# One global time split: validation and test begin at these fractions of the time-ordered events.
splits:
  # The first 80 % of the events are training.
  valid: 0.8
  # The last 10 % are test.
  test: 0.9
"""


def write(
    name: str,
    out: Path,
    source: Path | None = None,
    partial: bool = False,
    counts: Mapping[str, Mapping[str, int]] = COUNTS,
) -> Path:
    """Write a MovieLens data set as an event log, an item table, for 1M a user table, and their schema.

    Args:
        name: `ml-1m`, `ml-20m` or `ml-25m`.
        out: the directory to write; it appears whole or not at all.
        source: a directory with the publisher's files (`ratings.dat`, `movies.dat`, `users.dat`, or `ratings.csv`, `movies.csv`,
            `tags.csv`), or with a folder of the data set's name that has them; by default they are downloaded.
        partial: fewer rows than the publisher counts are accepted.
        counts: of each data set, by what is counted.

    Returns:
        The path of the schema, for `lum prepare`.
    """
    publisher, is_first = PUBLISHERS[name], name == "ml-1m"
    write_tables = _one_million if is_first else _with_tags
    with (
        whole_directory(out, "log") as draft,
        tempfile.TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):
        for what, (file, found) in write_tables(publisher, connection, draft, source, Path(scratch)).items():
            check_count(publisher, file, what, found, counts[name][what], partial)
        schema = HEAD.format(name=name, genres=6 if is_first else 10) + (USERS if is_first else TAGS) + REST
        (draft / "schema.yaml").write_text(schema, encoding="utf-8")
    return Path(out) / "schema.yaml"


Found = dict[str, tuple[str, int]]
"""What is counted, to its file and number."""

MOVIE = r"""movie_id, title, string_split(genres, '|') AS genres,
    nullif(regexp_extract(title, '\((\d{4})\)\s*$', 1), '')::INTEGER AS year"""


def _one_million(
    publisher: Publisher, connection: DuckDBPyConnection, draft: Path, source: Path | None, scratch: Path
) -> Found:
    """Files of Latin-1 lines, fields joined by '::'."""
    files = locate(publisher, ["ratings.dat", "movies.dat", "users.dat"], source, scratch)

    def read(file: str, **columns: str) -> DuckDBPyRelation:
        return read_csv(connection, [files[file]], columns, header=False, delimiter="::", quote="", encoding="latin-1")

    ratings = read("ratings.dat", user_id="BIGINT", movie_id="BIGINT", rating="BIGINT", timestamp="BIGINT")
    movies = read("movies.dat", movie_id="BIGINT", title="VARCHAR", genres="VARCHAR")
    users = read("users.dat", user_id="BIGINT", gender="VARCHAR", age="BIGINT", occupation="BIGINT", zip="VARCHAR")
    users = users.project("user_id, gender, age, occupation, zip[1] AS region")
    return {
        "ratings": ("ratings.dat", save(ratings, draft / "events.parquet", "ratings.dat")),
        "movies": ("movies.dat", save(movies.project(MOVIE), draft / "items.parquet", "movies.dat")),
        "users": ("users.dat", save(users, draft / "users.parquet", "users.dat")),
    }


def _with_tags(
    publisher: Publisher, connection: DuckDBPyConnection, draft: Path, source: Path | None, scratch: Path
) -> Found:
    """CSV files with a header; what is known of users is only what they rated and tagged."""
    files = locate(publisher, ["ratings.csv", "movies.csv", "tags.csv"], source, scratch)

    def saved(file: str, columns: dict[str, str], projection: str, path: Path) -> int:
        count = save(read_csv(connection, [files[file]], columns).project(projection), path, file)
        read_parquet(connection, path).create_view(path.stem)
        return count

    rating = {"userId": "BIGINT", "movieId": "BIGINT", "rating": "DOUBLE", "timestamp": "BIGINT"}
    ratings = saved(
        "ratings.csv", rating, "userId AS user_id, movieId AS movie_id, rating, timestamp", draft / "events.parquet"
    )
    movie = {"movieId": "BIGINT", "title": "VARCHAR", "genres": "VARCHAR"}
    movies = saved("movies.csv", movie, f"movieId AS {MOVIE}", scratch / "movies.parquet")
    tag = {"userId": "BIGINT", "movieId": "BIGINT", "tag": "VARCHAR", "timestamp": "BIGINT"}
    tags = saved("tags.csv", tag, "userId, movieId, lower(trim(tag)) AS tag, timestamp", scratch / "tags.parquet")

    # The same rule as the split of `lum prepare`.
    ordered = f"SELECT timestamp FROM events ORDER BY timestamp LIMIT 1 OFFSET {int(TRAINING * ratings + 1e-9)}"
    items = connection.sql(f"""
        WITH given AS (
            SELECT movieId AS movie_id, tag, count(DISTINCT userId) AS users FROM tags
            WHERE timestamp < ({ordered}) AND tag <> '' GROUP BY ALL
        ), of_movie AS (
            SELECT movie_id, list(tag ORDER BY users DESC, tag)[:10] AS tags FROM given GROUP BY movie_id
        )
        SELECT movie_id, title, CASE WHEN genres = ['(no genres listed)'] THEN [] ELSE genres END AS genres, year,
            coalesce(tags, []) AS tags
        FROM movies LEFT JOIN of_movie USING (movie_id) ORDER BY movie_id""")
    save(items, draft / "items.parquet", "movies.csv")
    users = connection.sql("SELECT count(DISTINCT user_id) FROM events").fetchall()[0][0]
    return {
        "ratings": ("ratings.csv", ratings),
        "movies": ("movies.csv", movies),
        "users": ("ratings.csv", users),
        "tags": ("tags.csv", tags),
    }
