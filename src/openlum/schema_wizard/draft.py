"""The draft of a schema: the lines that the wizard has written so far."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openlum.prepare.inputs.files import UNKNOWN
from openlum.schema_wizard.column_profile import ColumnProfile
from openlum.schema_wizard.commented_yaml import YamlLine, format_scalar
from openlum.schema_wizard.fields import ProposedField, date_order_reason
from openlum.schema_wizard.name_hints import Table
from openlum.schema_wizard.roles import Role, find_profile
from openlum.schema_wizard.sample import Sample


@dataclass
class SchemaDraft:
    """A schema that is being written."""

    root: Path | None
    """The directory that paths are relative to; None writes absolute paths."""
    lines: list[YamlLine] = field(default_factory=list)
    """The lines so far."""
    missing: list[str] = field(default_factory=list)
    """Keys of the roles without a column, such as `events.user`."""

    def add_line(self, indent: int, text: str, comment: str = "", commented_out: bool = False) -> None:
        """Add a line."""
        self.lines.append(YamlLine(indent, text, comment, commented_out))

    def add_path(self, sample: Sample, table: Table) -> None:
        """Add the path of a table, and the format of its CSV files as far as it must be declared."""
        written = os.path.abspath(sample.path) if self.root is None else os.path.relpath(sample.path, self.root)
        comment = "" if self.root is None else "relative to this file"
        self.add_line(1, f"path: {format_scalar(Path(written).as_posix())}", comment)
        reasons = sample.csv.reasons
        if not reasons:
            return
        self.add_line(1, "csv:", "how the file is written; a sample shows this")
        for key, reason in reasons.items():
            hint = "; the names are guesses from the values, change them as you like" if key == "columns" else ""
            if hint and table in ("events", "impressions"):
                hint += ": where nothing else shows it, the user is the column before the item"
            self.add_line(2, f"{key}: {format_scalar(getattr(sample.csv.csv_format, key))}", reason + hint)

    def add_date_order(self, table: str, profile: ColumnProfile) -> None:
        """Add the order of day and month in the time of a log, if its dates have one."""
        if profile.date_order == "???":
            self.missing.append(f"{table}.date_order")
        if profile.date_order:
            self.add_line(1, f"date_order: {profile.date_order}", date_order_reason(profile))

    def add_role(self, table: str, key: str, role: Role, profiles: Sequence[ColumnProfile], comment: str = "") -> None:
        """Add the line of a role: its column with a description, or `???` with the columns to choose from."""
        if role.column is None:
            self.missing.append(f"{table}.{key}")
            choices = ", ".join(role.choices[:8]) or "no column fits"
            hint = "; delete this line if the labels are not known yet" if key == "label" else ""
            self.add_line(1, f"{key}: {UNKNOWN}", f"choose one of: {choices}{hint}")
            return
        profile = find_profile(profiles, role.column)
        assert profile is not None
        consequence = "have no label yet" if key == "label" else "have no value and are rejected"
        gaps = f"; {profile.missing:.1%} of the rows {consequence}" if profile.missing and key != "title" else ""
        self.add_line(1, f"{key}: {format_scalar(role.column)}", (comment or profile.description()) + gaps)

    def add_fields(self, key: str, fields: Sequence[ProposedField]) -> None:
        """Add a mapping of fields; its key is commented out if all its fields are."""
        if not fields:
            return
        self.missing += [
            f"{key}.{proposed.name}.date_order"
            for proposed in fields
            if proposed.profile.date_order == UNKNOWN and not proposed.reason_commented_out
        ]
        all_commented_out = all(proposed.reason_commented_out for proposed in fields)
        self.add_line(1, f"{key}:", commented_out=all_commented_out)
        for proposed in fields:
            self._add_field(proposed, all_commented_out or bool(proposed.reason_commented_out))

    def _add_field(self, proposed: ProposedField, commented_out: bool) -> None:
        comment = proposed.reason_commented_out
        if proposed.profile.distinct > 1:
            comment = f"{proposed.reason_commented_out}; {proposed.profile.description()}".removeprefix("; ")
        self.add_line(2, f"{format_scalar(proposed.name)}:", comment, commented_out)
        for key, value in proposed.settings.items():
            self.add_line(3, f"{key}: {format_scalar(value)}", proposed.comments.get(key, ""), commented_out)
        for key, alternative in proposed.comments.items():
            if key not in proposed.settings and not commented_out:
                value, _, reason = alternative.partition("  # ")
                self.add_line(3, f"{key}: {value}", reason, commented_out=True)
