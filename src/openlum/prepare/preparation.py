"""The stages of a preparation, in the order in which they run."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq

from openlum.artefact.checksums import sha256_of
from openlum.artefact.json_file import fingerprint
from openlum.data.dataset import UNLABELLED, Dataset, DatasetInfo
from openlum.data.profile import Profile
from openlum.errors import InputError
from openlum.field_spec import time_field_specs
from openlum.prepare.canonical_expression import canonical_expression
from openlum.prepare.conversion import Column, feature_columns
from openlum.prepare.data_quality import data_quality_notes
from openlum.prepare.earlier_dataset import EarlierDataset
from openlum.prepare.engines.engine import Engine
from openlum.prepare.entities import Entities, assign_ids, encoded_entities, read_entities
from openlum.prepare.features import Encoders, encode_columns, learn_encoders, write_vocabulary
from openlum.prepare.impressions import check_impressions, impressions_with_prefix, label_rule
from openlum.prepare.inputs.files import TableFiles
from openlum.prepare.profiling import ImpressionCounts, profile_log
from openlum.prepare.row_checks import POSITION, CheckedTable, RowChecker
from openlum.prepare.sequences import build_sequences, can_be_held_out
from openlum.prepare.splits import SplitBoundaries, split_boundaries
from openlum.prepare.stored_log import (
    Log,
    RejectionRules,
    check_row_count,
    clean_part,
    rows_of_unknown_items,
    with_user_and_item_ids,
    write_user_parts,
)
from openlum.schema import Feature, Schema

MIN_EVENTS = 3
"""Training, validation and test need at least one event each."""
TABLES = ("events", "impressions", "items", "users")

ReportProgress = Callable[[str, float], None]
"""Function that shows the current step, and the completed fraction of the whole preparation."""


@dataclass(frozen=True)
class Inputs:
    """The files and the earlier dataset that a preparation reads."""

    schema: Schema
    """The schema, with the paths of the files to read now."""
    root: Path
    """The directory that relative paths start from."""
    earlier: Dataset | None = None
    """The dataset that the rows are added to."""
    tables: tuple[str, ...] = TABLES
    """The tables of the schema to read now."""


class Preparation:
    """One preparation, from the files of a log to the files of a dataset.

    Args:
        engine: the engine that computes tables.
        inputs: the files and the earlier dataset to read.
        draft: the directory to write the dataset to.
        scratch: a directory for intermediate files.
        report_progress: shows the progress.
        sources: a list to which the files that are read are added.
    """

    def __init__(
        self,
        engine: Engine,
        inputs: Inputs,
        draft: Path,
        scratch: Path,
        report_progress: ReportProgress,
        sources: list[TableFiles],
    ) -> None:
        self.engine, self.schema = engine, inputs.schema
        self.inputs, self.draft, self.scratch, self.sources = inputs, draft, scratch, sources
        self.report_progress = report_progress
        self.earlier = EarlierDataset(engine, inputs.earlier) if inputs.earlier else None
        self.earlier_counts: dict[str, int] = self.earlier.info.counts if self.earlier else {}
        self.checker = RowChecker(engine, self.schema, inputs.root, scratch / "csv", sources, self.earlier_counts)
        self.earlier_preparations = self.earlier.info.preparations if self.earlier else 0
        self._copy_earlier_rejected()

    def run(self) -> DatasetInfo:
        """Run all stages and return the content of `dataset.json`."""
        self.report_progress("reading and checking the log", 0.0)
        logs = self._check_logs()
        self._require_events()
        item_table, user_table = self._entity_table("item"), self._entity_table("user")
        self.report_progress("assigning ids to users and items", 0.15)
        items, users = self._entities("item", logs, item_table), self._entities("user", logs, user_table)
        self.report_progress("dividing the log by user", 0.25)
        parts = self._write_logs(logs, items, users)
        log = Log.read(self.engine, self.schema, self.draft / "log", parts, self.scratch)
        self.report_progress("building vocabularies", 0.6)
        boundaries = split_boundaries(self.engine, log.events, self.schema.splits)
        training_counts = self._training_event_counts(log, boundaries)
        encoders = self._learn_encoders(log, boundaries, [items, users], training_counts)
        self._write_entities([items, users], encoders, training_counts)
        impression_counts = self._write_parts(log, boundaries, encoders)
        self.report_progress("computing statistics of the data set", 0.95)
        notes = data_quality_notes(self.engine, self.schema, log, impression_counts, [items, users])
        profile = profile_log(self.engine, log, boundaries, encoders, impression_counts, [item_table, user_table])
        return self._info(log, boundaries, encoders, impression_counts, profile, notes)

    def _copy_earlier_rejected(self) -> None:
        """Create `rejected/` with the rejected rows of earlier preparations."""
        if self.earlier:
            rejected = self.earlier.dataset.path / "rejected"
            if rejected.is_dir():
                shutil.copytree(rejected, self.draft / "rejected")
        (self.draft / "rejected").mkdir(exist_ok=True)

    def _check_logs(self) -> dict[str, CheckedTable]:
        """Check the logs that are read now: `events`, `impressions` or both."""
        log, checked = self.schema.events, {}
        if "events" in self.inputs.tables:
            columns = [
                Column("user", log.user, "identity"),
                Column("item", log.item, "identity"),
                Column("time", log.time, "row_time", time_unit=log.time_unit, date_order=log.date_order),
                *feature_columns("condition", log.condition),
            ]
            checked["events"] = self.checker.check_table("events", log.path, columns, log.csv)
        if self.schema.impressions and "impressions" in self.inputs.tables:
            checked["impressions"] = check_impressions(self.checker, self.schema)
        return checked

    def _rejected_path(self, name: str) -> Path:
        number = self.earlier_preparations
        return self.draft / "rejected" / (f"{name}-{number}.parquet" if number else f"{name}.parquet")

    def _entity_table(self, role: str) -> ir.Table | None:
        """Return the item or the user table: the rows read now, and the rows of earlier preparations that they do not replace."""
        table = self.schema.items if role == "item" else self.schema.users
        if table is None:
            return None
        rows = self.earlier.entity_rows(role) if self.earlier else None
        if f"{role}s" in self.inputs.tables:
            name = f"{role}s_table"
            new = read_entities(self.engine, self.checker, role, table, self._rejected_path(name))
            if rows is not None:
                replaced = self.engine.fetch_value(rows.semi_join(new, "id").count())
                self.checker.notes[f"{name}: rows replaced by a later row of the same id"] = replaced
            rows = new if rows is None else ibis.union(new, rows.anti_join(new, "id").select(new.columns))
        assert rows is not None
        path = self.draft / "log" / f"{role}s.parquet"
        self.engine.write(rows.order_by("id"), path)
        return self.engine.read(f"{role} rows", path)

    def _entities(self, role: str, logs: Mapping[str, CheckedTable], table: ir.Table | None) -> Entities:
        """Return the users or the items: every raw id in the table and in the logs.

        If the item table is complete, items that are only in the logs are left out.
        """
        complete = table if role == "item" and self.schema.items and self.schema.items.complete else None
        occurrences = []
        for name, log in logs.items():
            ids = log.usable.group_by(role).agg(first=log.usable["time"].min())
            ids = log.distinct_ids[role] = self.engine.materialize(f"{role}s of {name}", ids)
            self.checker.note_doubtful_ids(name, ids.select(role))
            first = ids["first"] if name == "events" else ibis.null("int64")
            values = ids.select(first=first, value=canonical_expression(ids[role]))
            in_table = values if complete is None else values.semi_join(complete, values["value"] == complete["id"])
            occurrences.append(in_table)
        if table is not None:
            occurrences.append(table.select(first=ibis.null("int64"), value="id"))
        earlier_ids = self.earlier.vocabulary(f"{role}s") if self.earlier else None
        return Entities(role, assign_ids(self.engine, f"{role}s", occurrences, earlier_ids), table)

    def _write_logs(self, logs: Mapping[str, CheckedTable], items: Entities, users: Entities) -> int:
        """Write the accepted rows to `log/`, and the rejected rows to `rejected/`. Return the number of parts by user."""
        names = ["events"] + (["impressions"] if self.schema.impressions else [])
        total = max(self.earlier_counts.get(name, 0) + self.checker.counts.get(name, 0) for name in names)
        number_of_parts = self.engine.number_of_parts(total)
        for name in names:
            checked = logs.get(name)
            tables = [with_user_and_item_ids(self.engine, checked, users.ids, items.ids)] if checked else []
            if self.earlier:
                tables.append(self.earlier.log(name))
            rules = RejectionRules(
                first_position=self.earlier_counts.get(f"{name}_in", 0),
                reject_duplicates="row" not in tables[0].columns,
                max_user_events=self.schema.max_user_events if name == "events" else None,
            )
            parts = write_user_parts(self.engine, name, tables, number_of_parts, self.scratch)
            unknown = self._rows_of_unknown_items(checked, items.ids)
            rejected = [unknown] if unknown is not None else []
            expected = self.earlier_counts.get(name, 0)
            if checked:
                expected += self.checker.counts[name] - sum(self.engine.fetch_value(rows.count()) for rows in rejected)
            check_row_count(self.engine, name, self.scratch / name, expected)
            for index, part in enumerate(parts):
                self.report_progress(
                    f"cleaning {name}, part {index + 1} of {len(parts)}", 0.45 + 0.15 * index / len(parts)
                )
                part_rejected = clean_part(self.engine, part, rules, self.draft / "log" / name)
                rejected += [part_rejected] if part_rejected is not None else []
            if not parts:
                self.engine.write(tables[0].limit(0), self.draft / "log" / name / "part=0" / "none.parquet")
            if checked:
                self.checker.write_rejected(checked, rejected, self._rejected_path(name))
        self._require_events()
        return number_of_parts

    def _rows_of_unknown_items(self, checked: CheckedTable | None, items: ir.Table) -> ir.Table | None:
        """Return the rows of items that are not in the item table, if the table must be complete."""
        complete = self.schema.items is not None and self.schema.items.complete
        return rows_of_unknown_items(self.engine, checked, items) if checked and complete else None

    def _require_events(self) -> None:
        """Raise an `InputError` if too few events can be used."""
        counts = self.checker.counts
        usable = self.earlier_counts.get("events", 0) + counts.get("events", 0)
        if usable < MIN_EVENTS:
            rejected = ", ".join(f"{number:,} {reason}" for reason, number in self.checker.reasons.items()) or "none"
            raise InputError(
                f"{self.inputs.root / self.schema.events.path}: {usable} usable events of "
                f"{counts.get('events_in', 0):,} (rejected: {rejected}); at least {MIN_EVENTS} are needed; "
                "if the times look wrong, check 'time_unit' in the schema"
            )

    def _training_event_counts(self, log: Log, boundaries: SplitBoundaries) -> dict[str, ir.Table]:
        """Return, for `item` and `user`, the ids with events in the training period (id) and the number of events (count)."""
        training = boundaries.training(log.events)
        return {
            role: self.engine.materialize(
                f"training events of {role}s", training.group_by(id=role).agg(count=training.count())
            )
            for role in ("item", "user")
        }

    def _learn_encoders(
        self,
        log: Log,
        boundaries: SplitBoundaries,
        entity_sets: Sequence[Entities],
        training_counts: Mapping[str, ir.Table],
    ) -> Encoders:
        """Learn encoders from the training period alone: its events, its labelled impressions, and the entities of its events."""
        schema, impressions = self.schema, log.impressions
        sources: dict[str, tuple[Mapping[str, Feature], ir.Table | None]] = {
            "condition": (schema.events.condition, boundaries.training(log.events)),
            "context": (
                schema.impressions.context if schema.impressions else {},
                boundaries.training(impressions.filter(impressions["label"].notnull())),
            ),
            "item": (schema.items.features if schema.items else {}, None),
            "user": (schema.users.features if schema.users else {}, None),
        }
        for entities in entity_sets:
            sources[entities.role] = sources[entities.role][0], entities.table_rows(training_counts[entities.role])
        return {
            kind: learn_encoders(self.engine, kind, features, rows, self.earlier.encoders(kind) if self.earlier else {})
            for kind, (features, rows) in sources.items()
        }

    def _write_entities(
        self, entity_sets: Sequence[Entities], encoders: Encoders, training_counts: Mapping[str, ir.Table]
    ) -> None:
        """Write the vocabularies, the item table and the user table."""
        vocab = self.draft / "vocab"
        for entities in entity_sets:
            counts = entities.ids.left_join(training_counts[entities.role], "id")
            counts = counts.select("value", "id", count=counts["count"].fill_null(0))
            write_vocabulary(self.engine, counts, vocab / f"{entities.role}s.parquet")
            encoded = encoded_entities(entities, encoders[entities.role])
            self.engine.write(encoded, self.draft / f"{entities.role}s.parquet")
        for encoder in (encoder for encoders_of_kind in encoders.values() for encoder in encoders_of_kind):
            if encoder.vocabulary is not None:
                write_vocabulary(self.engine, encoder.vocabulary, vocab / f"{encoder.role}.parquet")

    def _write_parts(self, log: Log, boundaries: SplitBoundaries, encoders: Encoders) -> ImpressionCounts:
        """Write `sequences/` and `impressions/`, part by part."""
        impression_counts = ImpressionCounts()
        fields = [encoder.role for encoder in encoders["condition"]]
        for index, part in enumerate(log.parts):
            self.report_progress(
                f"ordering events, part {index + 1} of {len(log.parts)}", 0.65 + 0.3 * index / len(log.parts)
            )
            events, impressions = log.part(part)
            file = f"{part.replace('=', '-')}.parquet"
            encoded, holdout = events, self.schema.holdout
            if holdout:
                encoded = events.mutate(eligible=can_be_held_out(events, holdout, self.schema.events.condition))
            encoded = encode_columns(encoded, encoders["condition"], key=POSITION)
            encoded = self.engine.materialize("events of a part, encoded", encoded)
            sequences = build_sequences(encoded, fields, self.engine.collects_nulls)
            self.engine.write_rows(sequences, self.draft / "sequences" / file)
            encoded = encode_columns(impressions, encoders["condition"] + encoders["context"], key=POSITION)
            encoded = self.engine.view("impressions of a part, encoded", encoded)
            rows = self.engine.materialize("impressions of a part", impressions_with_prefix(encoded, events))
            labelled = rows.filter(rows["label"].notnull())
            for name, split_rows in boundaries.split(labelled).items():
                self.engine.write_rows(split_rows, self.draft / "impressions" / name / file)
                impression_counts.add(self.engine, name, split_rows)
            unlabelled = rows.filter(rows["label"].isnull())
            self.engine.write_rows(unlabelled, self.draft / "impressions" / UNLABELLED / file)
            impression_counts.unlabelled += self.engine.fetch_value(unlabelled.count())
        return impression_counts

    def _info(
        self,
        log: Log,
        boundaries: SplitBoundaries,
        encoders: Encoders,
        impression_counts: ImpressionCounts,
        profile: Profile,
        notes: dict[str, int],
    ) -> DatasetInfo:
        earlier = self.earlier.info if self.earlier else None
        earlier_notes = {note: n for note, n in earlier.notes.items() if note not in notes} if earlier else {}
        schema = earlier.data_schema if earlier else self.schema
        specs = {kind: [encoder.spec for encoder in encoders_of_kind] for kind, encoders_of_kind in encoders.items()}
        counts = _sum_by_key(self.earlier_counts, self.checker.counts) | {
            "users": _number_of_rows(self.draft / "users.parquet") - 1,
            "items": _number_of_rows(self.draft / "items.parquet") - 1,
            "users_with_events": sum(profile.lengths.values()),
            "items_with_events": max(profile.popularity),
            "impressions": sum(impression_counts.rows.values()) + impression_counts.unlabelled,
            "impressions_unlabelled": impression_counts.unlabelled,
        }
        all_notes = _sum_by_key(earlier_notes, self.checker.notes) | notes
        return DatasetInfo(
            name=schema.name,
            data_schema=schema,
            condition=specs["condition"] + time_field_specs(schema.time_fields, schema.gap_unit),
            item=specs["item"],
            user=specs["user"],
            context=specs["context"],
            counts=counts,
            rejected=_sum_by_key(earlier.rejected if earlier else {}, self.checker.reasons),
            notes={note: number for note, number in all_notes.items() if number},
            valid_time=boundaries.valid_time,
            test_time=boundaries.test_time,
            impressions=impression_counts.rows,
            label_rule=label_rule(schema, log.item_fields),
            profile=profile,
            preparations=self.earlier_preparations + 1,
            # The files determine the content, except for rows that were in the future when they were read. The counts show these.
            fingerprint=fingerprint(
                earlier.fingerprint if earlier else "",
                schema.model_dump(mode="json", exclude={"engine"}),
                [
                    part
                    for source in self.sources
                    for file in source.files
                    for part in (sha256_of(file.path), *file.partition.items())
                ],
                counts,
            ),
        )


def _sum_by_key(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in [*first, *second]}


def _number_of_rows(file: Path) -> int:
    return int(pq.read_metadata(file).num_rows)
