"""The dataset that an append adds to: its log, ids and encoders. `lum verify` has looked at every byte of it before."""

import ibis.expr.types as ir

from openlum.data.dataset import Dataset
from openlum.prepare.engines.engine import Engine
from openlum.prepare.features import Encoder
from openlum.prepare.text import check_texts


class Former:
    """Reads what an earlier preparation left for later ones.

    Args:
        engine: where tables are computed.
        dataset: the dataset.
    """

    def __init__(self, engine: Engine, dataset: Dataset) -> None:
        self.engine, self.dataset, self.info = engine, dataset, dataset.info

    def log(self, name: str) -> ir.Table:
        """The `events` or the `impressions` of `log/`."""
        return self.engine.read(f"former {name}", self.dataset.path / "log" / name)

    def entity_rows(self, role: str) -> ir.Table:
        """The rows of the item or the user table."""
        return self.engine.read(f"former {role}s", self.dataset.path / "log" / f"{role}s.parquet")

    def vocabulary(self, name: str) -> ir.Table:
        """The vocabulary `items`, `users` or KIND.FIELD.

        Raises:
            InputError: its texts are not those that values have now.
        """
        file = self.dataset.path / "vocab" / f"{name}.parquet"
        values = self.engine.read(f"former vocabulary {name}", file)
        check_texts(self.engine, values, str(file))
        return values

    def encoders(self, kind: str) -> dict[str, Encoder]:
        """Role, KIND.FIELD, to the encoder that was learnt."""
        derived = self.info.data_schema.time_fields if kind == "condition" else []
        return {
            (role := f"{kind}.{spec.name}"): Encoder(role, spec, self.vocabulary(role) if spec.in_vocabulary else None)
            for spec in self.dataset.specs(kind)
            if spec.name not in derived
        }
