"""Amazon reviews: the formats of three years on a few artificial lines, and the real Beauty 5-core if a copy exists."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openlum.bench.settings import bench_file, load_bench
from openlum.errors import InputError
from openlum.prepare.run import prepare
from openlum.sources import public
from openlum.sources.public import amazon
from tests.sources.public.schemas import checked_schema

RATINGS = "A2,B1,5.0,1400000000\nA1,B2,1.0,1300000000\nA1,B1,4.0,1200000000\n"
REVIEWS = [
    {"reviewerID": "A2", "asin": "B1", "overall": 5.0, "reviewText": "fine\n", "unixReviewTime": 1400000000},
    {"reviewerID": "A1", "asin": "B2", "overall": 1.0, "unixReviewTime": 1300000000},
    {"reviewerID": "A1", "asin": "B1", "overall": 4.0, "unixReviewTime": 1200000000},
]
EVENTS = [
    {"user_id": "A2", "item_id": "B1", "rating": 5.0, "timestamp": 1400000000, "category": "Hair Care"},
    {"user_id": "A1", "item_id": "B2", "rating": 1.0, "timestamp": 1300000000, "category": None},
    {"user_id": "A1", "item_id": "B1", "rating": 4.0, "timestamp": 1200000000, "category": "Hair Care"},
]
# The metadata of 2014 was written with Python's repr and is not JSON. B3 has no review, B2 has no metadata.
META_2014 = [
    {"asin": "B3", "title": "Never"},
    {
        "asin": "B1",
        "title": 'Bob\'s "best" \ud83d',
        "brand": "Bob",
        "salesRank": {"Beauty": 7},
        "categories": [["Beauty", "Hair Care", "Shampoos"], ["Beauty", "Sets"]],
    },
]


def write_gzip(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


def rows(log: Path, table: str) -> list[dict[str, object]]:
    records: list[dict[str, object]] = pq.read_table(log / f"{table}.parquet").to_pylist()
    return records


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with the ratings, 5-core and metadata of a category of 2014."""
    directory = tmp_path / "source"
    write_gzip(directory / "meta_Toys_and_TV.json.gz", [repr(row) for row in META_2014])
    write_gzip(directory / "reviews_Toys_and_TV_5.json.gz", [json.dumps(row) for row in REVIEWS])
    (directory / "ratings_Toys_and_TV.csv").write_text(RATINGS)
    return directory


@pytest.mark.parametrize("name", ["amazon-2014-toys_and_tv", "amazon-2014-Toys_and_TV", "amazon-2014-toys_and_tv_5"])
def test_2014_becomes_a_log(source: Path, tmp_path: Path, name: str) -> None:
    schema = public.write(name, tmp_path / "log", source)
    assert rows(tmp_path / "log", "events") == EVENTS
    with_metadata, without_metadata = rows(tmp_path / "log", "items")
    assert with_metadata == {
        "item_id": "B1",
        "title": 'Bob\'s "best" ?',
        "brand": "Bob",
        "categories": ["Beauty", "Hair Care", "Shampoos", "Sets"],
        "category": "Hair Care",
    }
    assert without_metadata == {"item_id": "B2", "title": None, "brand": None, "categories": [], "category": None}
    settings = checked_schema(schema)
    assert settings.name == name
    assert [field for field, spec in settings.events.condition.items() if spec.feedback] == ["rating"]
    assert (settings.events.time_unit, settings.time_fields) == ("s", ["weekday", "gap"])


def test_2018_becomes_a_log(tmp_path: Path) -> None:
    meta = {"asin": "B1", "title": "T", "brand": "Bob", "category": ["Books", "Hair Care"], "rank": "1 in Books"}
    write_gzip(tmp_path / "source" / "Books.json.gz", [json.dumps(row) for row in REVIEWS])
    write_gzip(
        tmp_path / "source" / "meta_Books.json.gz", [json.dumps(row) for row in (meta, meta | {"brand": "Other"})]
    )
    checked_schema(amazon.write("amazon-2018-books", tmp_path / "log", tmp_path / "source"))
    assert rows(tmp_path / "log", "events") == EVENTS
    assert rows(tmp_path / "log", "items")[0]["brand"] == "Bob"  # the first of two records


