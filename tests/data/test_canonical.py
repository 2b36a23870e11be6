"""The canonical text of a value: the rule in Python, and the same rule as an expression over columns."""

import datetime as dt
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openlum.data.canonical import canonical_text
from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.prepare.canonical_expression import canonical_expression
from openlum.prepare.engines.engine import ROW_NUMBER, Engine
from openlum.prepare.engines.opening import open_engine
from openlum.schema import EngineSettings

NAN, INF = float("nan"), float("inf")
BERLIN = dt.timezone(dt.timedelta(hours=2))
TEXTS = [
    *("7", "7.0", "-3.00", "-0.0", "-0", "0.0", "007", "007.0", "7.50", "1.10", "1.2.0", "7.", ".0", "+7.0", "1_000", "７.0"),
    *(" 7 ", "7.0\n", "7.0 ", "", "\x00", "é", "x" * 5000, "1" * 400 + ".0", "1e5", "1E5", "1e+05", "1e+16", "1e-07", "1e-7"),
    *("7.000000000000000000e+00", "0.000000000000000000e+00", "1e+999", "1.0E7", "1.2345678E7", "1.5E-7", "1.0E310", "1.0E+20"),
    *("True", "TRUE", "true", "tRUE", "False", "FALSE", "f", "nan", "None", "null", "inf", "True\n", "9.007199254740993e+15"),
]  # fmt: skip
COLUMNS = {
    "text": pa.array(TEXTS),
    "large text": pa.array(TEXTS, pa.large_string()),
    "dictionary": pa.array(TEXTS).dictionary_encode(),
    "float64": pa.array([7.0, -0.0, 0.1, 4.5, 1e-7, -1.5, 0.1 + 0.2, 1 / 3, 123456789.125, 5e-300, None]),
    "large float64": pa.array([1e19, 1e22, 1e23, 1e300, 1e37, 2.0**53, 2.0**63, 2.0**64, -(2.0**70), NAN, INF, -INF]),
    "float32": pa.array(np.array([7, 0.1, 1 / 3, 16777216, 1e10, 6126.15625, 1606438.25, 1e-30, NAN, INF], np.float32)),
    "int8": pa.array([-128, 0, 7], pa.int8()),
    "uint64": pa.array([0, 2**64 - 1], pa.uint64()),
    "flag": pa.array([True, False, None]),
    "decimal": pa.array([Decimal(7_300_000_000_000_000_001), Decimal(10**38 - 1), None], pa.decimal128(38, 0)),
    "price": pa.array([Decimal("7.50"), Decimal("-7.00"), Decimal("0.00"), Decimal("100.05")], pa.decimal128(10, 2)),
    "small": pa.array([Decimal("0.0000000001"), Decimal(0), Decimal("1234567890123456789.5")], pa.decimal128(38, 10)),
    "date": pa.array([dt.date(2025, 12, 31), dt.date(1969, 1, 1)]),
    "date64": pa.array([dt.date(2025, 12, 31)], pa.date64()),
    "row_time": pa.array([dt.datetime(2025, 12, 31), dt.datetime(2025, 12, 31, 5, 7, 9, 500_000)]),
    "zoned": pa.array([dt.datetime(2025, 12, 31, 1, tzinfo=BERLIN)], pa.timestamp("us", "Europe/Berlin")),
    "bytes": pa.array([b"a", b"", b"7.0", "é".encode(), b"\xff\x00"]),
    "fixed bytes": pa.array([b"ab", b"\xff\xff"], pa.binary(2)),
}
"""Columns of every type that all engines read."""


def texts_by(engine: Engine, columns: dict[str, pa.Array], path: Path) -> dict[str, list[str | None]]:
    """Return the canonical texts that an engine computes for columns; shorter columns are filled up with missing values."""
    longest = max(map(len, columns.values()))
    filled = {name: pa.concat_arrays([c, pa.nulls(longest - len(c), c.type)]) for name, c in columns.items()}
    pq.write_table(pa.table(filled), path)
    table = engine.scan(f"texts {path.stem}", [str(path)], list(columns))
    rows = engine.fetch_rows(
        table.select(ROW_NUMBER, **{name: canonical_expression(table[name]) for name in columns}).order_by(ROW_NUMBER)
    )
    return {name: [row[name] for row in rows[: len(column)]] for name, column in columns.items()}


def texts_in_python(columns: dict[str, pa.Array]) -> dict[str, list[str | None]]:
    """Return the same texts from `canonical_text`, for NumPy's floats and for Python's other values."""
    return {
        name: [
            canonical_text(value)
            for value in (c.to_numpy(zero_copy_only=False) if pa.types.is_floating(c.type) else c.to_pylist())
        ]
        for name, c in columns.items()
    }


