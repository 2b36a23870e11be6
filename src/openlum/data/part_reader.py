"""Reading of the parts of `sequences/` and `impressions/` into arrays. Contradictions in a part are errors that name the part."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openlum.artefact.parts import TypeCheck, damaged, is_integer, is_list_of, is_number, part_files, read_parts
from openlum.data.encoded import any_values, check_ids, column_type, event_offsets, to_numpy
from openlum.data.info import MADE_BY, DatasetInfo
from openlum.data.sequences import Impressions, Sequences
from openlum.data.time_fields import moment_starts
from openlum.field_spec import FieldSpec


def logged_fields(info: DatasetInfo) -> list[FieldSpec]:
    """Return the condition fields that are stored; the time fields are computed."""
    return [spec for spec in info.condition if spec.name not in info.data_schema.time_fields]


def part_names(directory: Path) -> list[str]:
    """Return the names of the parts in a folder: Parquet files, or directories of Parquet files as Spark writes them."""
    if not directory.is_dir():
        return []
    return sorted(entry.name for entry in directory.iterdir() if entry.name.endswith(".parquet") and _is_part(entry))


def _is_part(path: Path) -> bool:
    return not path.name.startswith((".", "_")) and bool(part_files(path))


def event_count(path: Path) -> int:
    """Return the number of events of a part of `sequences/`, which the footers of its files contain.

    Raises:
        InputError: a file is damaged.
    """
    events = 0
    for file in part_files(path):
        try:
            metadata = pq.read_metadata(file)
            paths = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
            column = next(index for index, name in enumerate(paths) if name.split(".")[0] == "item")
            events += sum(metadata.row_group(n).column(column).num_values for n in range(metadata.num_row_groups))
        except (OSError, pa.ArrowException, StopIteration) as error:
            problem = " ".join(str(error).split()) or "it has no column 'item'"
            raise damaged(file, f"cannot be read ({problem})", MADE_BY) from None
    return events


def sequence_columns(info: DatasetInfo) -> dict[str, TypeCheck]:
    """Return the columns of `sequences/`, with the checks of their types."""
    lists = {"item": is_list_of(is_integer), "time": is_list_of(is_integer)}
    lists |= {f"condition.{spec.name}": is_list_of(column_type(spec)) for spec in logged_fields(info)}
    return lists | dict.fromkeys(("user", "valid_at", "test_at"), is_integer)


def to_sequences(table: pa.Table, info: DatasetInfo, path: Path) -> Sequences:
    """Return the rows of `sequences/`, in any order, as arrays.

    Args:
        table: with the columns of `sequence_columns`.
        info: of the dataset.
        path: of the part, for messages.

    Raises:
        InputError: the values contradict each other or `info`.
    """
    lists = [name for name in table.column_names if name not in ("user", "valid_at", "test_at")]
    offsets = event_offsets(table, lists, path)
    user = table["user"].to_numpy()
    order = np.argsort(user, kind="stable")
    events = _event_order(offsets, order)
    user, offsets = user[order], np.concatenate([[0], np.cumsum(np.diff(offsets)[order])])
    time = _values(table, "time").to_numpy().astype(np.int64)[events]
    item = _values(table, "item").to_numpy()
    check_ids(item, largest_id(info, "items", path), path, "item")
    check_ids(user, largest_id(info, "users", path), path, "user")
    if (np.diff(user) == 0).any():
        raise damaged(path, f"has two rows of user {user[:-1][np.diff(user) == 0][0]}", MADE_BY)
    first = np.zeros(len(time), bool)
    first[offsets[:-1][np.diff(offsets) > 0]] = True
    if (np.diff(time, prepend=time[:1])[~first] < 0).any():
        raise damaged(path, "column 'time' is not in ascending order", MADE_BY)
    return Sequences(
        user=user.astype(np.int32),
        offsets=offsets,
        time=time,
        item=item.astype(np.int32)[events],
        condition={
            spec.name: to_numpy(_values(table, f"condition.{spec.name}"), spec, path)[events]
            for spec in logged_fields(info)
        },
        moment_start=moment_starts(time, first).astype(np.int32 if len(time) < 2**31 else np.int64),
        valid_at=table["valid_at"].to_numpy().astype(np.int64)[order],
        test_at=table["test_at"].to_numpy().astype(np.int64)[order],
        time_fields=tuple(info.data_schema.time_fields),
        gap_unit=info.data_schema.gap_unit,
    )


def _values(table: pa.Table, column: str) -> pa.Array:
    """Return the values of a list column, end to end."""
    return table[column].combine_chunks().flatten()


def _event_order(offsets: np.ndarray, order: np.ndarray) -> np.ndarray | slice:
    """Return the index of every event in the order of the users `order`, (N,)."""
    if (order == np.arange(len(order))).all():
        return slice(None)
    lengths = np.diff(offsets)[order]
    return np.repeat(offsets[:-1][order] - np.cumsum(lengths) + lengths, lengths) + np.arange(offsets[-1])


def read_impressions(paths: Sequence[Path], info: DatasetInfo, sequences: Sequences, path: Path) -> Impressions:
    """Read parts of the impressions of a split.

    Args:
        paths: the parts; there may be none.
        info: of the dataset.
        sequences: of the users of the impressions.
        path: of the parts, for messages.

    Raises:
        InputError: a part is damaged.
    """
    stored = [spec for spec in logged_fields(info) if not spec.feedback]
    requests = ["request"] if info.data_schema.has_requests else []
    columns = dict.fromkeys(("row", "user", "time", "item", "prefix", *requests), is_integer) | {"label": is_number}
    columns |= {f"condition.{spec.name}": column_type(spec) for spec in stored}
    columns |= {f"context.{spec.name}": column_type(spec) for spec in info.context}
    tables = [read_parts(part, columns, MADE_BY) for part in paths]
    if tables:
        table = pa.concat_tables(tables, promote_options="permissive").sort_by("row")
    else:
        specs = {f"condition.{spec.name}": spec for spec in stored}
        specs |= {f"context.{spec.name}": spec for spec in info.context}
        kinds = {name: _arrow_type(specs[name]) if name in specs else pa.int64() for name in columns}
        table = pa.schema(list(kinds.items())).empty_table()
    user, time = table["user"].to_numpy().astype(np.int32), table["time"].to_numpy().astype(np.int64)
    prefix = table["prefix"].to_numpy().astype(np.int64)
    check_ids(table["user"].to_numpy(), largest_id(info, "users", path), path, "user")
    check_ids(table["item"].to_numpy(), largest_id(info, "items", path), path, "item")
    lengths = np.append(np.diff(sequences.offsets), 0)[sequences.user_index(user)]  # 0 for users without events
    if ((prefix < 0) | (prefix > lengths)).any():
        raise damaged(path, "column 'prefix' is negative or counts more events than the user has", MADE_BY)
    condition: dict[str, np.ndarray] = {}
    for spec in logged_fields(info):
        if spec.feedback:
            condition[spec.name] = any_values(spec, len(table))
        else:
            condition[spec.name] = to_numpy(table[f"condition.{spec.name}"].combine_chunks(), spec, path)
    return Impressions(
        row=table["row"].to_numpy().astype(np.int64),
        user=user,
        time=time,
        item=table["item"].to_numpy().astype(np.int32),
        label=table["label"].to_numpy().astype(np.float32),
        prefix=prefix,
        condition=condition | sequences.row_time_fields(user, time, prefix),
        context={s.name: to_numpy(table[f"context.{s.name}"].combine_chunks(), s, path) for s in info.context},
        request=table["request"].to_numpy().astype(np.int64) if requests else None,
    )


def _arrow_type(spec: FieldSpec) -> pa.DataType:
    value = pa.int32() if spec.type in ("categorical", "multi") else pa.float32()
    return pa.list_(value) if spec.type in ("multi", "vector") else value


def largest_id(info: DatasetInfo, name: str, path: Path) -> int:
    """Return the largest id of `items` or `users`.

    Raises:
        InputError: `dataset.json` does not have it.
    """
    if name not in info.counts:
        raise damaged(path, f"key 'counts.{name}' of dataset.json is missing", MADE_BY)
    return info.counts[name]
