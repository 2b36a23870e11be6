"""What a sample shows of a whole table."""

from dataclasses import dataclass

from openlum.schema_wizard.column_profile import ColumnProfile, profile_column
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


def profile_table(path: str, rows: int) -> TableProfile:
    """Return the profile of a table from a sample of about `rows` rows.

    Raises:
        InputError: a file is missing, unreadable or empty.
    """
    sample = take_sample(path, rows)
    return TableProfile(sample, [profile_column(name, sample.table[name]) for name in sample.table.column_names])
