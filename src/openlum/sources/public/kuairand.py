"""KuaiRand Pure, 1K and 27K: exposures of short videos and the users' reactions, as an event log.

Chongming Gao, Shijun Li, Yuan Zhang, Jiawei Chen, Biao Li, Wenqiang Lei, Peng Jiang and Xiangnan He. 2022. KuaiRand: An Unbiased
Sequential Recommendation Dataset with Randomly Exposed Videos. CIKM. https://doi.org/10.1145/3511808.3557624. Licence CC BY-SA
4.0.

Definitions:

- an *event* is an exposure in the standard log, clicked or not: user, video, time in milliseconds;
- the *condition* of an event is its scenario (`tab`: the place in the app that showed the video, known before the exposure)
  and the reaction (click, long view, like), which is feedback;
- an *impression* is an exposure in the standard log, with its scenario. The random log has exposures that were chosen at
  random and not by the recommender. It is written to `random.parquet` with the same columns, for an unbiased test: see the
  schema;
- its *label* is 1 if the video was clicked. In tabs that play one video after the other, the label is 1 if the video was
  watched for 7 seconds or to its end.

`video_features_statistic` is left out, because it counts reactions over the whole month, including the test period. The
activity of users (`user_active_degree`, `is_lowactive_period`) is left out, because the publisher does not say when it was
measured.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from duckdb import DuckDBPyConnection

from openlum.artefact.directory import whole_directory
from openlum.errors import InputError
from openlum.sources.public.source import PublishedDataset, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, save

PUBLISHED_DATASETS = {
    f"kuairand-{version.lower()}": PublishedDataset(
        name=f"kuairand-{version.lower()}",
        page="https://kuairand.com",
        archive=f"https://zenodo.org/records/10439422/files/KuaiRand-{version}.tar.gz",
        folder=f"KuaiRand-{version}",
        size=size,
    )
    for version, size in {
        "Pure": "1.4 M exposures, 27 k users, 8 k videos",
        "1K": "12 M exposures, 1 k users, 4 M videos",
        "27K": "322 M exposures, 27 k users, 32 M videos",
    }.items()
}

STANDARD = {
    "pure": ("log_standard_4_08_to_4_21_pure", "log_standard_4_22_to_5_08_pure"),
    "1k": ("log_standard_4_08_to_4_21_1k", "log_standard_4_22_to_5_08_1k"),
    "27k": tuple(f"log_standard_{days}_27k_part{part}" for days in ("4_08_to_4_21", "4_22_to_5_08") for part in (1, 2)),
}
"""Version to the files of the standard log."""

COUNTS: dict[str, dict[str, int]] = {
    "kuairand-pure": {"exposures": 1_436_609, "random exposures": 1_186_059, "users": 27_285, "videos": 7_583},
    "kuairand-1k": {"exposures": 11_713_045, "random exposures": 43_028, "users": 1_000},
    "kuairand-27k": {"exposures": 322_278_385, "random exposures": 1_186_059, "users": 27_285},
}
"""Counts on the publisher's page."""

LOG = {
    "user_id": "BIGINT",
    "video_id": "BIGINT",
    "time_ms": "BIGINT",
    "tab": "INTEGER",
    **dict.fromkeys(
        ("is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward", "is_hate"), "INTEGER"
    ),
    "play_time_ms": "BIGINT",
}
"""Columns of a log that are read."""

RANGES = ("follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range")
USER = {
    "user_id": "BIGINT",
    **dict.fromkeys(("is_live_streamer", "is_video_author"), "INTEGER"),
    **dict.fromkeys(RANGES, "VARCHAR"),
    **{f"onehot_feat{i}": "INTEGER" for i in range(18)},
}
VIDEO = {
    "video_id": "BIGINT",
    "author_id": "BIGINT",
    "video_type": "VARCHAR",
    "upload_dt": "VARCHAR",
    "upload_type": "VARCHAR",
    "video_duration": "BIGINT",
    "music_id": "BIGINT",
    "music_type": "INTEGER",
    "tag": "VARCHAR",
}

