"""KuaiRand Pure, 1K and 27K: exposures of short videos with the users' reactions.

Chongming Gao, Shijun Li, Yuan Zhang, Jiawei Chen, Biao Li, Wenqiang Lei, Peng Jiang and Xiangnan He. 2022. KuaiRand: An Unbiased
Sequential Recommendation Dataset with Randomly Exposed Videos. CIKM. https://doi.org/10.1145/3511808.3557624. Licence CC BY-SA
4.0.

What each thing is here:

- an *event* is every exposure in the standard log, clicked or not: user, video, millisecond;
- the *condition* of an event is its scenario (`tab`: where in the app the video was shown, known beforehand) and the reaction:
  click, long view, like, all feedback;
- an *impression* is every exposure in the standard log, under its scenario. The random log (exposures that chance, not the
  recommender, chose) is written to `random.parquet` in the same form, for an unbiased test: see the schema;
- its *label* is 1 where the video was clicked; in tabs that play one video after the other, where it was watched for 7 seconds or
  to its end.

`video_features_statistic` is left out: it counts reactions over the whole month, the test period included. So are the
activity of users (`user_active_degree`, `is_lowactive_period`), of which the publisher does not say when it was measured.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from duckdb import DuckDBPyConnection

from openlum.artefact.directory import whole_directory
from openlum.errors import InputError
from openlum.sources.public.source import Publisher, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, save

PUBLISHERS = {
    f"kuairand-{version.lower()}": Publisher(
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
"""The files of the standard log, by version."""

COUNTS: dict[str, dict[str, int]] = {
    "kuairand-pure": {"exposures": 1_436_609, "random exposures": 1_186_059, "users": 27_285, "videos": 7_583},
    "kuairand-1k": {"exposures": 11_713_045, "random exposures": 43_028, "users": 1_000},
    "kuairand-27k": {"exposures": 322_278_385, "random exposures": 1_186_059, "users": 27_285},
}
"""What the publisher's page counts."""

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
"""The columns that are taken of a log."""

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

# The behaviour log: one row an exposure of the standard log, with the reaction.
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
  # Under what condition the event happened. The table also has the rare reactions is_follow, is_comment, is_forward and
  # is_hate, and the time of play.
  condition:
    # The scenario: where in the app the video was shown.
    tab:
      # One id a scenario.
      type: categorical
    # 1 where the video was clicked, or played for 7 seconds or to its end in tabs without clicks.
    is_click:
      # One id a value.
      type: categorical
      # The user's reaction: unknown when a video is ranked.
      feedback: true
    # 1 where the video was played for 18 seconds or to its end.
    long_view:
      # One id a value.
      type: categorical
      # The user's reaction.
      feedback: true
    # 1 where the user pressed "like".
    is_like:
      # One id a value.
      type: categorical
      # The user's reaction.
      feedback: true

# The item table: one row a video. No statistics: the publisher's are of the whole month, the test period included.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: video_id
  # What is known of a video.
  features:
    # Who made it.
    author_id:
      # One id an author.
      type: categorical
      # Rarer ones are unknown.
      min_count: 2
    # NORMAL or AD.
    video_type:
      # One id a value.
      type: categorical
    # How it was made.
    upload_type:
      # One id a value.
      type: categorical
    # When it was uploaded.
    upload_time:
      # Days, standardised.
      type: time
      # Column of the date.
      column: upload_dt
    # Its length in milliseconds; unknown for some.
    video_duration:
      # One id a bucket.
      type: numeric
      # Buckets of equally many videos.
      buckets: 20
    # Its music.
    music_id:
      # One id a piece.
      type: categorical
      # Rarer ones are unknown.
      min_count: 5
    # What the video is about, by the publisher's numbers.
    tag:
      # A list of categories.
      type: multi
      # Values of a video that are kept.
      max_values: 4

# The user table: one row a user.
users:
  # Parquet or CSV, relative to this file.
  path: users.parquet
  # Column of the user id.
  id: user_id
  # What is known of a user: ranges of counts, and features whose meaning the publisher keeps to itself.
  features:
{users}
# The impression log: every exposure of the standard log. For a test without the bias of the recommender that chose the
# videos, write random.parquet here (where the publisher's random log was there): exposures that chance chose.
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

# Time known when a question is asked, as further condition fields. Hours are UTC, 8 behind the users' clocks.
time_fields: [hour, weekday, gap]

# Gaps between events are counted in whole units of this.
gap_unit: s

# The publisher's log repeats some exposures (2.6 % of the second half of Pure), which are refused. At most this part of the rows.
max_rejected: 5%

# One global time split: validation and test begin at these fractions of the time-ordered events.
splits:
  # The first 80 % of the events are training.
  valid: 0.8
  # The last 10 % are test.
  test: 0.9
"""

USER_FEATURE = """\
    # One id a value.
    {}: {{type: categorical}}
"""


def write(
    name: str,
    out: Path,
    source: Path | None = None,
    partial: bool = False,
    counts: Mapping[str, Mapping[str, int]] = COUNTS,
) -> Path:
    """Write a version of KuaiRand as an event log, an item table, a user table, the random exposures, and their schema.

    Args:
        name: `kuairand-pure`, `kuairand-1k` or `kuairand-27k`.
        out: the directory to write; it appears whole or not at all.
        source: a directory with the publisher's folder `data`, or that folder; by default the archive is downloaded.
        partial: some files of the logs may be absent, one of the standard log excepted; and rows.
        counts: of each version, by what is counted.

    Returns:
        The path of the schema, for `lum prepare`.
    """
    publisher, version = PUBLISHERS[name], name.removeprefix("kuairand-")
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
        files = locate(publisher, [*logs, users, videos], source, Path(scratch), optional=logs)
        _check_logs(publisher, files, standard, logs, partial)
        found = {
            "exposures": _save_log(connection, files, standard, draft / "events.parquet"),
            "random exposures": _save_log(connection, files, [random], draft / "random.parquet"),
            "users": save(read_csv(connection, [files[users]], USER), draft / "users.parquet", users),
            "videos": save(
                read_csv(connection, [files[videos]], VIDEO).project("* REPLACE (string_split(tag, ',') AS tag)"),
                draft / "items.parquet",
                videos,
            ),
        }
        origin = {"exposures": "the standard log", "random exposures": random, "users": users, "videos": videos}
        for what, published in counts[name].items():
            check_count(publisher, origin[what], what, found[what], published, partial)
        features = "".join(USER_FEATURE.format(column) for column in USER if column != "user_id")
        (draft / "schema.yaml").write_text(SCHEMA.format(name=name, users=features), encoding="utf-8")
    return Path(out) / "schema.yaml"


def _check_logs(
    publisher: Publisher, files: Mapping[str, Path], standard: list[str], logs: list[str], partial: bool
) -> None:
    absent = [log for log in logs if log not in files]
    if absent and not partial:
        raise InputError(
            f"no {', '.join(absent)}; get the rest of {publisher.name} from {publisher.page}, "
            "or give --partial to take what is there"
        )
    if not any(log in files for log in standard):
        raise InputError(f"no file of the standard log; expected at least one of {', '.join(standard)}")


def _save_log(connection: DuckDBPyConnection, files: Mapping[str, Path], names: list[str], path: Path) -> int:
    """Write those files of a log that are there; returns the number of rows."""
    there = [files[name] for name in names if name in files]
    return save(read_csv(connection, there, LOG), path, " or ".join(names)) if there else 0
