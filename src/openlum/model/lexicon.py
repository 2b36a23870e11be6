"""The words of a model: raw ids, titles and condition values, and the ids that stand for them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from openlum.data.dataset import Dataset
from openlum.data.vocabulary import Vocabulary, hashed_id
from openlum.errors import InputError
from openlum.model.batch import Fields, blank
from openlum.model.settings import TAKEN, TAKEN_VALUES
from openlum.schema import SECONDS, FieldSpec

DAYS = "days since 1970"
"""The unit of a time; ISO 8601 text is accepted for it."""
MOST_SECONDS = 1e12
"""Times beyond this are no seconds since 1970."""


def check_history(history: Sequence[Mapping[str, Any]]) -> None:
    """Every event has an item, times are numbers, and no event lies before an earlier one."""
    last = -math.inf
    for number, event in enumerate(history):
        if event.get("item") is None:
            raise InputError(f"event {number} of the history has no 'item'")
        time = event.get("time")
        if time is not None:
            if not isinstance(time, int | float) or not abs(time) < MOST_SECONDS:
                raise InputError(f"event {number} of the history: 'time' is {time!r}, not seconds since 1970")
            if time < last:
                raise InputError(
                    f"event {number} of the history lies before the one ahead of it; give the oldest first"
                )
            last = time


def time_before(times: Sequence[float | None], index: int) -> int | None:
    """The last known time strictly before that of event `index`, in whole seconds."""
    now = int(times[index])  # type: ignore[arg-type]
    return next((int(t) for t in reversed(times[:index]) if t is not None and int(t) < now), None)


@dataclass(frozen=True)
class Lexicon:
    """Everything that turns raw values into ids and back."""

    items: Vocabulary
    """Raw item ids."""
    titles: list[str]
    """(V,) a title for people to read."""
    conditions: dict[str, Vocabulary]
    """Condition field to its vocabulary; time fields, numbers and hashed fields have none."""
    features: dict[str, Vocabulary] = field(default_factory=dict)
    """Item field to its vocabulary: by these another model takes over the rows of the embedding tables."""

    def save(self, directory: Path) -> None:
        """Write `vocab/*.parquet`."""
        vocab = directory / "vocab"
        vocab.mkdir(exist_ok=True)
        self.items.save(vocab / "items.parquet")
        pq.write_table(pa.table({"title": pa.array(self.titles, pa.string())}), vocab / "titles.parquet")
        for kind, vocabularies in (("condition", self.conditions), ("item", self.features)):
            for name, vocabulary in vocabularies.items():
                vocabulary.save(vocab / f"{kind}.{name}.parquet")

    @classmethod
    def of(cls, dataset: Dataset) -> "Lexicon":
        """The words of a prepared data set."""
        fields = dataset.vocabularies("condition"), dataset.vocabularies("item")
        return cls(dataset.vocabulary("items"), dataset.item_titles(), *fields)

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
        conditions, features = (
            {
                file.name.removeprefix(f"{kind}.").removesuffix(".parquet"): Vocabulary.load(file, "lum pretrain")
                for file in sorted(vocab.glob(f"{kind}.*.parquet"))
            }
            for kind in ("condition", "item")
        )
        return cls(Vocabulary.load(vocab / "items.parquet", "lum pretrain"), titles, conditions, features)

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

    def judged_values(self, spec: FieldSpec) -> list[str]:
        """The values of one of `judges_of`, R raw values, or bounds of buckets, in the order of the model's logits."""
        if spec.edges is not None:
            bounds = [f"{edge:.9g}" for edge in spec.edges]
            between = [f"{low} to {high}" for low, high in pairwise(bounds)]
            return [f"to {bounds[0]}", *between, f"above {bounds[-1]}"] if bounds else ["any number"]
        return TAKEN_VALUES if spec == TAKEN else list(self.conditions[spec.name].values)

    def _encode(self, spec: FieldSpec, value: Any, strict: bool) -> Tensor | int:
        if spec.type in ("numeric", "vector"):
            return _numbers(spec, value)
        if spec.edges is not None:
            return _bucket(spec, value)
        if not spec.hashed and spec.name not in self.conditions:  # a time field: its ids are its values
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < spec.size:
                raise InputError(
                    f"condition field '{spec.name}': {value!r} is not a whole number from 0 to {spec.size - 1}"
                )
            return value
        several = spec.type == "multi" and isinstance(value, list | tuple | set)
        values = list(value) if several else [value]
        ids = self._ids(spec, values)
        if strict and (ids == 0).any():
            raise InputError(f"condition field '{spec.name}': {value!r} {self._unknown(spec)}")
        if spec.type == "categorical":
            return int(ids[0])
        padded = torch.zeros(spec.width, dtype=torch.int64)
        padded[: len(ids)] = torch.from_numpy(ids[: spec.width])
        return padded

    def _ids(self, spec: FieldSpec, values: list[Any]) -> np.ndarray:
        """Ids of raw values, (n,) int64; 0 for those that have none."""
        if spec.hashed:
            return np.array([0 if v is None else hashed_id(str(v), spec.size - 1) for v in values], np.int64)
        return self.conditions[spec.name].encode(values)

    def _unknown(self, spec: FieldSpec) -> str:
        if spec.hashed:
            return "is no value"
        return f"was not in the training data, which has {', '.join(self.conditions[spec.name].values[:8])} ..."


def _bucket(spec: FieldSpec, value: Any) -> int:
    """The id of a number in buckets; 0, *any*, for not-a-number."""
    number = _number(spec, value)
    return 0 if np.isnan(number) else 1 + int(np.searchsorted(spec.edges or [], number, side="left"))


def _numbers(spec: FieldSpec, value: Any) -> Tensor:
    """A number, standardised as the dataset's are, or a vector of the field's width."""
    if spec.type == "numeric":
        return torch.tensor((_number(spec, value) - spec.mean) / spec.std)
    try:
        numbers = torch.tensor([float(v) for v in value])
    except (TypeError, ValueError):
        numbers = torch.empty(0)
    if len(numbers) != spec.width:
        raise InputError(f"condition field '{spec.name}': {value!r} is not a list of {spec.width} numbers")
    return numbers


def _number(spec: FieldSpec, value: Any) -> float:
    """A number, or for a time the days since 1970 of ISO 8601 text, which is UTC where it names no other zone."""
    try:
        if spec.unit == DAYS and isinstance(value, str | date):
            time = datetime.fromisoformat(str(value))
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() / SECONDS["d"]
        return float(value)
    except (TypeError, ValueError, OverflowError):
        wanted = "an ISO 8601 date or time or a number of days since 1970" if spec.unit == DAYS else "a number"
        raise InputError(f"condition field '{spec.name}': {value!r} is not {wanted}") from None
