"""The stages of a preparation, in the order in which they run."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq

from openlum.artefact.checksums import sha256_of
from openlum.artefact.directory import fingerprint
from openlum.data.dataset import UNLABELLED, Dataset, DatasetInfo
from openlum.data.profile import Profile
from openlum.errors import InputError
from openlum.prepare.engines.engine import Engine
from openlum.prepare.entities import Entities, encoded, number_identities, read_entities
from openlum.prepare.features import Encoders, encode, learn, write_vocabulary
from openlum.prepare.former import Former
from openlum.prepare.impressions import impressions, label_rule, open_impressions
from openlum.prepare.inputs.files import Source
from openlum.prepare.intake import POSITION, Checked, Intake
from openlum.prepare.log import Log, LogRules, check_complete, clean, divide, strangers, with_identities
from openlum.prepare.notes import notes
from openlum.prepare.profiling import Shares, describe
from openlum.prepare.sequences import eligible, sequences
from openlum.prepare.splits import Boundaries, boundaries
from openlum.prepare.text import text
from openlum.prepare.values import TICKS, Column, feature_columns
from openlum.schema import Feature, Schema, time_field_specs

FEWEST_EVENTS = 3
"""Training, validation and test need one each."""
TABLES = ("events", "impressions", "items", "users")

Step = Callable[[str, float], None]
"""Says what is being done, and which part of the whole preparation lies behind."""


@dataclass(frozen=True)
class Inputs:
    """What a preparation reads."""

    schema: Schema
    """With the paths of the files to read now."""
    root: Path
    """The directory that they start from."""
    former: Dataset | None = None
    """The dataset that their rows are added to."""
    tables: tuple[str, ...] = TABLES
    """Which tables of the schema are read now."""


class Preparation:
    """One preparation, from the files of a log to those of a dataset.

    Args:
        engine: where tables are computed.
        inputs: what to read.
        draft: the directory of the dataset.
        scratch: a directory for intermediate files.
        step: shows how far it is.
        sources: filled with the files that are read.
    """

    def __init__(
        self, engine: Engine, inputs: Inputs, draft: Path, scratch: Path, step: Step, sources: list[Source]
    ) -> None:
        self.engine, self.schema = engine, inputs.schema
        self.inputs, self.draft, self.scratch, self.step, self.sources = inputs, draft, scratch, step, sources
        self.former = Former(engine, inputs.former) if inputs.former else None
        self.before: dict[str, int] = self.former.info.counts if self.former else {}
        self.intake = Intake(engine, self.schema, inputs.root, scratch / "csv", sources, self.before)
        self.number = self.former.info.preparations if self.former else 0
        self._keep_rejected()

    def run(self) -> DatasetInfo:
        """All stages."""
        self.step("reading and checking the log", 0.0)
        logs = self._open()
        self._check_enough()
        item_rows, user_rows = self._entity_rows("item"), self._entity_rows("user")
        self.step("numbering users and items", 0.15)
        both = [self._entities("item", logs, item_rows), self._entities("user", logs, user_rows)]
        self.step("dividing the log by user", 0.25)
        self._write_logs(logs, *both)
        log = Log.read(self.engine, self.schema, self.draft / "log")
        self.step("building vocabularies", 0.6)
        split = boundaries(self.engine, log.events, self.schema.splits)
        trained = self._training_events(log, split)
        encoders = self._learn(log, split, both, trained)
        self._write_entities(both, encoders, trained)
        shares = self._write_parts(log, split, encoders)
        self.step("describing the data set", 0.95)
        odd = notes(self.engine, self.schema, log, shares, both)
        profile = describe(self.engine, log, split, encoders, shares, [item_rows, user_rows])
        return self._info(split, encoders, shares, profile, odd)

    def _keep_rejected(self) -> None:
        """Begin `rejected/` with what earlier preparations refused."""
        if self.former:
            former = self.former.dataset.path / "rejected"
            if former.is_dir():
                shutil.copytree(former, self.draft / "rejected")
        (self.draft / "rejected").mkdir(exist_ok=True)

    def _open(self) -> dict[str, Checked]:
        """The logs that are read now: `events`, `impressions` or both."""
        log, opened = self.schema.events, {}
        if "events" in self.inputs.tables:
            columns = [
                Column("user", log.user, "identity"),
                Column("item", log.item, "identity"),
                Column("time", log.time, "moment", TICKS[log.time_unit]),
                *feature_columns("condition", log.condition),
            ]
            opened["events"] = self.intake.open("events", log.path, columns)
        if self.schema.impressions and "impressions" in self.inputs.tables:
            opened["impressions"] = open_impressions(self.intake, self.schema)
        return opened

    def _rejected(self, name: str) -> Path:
        return self.draft / "rejected" / (f"{name}-{self.number}.parquet" if self.number else f"{name}.parquet")

    def _entity_rows(self, role: str) -> ir.Table | None:
        """The item or the user table: the rows read now, and those of earlier preparations that they do not replace."""
        table = self.schema.items if role == "item" else self.schema.users
        if table is None:
            return None
        rows = self.former.entity_rows(role) if self.former else None
        if f"{role}s" in self.inputs.tables:
            name = f"{role}s_table"
            new = read_entities(self.engine, self.intake, role, table, self._rejected(name))
            if rows is not None:
                self.intake.notes[f"{name}: rows that a later one of the same id has replaced"] = self.engine.value(
                    rows.semi_join(new, "id").count()
                )
            rows = new if rows is None else ibis.union(new, rows.anti_join(new, "id").select(new.columns))
        assert rows is not None
        kept = self.draft / "log" / f"{role}s.parquet"
        self.engine.write(rows.order_by("id"), kept)
        return self.engine.read(f"{role} rows", kept)

    def _entities(self, role: str, logs: Mapping[str, Checked], rows: ir.Table | None) -> Entities:
        """The users or the items: every value that the table and the logs name.

        Items that a complete table does not name are none.
        """
        table = rows if role == "item" and self.schema.items and self.schema.items.complete else None
        seen = []
        for name, log in logs.items():
            each = log.usable.group_by(role).agg(first=log.usable["time"].min())
            each = log.met[role] = self.engine.keep(f"{role}s of {name}", each)
            self.intake.note_ids(name, each.select(role))
            found = each.select(first=each["first"] if name == "events" else ibis.null("int64"), value=text(each[role]))
            seen.append(found if table is None else found.semi_join(table, found["value"] == table["id"]))
        if rows is not None:
            seen.append(rows.select(first=ibis.null("int64"), value="id"))
        former = self.former.vocabulary(f"{role}s") if self.former else None
        return Entities(role, number_identities(self.engine, f"{role}s", seen, former), rows)

    def _write_logs(self, logs: Mapping[str, Checked], items: Entities, users: Entities) -> None:
        """Write `log/`, in which no row is refused any more; and the refused rows."""
        names = ["events"] + (["impressions"] if self.schema.impressions else [])
        total = max(self.before.get(name, 0) + self.intake.counts.get(name, 0) for name in names)
        for name in names:
            checked = logs.get(name)
            rows = [with_identities(self.engine, checked, users.known, items.known)] if checked else []
            if self.former:
                rows.append(self.former.log(name))
            rules = LogRules(
                first=self.before.get(f"{name}_in", 0),
                distinct="row" not in rows[0].columns,
                most=self.schema.max_user_events if name == "events" else None,
            )
            parts = divide(self.engine, name, rows, self.engine.parts(total), self.scratch)
            removed = [found] if (found := self._strangers(checked, items.known)) is not None else []
            expected = self.before.get(name, 0)
            if checked:
                expected += self.intake.counts[name] - sum(self.engine.value(table.count()) for table in removed)
            check_complete(self.engine, name, self.scratch / name, expected)
            for place, part in enumerate(parts):
                self.step(f"cleaning {name}, part {place + 1} of {len(parts)}", 0.45 + 0.15 * place / len(parts))
                refused = clean(self.engine, part, rules, self.draft / "log" / name)
                removed += [refused] if refused is not None else []
            if not parts:
                self.engine.write(rows[0].limit(0), self.draft / "log" / name / "part=0" / "none.parquet")
            if checked:
                self.intake.finish(checked, removed, self._rejected(name))
        self._check_enough()

    def _strangers(self, checked: Checked | None, items: ir.Table) -> ir.Table | None:
        """The rows of items that the item table lacks, where it must have all."""
        must = self.schema.items is not None and self.schema.items.complete
        return strangers(self.engine, checked, items) if checked and must else None

    def _check_enough(self) -> None:
        counts = self.intake.counts
        usable = self.before.get("events", 0) + counts.get("events", 0)
        if usable < FEWEST_EVENTS:
            refused = ", ".join(f"{number:,} {reason}" for reason, number in self.intake.reasons.items()) or "none"
            raise InputError(
                f"{self.inputs.root / self.schema.events.path}: {usable} usable events of "
                f"{counts.get('events_in', 0):,} (refused: {refused}); at least {FEWEST_EVENTS} are needed; "
                "if the times look wrong, check 'time_unit' in the schema"
            )

    def _training_events(self, log: Log, split: Boundaries) -> dict[str, ir.Table]:
        """`item` and `user` to the ids that the training period has events of, with the number of these events, count."""
        training = split.training(log.events)
        return {
            role: self.engine.keep(
                f"training events of {role}s", training.group_by(id=role).agg(count=training.count())
            )
            for role in ("item", "user")
        }

    def _learn(
        self, log: Log, split: Boundaries, both: Sequence[Entities], trained: Mapping[str, ir.Table]
    ) -> Encoders:
        """Learn from the training period alone: its events, its labelled impressions, the items and users of its events."""
        schema, shown = self.schema, log.impressions
        sources: dict[str, tuple[Mapping[str, Feature], ir.Table | None]] = {
            "condition": (schema.events.condition, split.training(log.events)),
            "context": (
                schema.impressions.context if schema.impressions else {},
                split.training(shown.filter(shown["label"].notnull())),
            ),
            "item": (schema.items.features if schema.items else {}, None),
            "user": (schema.users.features if schema.users else {}, None),
        }
        for one in both:
            sources[one.role] = sources[one.role][0], one.rows_of(trained[one.role])
        return {
            kind: learn(self.engine, kind, features, table, self.former.encoders(kind) if self.former else {})
            for kind, (features, table) in sources.items()
        }

    def _write_entities(self, both: Sequence[Entities], encoders: Encoders, trained: Mapping[str, ir.Table]) -> None:
        """Write the vocabularies, the item table and the user table."""
        vocab = self.draft / "vocab"
        for one in both:
            counted = one.known.left_join(trained[one.role], "id")
            counted = counted.select("value", "id", count=counted["count"].fill_null(0))
            write_vocabulary(self.engine, counted, vocab / f"{one.role}s.parquet")
            self.engine.write(encoded(one, encoders[one.role]), self.draft / f"{one.role}s.parquet")
        for encoder in (encoder for those in encoders.values() for encoder in those):
            if encoder.vocabulary is not None:
                write_vocabulary(self.engine, encoder.vocabulary, vocab / f"{encoder.role}.parquet")

    def _write_parts(self, log: Log, split: Boundaries, encoders: Encoders) -> Shares:
        """Write `sequences/` and `impressions/`, part by part."""
        shares = Shares()
        fields = [encoder.role for encoder in encoders["condition"]]
        for place, part in enumerate(log.parts):
            self.step(f"ordering events, part {place + 1} of {len(log.parts)}", 0.65 + 0.3 * place / len(log.parts))
            events, rows = log.part(part)
            file = part.replace("=", "-")
            coded, holdout = events, self.schema.holdout
            if holdout:
                coded = events.mutate(eligible=eligible(events, holdout, self.schema.events.condition))
            coded = self.engine.keep("events of a part, encoded", encode(coded, encoders["condition"], key=POSITION))
            self.engine.write_rows(sequences(coded, fields), self.draft / "sequences" / f"{file}.parquet")
            coded = self.engine.view(
                "impressions of a part, encoded",
                encode(rows, encoders["condition"] + encoders["context"], key=POSITION),
            )
            found = self.engine.keep("impressions of a part", impressions(coded, events))
            labelled = found.filter(found["label"].notnull())
            for name, some in split.split(labelled).items():
                self.engine.write_rows(some, self.draft / "impressions" / name / f"{file}.parquet")
                shares.add(self.engine, name, some)
            waiting = found.filter(found["label"].isnull())
            self.engine.write_rows(waiting, self.draft / "impressions" / UNLABELLED / f"{file}.parquet")
            shares.unlabelled += self.engine.value(waiting.count())
        return shares

    def _info(
        self, split: Boundaries, encoders: Encoders, shares: Shares, profile: Profile, odd: dict[str, int]
    ) -> DatasetInfo:
        former = self.former.info if self.former else None
        kept = {note: number for note, number in former.notes.items() if note not in odd} if former else {}
        schema = former.data_schema if former else self.schema
        specs = {kind: [encoder.spec for encoder in those] for kind, those in encoders.items()}
        counts = _added(self.before, self.intake.counts) | {
            "users": _rows(self.draft / "users.parquet") - 1,
            "items": _rows(self.draft / "items.parquet") - 1,
            "users_with_events": sum(profile.lengths.values()),
            "items_with_events": max(profile.popularity),
            "impressions": sum(shares.rows.values()) + shares.unlabelled,
            "impressions_unlabelled": shares.unlabelled,
        }
        return DatasetInfo(
            name=schema.name,
            data_schema=schema,
            condition=specs["condition"] + time_field_specs(schema),
            item=specs["item"],
            user=specs["user"],
            context=specs["context"],
            counts=counts,
            rejected=_added(former.rejected if former else {}, self.intake.reasons),
            notes={note: number for note, number in (_added(kept, self.intake.notes) | odd).items() if number},
            valid_time=split.valid,
            test_time=split.test,
            impressions=shares.rows,
            label_rule=label_rule(schema),
            profile=profile,
            preparations=self.number + 1,
            # The files decide the content, but for what lay in the future when they were read: the counts tell that.
            fingerprint=fingerprint(
                former.fingerprint if former else "",
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


def _added(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in [*first, *second]}


def _rows(file: Path) -> int:
    return int(pq.read_metadata(file).num_rows)
