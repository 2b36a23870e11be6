"""A schema in the making: the sampled tables, and the lines that say what was found in them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openlum.schema_wizard.facts import Facts
from openlum.schema_wizard.fields import Field
from openlum.schema_wizard.lines import Line, scalar
from openlum.schema_wizard.roles import UNKNOWN, Role, by_name
from openlum.schema_wizard.sample import Sample


@dataclass
class Draft:
    """A schema in the making."""

    root: Path | None
    """The directory that paths are relative to; without it they are absolute."""
    lines: list[Line] = field(default_factory=list)
    """So far."""
    missing: list[str] = field(default_factory=list)
    """Keys of roles without a column."""

    def add(self, indent: int, text: str, note: str = "", off: bool = False) -> None:
        """Add a line."""
        self.lines.append(Line(indent, text, note, off))

    def path(self, path: str) -> None:
        """Add the path of a table."""
        shown = os.path.abspath(path) if self.root is None else os.path.relpath(path, self.root)
        self.add(1, f"path: {scalar(Path(shown).as_posix())}", "" if self.root is None else "relative to this file")

    def role(self, table: str, key: str, role: Role, facts: Sequence[Facts], note: str = "") -> None:
        """Add a line for a role: its column and what was seen there, or the choices."""
        if role.column is None:
            self.missing.append(f"{table}.{key}")
            choices = ", ".join(role.choices[:8]) or "no column fits"
            leave = "; take the line away if labels are not known yet" if key == "label" else ""
            self.add(1, f"{key}: {UNKNOWN}", f"choose one of: {choices}{leave}")
            return
        seen = by_name(facts)(role.column)
        assert seen is not None
        without = "have no label yet" if key == "label" else "are refused"
        lost = f"; rows without one {without}: {seen.missing:.1%}" if seen.missing and key != "title" else ""
        self.add(1, f"{key}: {scalar(role.column)}", (note or seen.described()) + lost)

    def fields(self, key: str, fields: Sequence[Field]) -> None:
        """Add a mapping of fields; itself commented out where all of them are."""
        if not fields:
            return
        off = all(one.off for one in fields)
        self.add(1, f"{key}:", off=off)
        for one in fields:
            unused = off or bool(one.off)
            told = one.off if one.facts.distinct <= 1 else f"{one.off}; {one.facts.described()}".removeprefix("; ")
            self.add(2, f"{scalar(one.name)}:", told, unused)
            for name, value in one.settings.items():
                self.add(3, f"{name}: {scalar(value)}", one.notes.get(name, ""), unused)
            for name, note in one.notes.items():
                if name not in one.settings and not unused:
                    value, _, why = note.partition("  # ")
                    self.add(3, f"{name}: {value}", why, off=True)


@dataclass(frozen=True)
class LookedAt:
    """A sampled table with the facts of its columns."""

    sample: Sample
    """Some of its rows."""
    facts: list[Facts]
    """Of its columns."""

    def without(self, *columns: str | None) -> list[Facts]:
        """The facts of the other columns."""
        return [one for one in self.facts if one.name not in columns]

    def told(self) -> str:
        """How many rows there are, and how many of them were looked at, in words."""
        all_rows, looked = self.sample.rows, len(self.sample.table)
        files = "" if self.sample.files == 1 else f" in {self.sample.files:,} files"
        if self.sample.whole:
            return f"{looked:,} rows{files}, all looked at"
        return f"{looked:,} rows looked at" + (f" of {all_rows:,}{files}" if all_rows else files)
