"""What a sample shows of a whole table."""

from dataclasses import dataclass, replace

from openlum.schema_wizard.column_naming import name_columns, with_names
from openlum.schema_wizard.column_profile import ColumnProfile, profile_column
from openlum.schema_wizard.name_hints import Table
from openlum.schema_wizard.sample import Sample, take_sample


@dataclass(frozen=True)
class TableProfile:
    """A sampled table with the profiles of its columns."""

    sample: Sample
    """Some of the table's rows."""
    columns: list[ColumnProfile]
    """A profile for each column, in the table's order."""

    def columns_except(self, *names: str | None) -> list[ColumnProfile]:
        """Return the profiles of all columns but these."""
        return [profile for profile in self.columns if profile.name not in names]

    def description(self) -> str:
        """Return how many rows the table has and how many of them are in the sample, in words."""
        table_rows, sampled_rows = self.sample.rows, len(self.sample.table)
        files = "" if self.sample.files == 1 else f" in {self.sample.files:,} files"
        if self.sample.is_complete:
            return f"sample: all {sampled_rows:,} rows{files}"
        return f"sample: {sampled_rows:,}" + (f" of {table_rows:,} rows{files}" if table_rows else f" rows{files}")


def profile_table(path: str, rows: int, table: Table) -> TableProfile:
    """Return the profile of a table from a sample of about `rows` rows. Columns without a header get guessed names.

    Raises:
        InputError: a file is missing, unreadable or empty.
    """
    sample = take_sample(path, rows)
    columns = [profile_column(name, sample.table[name]) for name in sample.table.column_names]
    declared = sample.csv.csv_format.columns
    if declared is None:
        return TableProfile(sample, columns)
    names = name_columns(columns[: len(declared)], table)
    guess = sample.csv.extended("columns", names, sample.csv.reasons["columns"])
    renamed = sample.table.rename_columns([*names, *sample.table.column_names[len(names) :]])
    return TableProfile(replace(sample, table=renamed, csv=guess), with_names(columns, renamed.column_names))
