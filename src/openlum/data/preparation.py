"""The stages of a preparation, in the order in which they run."""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq

from openlum.artefact import fingerprint
from openlum.data.dataset import Dataset, DatasetInfo
from openlum.data.engine import Engine
from openlum.data.entities import entities, read_entities
from openlum.data.features import Encoder, Encoders, encode, learn, vocabulary, write_vocabulary
from openlum.data.files import Source
from openlum.data.impressions import impressions, label_rule, open_impressions
from openlum.data.intake import POSITION, Checked, Intake
from openlum.data.log import Log, LogRules, check_complete, clean, divide, strangers, with_identities
from openlum.data.notes import notes
from openlum.data.profile import Profile
from openlum.data.profiling import Shares, describe
from openlum.data.sequences import eligible, sequences
from openlum.data.splits import Boundaries, boundaries
from openlum.data.values import TICKS, Column, feature_columns, text
from openlum.errors import InputError
from openlum.schema import Feature, Schema, time_field_specs

FEWEST_EVENTS = 3
"""Training, validation and test need one each."""

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
    tables: tuple[str, ...] = ("impressions", "items", "users")
    """Which tables of the schema are read now, beside the events."""


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
        self.engine, self.schema, self.former = engine, inputs.schema, inputs.former
        self.inputs, self.draft, self.scratch, self.step, self.sources = inputs, draft, scratch, step, sources
        self.before: dict[str, int] = inputs.former.info.counts if inputs.former else {}
        self.intake = Intake(engine, self.schema, inputs.root, scratch / "csv", sources, self.before)
        self.number = inputs.former.info.preparations if inputs.former else 0
        if inputs.former:
            shutil.copytree(inputs.former.path / "rejected", draft / "rejected")
        (draft / "rejected").mkdir(exist_ok=True)

    def run(self) -> DatasetInfo:
        """All stages."""
        self.step("reading and checking the log", 0.0)
        events, shown = self._open()
        self._check_enough()
        item_rows, user_rows = self._entity_rows("item"), self._entity_rows("user")
        self.step("numbering users and items", 0.15)
        logs = [log for log in (events, shown) if log]
        users = self._identities("user", logs, user_rows)
        items = self._identities("item", logs, item_rows)
        self.step("dividing the log by user", 0.25)
        self._write_logs(events, shown, users, items)
        log = Log.read(self.engine, self.schema, self.draft / "log")
        self.step("building vocabularies", 0.6)
        split = boundaries(self.engine, log.events, self.schema.splits)
        encoders = self._learn(log, split, item_rows, user_rows)
        self._write_entities(log, split, encoders, users, items, item_rows, user_rows)
        shares = self._write_parts(log, split, encoders)
        self.step("describing the data set", 0.95)
        odd = notes(self.engine, self.schema, log, shares, item_rows, user_rows)
        profile = describe(self.engine, log, split, encoders, shares, [item_rows, user_rows])
        return self._info(split, encoders, shares, profile, odd)

    def _open(self) -> tuple[Checked, Checked | None]:
        log, rows = self.schema.events, self.schema.impressions
        columns = [
            Column("user", log.user, "identity"),
            Column("item", log.item, "identity"),
            Column("time", log.time, "moment", TICKS[log.time_unit]),
            *feature_columns("condition", log.condition),
        ]
        events = self.intake.open("events", log.path, columns)
        read = rows is not None and "impressions" in self.inputs.tables
        return events, open_impressions(self.intake, self.schema) if read else None

    def _rejected(self, name: str) -> Path:
        return self.draft / "rejected" / (f"{name}-{self.number}.parquet" if self.number else f"{name}.parquet")

    def _entity_rows(self, kind: str) -> ir.Table | None:
        """The item or the user table: the rows read now, and those of earlier preparations that they do not replace."""
        table = self.schema.items if kind == "item" else self.schema.users
        if table is None:
            return None
        kept = self.draft / "log" / f"{kind}s.parquet"
        old = self.engine.read(f"former {kind}s", self.former.path / "log" / kept.name) if self.former else None
        if f"{kind}s" in self.inputs.tables:
            new = read_entities(self.engine, self.intake, kind, table, self._rejected(f"{kind}s_table"))
            rows = new if old is None else ibis.union(new, old.anti_join(new, "id").select(new.columns))
        else:
            assert old is not None
            rows = old
        self.engine.write(rows.order_by("id"), kept)
        return self.engine.read(f"{kind} rows", kept)

    def _identities(self, role: str, logs: Sequence[Checked], rows: ir.Table | None) -> ir.Table:
        """The ids of users or of items: every value that the table and the logs name, the most frequent first.

        Items that a complete table does not name have none.
        """
        table = rows if role == "item" and self.schema.items and self.schema.items.complete else None
        seen = []
        for log in logs:
            each = log.usable.group_by(role).agg(count=log.usable.count())
            each = log.met[role] = self.engine.keep(f"{role}s of {log.name}", each)
            found = each.select("count", value=text(each[role]))
            seen.append(found if table is None else found.semi_join(table, found["value"] == table["id"]))
        if rows is not None:
            seen.append(rows.select(count=ibis.literal(0, "int64"), value="id"))
        return vocabulary(self.engine, f"{role}s", ibis.union(*seen), former=self._former_vocabulary(f"{role}s"))

    def _former_vocabulary(self, name: str) -> ir.Table | None:
        if self.former is None:
            return None
        return self.engine.read(f"former {name}", self.former.path / "vocab" / f"{name}.parquet")

    def _write_logs(self, events: Checked, shown: Checked | None, users: ir.Table, items: ir.Table) -> None:
        """Write `log/`, in which no row is refused any more; and the refused rows."""
        logs = [log for log in (events, shown) if log]
        total = max(self.before.get(log.name, 0) + self.intake.counts[log.name] for log in logs)
        names = ["events"] + (["impressions"] if self.schema.impressions else [])
        for name in names:
            checked = {log.name: log for log in logs}.get(name)
            rows = [with_identities(self.engine, checked, users, items)] if checked else []
            if self.former:
                rows.append(self.engine.read(f"former {name}", self.former.path / "log" / name))
            rules = LogRules(
                first=self.before.get(f"{name}_in", 0),
                distinct="row" not in rows[0].columns,
                most=self.schema.max_user_events if name == "events" else None,
            )
            parts = divide(self.engine, name, rows, self.engine.parts(total), self.scratch)
            removed = [found] if (found := self._strangers(checked, items)) is not None else []
            expected = self.before.get(name, 0) if self.former else 0
            if checked:
                expected += self.intake.counts[name] - sum(self.engine.value(table.count()) for table in removed)
            check_complete(self.engine, name, self.scratch / name, expected)
            for place, part in enumerate(parts):
                self.step(f"cleaning {name}, part {place + 1} of {len(parts)}", 0.45 + 0.15 * place / len(parts))
                refused = clean(self.engine, part, rules, self.draft / "log" / name)
                removed += [refused] if refused is not None else []
            if checked:
                self.intake.finish(checked, removed, self._rejected(name))
        self._check_enough()

    def _strangers(self, checked: Checked | None, items: ir.Table) -> ir.Table | None:
        """The rows of items that the item table lacks, where it must have all."""
        must = self.schema.items is not None and self.schema.items.complete
        return strangers(self.engine, checked, items) if checked and must else None

    def _check_enough(self) -> None:
        usable = self.before.get("events", 0) + self.intake.counts["events"]
        if usable < FEWEST_EVENTS:
            refused = ", ".join(f"{number:,} {reason}" for reason, number in self.intake.reasons.items()) or "none"
            raise InputError(
                f"{self.inputs.root / self.schema.events.path}: {usable} usable events of "
                f"{self.intake.counts['events_in']:,} (refused: {refused}); at least {FEWEST_EVENTS} are needed; "
                "if the times look wrong, check 'time_unit' in the schema"
            )

    def _learn(self, log: Log, split: Boundaries, item_rows: ir.Table | None, user_rows: ir.Table | None) -> Encoders:
        """Events and impressions teach by their training period; item and user tables, which have no time, as a whole."""
        schema = self.schema
        sources: dict[str, tuple[Mapping[str, Feature], ir.Table | None]] = {
            "condition": (schema.events.condition, split.training(log.events)),
            "context": (schema.impressions.context if schema.impressions else {}, split.training(log.impressions)),
            "item": (schema.items.features if schema.items else {}, item_rows),
            "user": (schema.users.features if schema.users else {}, user_rows),
        }
        return {
            kind: learn(self.engine, kind, features, table, self._former_encoders(kind))
            for kind, (features, table) in sources.items()
        }

    def _former_encoders(self, kind: str) -> dict[str, Encoder]:
        if self.former is None:
            return {}
        derived = self.schema.time_fields if kind == "condition" else []
        return {
            f"{kind}.{spec.name}": Encoder(
                f"{kind}.{spec.name}",
                spec,
                self._former_vocabulary(f"{kind}.{spec.name}") if spec.in_vocabulary else None,
            )
            for spec in self.former.specs(kind)
            if spec.name not in derived
        }

    def _write_entities(
        self,
        log: Log,
        split: Boundaries,
        encoders: Encoders,
        users: ir.Table,
        items: ir.Table,
        item_rows: ir.Table | None,
        user_rows: ir.Table | None,
    ) -> None:
        """Write the vocabularies, the item table and the user table."""
        vocab, training = self.draft / "vocab", split.training(log.events)
        for role, known, rows in (("item", items, item_rows), ("user", users, user_rows)):
            counts = training.group_by(id=role).agg(count=training.count())
            counted = known.select("value", "id").left_join(counts, "id")
            counted = counted.select("value", "id", count=counted["count"].fill_null(0))
            write_vocabulary(self.engine, counted, vocab / f"{role}s.parquet")
            self.engine.write(entities(known, rows, encoders[role], role), self.draft / f"{role}s.parquet")
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
            for name, some in split.split(found).items():
                self.engine.write_rows(some, self.draft / "impressions" / name / f"{file}.parquet")
                shares.add(self.engine, name, some)
        return shares

    def _info(
        self, split: Boundaries, encoders: Encoders, shares: Shares, profile: Profile, odd: dict[str, int]
    ) -> DatasetInfo:
        former = self.former.info if self.former else None
        schema = former.data_schema if former else self.schema
        specs = {kind: [encoder.spec for encoder in those] for kind, those in encoders.items()}
        counts = _added(self.before, self.intake.counts) | {
            "users": _rows(self.draft / "users.parquet") - 1,
            "items": _rows(self.draft / "items.parquet") - 1,
            "users_with_events": sum(profile.lengths.values()),
            "items_with_events": max(profile.popularity),
            "impressions": sum(shares.rows.values()),
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
            notes=self.intake.notes | odd,
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
                    for part in (_sha256(file.path), *file.partition.items())
                ],
                counts,
            ),
        )


def _added(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in [*first, *second]}


def _rows(file: Path) -> int:
    return int(pq.read_metadata(file).num_rows)


def _sha256(file: str) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