def test_2023_becomes_a_log(tmp_path: Path) -> None:
    reviews = [
        {"user_id": "A1", "asin": "V1", "parent_asin": "B1", "rating": 5.0, "timestamp": 1588687728923},
        {"user_id": "A1", "asin": "V2", "parent_asin": "B2", "rating": 2.0, "timestamp": 1588687728924},
    ]
    meta = [
        {"parent_asin": "B1", "title": "T", "store": "Bob", "categories": [], "main_category": "All Beauty"},
        {"parent_asin": "B2", "title": None, "store": None, "categories": ["Beauty", "Hair"], "average_rating": 4.8},
    ]
    write_gzip(tmp_path / "raw" / "review_categories" / "All_Beauty.jsonl.gz", [json.dumps(row) for row in reviews])
    write_gzip(tmp_path / "raw" / "meta_categories" / "meta_All_Beauty.jsonl.gz", [json.dumps(row) for row in meta])
    schema = checked_schema(amazon.write("amazon-2023-all_beauty", tmp_path / "log", tmp_path / "raw"))
    assert (schema.events.time_unit, schema.time_fields) == ("ms", ["hour", "weekday", "gap"])
    events = rows(tmp_path / "log", "events")
    assert [(row["item_id"], row["timestamp"]) for row in events] == [("B1", 1588687728923), ("B2", 1588687728924)]
    assert [row["category"] for row in events] == ["All Beauty", "Hair"]


def test_a_table_of_attributes_replaces_the_metadata(source: Path, tmp_path: Path) -> None:
    items = {"item_id": ["B1", "B2", "B3"], "attribute_ids": [[7, 9], [9], []]}
    pq.write_table(pa.table(items), source / "items.parquet")
    checked_schema(amazon.write("amazon-2014-toys_and_tv", tmp_path / "log", source))
    categories = {row["item_id"]: (row["categories"], row["category"]) for row in rows(tmp_path / "log", "items")}
    assert categories == {"B1": (["7", "9"], "9"), "B2": (["9"], "9")}  # most items have 9
    pq.write_table(pa.table({"item_id": ["B1"]}), source / "items.parquet")
    with pytest.raises(InputError, match=r"items\.parquet: expected Parquet with item_id and attribute_ids"):
        amazon.write("amazon-2014-toys_and_tv", tmp_path / "log", source)


def test_each_review_has_negatives_that_are_items_of_other_users(source: Path, tmp_path: Path) -> None:
    reviews = [("A1", "B1", 5, 10), ("A1", "B2", 5, 20), ("A2", "B3", 5, 10), ("A2", "B4", 5, 20), ("A2", "B4", 5, 20)]
    lines = "".join(f"{user},{item},{rating},{time}\n" for user, item, rating, time in reviews)
    (source / "ratings_Toys_and_TV.csv").write_text(lines)
    schema = checked_schema(public.write("amazon-2014-toys_and_tv", tmp_path / "log", source, negatives=2))
    assert schema.impressions is not None
    assert schema.impressions_from_events is None
    assert list(schema.events.condition) == ["category"]  # all ratings are the same
    impressions = rows(tmp_path / "log", "impressions")
    assert [row["row"] for row in impressions] == list(range(12))  # the repeated review counts once
    groups = [impressions[start : start + 3] for start in range(0, 12, 3)]
    assert [(group[0]["user_id"], group[0]["item_id"], group[0]["timestamp"]) for group in groups] == [
        ("A1", "B1", 10), ("A2", "B3", 10), ("A1", "B2", 20), ("A2", "B4", 20),
    ]  # fmt: skip
    items_of_others = {"A1": {"B3", "B4"}, "A2": {"B1", "B2"}}
    for group in groups:
        assert [row["label"] for row in group] == [1, 0, 0]
        assert {row["item_id"] for row in group[1:]} == items_of_others[str(group[0]["user_id"])]
        assert len({(row["user_id"], row["timestamp"]) for row in group}) == 1
    categories = {row["item_id"]: row["category"] for row in rows(tmp_path / "log", "items")}
    assert all(row["category"] == categories[row["item_id"]] for row in impressions)


def test_ratings_that_differ_are_a_condition_field_with_negatives(source: Path, tmp_path: Path) -> None:
    (source / "ratings_Toys_and_TV.csv").write_text("A1,B1,5.0,10\nA2,B2,1.0,20\n")
    schema = checked_schema(public.write("amazon-2014-toys_and_tv", tmp_path / "log", source, negatives=1))
    assert list(schema.events.condition) == ["category", "rating"]
    assert [row["label"] for row in rows(tmp_path / "log", "impressions")] == [1, 0, 1, 0]  # independent of the rating


def test_more_negatives_than_items_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a user has 2 of the 2 items, which leaves fewer than 3 negatives"):
        public.write("amazon-2014-toys_and_tv", tmp_path / "log", source, negatives=3)
    assert not (tmp_path / "log").exists()


