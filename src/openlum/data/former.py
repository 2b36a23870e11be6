"""The dataset that an append adds to: its log, ids and encoders, looked at before anything is computed from them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from openlum.data.dataset import Dataset
from openlum.data.engine import Engine
from openlum.data.features import Encoder
from openlum.data.impressions import known_condition
from openlum.data.intake import POSITION
from openlum.errors import InputError
from openlum.schema import Feature

Fits = Callable[[pa.DataType], bool]


def _is_text(of: pa.DataType) -> bool:
    return pa.types.is_string(of) or pa.types.is_large_string(of)


def _is_list_of(fits: Fits) -> Fits:
    return lambda of: (pa.types.is_list(of) or pa.types.is_large_list(of)) and fits(of.value_type)


FITS: dict[str, Fits] = {
    "categorical": _is_text,
    "multi": _is_list_of(_is_text),
    "numeric": pa.types.is_floating,
    "vector": _is_list_of(pa.types.is_floating),
    "time": pa.types.is_floating,
}
"""Type of a feature to what its raw values are in `log/`."""
KINDS = ("condition", "item", "user", "context")
KEYS: dict[str, Fits] = dict.fromkeys((POSITION, "user", "item", "time"), pa.types.is_integer)


class Former:
    """Reads what an earlier preparation left for later ones.

    Args:
        engine: where tables are computed.
        dataset: the dataset.
    """

    def __init__(self, engine: Engine, dataset: Dataset) -> None:
        self.engine, self.dataset, self.info = engine, dataset, dataset.info

    def events(self) -> ir.Table:
        """The events of `log/`."""
        columns = KEYS | _features("condition", self.info.data_schema.events.condition)
        return self._read("former events", "log/events", columns, self.info.counts["events"])

    def impressions(self) -> ir.Table:
        """The impressions of `log/`."""
        schema = self.info.data_schema
        assert schema.impressions is not None
        columns = KEYS | {"label": pa.types.is_floating}
        columns |= {"row": pa.types.is_integer} if schema.impressions.row else {}
        columns |= _features("condition", known_condition(schema)) | _features("context", schema.impressions.context)
        return self._read("former impressions", "log/impressions", columns, self.info.counts["impressions"])

    def entity_rows(self, role: str) -> ir.Table:
        """The rows of the item or the user table."""
        schema = self.info.data_schema
        table = schema.items if role == "item" else schema.users
        assert table is not None
        columns = {"id": _is_text} | _features(role, table.features)
        columns |= {"title": _is_text} if schema.items and role == "item" and schema.items.title else {}
        return self._read(f"former {role}s", f"log/{role}s.parquet", columns)

    def vocabulary(self, name: str) -> ir.Table:
        """The vocabulary `items`, `users` or KIND.FIELD."""
        columns = {"value": _is_text, "id": pa.types.is_integer, "count": pa.types.is_integer}
        sizes = {f"{kind}.{spec.name}": spec.size for kind in KINDS for spec in self.dataset.specs(kind)}
        rows = self.info.counts[name] if name in ("items", "users") else sizes[name] - 1
        return self._read(f"former vocabulary {name}", f"vocab/{name}.parquet", columns, rows)

    def encoders(self, kind: str) -> dict[str, Encoder]:
        """Role, KIND.FIELD, to the encoder that was learnt."""
        derived = self.info.data_schema.time_fields if kind == "condition" else []
        return {
            (role := f"{kind}.{spec.name}"): Encoder(role, spec, self.vocabulary(role) if spec.in_vocabulary else None)
            for spec in self.dataset.specs(kind)
            if spec.name not in derived
        }

    def _read(self, name: str, place: str, columns: Mapping[str, Fits], rows: int | None = None) -> ir.Table:
        """A table of the dataset, of which every file must have these columns, and all together so many rows."""
        path, counted = self.dataset.path / place, 0
        files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        if not files:
            raise damaged(path, "is not there")
        for file in files:
            try:
                with pq.ParquetFile(file) as opened:
                    there = opened.schema_arrow
                    counted += opened.metadata.num_rows
            except (OSError, pa.ArrowException) as error:
                raise damaged(file, f"cannot be read ({error})") from None
            if sorted(there.names) != sorted(columns):
                raise damaged(file, f"has the columns {', '.join(there.names)}, but must have {', '.join(columns)}")
            for column, fits in columns.items():
                of = there.field(column).type
                if not fits(of):
                    raise damaged(file, f"column '{column}' has the type {of}, which 'lum prepare' does not write")
        if rows is not None and counted != rows:
            raise damaged(path, f"has {counted:,} rows, but must have {rows:,}")
        return self.engine.read(name, path)


def damaged(path: Path, why: str) -> InputError:
    """The message for a part of a dataset that an append cannot go on from."""
    return InputError(f"{path}: {why}, so nothing can be appended to this dataset; prepare it anew from its logs")


def blame_former(dataset: Path) -> InputError | None:
    """The message for the first file of a dataset that cannot be read to its end; called when a computation has failed."""
    for file in sorted([*dataset.glob("log/**/*.parquet"), *dataset.glob("vocab/*.parquet")]):
        try:
            for batch in pq.ParquetFile(file).iter_batches():
                batch.validate(full=True)
        except (OSError, pa.ArrowException) as error:
            return damaged(file, f"cannot be read ({' '.join(str(error).split())})")
    return None


def _features(kind: str, features: Mapping[str, Feature]) -> dict[str, Fits]:
    return {f"{kind}.{name}": FITS[feature.type] for name, feature in features.items()}
