"""Column names of a file that an engine can tell apart."""

from collections.abc import Collection, Sequence

from openlum.errors import InputError


def check_names(file: str, names: Sequence[str], used: Sequence[str], reserved: Collection[str] = ()) -> None:
    """Refuse a file in which a column that is used cannot be told from another, or has a name of our own.

    Raises:
        InputError: with the names.
    """
    for column in used:
        same = [name for name in names if name.lower() == column.lower()]
        if same.count(column) > 1:
            raise InputError(f"{file}: column '{column}' is there {same.count(column)} times; keep one")
        if len(same) > 1:
            first, other = same[:2]
            raise InputError(f"{file}: columns '{first}' and '{other}' differ in case only; rename one of them")
    for name in names:
        if name.lower() in reserved:
            raise InputError(f"{file}: column '{name}': this name is kept for the numbers of rows; rename it")
