"""The words of a model: raw ids, titles and condition values, and the ids that stand for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from openlum.data.dataset import Dataset
from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.model.batch import Fields, blank
from openlum.schema import FieldSpec


@dataclass(frozen=True)
class Lexicon:
    """Everything that turns raw values into ids and back."""

    items: Vocabulary
    """Raw item ids."""
    titles: list[str]
    """(V,) a title for people to read."""
    conditions: dict[str, Vocabulary]
    """Condition field to its vocabulary; time fields and numbers have none."""

    def save(self, directory: Path) -> None:
        """Write `vocab/*.parquet`."""
        vocab = directory / "vocab"
        vocab.mkdir(exist_ok=True)
        self.items.save(vocab / "items.parquet")
        pq.write_table(pa.table({"title": pa.array(self.titles, pa.string())}), vocab / "titles.parquet")
        for name, vocabulary in self.conditions.items():
            vocabulary.save(vocab / f"condition.{name}.parquet")

    @classmethod
    def of(cls, dataset: Dataset) -> "Lexicon":
        """The words of a prepared data set."""
        return cls(dataset.vocabulary("items"), dataset.item_titles(), dataset.vocabularies("condition"))

    @classmethod
    def load(cls, directory: Path) -> "Lexicon":
        """Read what `save` wrote.

        Raises:
            InputError: a file of it is missing.
        """
        vocab = directory / "vocab"
        try:
            titles = pq.read_table(vocab / "titles.parquet")["title"].to_pylist()
        except (OSError, KeyError, pa.ArrowInvalid) as error:
            raise InputError(
                f"{vocab / 'titles.parquet'}: cannot be read ({error}); run 'lum pretrain' again"
            ) from None
        files = sorted(vocab.glob("condition.*.parquet"))
        return cls(
            items=Vocabulary.load(vocab / "items.parquet", "lum pretrain"),
            titles=titles,
            conditions={
                f.name[len("condition.") : -len(".parquet")]: Vocabulary.load(f, "lum pretrain") for f in files
            },
        )

    def encode_conditions(self, rows: Sequence[Mapping[str, Any]], specs: list[FieldSpec], strict: bool) -> Fields:
        """Raw condition values, one mapping a row, to fields, (n, ...). What a row does not name is *any*.

        Args:
            rows: field to raw value.
            specs: the condition fields.
            strict: refuse values that were not in the training data (a question); otherwise they are *unknown* (a history).

        Raises:
            InputError: a row names a field that the model does not have, or has an unfit value.
        """
        known = {spec.name: spec for spec in specs}
        fields = blank(specs, len(rows))
        for index, row in enumerate(rows):
            for name, value in row.items():
                if name not in known:
                    raise InputError(f"condition field '{name}': the model has {', '.join(known) or 'no fields'}")
                fields[name][index] = self._encode(known[name], value, strict)
        return fields

    def encode_question(self, name: str, question: Mapping[str, Any], specs: list[FieldSpec]) -> Fields:
        """One question, (1, ...); a message names it."""
        try:
            return self.encode_conditions([question], specs, strict=True)
        except InputError as error:
            raise InputError(f"question '{name}': {error}") from None

    def _encode(self, spec: FieldSpec, value: Any, strict: bool) -> Tensor | int:
        if spec.type in ("numeric", "vector"):
            return _numbers(spec, value)
        if spec.name not in self.conditions:  # a time field: its ids are its values
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < spec.size:
                raise InputError(
                    f"condition field '{spec.name}': {value!r} is not a whole number from 0 to {spec.size - 1}"
                )
            return value
        several = spec.type == "multi" and isinstance(value, list | tuple | set)
        values = list(value) if several else [value]
        ids = self.conditions[spec.name].encode(values)
        if strict and (ids == 0).any():
            some = ", ".join(self.conditions[spec.name].values[:8])
            raise InputError(
                f"condition field '{spec.name}': {value!r} was not in the training data, which has {some} ..."
            )
        if spec.type == "categorical":
            return int(ids[0])
        padded = torch.zeros(spec.width, dtype=torch.int64)
        padded[: len(ids)] = torch.from_numpy(ids[: spec.width])
        return padded


def _numbers(spec: FieldSpec, value: Any) -> Tensor:
    """A number, standardised as the dataset's are, or a vector of the field's width."""
    shape = (spec.width,) if spec.type == "vector" else ()
    try:
        numbers = torch.tensor([float(v) for v in value] if shape else float(value))
    except (TypeError, ValueError):
        numbers = torch.empty(0, 0)
    if numbers.shape != shape:
        wanted = f"a list of {spec.width} numbers" if shape else "a number"
        raise InputError(f"condition field '{spec.name}': {value!r} is not {wanted}")
    return (numbers - spec.mean) / spec.std
