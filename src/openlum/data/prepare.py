"""From an event log to `dataset/`: read, validate, encode, order, split. The layout is described in `dataset.py`."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ibis
import ibis.expr.types as ir
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from openlum.artefact import fingerprint, whole_directory, write_json
from openlum.config import load_settings
from openlum.data.dataset import DatasetInfo, Split
from openlum.data.engine import Engine, local_engine
from openlum.data.entities import entities
from openlum.data.features import Encoder, encode, learn, vocabulary, with_ids, write_vocabulary
from openlum.data.impressions import impressions, label_rule
from openlum.data.sequences import sequences
from openlum.data.splits import Boundaries, boundaries
from openlum.data.tables import Tables, handled, read_tables
from openlum.data.validate import Intake, SchemaError, latest_time
from openlum.errors import InputError
from openlum.schema import Schema, time_field_specs

Encoders = dict[str, list[Encoder]]
"""`condition`, `context`, `item` or `user` to the encoders of its fields."""


def prepare(schema: Path, out: Path) -> DatasetInfo:
    """Turn an event log and its tables into the directory `out`, which `Dataset` reads.

    Rows that cannot be used are refused: they lie in `rejected/`, with the reason and their number in the file, and are
    counted in the result. The output appears whole or not at all.

    Args:
        schema: the YAML file that describes the log (`Schema`); paths in it are relative to it.
        out: the directory to write.

    Returns:
        What was written, as in `dataset.json`.

    Raises:
        InputError: a file or a column is missing, empty or of a wrong type, or too little is left.
    """
    settings = load_settings(schema, Schema)
    with whole_directory(out) as draft, local_engine(draft / ".scratch") as engine, _progress() as step:
        try:
            info = _prepare(engine, settings, Path(schema).parent, draft, step)
        except SchemaError as error:
            raise InputError(f"{schema}: {error}") from None
        write_json(draft / "dataset.json", info.model_dump(mode="json"))
    return info


def _prepare(engine: Engine, schema: Schema, root: Path, draft: Path, step: Callable[[str], None]) -> DatasetInfo:
    step("reading and checking the log")
    intake = Intake(engine, root, draft / "rejected", latest_time(schema.latest))
    tables = read_tables(engine, intake, schema, root)
    notes = handled(engine, tables, by_rule=schema.impressions_from_events is not None)
    split = boundaries(engine, tables.events, schema.splits)
    step("building vocabularies")
    users, items = _write_ids(engine, tables, split, draft / "vocab")
    encoders = _learn(engine, tables, schema, split, draft / "vocab")
    engine.write(entities(items, tables.items, encoders["item"], "item"), draft / "items.parquet")
    engine.write(entities(users, tables.users, encoders["user"], "user"), draft / "users.parquet")
    step("ordering every user's events")
    coded = encode(tables.events, encoders["condition"])
    events = engine.keep("events", with_ids(with_ids(coded, "user", users), "item", items))
    fields = [encoder.role for encoder in encoders["condition"]]
    engine.write(sequences(events, fields), draft / "sequences" / "part-0.parquet")
    step("counting what each impression may know")
    coded = encode(tables.impressions, encoders["condition"] + encoders["context"])
    coded = with_ids(with_ids(coded, "user", users), "item", items)
    shown = _write_impressions(engine, impressions(coded, events), split, draft / "impressions")
    step("describing the data set")
    counts = intake.counts | {
        "users": engine.value(users.count()),
        "items": engine.value(items.count()),
        "users_with_events": engine.value(events["user"].nunique()),
        "items_with_events": engine.value(events["item"].nunique()),
        "impressions": sum(shown.values()),
    }
    specs = {kind: [encoder.spec for encoder in those] for kind, those in encoders.items()}
    return DatasetInfo(
        name=schema.name,
        data_schema=schema,
        condition=specs["condition"] + time_field_specs(schema),
        item=specs["item"],
        user=specs["user"],
        context=specs["context"],
        counts=counts,
        rejected=intake.reasons,
        notes=notes,
        valid_time=split.valid,
        test_time=split.test,
        impressions=shown,
        label_rule=label_rule(schema),
        # The files decide the content, but for what lay in the future when they were read: the counts tell that.
        fingerprint=fingerprint(schema.model_dump(mode="json"), _file_hashes(schema, root), counts),
    )


def _write_ids(engine: Engine, tables: Tables, split: Boundaries, out: Path) -> tuple[ir.Table, ir.Table]:
    """The vocabularies of users and of items: all that any table names, counted in the training events."""
    known = []
    for name, role, table in (("users", "user", tables.users), ("items", "item", tables.items)):
        training = split.training(tables.events)
        named = [tables.events.select(value=role), tables.impressions.select(value=role)]
        named += [table.select(value="id")] if table is not None else []
        never = [values.distinct().mutate(count=ibis.literal(0, "int64")) for values in named]
        counted = training.select(value=role, count=ibis.literal(1, "int64"))
        known.append(vocabulary(engine, name, ibis.union(counted, *never)))
        write_vocabulary(engine, known[-1], out / f"{name}.parquet")
    return known[0], known[1]


def _learn(engine: Engine, tables: Tables, schema: Schema, split: Boundaries, out: Path) -> Encoders:
    """Events and impressions teach by their training period; item and user tables, which have no time, as a whole."""
    training, shown = split.training(tables.events), split.training(tables.impressions)
    context = schema.impressions.context if schema.impressions else {}
    timed = [tables.events, tables.impressions]
    encoders: Encoders = {
        "condition": learn(engine, "condition", schema.events.condition, training, timed),
        "context": learn(engine, "context", context, shown, timed),
        "item": learn(engine, "item", schema.items.features, tables.items) if schema.items else [],
        "user": learn(engine, "user", schema.users.features, tables.users) if schema.users else [],
    }
    for encoder in (encoder for those in encoders.values() for encoder in those):
        if encoder.vocabulary is not None:
            write_vocabulary(engine, encoder.vocabulary, out / f"{encoder.role}.parquet")
    return encoders


def _write_impressions(engine: Engine, rows: ir.Table, split: Boundaries, out: Path) -> dict[Split, int]:
    """Write the rows of each period; returns their numbers."""
    rows = engine.keep("impressions", rows)
    parts = split.split(rows)
    for name, part in parts.items():
        engine.write(part.order_by("row"), out / name / "part-0.parquet")
    return {name: engine.value(part.count()) for name, part in parts.items()}


def _file_hashes(schema: Schema, root: Path) -> list[str]:
    hashes = []
    for table in (schema.events, schema.impressions, schema.items, schema.users):
        if table:
            with (root / table.path).open("rb") as file:
                hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A bar that shows the step at work; yields the function that announces the next step."""
    bar = [BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), *bar, console=Console(stderr=True), transient=True
    ) as shown:
        task = shown.add_task("preparing", total=5, completed=-1)
        yield lambda description: shown.update(task, description=description, advance=1)