SCHEMA = """\
# KuaiRand (Gao et al. 2022), written by `lum data {name}`.

# Name of the data set.
name: {name}

# The behaviour log: one row per exposure of the standard log, with the reaction.
events:
  # Parquet or CSV, relative to this file.
  path: events.parquet
  # Column of the user id.
  user: user_id
  # Column of the item id.
  item: video_id
  # Column of the time.
  time: time_ms
  # Unit of the time since 1970.
  time_unit: ms
  # The condition fields of an event. The table also has the rare reactions is_follow, is_comment, is_forward and is_hate,
  # and the play time.
  condition:
    # The scenario: the place in the app that showed the video.
    tab:
      # One id per scenario.
      type: categorical
    # 1 if the video was clicked; in tabs without clicks, if it was played for 7 seconds or to its end.
    is_click:
      # One id per value.
      type: categorical
      # The user's reaction: unknown when a video is ranked.
      feedback: true
    # 1 if the video was played for 18 seconds or to its end.
    long_view:
      # One id per value.
      type: categorical
      # The user's reaction.
      feedback: true
    # 1 if the user pressed "like".
    is_like:
      # One id per value.
      type: categorical
      # The user's reaction.
      feedback: true

# The item table: one row per video. It has no statistics, because the publisher's cover the whole month and so the test
# period.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: video_id
  # The features of a video.
  features:
    # The author of the video.
    author_id:
      # One id an author.
      type: categorical
      # Rarer values become unknown.
      min_count: 2
    # NORMAL or AD.
    video_type:
      # One id per value.
      type: categorical
    # The way in which the video was made.
    upload_type:
      # One id per value.
      type: categorical
    # The upload date.
    upload_time:
      # Days, standardised.
      type: time
      # Column of the date.
      column: upload_dt
    # The length in milliseconds; unknown for some videos.
    video_duration:
      # One id per bucket.
      type: numeric
      # Number of buckets, with equally many videos in each.
      buckets: 20
    # The music of the video.
    music_id:
      # One id per piece.
      type: categorical
      # Rarer values become unknown.
      min_count: 5
    # The topics of the video, as the publisher's numbers.
    tag:
      # A list of categories.
      type: multi
      # Largest number of values that are kept per video.
      max_values: 4

# The user table: one row per user.
users:
  # Parquet or CSV, relative to this file.
  path: users.parquet
  # Column of the user id.
  id: user_id
  # The features of a user: ranges of counts, and features whose meaning the publisher does not disclose.
  features:
{users}
# The impression log: each exposure of the standard log. For a test without the bias of the publisher's recommender, change
# the path to random.parquet, which has exposures that were chosen at random (if the publisher's random log was available).
impressions:
  # Parquet or CSV, relative to this file.
  path: events.parquet
  # Column of the user id.
  user: user_id
  # Column of the item id.
  item: video_id
  # Column of the time, in the unit of the events.
  time: time_ms
  # Column of the label, 0 or 1.
  label: is_click

# Time fields that are known when a question is asked. Hours are UTC, which is 8 hours behind the users' local time.
time_fields: [hour, weekday, gap]

# Unit of the gaps between events, which are whole numbers.
gap_unit: s

# The publisher's log repeats some exposures (2.6 % of the second half of Pure). `lum prepare` rejects repeated rows, up to
# this part of a table.
max_rejected: 5%

# One global time split: validation and test begin at these fractions of the time-ordered events.
splits:
  # The first 80 % of the events are training.
  valid: 0.8
  # The last 10 % of the events are test.
  test: 0.9
"""

USER_FEATURE = """\
    # One id per value.
    {}: {{type: categorical}}
"""


def write(
    name: str,
    out: Path,
    source: Path | None = None,
    partial: bool = False,
    counts: Mapping[str, Mapping[str, int]] = COUNTS,
) -> Path:
    """Write a version of KuaiRand as logs, an item table and a user table, and return the path of their schema.

    Args:
        name: `kuairand-pure`, `kuairand-1k` or `kuairand-27k`.
        out: the directory to write; it appears complete or not at all.
        source: a directory with the publisher's folder `data`, or that folder; by default, the archive is downloaded.
        partial: whether to accept fewer rows than were published, and missing files of the logs; at least one file of the
            standard log is needed.
        counts: published counts: version to unit to count.
    """
    dataset, version = PUBLISHED_DATASETS[name], name.removeprefix("kuairand-")
    standard = [f"data/{file}.csv" for file in STANDARD[version]]
    random, users, videos = (
        f"data/{file}_{version}.csv" for file in ("log_random_4_22_to_5_08", "user_features", "video_features_basic")
    )
    with (
        whole_directory(out, "log") as draft,
        tempfile.TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):
        logs = [*standard, random]
        files = locate(dataset, [*logs, users, videos], source, Path(scratch), optional=logs)
        _check_logs(dataset, files, standard, logs, partial)
        actual_counts = {
            "exposures": _save_log(connection, files, standard, draft / "events.parquet"),
            "random exposures": _save_log(connection, files, [random], draft / "random.parquet"),
            "users": save(read_csv(connection, [files[users]], USER), draft / "users.parquet", users),
            "videos": save(
                read_csv(connection, [files[videos]], VIDEO).project("* REPLACE (string_split(tag, ',') AS tag)"),
                draft / "items.parquet",
                videos,
            ),
        }
        origins = {"exposures": "the standard log", "random exposures": random, "users": users, "videos": videos}
        for unit, published in counts[name].items():
            check_count(dataset, origins[unit], unit, actual_counts[unit], published, partial)
        features = "".join(USER_FEATURE.format(column) for column in USER if column != "user_id")
        (draft / "schema.yaml").write_text(SCHEMA.format(name=name, users=features), encoding="utf-8")
    return Path(out) / "schema.yaml"


def _check_logs(
    dataset: PublishedDataset, files: Mapping[str, Path], standard: list[str], logs: list[str], partial: bool
) -> None:
    """Raise an error if files of the logs are missing and `partial` does not allow it."""
    missing = [log for log in logs if log not in files]
    if missing and not partial:
        raise InputError(
            f"no {', '.join(missing)}; get the other files of {dataset.name} from {dataset.page}, "
            "or use the available files with --partial"
        )
    if not any(log in files for log in standard):
        raise InputError(f"no file of the standard log; expected at least one of {', '.join(standard)}")


def _save_log(connection: DuckDBPyConnection, files: Mapping[str, Path], names: list[str], path: Path) -> int:
    """Write the available files of a log as one table and return its number of rows."""
    available = [files[name] for name in names if name in files]
    return save(read_csv(connection, available, LOG), path, " or ".join(names)) if available else 0
