"""MovieLens-1M: a million ratings of movies, as an event log.

F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM Transactions on
Interactive Intelligent Systems 5, 4, Article 19. https://doi.org/10.1145/2827872. For research only; see the README of
the data set for its terms.

What each thing is here:

- an *event* is one rating: user, movie, second;
- the *condition* of an event is the rating, 1 to 5: feedback, known after the event and never when a movie is ranked;
- an *impression* is every rated movie, at the moment when it was rated: the data set has no record of what was shown;
- its *label* is 1 where the rating is 4 or 5.
"""

import io
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from openlum.artefact import whole_directory
from openlum.errors import InputError

URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"

ROWS = {"ratings.dat": 1_000_209, "movies.dat": 3_883, "users.dat": 6_040}
"""The publisher's files and their rows."""

SCHEMA = """\
# MovieLens-1M (Harper and Konstan 2015), written by `lum data ml-1m`.

# Name of the data set.
name: ml-1m

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
    # The stars that the user gave, 1 to 5.
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
    # One or more of 18 genres.
    genres:
      # A list of categories.
      type: multi
      # No movie has more than six.
      max_values: 6
    # Year of release, from the title.
    year:
      # One id a year.
      type: categorical

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


def write(out: Path, source: Path | None = None, rows: Mapping[str, int] = ROWS) -> Path:
    """Write MovieLens-1M as an event log, an item table, a user table and their schema.

    Args:
        out: the directory to write; it appears whole or not at all.
        source: a directory with the publisher's `ratings.dat`, `movies.dat` and `users.dat`, or with a folder `ml-1m`
            that has them; by default they are downloaded.
        rows: the number of rows that each file must have.

    Returns:
        The path of the schema, for `lum prepare`.
    """
    files = _download(tuple(rows)) if source is None else _read(Path(source), tuple(rows))
    ratings = _parse(files, "ratings.dat", ["user_id", "movie_id", "rating", "timestamp"], rows)
    movies = _parse(files, "movies.dat", ["movie_id", "title", "genres"], rows, text=("title", "genres"))
    users = _parse(files, "users.dat", ["user_id", "gender", "age", "occupation", "zip"], rows, text=("gender", "zip"))
    with whole_directory(out) as draft:
        pq.write_table(ratings, draft / "events.parquet")
        pq.write_table(_items(movies), draft / "items.parquet")
        pq.write_table(_users(users), draft / "users.parquet")
        (draft / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    return Path(out) / "schema.yaml"


def _items(movies: pa.Table) -> pa.Table:
    year = pc.struct_field(pc.extract_regex(movies["title"], r"\((?P<year>\d{4})\)\s*$"), "year")
    genres = pc.split_pattern(movies["genres"], "|")
    return movies.set_column(2, "genres", genres).append_column("year", pc.cast(year, pa.int32()))


def _users(users: pa.Table) -> pa.Table:
    return users.drop_columns("zip").append_column("region", pc.utf8_slice_codeunits(users["zip"], 0, 1))


def _parse(
    files: Mapping[str, bytes], name: str, columns: list[str], rows: Mapping[str, int], text: tuple[str, ...] = ()
) -> pa.Table:
    """One '::' separated Latin-1 file as a table, its rows counted."""
    types = {column: pa.string() if column in text else pa.int64() for column in columns}
    try:
        table = csv.read_csv(
            io.BytesIO(files[name].replace(b"::", b"\t")),
            csv.ReadOptions(column_names=columns, encoding="latin-1"),
            csv.ParseOptions(delimiter="\t", quote_char=False),
            csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        raise InputError(f"{name}: expected lines '{'::'.join(columns)}' ({error}); get the file again") from None
    if len(table) != rows[name]:
        raise InputError(f"{name}: {len(table):,} rows, but the original has {rows[name]:,}; get the file again")
    return table


def _read(source: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    directory = next((d for d in (source, source / "ml-1m") if (d / names[0]).is_file()), None)
    if directory is None:
        raise InputError(f"{source}: neither this directory nor its folder 'ml-1m' has {names[0]}; unpack ml-1m.zip")
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise InputError(f"{directory}: no {', '.join(missing)}; unpack the whole of ml-1m.zip there")
    return {name: (directory / name).read_bytes() for name in names}


def _download(names: tuple[str, ...]) -> dict[str, bytes]:
    """The files of the published archive, read in memory: nothing of it is unpacked to disk."""
    try:
        with urllib.request.urlopen(URL, timeout=60) as response:
            archive = zipfile.ZipFile(io.BytesIO(response.read()))
        return {name: archive.read(f"ml-1m/{name}") for name in names}
    except (OSError, urllib.error.URLError) as error:
        raise InputError(
            f"{URL}: cannot be downloaded ({error}); download and unpack it where there is internet, "
            "then give its directory: lum data ml-1m --from DIR"
        ) from None
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"{URL}: not the expected archive ({error}); download it by hand and use --from DIR") from None
