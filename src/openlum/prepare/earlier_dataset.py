"""The dataset that `append` extends: its log, ids and encoders. `append` verifies its checksums before anything is read here."""

import ibis.expr.types as ir

from openlum.data.dataset import Dataset
from openlum.prepare.canonical_expression import check_canonical
from openlum.prepare.engines.engine import Engine
from openlum.prepare.features import Encoder


class EarlierDataset:
    """Reader of the tables that an earlier preparation stored for later preparations.

    Args:
        engine: the engine that computes tables.
        dataset: the dataset to extend.
    """

    def __init__(self, engine: Engine, dataset: Dataset) -> None:
        self.engine, self.dataset, self.info = engine, dataset, dataset.info

    def log(self, name: str) -> ir.Table:
        """Return the `events` or the `impressions` of `log/`."""
        return self.engine.read(f"earlier {name}", self.dataset.path / "log" / name)

    def entity_rows(self, role: str) -> ir.Table:
        """Return the rows of the item table (`role` is `item`) or the user table (`user`)."""
        return self.engine.read(f"earlier {role}s", self.dataset.path / "log" / f"{role}s.parquet")

    def vocabulary(self, name: str) -> ir.Table:
        """Return the vocabulary `items`, `users` or KIND.FIELD.

        Raises:
            InputError: a value of the vocabulary is not in the canonical form of this version.
        """
        file = self.dataset.path / "vocab" / f"{name}.parquet"
        values = self.engine.read(f"earlier vocabulary {name}", file)
        check_canonical(self.engine, values, str(file))
        return values

    def encoders(self, kind: str) -> dict[str, Encoder]:
        """Return the learned encoder of each role (KIND.FIELD)."""
        time_fields = self.info.data_schema.time_fields if kind == "condition" else []
        return {
            (role := f"{kind}.{spec.name}"): Encoder(role, spec, self.vocabulary(role) if spec.in_vocabulary else None)
            for spec in self.dataset.specs(kind)
            if spec.name not in time_fields
        }
