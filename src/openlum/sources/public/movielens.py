"""MovieLens 1M, 20M and 25M: ratings of movies, as an event log.

F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM Transactions on
Interactive Intelligent Systems 5, 4, Article 19. https://doi.org/10.1145/2827872. For research only; see the README of
each data set for its terms.

Definitions:

- an *event* is one rating: user, movie, time in seconds;
- the *condition* of an event is the rating, 1 to 5 (in 20M and 25M, 0.5 to 5 in steps of 0.5). It is feedback: known after
  the event, but not when a movie is ranked;
- an *impression* is a rated movie, at the time of the rating: the data set does not record which movies were shown;
- its *label* is 1 if the rating is 4 or more.

20M and 25M have tags that users gave to movies at any time. The feature `tags` has only the tags of the training period (the
first part `TRAINING` of the time-ordered ratings), so that it does not leak the future of validation and test. The tag
genome is left out, because it was computed from the ratings and tags of the whole period.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from duckdb import DuckDBPyConnection, DuckDBPyRelation

from openlum.artefact.directory import whole_directory
from openlum.sources.public.source import PublishedDataset, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PUBLISHED_DATASETS = {
    name: PublishedDataset(
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
"""Counts in the publisher's README."""

TRAINING = 0.8
"""`splits.valid` of the schema. Later tags are left out."""

HEAD = """\
# MovieLens (Harper and Konstan 2015), written by `lum data {name}`.

# Name of the data set.
name: {name}

# The behaviour log: one row per rating, in the publisher's order of rows, which is not ordered by time.
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
  # The condition fields of an event.
  condition:
    # The rating in stars, up to 5.
    rating:
      # One id per value.
      type: categorical
      # The user's reaction: unknown when a movie is ranked.
      feedback: true

# The item table: one row per movie. Some movies have no rating.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: movie_id
  # Column of the title.
  title: title
  # The features of a movie.
  features:
    # The genres of the movie.
    genres:
      # A list of categories.
      type: multi
      # Largest number of values that are kept per movie. No movie of 1M has more than six.
      max_values: {genres}
    # The year of release, from the title.
    year:
      # One id per year.
      type: categorical
"""

TAGS = """\
    # Tags that users gave before the validation period, in descending order of their number of users. They assume
    # splits.valid: 0.8; with an earlier validation period, they would leak the future.
    tags:
      # A list of categories.
      type: multi
      # Largest number of values that are kept per movie.
      max_values: 10
      # Rarer tags become unknown.
      min_count: 5
"""

USERS = """\

# The user table: one row per user.
users:
  # Parquet or CSV, relative to this file.
  path: users.parquet
  # Column of the user id.
  id: user_id
  # The features of a user. The table also has `region`, the first digit of the ZIP code.
  features:
    # F or M.
    gender:
      # One id per value.
      type: categorical
    # The lower end of the age range, one of seven.
    age:
      # One id per range.
      type: categorical
    # The occupation, one of 21, as the publisher's number.
    occupation:
      # One id an occupation.
      type: categorical
"""

REST = """\

# The data set has no impression log: each rating becomes an impression, labelled by whether the user liked the movie.
impressions_from_events:
  # The condition field that decides the label.
  field: rating
  # The label is 1 if the field is at least this value.
  at_least: 4

# Time fields that are known when a question is asked. None is finer than a day: users rate many movies in one visit to the
# site, so hours, minutes and seconds between ratings depend more on the website than on the user's interests.
time_fields: [weekday, gap]

# Unit of the gaps between events: whole days, for the same reason.
gap_unit: d

# One global time split: validation and test begin at these fractions of the time-ordered events.
splits:
  # The first 80 % of the events are training.
  valid: 0.8
  # The last 10 % of the events are test.
  test: 0.9
"""


