"""A table that was never prepared: its own rows, and its users, items, times and conditions by the rules of `lum prepare`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openlum.config import Settings
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.file_format import DateOrder, TimeUnit
from openlum.prepare.canonical_expression import canonical_expression
from openlum.prepare.conversion import SECOND, Column, feature_columns
from openlum.prepare.earlier_dataset import EarlierDataset
from openlum.prepare.engines.engine import FILE_NUMBER, ROW_NUMBER, Engine
from openlum.prepare.engines.opening import open_engine
from openlum.prepare.features import Encoder, encode_columns
from openlum.prepare.impressions import condition_without_feedback
from openlum.prepare.inputs.csv_rows import MALFORMED, open_csv
from openlum.prepare.inputs.files import TableFiles, check_columns, column_names, read_error, unreadable
from openlum.prepare.inputs.paths import find_files, is_parquet, partition_columns
from openlum.prepare.row_checks import POSITION, CheckedTable, RowChecker
from openlum.schema import EngineSettings, EventTable, Schema

KEYS = ("user", "item", "time")


class LogColumns(Settings):
    """The names of a log's columns, and how they write times."""

    user: str
    """Column of the user id."""
    time: str
    """Column of the time: a timestamp, a date in a usual spelling, or a number in `time_unit`."""
    item: str | None = None
    """Column of the item id."""
    time_unit: TimeUnit = "s"
    """Unit of numeric times since 1970, as in a schema."""
    date_order: DateOrder | None = None
    """Order of day and month in dates such as 01/02/1995, as in a schema."""


@dataclass(frozen=True)
class OutsideLog:
    """The rows of a log that was never prepared."""

    files: list[Path]
    """The files, in order."""
    keys: pa.Table
    """One row for each row of the log, in order: `user` and `item` (canonical text), `second` (since 1970). If a dataset was
    given: `user_id` and `item_id` (0 if the dataset does not have it), and `condition.FIELD`, encoded as in the dataset. Without
    an item column there is neither `item` nor `item_id`."""
    missing_fields: list[str]
    """Condition fields of the dataset that are known before the item and have no column in the log."""

    def rows(self, size: int) -> Iterator[pa.Table]:
        """Yield all columns of the log, `size` rows at a time. Columns of CSV files are text."""
        kinds = pa.unify_schemas([_schema(file) for file in self.files], promote_options="permissive")
        waiting = kinds.empty_table()
        for file in self.files:
            for table in _tables(file, size):
                waiting = pa.concat_tables([waiting, _in_schema(table, kinds)])
                while len(waiting) >= size:
                    yield waiting[:size]
                    waiting = waiting[size:]
        if len(waiting):
            yield waiting

    @property
    def column_names(self) -> list[str]:
        """The names of all columns of the log."""
        return list(dict.fromkeys(name for file in self.files for name in column_names(file)))


def read_outside_log(path: str, columns: LogColumns, dataset: Dataset | None, scratch: Path) -> OutsideLog:
    """Return the rows of a log.

    Args:
        path: a file, a directory or a pattern, Parquet or CSV.
        columns: names of its columns.
        dataset: that encodes conditions and ids. Its schema names the columns of the conditions.
        scratch: directory for intermediate files.

    Raises:
        InputError: a file cannot be read, a column is missing, or a row has no user, no item or no time that can be used. The
            message names the first such row.
    """
    files = find_files(Path(), path)
    named = {name: column for name in KEYS if (column := getattr(columns, name)) is not None}
    common = set.intersection(*({*column_names(file), *partition_columns(file)} for file in files))
    for file in files:
        check_columns(str(file), list(named.values()), [*column_names(file), *partition_columns(file)])
    fields = condition_without_feedback(dataset.info.data_schema) if dataset else {}
    known = {name: field for name, field in fields.items() if (field.column or name) in common}
    checked_columns = [
        Column("user", columns.user, "identity"),
        *([Column("item", columns.item, "identity")] if columns.item else []),
        Column("time", columns.time, "row_time", time_unit=columns.time_unit, date_order=columns.date_order),
        *feature_columns("condition", known),
    ]
    table = EventTable(path=path, user=columns.user, item=columns.item or columns.user, time=columns.time)
    sources: list[TableFiles] = []
    with open_engine(EngineSettings(), scratch) as engine, _named_damage(engine, sources):
        checker = RowChecker(engine, Schema(name="log", events=table, max_rejected=1), Path(), scratch, sources, {})
        checked = checker.check_table("impressions", path, checked_columns)
        _check_rows(engine, checked, checker, named)
        keys = _keys(engine, checked, dataset)
    return OutsideLog(files, keys, [name for name in fields if name not in known])


