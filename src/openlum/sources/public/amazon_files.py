"""Reader of Amazon's files of reviews and metadata, in the formats of 2014, 2018 and 2023, line by line."""

import ast
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openlum.errors import InputError
from openlum.sources.public.source import PublishedDataset, find


@dataclass(frozen=True)
class Edition:
    """The data format of one year."""

    dataset: PublishedDataset
    """Web page, archive and size of the edition."""
    reviews: str
    """File with all reviews of a category."""
    core: str
    """File with the 5-core: the reviews of users and items that have at least five reviews."""
    items: str
    """File with the metadata."""
    keys: tuple[str, str, str, str]
    """Keys of user, item, rating and time in a review. The key of the item is the same in the metadata."""
    time_unit: str
    """Unit of the time."""
    time_fields: str
    """`time_fields` of the schema: no finer than the recorded time."""
    gap_unit: str
    """`gap_unit` of the schema."""


UCSD = "https://mcauleylab.ucsd.edu/public_datasets/data"

EDITIONS = {
    "2014": Edition(
        PublishedDataset(
            "amazon-2014-CATEGORY",
            "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
            "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/",
            size="83 M reviews in 24 categories",
        ),
        reviews="reviews_{}.json.gz",
        core="reviews_{}_5.json.gz",
        items="meta_{}.json.gz",
        keys=("reviewerID", "asin", "overall", "unixReviewTime"),
        time_unit="s",
        time_fields="[weekday, gap]",
        gap_unit="d",
    ),
    "2018": Edition(
        PublishedDataset(
            "amazon-2018-CATEGORY",
            "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/",
            f"{UCSD}/amazon_v2/",
            size="233 M reviews in 29 categories",
        ),
        reviews="categoryFiles/{}.json.gz",
        core="categoryFilesSmall/{}_5.json.gz",
        items="metaFiles2/meta_{}.json.gz",
        keys=("reviewerID", "asin", "overall", "unixReviewTime"),
        time_unit="s",
        time_fields="[weekday, gap]",
        gap_unit="d",
    ),
    "2023": Edition(
        PublishedDataset(
            "amazon-2023-CATEGORY",
            "https://amazon-reviews-2023.github.io/",
            f"{UCSD}/amazon_2023/raw/",
            size="572 M reviews in 33 categories",
        ),
        reviews="review_categories/{}.jsonl.gz",
        core="review_categories/{}_5.jsonl.gz",
        items="meta_categories/meta_{}.jsonl.gz",
        keys=("user_id", "parent_asin", "rating", "timestamp"),
        time_unit="ms",
        time_fields="[hour, weekday, gap]",
        gap_unit="h",
    ),
}

SPELLING = {"and": "and", "for": "for", "cds": "CDs", "tv": "TV"}
"""Spelling of the words in category names that are not simply capitalised."""

REVIEWS = pa.schema({"user_id": pa.string(), "item_id": pa.string(), "rating": pa.float32(), "timestamp": pa.int64()})
ITEMS = pa.schema(
    {
        "item_id": pa.string(),
        "title": pa.string(),
        "brand": pa.string(),
        "categories": pa.list_(pa.string()),
        "category": pa.string(),
    }
)


def publishers_spelling(category: str) -> str:
    """Return a category in the spelling of the publisher's files; it may be in this spelling already, or in lower case."""
    if not re.fullmatch(r"\w+", category):
        raise InputError(f"'{category}' is not a category; write it as in the publisher's file names, or in lower case")
    if category != category.lower():
        return category
    return "_".join(SPELLING.get(word, word.capitalize()) for word in category.split("_"))


def file_names(edition: Edition, dataset: PublishedDataset, category: str, source: Path | None) -> tuple[str, str]:
    """Return the names of the file of reviews and the file of metadata."""
    metadata = edition.items.format(category.removesuffix("_5"))
    if category.endswith("_5"):
        return edition.core.format(category.removesuffix("_5")), metadata
    ratings = f"ratings_{category}.csv"  # this smaller file has no review texts, which are not used
    if edition is EDITIONS["2014"] and (source is None or find(dataset, ratings, source)):
        return ratings, metadata
    return edition.reviews.format(category), metadata


def write_reviews(edition: Edition, file: Path, path: Path) -> None:
    """Write the reviews of a file as Parquet with the columns of `REVIEWS`."""
    user, item, rating, time = edition.keys
    _write_parquet(
        _records(file, lambda row: (str(row[user]), str(row[item]), float(row[rating]), int(row[time]))), REVIEWS, path
    )


def write_items(edition: Edition, file: Path, path: Path) -> None:
    """Write the metadata of a file as Parquet with the columns of `ITEMS`."""
    _write_parquet(_records(file, _item_parser(edition)), ITEMS, path)


def _item_parser(edition: Edition) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """Return a function from a line of metadata to a row of `ITEMS`."""
    key = edition.keys[1]

    def parse_item(item: dict[str, Any]) -> tuple[Any, ...]:
        paths = item.get("categories") or item.get("category") or []  # 2014: several paths; later: one path
        paths = paths if not paths or isinstance(paths[0], list) else [paths]
        first = paths[0] if paths else []
        category = first[1] if len(first) > 1 else first[0] if first else item.get("main_category")
        categories = [_text(name) for name in dict.fromkeys(chain.from_iterable(paths))]
        brand = item.get("brand") or item.get("store")
        return str(item[key]), _text(item.get("title")), _text(brand), categories, _text(category)

    return parse_item


def _text(value: Any) -> str | None:
    """Return text that UTF-8 can encode: some titles have halves of surrogate pairs, which become `?`."""
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def _records(path: Path, parse_record: Callable[[dict[str, Any]], tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a file with a JSON object or a Python literal in each line.

    Raises:
        InputError: a line has neither or lacks a key, or the file is incomplete.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = parse_record(_parse_line(line))
                except KeyError as key:
                    raise InputError(f"{path}, line {number}: has no {key}; get the file again") from None
                except (ValueError, TypeError, AttributeError, SyntaxError, RecursionError, MemoryError) as error:
                    raise InputError(
                        f"{path}, line {number}: not in the publisher's format ({error}); get the file again"
                    ) from None
                yield row
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read to the end ({error}); get the file again") from None


def _parse_line(line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError:
        parsed = ast.literal_eval(line)  # 2014: the lines were written with Python's repr
    if not isinstance(parsed, dict):
        raise ValueError(f"expected an object, found {type(parsed).__name__}")
    return parsed


def _write_parquet(rows: Iterator[tuple[Any, ...]], schema: pa.Schema, path: Path) -> None:
    """Write rows to Parquet in chunks, so that memory is bounded."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while chunk := list(islice(rows, 50_000)):
            columns = [pa.array(c, t) for c, t in zip(zip(*chunk, strict=True), schema.types, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