def write(
    name: str,
    out: Path,
    source: Path | None = None,
    partial: bool = False,
    counts: Mapping[str, Mapping[str, int]] = COUNTS,
) -> Path:
    """Write a MovieLens data set as an event log, an item table and (1M) a user table, and return the path of their schema.

    Args:
        name: `ml-1m`, `ml-20m` or `ml-25m`.
        out: the directory to write; it appears complete or not at all.
        source: a directory with the publisher's files (`ratings.dat`, `movies.dat` and `users.dat`, or `ratings.csv`,
            `movies.csv` and `tags.csv`), or with a folder of these files that has the name of the data set; by default, the
            files are downloaded.
        partial: whether to accept fewer rows than were published.
        counts: published counts: data set to unit to count.
    """
    dataset, is_1m = PUBLISHED_DATASETS[name], name == "ml-1m"
    write_tables = _write_1m if is_1m else _write_with_tags
    with (
        whole_directory(out, "log") as draft,
        tempfile.TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):
        for unit, (file, count) in write_tables(dataset, connection, draft, source, Path(scratch)).items():
            check_count(dataset, file, unit, count, counts[name][unit], partial)
        schema = HEAD.format(name=name, genres=6 if is_1m else 10) + (USERS if is_1m else TAGS) + REST
        (draft / "schema.yaml").write_text(schema, encoding="utf-8")
    return Path(out) / "schema.yaml"


FileCounts = dict[str, tuple[str, int]]
"""Unit to its file and its count."""

MOVIE = r"""movie_id, title, string_split(genres, '|') AS genres,
    nullif(regexp_extract(title, '\((\d{4})\)\s*$', 1), '')::INTEGER AS year"""


def _write_1m(
    dataset: PublishedDataset, connection: DuckDBPyConnection, draft: Path, source: Path | None, scratch: Path
) -> FileCounts:
    """Write the tables of 1M, whose files are Latin-1 with fields separated by '::', and return their counts."""
    files = locate(dataset, ["ratings.dat", "movies.dat", "users.dat"], source, scratch)

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


def _write_with_tags(
    dataset: PublishedDataset, connection: DuckDBPyConnection, draft: Path, source: Path | None, scratch: Path
) -> FileCounts:
    """Write the tables of 20M or 25M, whose files are CSV with a header and without a user table, and return their counts."""
    files = locate(dataset, ["ratings.csv", "movies.csv", "tags.csv"], source, scratch)

    def save_view(file: str, columns: dict[str, str], projection: str, path: Path) -> int:
        count = save(read_csv(connection, [files[file]], columns).project(projection), path, file)
        read_parquet(connection, path).create_view(path.stem)
        return count

    rating = {"userId": "BIGINT", "movieId": "BIGINT", "rating": "DOUBLE", "timestamp": "BIGINT"}
    ratings = save_view(
        "ratings.csv", rating, "userId AS user_id, movieId AS movie_id, rating, timestamp", draft / "events.parquet"
    )
    movie = {"movieId": "BIGINT", "title": "VARCHAR", "genres": "VARCHAR"}
    movies = save_view("movies.csv", movie, f"movieId AS {MOVIE}", scratch / "movies.parquet")
    tag = {"userId": "BIGINT", "movieId": "BIGINT", "tag": "VARCHAR", "timestamp": "BIGINT"}
    tags = save_view("tags.csv", tag, "userId, movieId, lower(trim(tag)) AS tag, timestamp", scratch / "tags.parquet")

    # `lum prepare` splits by the same rule.
    valid_time = f"SELECT timestamp FROM events ORDER BY timestamp LIMIT 1 OFFSET {int(TRAINING * ratings + 1e-9)}"
    items = connection.sql(f"""
        WITH tag_users AS (
            SELECT movieId AS movie_id, tag, count(DISTINCT userId) AS users FROM tags
            WHERE timestamp < ({valid_time}) AND tag <> '' GROUP BY ALL
        ), movie_tags AS (
            SELECT movie_id, list(tag ORDER BY users DESC, tag)[:10] AS tags FROM tag_users GROUP BY movie_id
        )
        SELECT movie_id, title, CASE WHEN genres = ['(no genres listed)'] THEN [] ELSE genres END AS genres, year,
            coalesce(tags, []) AS tags
        FROM movies LEFT JOIN movie_tags USING (movie_id) ORDER BY movie_id""")
    save(items, draft / "items.parquet", "movies.csv")
    users = connection.sql("SELECT count(DISTINCT user_id) FROM events").fetchall()[0][0]
    return {
        "ratings": ("ratings.csv", ratings),
        "movies": ("movies.csv", movies),
        "users": ("ratings.csv", users),
        "tags": ("tags.csv", tags),
    }