def _keys(engine: Engine, checked: CheckedTable, dataset: Dataset | None) -> pa.Table:
    """Return `OutsideLog.keys`."""
    rows = checked.rows.drop("reason")
    rows = rows.mutate(second=rows["time"] // SECOND).drop("time")
    texts = [name for name in ("user", "item") if name in rows.columns]
    rows = rows.mutate(**{name: canonical_expression(rows[name]) for name in texts})
    if dataset is not None:
        earlier = EarlierDataset(engine, dataset)
        rows = rows.mutate(**{f"{name}_id": rows[name] for name in texts})
        ids = FieldSpec(name="id", type="categorical")
        encoders = [Encoder(f"{name}_id", ids, earlier.vocabulary(f"{name}s")) for name in texts]
        encoders += earlier.encoders("condition").values()
        rows = encode_columns(engine.materialize("keys", rows), encoders, key=POSITION)
    return engine.fetch(rows.order_by(POSITION)).drop_columns([POSITION])


def _check_rows(engine: Engine, checked: CheckedTable, checker: RowChecker, named: Mapping[str, str]) -> None:
    """Raise an `InputError` if a row cannot be used."""
    faulty = checked.rows.filter(checked.rows["reason"].notnull())
    first = engine.fetch_rows(faulty.order_by(POSITION).limit(1).select(POSITION, "reason"))
    if not first:
        return
    raw = checked.raw.filter(checked.raw[POSITION] == first[0][POSITION])
    row = engine.fetch_rows(raw.select(FILE_NUMBER, ROW_NUMBER, *(name for name in KEYS if name in raw.columns)))[0]
    values = (
        ""
        if first[0]["reason"].startswith(MALFORMED)
        else " (" + ", ".join(f"{column} {row[role]!r}" for role, column in named.items()) + ")"
    )
    reasons = "; ".join(f"{reason.partition(': ')[2]} ({n:,})" for reason, n in checker.reasons.items())
    raise InputError(
        f"{checked.source.files[row[FILE_NUMBER]].path}: row {row[ROW_NUMBER]:,}{values}: {first[0]['reason']}; in all, "
        f"{sum(checker.reasons.values()):,} of {checked.source.rows:,} rows cannot be used: {reasons}. Correct these rows or "
        "remove them; if the times are right, name their unit (--time-unit) or the order of day and month (--date-order)"
    )


@contextmanager
def _named_damage(engine: Engine, sources: Sequence[TableFiles]) -> Iterator[None]:
    """Turn a failure of the engine into an `InputError` if a file is damaged."""
    try:
        yield
    except engine.failures:
        for file in (file for source in sources for file in source.files):
            if reason := read_error(file):
                raise unreadable(file.path, reason) from None
        raise


def _schema(file: Path) -> pa.Schema:
    """Return the columns of a file and their types."""
    if is_parquet(file):
        return pq.read_schema(file).remove_metadata()
    return pa.schema([(name, pa.string()) for name in column_names(file)])


def _tables(file: Path, size: int) -> Iterator[pa.Table]:
    """Yield the rows of a file, some at a time."""
    if is_parquet(file):
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(size):
                yield pa.Table.from_batches([batch])
    else:
        with open_csv(file) as opened:
            names = opened.dialect.columns
            for rows in opened.rows(names):
                yield rows.table.select(names)


def _in_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table in another order and in wider types of columns; a column that it lacks is null."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