@pytest.fixture(scope="module")
def duckdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with open_engine(EngineSettings(threads=1), tmp_path_factory.mktemp("duckdb")) as engine:
        yield engine


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(seven, "7") for seven in (7, 7.0, "7", "7.0", np.int8(7), np.float32(7), np.float16(7), Decimal("7.00"), b"7")],
        *[(seven, "7") for seven in (np.array(7), np.str_("7.0"), np.uint64(7), pa.scalar(7))],
        *[(half, "7.5") for half in (7.5, Decimal("7.50"), np.float32(7.5), "7.5")],
        *[(big, "9007199254740993") for big in (2**53 + 1, Decimal(2**53 + 1), "9007199254740993", np.int64(2**53 + 1))],
        *[(true, "true") for true in (True, np.True_, "True", "TRUE", "true")],
        *[(none, None) for none in (None, NAN, np.float32(NAN), Decimal("NaN"), Decimal("sNaN"), pd.NA, pd.NaT)],
        *[(nothing, None) for nothing in ("", b"", np.datetime64("NaT"), np.ma.masked, np.array(None))],
        *[(inf, None) for inf in (INF, -INF, np.float16(INF), Decimal("Infinity"))],
        *[(1e16, "1" + "0" * 16), ("1e+16", "1" + "0" * 16), ("1.0E16", "1" + "0" * 16), (10**16, "1" + "0" * 16)],
        *[(small, "0.0000001") for small in (1e-7, "1e-07", "1.0E-7", Decimal("1E-7"))],
        *[(zero, "0") for zero in (0, -0.0, "-0.0", Decimal("-0.00"), np.float32(-0.0))],
        *[(2**64 - 1, "18446744073709551615"), (np.float32(0.1), "0.1"), (0.1, "0.1"), (1e300, "1" + "0" * 300)],
        *[(as_it_is, as_it_is) for as_it_is in ("007", "1.10", "7.50", "1e5", "1_000", " 7 ", "７", "tRUE", "-0", "nan", "None")],
        (dt.date(2025, 12, 31), "2025-12-31"),
        (np.datetime64("2025-12-31"), "2025-12-31"),
        *[
            (moment, "2025-12-31 05:00:00")
            for moment in (
                dt.datetime(2025, 12, 31, 5),
                dt.datetime(2025, 12, 31, 7, tzinfo=BERLIN),
                pd.Timestamp("2025-12-31 05:00"),
                np.datetime64("2025-12-31T05:00", "ns"),
            )
        ],
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (b"\xff\x00", "ff00"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_canonical_text_of_a_value(value: Any, expected: str | None) -> None:
    assert canonical_text(value) == expected
    assert Vocabulary(["other", expected or "none"]).encode([value]).tolist() == [0 if expected is None else 2]


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {"a": 1},
        (1, 2),
        {1},
        np.array([1, 2]),
        object(),
        dt.time(1),
        1j,
        10**5000,
        Decimal("1E+99999"),
        np.timedelta64(1),
        dt.timedelta(1),
        dt.datetime.min.replace(tzinfo=BERLIN),
        pd.Series([1]),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_value_that_is_not_single_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="is not a single value"):
        canonical_text(value)
    with pytest.raises(InputError):
        Vocabulary(["a"]).encode([value])


def test_every_type_of_column_has_the_canonical_texts_of_python(duckdb: Engine, tmp_path: Path) -> None:
    columns = COLUMNS | {"uuid": pa.array([uuid.UUID(int=2**99).bytes], pa.uuid())}
    expected = texts_in_python(COLUMNS) | {"uuid": [str(uuid.UUID(int=2**99))]}
    assert texts_by(duckdb, columns, tmp_path / "columns.parquet") == expected


def test_half_precision_is_read_as_single_precision(duckdb: Engine, tmp_path: Path) -> None:
    values = np.array([0.1, 7, 65504, 1 / 3, NAN, INF], np.float16)
    texts = texts_by(duckdb, {"half": pa.array(values)}, tmp_path / "half.parquet")["half"]
    assert (
        texts == [canonical_text(value) for value in values] == [canonical_text(np.float32(value)) for value in values]
    )


sign, digits = st.sampled_from(["", "-"]), st.from_regex(r"[0-9]{1,20}", fullmatch=True)
number_like = st.builds(
    "{}{}{}{}".format,
    sign,
    digits,
    st.sampled_from(["", ".", ".0", ".00"]) | digits.map(".{}".format),
    st.sampled_from(["", "e", "e5", "e+05", "e-7", "e+16", "E7", "E-7", "E400", "e+400", "\n", " "]),
)
printed = st.floats().flatmap(lambda v: st.sampled_from([repr(v), f"{v:.1f}", f"{v:.18e}", f"{v:g}", str(v).upper()]))


@settings(max_examples=15, deadline=None)
@given(
    doubles=st.lists(st.floats(), min_size=1, max_size=60),
    fractions=st.lists(st.integers(-(10**9), 10**9).map(lambda n: n / 100), max_size=30),
    singles=st.lists(st.floats(width=32), max_size=60),
    words=st.lists(st.text(st.characters(codec="utf-8"), max_size=8) | number_like | printed, min_size=1, max_size=60),
    decimals=st.lists(st.decimals(-(10**15), 10**15, places=7), max_size=20),
    moments=st.lists(st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)), max_size=20),
    content=st.lists(st.binary(max_size=6), max_size=20),
)
def test_columns_and_python_agree(duckdb: Engine, tmp_path_factory: pytest.TempPathFactory, **values: Any) -> None:
    columns = {
        "doubles": pa.array([*values["doubles"], *values["fractions"]], pa.float64()),
        "singles": pa.array(values["singles"], pa.float32()),
        "words": pa.array(values["words"], pa.string()),
        "decimals": pa.array(values["decimals"], pa.decimal128(38, 7)),
        "moments": pa.array(values["moments"], pa.timestamp("us")),
        "content": pa.array(values["content"], pa.binary()),
    }
    expected = texts_in_python(columns)
    assert texts_by(duckdb, columns, tmp_path_factory.mktemp("drawn") / "columns.parquet") == expected
    assert [[one and canonical_text(one) for one in column] for column in expected.values()] == list(expected.values())


@given(st.floats(-1e300, 1e300).filter(lambda value: value == 0 or abs(value) > 1e-300))
def test_the_canonical_text_of_a_float_parses_to_that_float(value: float) -> None:
    assert float(canonical_text(value) or "") == value
    assert canonical_text(repr(value)) == canonical_text(value)
