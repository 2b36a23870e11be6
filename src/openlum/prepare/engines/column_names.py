"""Checks that an engine can tell the column names of a file apart."""

from collections.abc import Collection, Sequence

from openlum.errors import InputError


def check_names(file: str, names: Sequence[str], used: Sequence[str], reserved: Collection[str] = ()) -> None:
    """Raise an `InputError` if a column that is read has the same name as another column, or if a name is reserved.

    Args:
        file: the path of the file, for messages.
        names: all column names of the file.
        used: the columns that are read.
        reserved: names, in lower case, that no column may have.
    """
    for column in used:
        same = [name for name in names if name.lower() == column.lower()]
        if same.count(column) > 1:
            raise InputError(f"{file}: column '{column}' occurs {same.count(column)} times; keep only one of them")
        if len(same) > 1:
            first, other = same[:2]
            raise InputError(f"{file}: columns '{first}' and '{other}' differ only in case; rename one of them")
    for name in names:
        if name.lower() in reserved:
            raise InputError(f"{file}: column '{name}': this name is reserved for row numbers; rename the column")
