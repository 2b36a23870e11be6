"""The conversion of raw values of questions and histories to ids and numbers."""

import datetime as dt
import warnings
from decimal import Decimal

import numpy as np
import pytest

from openlum.data.vocabulary import Vocabulary, hashed_id
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model import Processor

QUERY = FieldSpec(name="query", type="categorical", size=11, hashed=True)
WORDS = FieldSpec(name="words", type="multi", size=11, width=3, hashed=True)
PRICE = FieldSpec(name="price", type="categorical", size=5, edges=[1.0, 2.5, 10.0])
DAY = FieldSpec(name="day", type="numeric", mean=18_000.0, std=10.0, unit="days since 1970")
SEASON = FieldSpec(name="season", type="categorical", size=3, edges=[18_000.25], unit="days since 1970")
NOON = dt.datetime(2019, 4, 14, 12, tzinfo=dt.UTC)
"""Day 18,000."""


def encode(spec: FieldSpec, value: object):
    return Processor(Vocabulary([]), [], {}).encode_conditions([{spec.name: value}], [spec], strict=True)[spec.name][0]


def test_hashed_values_have_the_ids_of_prepare() -> None:
    assert encode(QUERY, "red shoes") == hashed_id("red shoes", 10)
    assert encode(QUERY, 5) == hashed_id("5", 10)
    assert encode(WORDS, ["a", "b"]).tolist() == [hashed_id("a", 10), hashed_id("b", 10), 0]
    assert encode(WORDS, "a").tolist() == [hashed_id("a", 10), 0, 0]
    assert encode(QUERY, True) == encode(QUERY, "TRUE") == hashed_id("true", 10)
    assert encode(QUERY, 5.0) == encode(QUERY, "5.0") == encode(QUERY, Decimal("5.00")) == hashed_id("5", 10)
    assert (
        encode(WORDS, "a|5.0").tolist()
        == encode(WORDS, np.array(["a", "5"])).tolist()
        == encode(WORDS, ["a", 5]).tolist()
    )


def test_only_unknown_items_give_a_warning() -> None:
    processor = Processor(Vocabulary(["7", "8"]), ["(unknown)", "7", "8"], {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert processor.item_ids([7.0, "9"], "of the history").tolist() == [1, 0]
        assert processor.item_ids([], "of the history").tolist() == []
    with pytest.warns(UserWarning, match=r"none of the 4 items of the history: 9, '10', 11\.5 \.\.\."):
        assert processor.item_ids([9, "10", 11.5, "x"], "of the history").tolist() == [0] * 4


@pytest.mark.parametrize(("value", "index"), [(0.5, 1), (1, 1), (1.01, 2), (2.5, 2), ("10", 3), (11, 4), (1e300, 4)])
def test_numbers_fall_into_buckets(value: object, index: int) -> None:
    """The id of a bucket is 1 + the number of edges strictly below the number."""
    assert encode(PRICE, value) == index


@pytest.mark.parametrize(
    "value",
    ["2019-04-14T12:00:00", "2019-04-14 12:00", "2019-04-14T14:00:00+02:00", "2019-04-14T12:00:00Z", NOON, 18_000.5],
)
def test_times_may_be_text_dates_or_days(value: object) -> None:
    assert encode(DAY, value) == pytest.approx(0.05)
    assert encode(SEASON, value) == 2
    assert encode(SEASON, "2019-04-14") == encode(SEASON, NOON.date()) == 1


@pytest.mark.parametrize(
    ("spec", "value", "message"),
    [
        (PRICE, "cheap", "'price': 'cheap' is not a finite number"),
        (PRICE, [1], "is not a finite number"),
        (DAY, "yesterday", "'yesterday' is not an ISO 8601"),
        (QUERY, None, "'query': None"),
    ],
)
def test_the_message_names_a_wrong_value(spec: FieldSpec, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode(spec, value)