def test_wrong_counts_are_refused_if_published_counts_exist(source: Path, tmp_path: Path) -> None:
    counts = {"amazon-2014-Toys_and_TV": {"reviews": 3, "users": 2, "items": 2}}
    amazon.write("amazon-2014-toys_and_tv", tmp_path / "log", source, counts=counts)
    counts["amazon-2014-Toys_and_TV"]["users"] = 5
    with pytest.raises(InputError, match=r"ratings_Toys_and_TV\.csv: 2 users, but the original .* has 5; .*--partial"):
        amazon.write("amazon-2014-toys_and_tv", tmp_path / "new", source, counts=counts)
    amazon.write("amazon-2014-toys_and_tv", tmp_path / "new", source, partial=True, counts=counts)


def test_missing_files_are_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'\.\./Baby' is not a category"):
        amazon.write("amazon-2023-../Baby", tmp_path / "log", source)
    with pytest.raises(InputError, match=r"no review_categories/Baby\.jsonl\.gz, meta_categories/meta_Baby\.jsonl\.gz"):
        amazon.write("amazon-2023-baby", tmp_path / "log", source)
    (source / "meta_Toys_and_TV.json.gz").unlink()
    with pytest.raises(
        InputError, match=r"no meta_Toys_and_TV\.json\.gz .*lum data amazon-2014-toys_and_tv --from DIR"
    ):
        amazon.write("amazon-2014-toys_and_tv", tmp_path / "log", source)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'asin': __import__('os').getcwd()}", r"line 2: not in the publisher's format"),
        ('{"asin": "B1"', r"line 2: not in the publisher's format"),
        ("[1]", r"line 2: .*expected an object, found list"),
        ("", r"line 2: not in the publisher's format"),
        ("{'title': 'T'}", r"line 2: has no 'asin'"),
        ("(" * 10_000, r"line 2: not in the publisher's format"),
    ],
)
def test_broken_lines_are_named(source: Path, tmp_path: Path, line: str, message: str) -> None:
    write_gzip(source / "meta_Toys_and_TV.json.gz", [repr(META_2014[0]), line])
    with pytest.raises(InputError, match=r"meta_Toys_and_TV\.json\.gz, " + message):
        amazon.write("amazon-2014-toys_and_tv", tmp_path / "log", source)
    assert not (tmp_path / "log").exists()


def test_a_truncated_file_is_refused(source: Path, tmp_path: Path) -> None:
    whole = (source / "reviews_Toys_and_TV_5.json.gz").read_bytes()
    (source / "reviews_Toys_and_TV_5.json.gz").write_bytes(whole[:-12])
    with pytest.raises(InputError, match=r"reviews_Toys_and_TV_5\.json\.gz: cannot be read to the end"):
        amazon.write("amazon-2014-toys_and_tv_5", tmp_path / "log", source)


def test_the_real_beauty_data(real_sources: Path, tmp_path: Path) -> None:
    source = real_sources / "amazon-beauty"
    with pytest.raises(InputError, match="198,502 reviews, but the original of amazon-2014-beauty has 2,023,070"):
        public.write("amazon-2014-beauty", tmp_path / "log", source)
    schema = public.write("amazon-2014-beauty", tmp_path / "log", source, partial=True)
    items = rows(tmp_path / "log", "items")
    attributes = {
        str(row["item_id"]): row["attribute_ids"] for row in pq.read_table(source / "items.parquet").to_pylist()
    }
    assert {row["item_id"]: row["categories"] for row in items} == {
        item: [str(id) for id in ids] for item, ids in attributes.items()
    }
    info = prepare(schema, tmp_path / "dataset")
    assert (info.counts["events"], info.counts["users"], info.counts["items"]) == (198_502, 22_363, 12_101)
    assert sum(info.impressions.values()) == 198_502
    assert not info.rejected


def test_the_real_beauty_data_with_negatives(real_sources: Path, tmp_path: Path) -> None:
    data = load_bench(bench_file("amazon-beauty")).experiment.data
    assert data.public is not None
    source = real_sources / "amazon-beauty"
    schema = public.write(data.public, tmp_path / "log", source, data.partial, data.negatives)
    impressions = pq.read_table(tmp_path / "log" / "impressions.parquet")
    assert impressions.num_rows == 5 * 198_502
    reviews = pq.read_table(tmp_path / "log" / "events.parquet", columns=["user_id", "item_id"])
    pairs = set(zip(*reviews.to_pydict().values(), strict=True))
    table = impressions.select(["user_id", "item_id", "label"]).to_pydict().values()
    assert all(((user, item) in pairs) == bool(label) for user, item, label in zip(*table, strict=True))
    info = prepare(schema, tmp_path / "dataset")
    assert sum(info.impressions.values()) == 5 * 198_502
    assert [spec.name for spec in info.condition] == ["category", "weekday", "gap"]
    assert not info.rejected
