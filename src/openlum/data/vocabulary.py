"""Raw values and their ids. Id 0 is *any/unknown* in every vocabulary."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openlum.artefact.parts import damaged, is_integer, is_text, read_parts
from openlum.data.canonical import canonical_text


def hashed_id(value: str, rows: int) -> int:
    """Return the id, 1 to `rows`, of the canonical text of a hashed field's value; every engine computes the same id."""
    return int(hashlib.md5(value.encode(errors="replace"), usedforsecurity=False).hexdigest()[:7], 16) % rows + 1


class Vocabulary:
    """Raw values of one field, in the order of their ids, from id 1.

    Args:
        values: the raw values as text, without the unknown value.
        counts: how often each value occurs in the training period; zeros if not given.

    Example:
        >>> colours = Vocabulary(["red", "blue"])
        >>> colours.encode(["blue", "green"]).tolist()
        [2, 0]
        >>> colours.decode([1])
        ['red']
    """

    def __init__(self, values: Sequence[str], counts: Sequence[int] | None = None) -> None:
        self.values = list(values)
        self.counts = np.zeros(len(self), np.int64)
        if counts is not None:
            self.counts[1:] = counts
        self._ids = {value: index for index, value in enumerate(self.values, start=1)}
        if len(self._ids) != len(self.values):
            raise ValueError("a vocabulary's values must be distinct")

    def __len__(self) -> int:
        """Return the number of ids, id 0 included: the number of rows of an embedding table."""
        return len(self.values) + 1

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Return the ids of raw values, (n,) int64; 0 for values that are missing or not in the vocabulary.

        Raises:
            InputError: a value is a list, a mapping or another container.
        """
        return np.fromiter(map(self._id, values), np.int64, len(values))

    def _id(self, value: Any) -> int:
        # Most values are canonical text already, so they are looked up unchanged first.
        index = self._ids.get(value) if isinstance(value, str) else None
        return self._ids.get(canonical_text(value) or "", 0) if index is None else index

    def decode(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Return the raw values of ids; id 0 becomes `(unknown)`."""
        return ["(unknown)" if index == 0 else self.values[index - 1] for index in ids]

    def save(self, path: Path) -> None:
        """Write the vocabulary as Parquet with the columns value, id and count."""
        ids = np.arange(1, len(self), dtype=np.int32)
        columns = {"value": pa.array(self.values, pa.string()), "id": ids, "count": self.counts[1:]}
        pq.write_table(pa.table(columns), path)

    @classmethod
    def load(cls, path: Path, made_by: str = "lum prepare") -> "Vocabulary":
        """Read a vocabulary that `save` or `lum prepare` wrote; messages name the command `made_by`."""
        table = read_parts(path, {"value": is_text, "id": is_integer, "count": is_integer}, made_by).sort_by("id")
        values = table["value"].to_pylist()
        if None in values or len(set(values)) != len(values):
            raise damaged(path, "is not a vocabulary: values are missing or repeated", made_by)
        if (table["id"].to_numpy() != np.arange(1, len(values) + 1)).any():
            raise damaged(path, "is not a vocabulary: its ids are not 1, 2, 3, ...", made_by)
        return cls(values, table["count"].to_numpy())
