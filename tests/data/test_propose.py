"""`lum schema`: what is guessed of a log, and that every complete guess is a schema."""

import csv
import gzip
import random
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openlum.cli import main
from openlum.config import load_settings, parse_settings
from openlum.data.market import MarketSettings, write_market
from openlum.data.prepare import prepare
from openlum.data.propose import Proposal, propose
from openlum.data.propose.names import ITEM, USER, reaction
from openlum.data.propose.sample import take_sample
from openlum.errors import InputError
from openlum.schema import ImpressionRule, Schema

SHARED = Path(__file__).parents[3] / "shared" / "data"
KUAIRAND = [
    SHARED / "kuairand-pure" / f"{name}.parquet"
    for name in ("log_standard_20220425_20220508", "video_features_basic_pure", "user_features_pure")
]
ROWS = 600


def read(proposal: Proposal) -> Schema:
    assert proposal.missing == []
    return parse_settings(yaml.safe_load(proposal.text), Schema, where="proposal")


def write(path: Path, **columns: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def log(path: Path, **columns: Any) -> str:
    """An event log of 600 rows, in which columns may be replaced or added."""
    rng = np.random.default_rng(0)
    common = {
        "user_id": rng.integers(1, 50, ROWS),
        "item_id": rng.integers(1, 80, ROWS),
        "timestamp": 1_700_000_000 + np.sort(rng.integers(0, 10**6, ROWS)),
    }
    return write(path, **(common | columns))


def line(proposal: Proposal, start: str) -> str:
    """The line of the proposal that begins so, whatever its indent."""
    found = [text.strip() for text in proposal.text.splitlines() if text.strip().startswith(start)]
    assert found, f"no line '{start}' in:\n{proposal.text}"
    return found[0]


def off(proposal: Proposal, field: str) -> str:
    """The comment of a field that is commented out, or the line above where it did not fit."""
    lines = [text.strip() for text in proposal.text.splitlines()]
    place = next(place for place, text in enumerate(lines) if text.startswith(f"# {field}:"))
    return lines[place] if "#" in lines[place][1:] else lines[place - 1]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(MarketSettings(users=200, items=200, sessions=5), tmp_path_factory.mktemp("m") / "log").parent


@pytest.fixture(scope="module")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the publisher's CSV."""
    folder, rng = tmp_path_factory.mktemp("ml-like"), random.Random(1)
    with (folder / "ratings.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["userId", "movieId", "rating", "timestamp"])
        for row in range(3000):
            out.writerow([row // 50 + 1, rng.randint(1, 200), rng.randint(1, 10) / 2, 1_100_000_000 + 97 * row])
    with (folder / "movies.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["movieId", "title", "genres"])
        for movie in range(1, 190):
            genres = rng.sample(["Action", "Drama", "Comedy", "Sci-Fi"], rng.randint(1, 3))
            out.writerow([movie, f'Movie, "The {movie}" (19{movie % 90 + 10})', "|".join(genres)])
    return folder


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As a data frame is written by who does not think of readers."""
    path, rng = tmp_path_factory.mktemp("messy") / "export.csv", random.Random(2)
    names = ["", "Customer ID", "SKU", "Created At", "Price (EUR)", "Event Type", "Note", "qty", "Session ID", "const"]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        out = csv.writer(file)
        out.writerow([*names, "yes", "discount", "gap"])
        for row in range(2000):
            moment = datetime(2024, 1, 1) + timedelta(minutes=7 * row)
            price = "" if rng.random() < 0.1 else f"{rng.lognormvariate(3, 1.2):.2f}"
            note = " ".join(rng.choices(["nice", "bad\nline", 'so "so"', "thanks", "a", "lot"], k=9))
            kind = rng.choice(["view", "view", "add_to_cart", "purchase"])
            ids = f"C{rng.randint(1, 90):05d}", f"{rng.randint(1, 99):06d}"
            rest = f"{rng.randint(1, 5)}.0", f"{rng.getrandbits(128):032x}", "web", rng.choice(["true", "false"])
            out.writerow(
                [row, *ids, moment.isoformat() + "Z", price, kind, note, *rest, rng.choice(["0.1", "nan"]), row % 9]
            )
    return str(path)


def market_tables(market: Path) -> tuple[str, str, str, str]:
    events, items, users, shown = (str(market / f"{n}.parquet") for n in ("events", "items", "users", "impressions"))
    return events, items, users, shown


def test_market_is_proposed_as_its_maker_would(market: Path) -> None:
    schema, truth = read(propose(*market_tables(market))), load_settings(market / "schema.yaml", Schema)
    assert schema.items and schema.users and schema.impressions and truth.items and truth.impressions  # noqa: PT018
    assert (schema.events.user, schema.events.item, schema.events.time) == ("user_id", "item_id", "time")
    assert schema.events.condition == truth.events.condition
    assert (schema.items.id, schema.items.title, schema.items.complete) == ("item_id", "title", True)
    assert schema.items.features.keys() == truth.items.features.keys()
    assert schema.items.features["category"].type == "categorical"
    assert (schema.items.features["price"].type, schema.items.features["price"].buckets) == ("numeric", 20)
    assert schema.users.features.keys() == {"age_group", "city"}
    assert (schema.impressions.label, schema.impressions.row) == ("label", "row")
    assert schema.impressions.context == truth.impressions.context
    assert schema.impressions_from_events is None


def test_movielens_csv(movielens: Path) -> None:
    proposal = propose(str(movielens / "ratings.csv"), items=str(movielens / "movies.csv"))
    schema = read(proposal)
    assert (schema.events.user, schema.events.item, schema.events.time) == ("userId", "movieId", "timestamp")
    assert schema.events.time_unit == "s"
    assert schema.events.condition["rating"].type == "categorical"
    assert schema.events.condition["rating"].feedback
    assert schema.impressions_from_events == ImpressionRule(field="rating", at_least=4)
    assert schema.items is not None
    assert (schema.items.id, schema.items.title) == ("movieId", "title")
    assert (schema.items.features["genres"].type, schema.items.features["genres"].max_values) == ("multi", 3)
    assert not schema.items.complete, "movies 190 to 200 are not in the table"
    assert "true refuses them" in line(proposal, "complete:")


def test_messy_csv(messy: str) -> None:
    proposal = propose(messy)
    schema = read(proposal)
    assert (schema.events.user, schema.events.item, schema.events.time) == ("Customer ID", "SKU", "Created At")
    fields = schema.events.condition
    assert fields.keys() == {"Price _EUR_", "Event Type", "qty", "yes", "discount", "gap_column"}
    assert (fields["Price _EUR_"].column, fields["Price _EUR_"].type) == ("Price (EUR)", "numeric")
    assert fields["Event Type"].feedback
    assert fields["qty"].type == "categorical"  # 1.0 to 5.0
    assert fields["gap_column"].column == "gap"  # a time field has the name
    assert "always 'web'" in off(proposal, "const")
    assert "free text" in off(proposal, "Note")
    assert "number of the row" in off(proposal, "unnamed 1")
    assert "every row has its own" in off(proposal, "Session ID")
    assert "missing" in line(proposal, "Price _EUR_:")
    assert "#   values: [purchase]" in proposal.text


def test_proposals_prepare(market: Path, movielens: Path, messy: str, tmp_path: Path) -> None:
    named = tmp_path / "messy.csv"
    named.write_bytes(Path(messy).read_bytes().replace(b"\xef\xbb\xbf,", b"Unnamed: 0,", 1))
    tables: dict[str, tuple[str, ...]] = {
        "market": market_tables(market),
        "movielens": (str(movielens / "ratings.csv"), str(movielens / "movies.csv")),
        "messy": (str(named),),
    }
    if KUAIRAND[0].is_file():
        tables["kuairand"] = tuple(map(str, KUAIRAND))
    for name, paths in tables.items():
        (tmp_path / f"{name}.yaml").write_text(propose(*paths, root=tmp_path).text)
        info = prepare(tmp_path / f"{name}.yaml", tmp_path / name)
        assert info.counts["events"] > 0.95 * info.counts["events_in"], name
        assert (sum(info.impressions.values()) > 0) == (name != "messy"), name


def test_kuairand_log_is_its_own_impressions() -> None:
    if not KUAIRAND[0].is_file():
        pytest.skip("needs KuaiRand-Pure in ../shared/data")
    events, items, users = map(str, KUAIRAND)
    schema = read(propose(events, items, users))
    assert (schema.events.user, schema.events.item, schema.events.time) == ("user_id", "video_id", "time_ms")
    assert schema.events.time_unit == "ms"
    feedback = {name for name, field in schema.events.condition.items() if field.feedback}
    assert feedback >= {"is_click", "is_like", "is_hate", "long_view", "play_time_ms"}
    assert schema.events.condition.keys() - feedback == {"duration_ms", "tab"}
    assert schema.impressions_from_events == ImpressionRule(field="is_click", at_least=1)
    assert schema.items is not None
    assert schema.items.id == "video_id"
    assert schema.items.features["upload_dt"].type == "time"
    assert schema.users is not None
    assert schema.users.features["fans_user_num"].buckets == 20
    schema = read(propose(events, items, users, impressions=events))
    assert schema.impressions is not None
    assert schema.impressions.label == "is_click"
    assert schema.impressions.context == {}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (1_700_000_000 + np.arange(ROWS), "s"),
        ((1_700_000_000 + np.arange(ROWS)) * 10**3, "ms"),
        ((1_700_000_000 + np.arange(ROWS)) * 10**6, "us"),
        (1.7e9 + np.arange(ROWS) / 3, "s"),
    ],
)
def test_unit_of_time_is_guessed_from_its_size(tmp_path: Path, values: np.ndarray, expected: str) -> None:
    schema = read(propose(log(tmp_path / "log.parquet", timestamp=values)))
    assert schema.events.time_unit == expected


@pytest.mark.parametrize(
    "values",
    [
        (1_700_000_000 + np.arange(ROWS)) * 10**9,  # nanoseconds
        np.full(ROWS, 20_240_101),  # a date as a number
        [f"{day % 28 + 1}/02/2024" for day in range(ROWS)],
    ],
)
def test_what_prepare_can_not_read_as_time_is_left_open(tmp_path: Path, values: Any) -> None:
    proposal = propose(log(tmp_path / "log.parquet", timestamp=values))
    assert proposal.missing == ["events.time"]
    assert line(proposal, "time:").startswith("time: ???")
    assert "choose one of: timestamp" in line(proposal, "time:")


def test_dates_give_no_hour(tmp_path: Path) -> None:
    days = pa.array(np.arange(ROWS) % 50 + 19_000, pa.int32()).cast(pa.date32())
    schema = read(propose(log(tmp_path / "log.parquet", timestamp=days)))
    assert (schema.time_fields, schema.gap_unit) == (["weekday", "gap"], "d")


def test_roles_without_telling_names_are_left_open(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = "".join(f"{row % 50};{'xyzwv'[row % 5]};{row / 7}\n" for row in range(300))
    path.write_text("a;b;c\n" + rows)
    proposal = propose(str(path))
    assert proposal.missing == ["events.user", "events.item", "events.time"]
    assert line(proposal, "user:").startswith("user: ???")
    assert line(proposal, "user:").endswith("choose one of: a, b")
    yaml.safe_load(proposal.text)


def test_tables_tell_which_column_is_meant(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    events = log(tmp_path / "log.parquet", content=rng.integers(1, 30, ROWS))  # `item_id` is something else here
    items = write(tmp_path / "items.parquet", content=np.arange(1, 31), genre=["a", "b", "c"] * 10)
    schema = read(propose(events, items=items))
    assert schema.items is not None
    assert (schema.events.item, schema.items.id) == ("content", "content")
    write(
        tmp_path / "log2.parquet",
        who=rng.integers(1, 9, ROWS),
        what=rng.integers(1, 9, ROWS),
        ts=1.7e9 + np.arange(ROWS),
    )
    users = write(tmp_path / "users.parquet", who=np.arange(1, 10))
    items = write(tmp_path / "items2.parquet", what=np.arange(1, 10))
    schema = read(propose(str(tmp_path / "log2.parquet"), items=items, users=users))
    assert (schema.events.user, schema.events.item) == ("who", "what")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([[0.1, 0.2, 0.3, 0.4]] * ROWS), {"type": "vector", "width": 4}),
        (pa.array([[0.5, 0.25]] * ROWS, pa.list_(pa.float32(), 2)), {"type": "vector", "width": 2}),
        (["0.1|0.2|0.3"] * ROWS, {"type": "vector", "width": 3}),
        ([["a", "b"], ["c"], []] * (ROWS // 3), {"type": "multi", "max_values": 2}),
        ([[1, 2, 3], [4]] * (ROWS // 2), {"type": "multi", "max_values": 3}),
        (["red|blue", "red"] * (ROWS // 2), {"type": "multi", "max_values": 2}),
        (np.arange(ROWS) % 7, {"type": "categorical"}),
        (np.arange(ROWS) % 7 + 0.0, {"type": "categorical"}),
        ([str(n % 90) + ".5" for n in range(ROWS)], {"type": "numeric"}),
        (np.random.default_rng(0).lognormal(3, 2, ROWS), {"type": "numeric", "buckets": 20}),
        (np.random.default_rng(0).normal(size=ROWS), {"type": "numeric"}),
        ([True, False] * (ROWS // 2), {"type": "categorical"}),
        (["02139", "00501", "10001"] * (ROWS // 3), {"type": "categorical"}),
        (["2024-02-01", "2024-03-05 12:00:01"] * (ROWS // 2), {"type": "time"}),
        (pa.array(np.arange(ROWS) * 86_400, pa.timestamp("ms", "UTC")), {"type": "time"}),
        (pa.array(["a", "b", None] * (ROWS // 3)).dictionary_encode(), {"type": "categorical"}),
    ],
)
def test_types_of_features(tmp_path: Path, column: Any, expected: dict[str, Any]) -> None:
    items = write(tmp_path / "items.parquet", item_id=np.arange(ROWS), feature=column)
    schema = read(propose(log(tmp_path / "log.parquet"), items=items))
    assert schema.items is not None
    found = schema.items.features["feature"].model_dump(exclude_unset=True)
    assert found == expected


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ([1.0, float("nan")] * (ROWS // 2), "are refused"),
        ([None] * ROWS, "no value"),
        (["same"] * ROWS, "always 'same'"),
        ([f"row {n}" for n in range(ROWS)], "every row has its own"),
        ([{"a": 1}] * ROWS, "of a type that"),
        ([[0.5] * (n % 3) for n in range(ROWS)], "one length"),
        ([f"word {n} and many more words" for n in range(ROWS)], "free text"),
    ],
)
def test_useless_columns_are_commented_out(tmp_path: Path, column: Any, why: str) -> None:
    wide = np.random.default_rng(0).normal(size=ROWS)
    values = column if why != "are refused" else np.where(np.arange(ROWS) % 2, wide, np.nan)
    items = write(tmp_path / "items.parquet", item_id=np.arange(ROWS), feature=values, other=wide)
    proposal = propose(log(tmp_path / "log.parquet"), items=items)
    schema = read(proposal)
    assert schema.items is not None
    assert schema.items.features.keys() == {"other"}
    assert why in off(proposal, "feature")


def test_a_table_without_useful_columns_is_valid(tmp_path: Path) -> None:
    items = write(tmp_path / "items.parquet", item_id=np.arange(ROWS), source=["x"] * ROWS)
    schema = read(propose(log(tmp_path / "log.parquet", note=["x"] * ROWS), items=items))
    assert schema.items is not None
    assert schema.items.features == schema.events.condition == {}


def test_many_values_get_a_hint(tmp_path: Path) -> None:
    brand = [f"brand {n % 1500}" for n in range(3000)]
    items = write(tmp_path / "items.parquet", item_id=np.arange(3000), brand=brand)
    proposal = propose(log(tmp_path / "log.parquet"), items=items)
    assert line(proposal, "# min_count: 5")
    assert line(proposal, "# hash_rows: 16384")
    uncommented = proposal.text.replace("# hash_rows", "hash_rows")
    schema = parse_settings(yaml.safe_load(uncommented), Schema, where="proposal")
    assert schema.items is not None
    assert schema.items.features["brand"].hash_rows == 16384


def test_a_line_comes_into_force_without_its_mark(tmp_path: Path) -> None:
    """As the head of the file says."""
    events = log(tmp_path / "log.parquet", watch_time=np.random.default_rng(0).exponential(9, ROWS), const=["x"] * ROWS)
    lines = []
    for text in propose(events).text.splitlines():
        body = text.lstrip()
        keep = (
            not body.startswith("# ") or ":" not in body.split("  #")[0] or body.startswith(("# Proposed", "# To use"))
        )
        lines.append(text if keep else text.replace("# ", "", 1))
    schema = parse_settings(yaml.safe_load("\n".join(lines)), Schema, where="proposal")
    assert schema.events.condition.keys() == {"watch_time", "const"}
    assert schema.impressions_from_events is not None
    assert schema.impressions_from_events.field == "watch_time"
    assert schema.max_user_events


def test_impressions_know_no_feedback_and_every_condition(tmp_path: Path) -> None:
    flag, page = np.arange(ROWS) % 2, ["home", "search"] * (ROWS // 2)
    events = log(tmp_path / "log.parquet", page=page, channel=page, rating=flag + 1)
    shown = log(tmp_path / "shown.parquet", page=page, clicked=flag, dwell_time=flag * 7 + 1, slot=np.arange(ROWS) % 4)
    proposal = propose(events, impressions=shown)
    schema = read(proposal)
    assert schema.impressions is not None
    assert schema.impressions.label == "clicked"
    assert schema.impressions.context.keys() == {"slot"}
    assert "give the label away" in off(proposal, "dwell_time")
    assert schema.events.condition.keys() == {"page", "rating"}
    assert "not in the impressions" in off(proposal, "channel")


@pytest.mark.parametrize(
    "name",
    ["rating", "is_click", "Clicked", "liked", "watch_time", "playTimeMs", "event_type", "behavior", "purchased"],
)
def test_feedback_is_known_by_name(name: str) -> None:
    assert reaction(name)


@pytest.mark.parametrize(
    "name", ["price", "position", "query", "category", "event_id", "device", "user_age", "scenario"]
)
def test_what_is_known_beforehand_is_no_feedback(name: str) -> None:
    assert reaction(name) is None


def test_actions_are_known_by_their_values(tmp_path: Path) -> None:
    kind = ["clicks", "carts", "orders", "clicks"] * (ROWS // 4)
    assert read(propose(log(tmp_path / "log.parquet", type=kind))).events.condition["type"].feedback


def test_names_that_clash_stay_apart(tmp_path: Path) -> None:
    schema = read(propose(log(tmp_path / "log.parquet", **{"a?": ["x", "y"] * 300, "a!": ["u", "v"] * 300})))
    assert {field.column for field in schema.events.condition.values()} == {"a?", "a!"}


def test_rows_come_from_all_over_the_table(tmp_path: Path) -> None:
    count = 40_000
    table = pa.table({"n": np.arange(count)})
    pq.write_table(table, tmp_path / "n.parquet", row_group_size=1000)
    with (tmp_path / "n.csv").open("w") as file:
        file.write("n\n" + "".join(f"{n}\n" for n in range(count)))
    for name in ("n.parquet", "n.csv"):
        sample = take_sample(str(tmp_path / name), 2000)
        values = np.array(sample.table["n"].to_pylist(), int)
        assert 1900 <= len(values) <= 2100, name
        assert len(set(values)) == len(values), name
        assert (np.histogram(values, 10, (0, count))[0] > 0).all(), name
    assert take_sample(str(tmp_path / "n.parquet"), 2000).rows == count
    assert take_sample(str(tmp_path / "n.parquet"), count).whole


def test_directories_patterns_and_gzip(tmp_path: Path) -> None:
    for day in range(3):
        log(tmp_path / "log" / f"2024-{day}.parquet")
    text = "user,item,time\n" + "".join(f"{n % 9},{n % 7},{1_700_000_000 + n}\n" for n in range(300))
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(text.encode()))
    for path in ("log", "log/2024-*.parquet"):
        proposal = propose(str(tmp_path / path), root=tmp_path)
        assert read(proposal).events.path == path
        assert "1,800 rows in 3 files, all looked at" in proposal.text
    assert read(propose(str(tmp_path / "packed.csv.gz"))).events.item == "item"


def test_values_of_several_lines_do_not_confuse(messy: str) -> None:
    sample = take_sample(messy, 500)
    assert 450 < len(sample.table) <= 500
    assert set(sample.table["const"].to_pylist()) == {"web"}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12), max_size=4, unique=True),
    st.lists(
        st.one_of(st.none(), st.text(max_size=8), st.sampled_from(["1", "2.5", "a|b", "2024-02-31"])),
        min_size=3,
        max_size=30,
    ),
)
@example([".0"], [None, "0", "00"])
def test_any_names_and_values_make_a_schema(names: list[str], values: list[str | None]) -> None:
    rows = len(values)
    columns: dict[str, Any] = {
        "user_id": list(range(rows)),
        "item_id": ["i"] * rows,
        "timestamp": [1_700_000_000] * rows,
    }
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in names if name != "."]  # pyarrow cannot name it
        path = write(Path(folder) / "log.parquet", **(dict.fromkeys(names, pa.array(values, pa.string())) | columns))
        proposal = propose(path)
    if not proposal.missing:
        schema = read(proposal)
        assert all((field.column or name) in names for name, field in schema.events.condition.items())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.parquet", None, "no such file"),
        ("none-*.parquet", None, "no file fits this pattern"),
        ("bad.parquet", b"PAR1 is not enough", "cannot be read"),
        ("empty.parquet", b"", "cannot be read"),
        ("empty.csv", b"", "is empty"),
        ("head.csv", b"user,item,time\n", "has no rows"),
        ("latin.csv", "user,item,time\nJosé,1,2\n".encode("latin-1"), "not UTF-8"),
        ("late.csv", b"user,item,time\n" + b"a,1,2\n" * 20_000 + b"Jos\xe9,1,2\n", "not UTF-8"),
        ("twice.csv", b"a,a\n1,2\n", "column 'a' is there twice"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", "Expected 2 columns, got 3"),
        ("log.txt", b"a", "expected a file that ends in"),
    ],
)
def test_unreadable_files_are_one_message(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        propose(str(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def lum_schema(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lum", "schema", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_command_prints_absolute_paths_and_writes_relative_ones(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(market.parent)
    arguments = ["log/events.parquet", "--items", "log/items.parquet", "--impressions", "log/impressions.parquet"]
    assert lum_schema(monkeypatch, *arguments) == 0
    printed = parse_settings(yaml.safe_load(capsys.readouterr().out), Schema, where="printed")
    assert printed.events.path == str(market / "events.parquet")
    out = market.parent / "schemas" / "market.yaml"
    assert lum_schema(monkeypatch, *arguments, "--out", "schemas/market.yaml") == 0
    schema = load_settings(out, Schema)
    assert schema.events.path == "../log/events.parquet"
    assert (out.parent / schema.events.path).is_file()
    before = out.read_bytes()
    capsys.readouterr()
    assert lum_schema(monkeypatch, "log/items.parquet", "--out", "schemas/market.yaml") == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert lum_schema(monkeypatch, "log/items.parquet", "--out", "schemas/market.yaml", "--force") == 0
    assert "???" in out.read_text()
    assert "events.user" in capsys.readouterr().err


def test_repeated_rows_raise_what_may_be_refused(tmp_path: Path) -> None:
    once = 1_700_000_000 + np.arange(ROWS) // 60 * 60  # 10 moments
    assert read(propose(log(tmp_path / "log.parquet", user_id=np.arange(ROWS)))).max_rejected == 0.01
    proposal = propose(log(tmp_path / "log.parquet", user_id=["a", "b"] * 300, item_id=["x"] * ROWS, timestamp=once))
    assert read(proposal).max_rejected == 1
    assert "96.7% repeat another" in line(proposal, "max_rejected")


def test_names_of_roles_differ() -> None:
    assert not set(USER) & set(ITEM)
