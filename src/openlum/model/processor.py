"""The words of a model: raw ids, titles and condition values, and the ids that stand for them."""

import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from openlum.arguments.values import NO_NUMBERS, brief, check_single, is_missing
from openlum.artefact.parts import damaged, read_parts, text
from openlum.data.canonical import LIST_MARK, canonical
from openlum.data.dataset import Dataset
from openlum.data.time_fields import utc_seconds
from openlum.data.vocabulary import Vocabulary, hashed_id
from openlum.errors import InputError
from openlum.model.batch import Fields, blank
from openlum.model.settings import TAKEN, TAKEN_VALUES
from openlum.schema import SECONDS, FieldSpec

DAYS = "days since 1970"
"""The unit of a time; ISO 8601 text is accepted for it."""
_DATES = (date, np.datetime64)


@dataclass(frozen=True)
class Processor:
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
    def of(cls, dataset: Dataset) -> "Processor":
        """The words of a prepared data set."""
        fields = dataset.vocabularies("condition"), dataset.vocabularies("item")
        return cls(dataset.vocabulary("items"), dataset.item_titles(), *fields)

    @classmethod
    def load(cls, directory: Path) -> "Processor":
        """Read what `save` wrote.

        Raises:
            InputError: a file of it is missing or damaged.
        """
        vocab = directory / "vocab"
        file = vocab / "titles.parquet"
        titles = read_parts(file, {"title": text}, "lum pretrain")["title"].to_pylist()
        items = Vocabulary.load(vocab / "items.parquet", "lum pretrain")
        if len(titles) != len(items):
            raise damaged(file, f"has {len(titles):,} titles of {len(items):,} items", "lum pretrain")
        conditions, features = (
            {
                file.name.removeprefix(f"{kind}.").removesuffix(".parquet"): Vocabulary.load(file, "lum pretrain")
                for file in sorted(vocab.glob(f"{kind}.*.parquet"))
            }
            for kind in ("condition", "item")
        )
        return cls(items, titles, conditions, features)

    def item_ids(self, values: Sequence[Any], of: str) -> np.ndarray:
        """Ids of raw items, (n,) int64; 0 for those that the model does not know.

        Warns where it knows none of them, for then the ids are probably not those that it was trained with.

        Args:
            values: raw ids.
            of: what they are items of, for the warning.
        """
        ids = self.items.encode(values)
        if len(ids) and not ids.any():
            some = ", ".join(repr(value) for value in list(values)[:3])
            some += " ..." if len(ids) > 3 else ""
            warnings.warn(f"the model knows none of the {len(ids)} items {of}: {some}", UserWarning, stacklevel=2)
        return ids

    def encode_conditions(
        self,
        rows: Sequence[Mapping[str, Any]],
        specs: list[FieldSpec],
        strict: bool,
        name_of_row: Callable[[int], str] | None = None,
    ) -> Fields:
        """Raw condition values, one mapping a row, to fields, (n, ...). What a row does not name is *any*.

        Args:
            rows: field to raw value.
            specs: the condition fields.
            strict: refuse missing values and those that were not in the training data (a question); otherwise they are *any* and
                *unknown* (a history).
            name_of_row: the name of a row for messages, of its index.

        Raises:
            InputError: a row names a field that the model does not have, or has an unfit value.
        """
        known = {spec.name: spec for spec in specs}
        fields = blank(specs, len(rows))
        for index, row in enumerate(rows):
            try:
                for name, value in row.items():
                    if name not in known:
                        raise InputError(f"condition field '{name}': the model has {', '.join(known) or 'no fields'}")
                    if strict or not is_missing(value):
                        fields[name][index] = self._encode(known[name], value, strict)
            except InputError as error:
                if name_of_row is None:
                    raise
                raise InputError(f"{name_of_row(index)}: {error}") from None
        return fields

    def encode_question(self, name: str, question: Mapping[str, Any], specs: list[FieldSpec]) -> Fields:
        """One question, (1, ...); a message names it."""
        try:
            return self.encode_conditions([question], specs, strict=True)
        except InputError as error:
            raise InputError(f"question '{name}': {error}") from None

    def feedback_values(self, spec: FieldSpec) -> list[str]:
        """The values of one of `feedback_targets_of`, R raw values, or bounds of buckets, in the order of the model's logits."""
        if spec.edges is not None:
            bounds = [f"{edge:.9g}" for edge in spec.edges]
            between = [f"{low} to {high}" for low, high in pairwise(bounds)]
            return [f"to {bounds[0]}", *between, f"above {bounds[-1]}"] if bounds else ["any number"]
        return TAKEN_VALUES if spec == TAKEN else list(self.conditions[spec.name].values)

    def _encode(self, spec: FieldSpec, value: Any, strict: bool) -> Tensor | int:
        if is_missing(value):
            raise InputError(
                f"condition field '{spec.name}': {brief(value)} is no value; leave the field out to ask for any"
            )
        if spec.type in ("numeric", "vector"):
            return _numbers(spec, value)
        if spec.edges is not None:
            return _bucket(spec, value)
        if not spec.hashed and spec.name not in self.conditions:  # a time field: its ids are its values
            return _own_id(spec, value)
        if spec.type == "multi" and isinstance(value, str):
            value = value.split(LIST_MARK)  # as in the columns of a table
        several = spec.type == "multi" and isinstance(value, list | tuple | set | frozenset | np.ndarray)
        values = list(value) if several and np.ndim(value) else [value]
        if not strict:
            values = [one for one in values if not is_missing(one)]
        for one in values:
            check_single(f"condition field '{spec.name}'", one)
        ids = self._ids(spec, values)
        if strict and (ids == 0).any():
            raise InputError(f"condition field '{spec.name}': {brief(value)} {self._unknown(spec)}")
        if spec.type == "categorical":
            return int(ids[0])
        padded = torch.zeros(spec.width, dtype=torch.int64)
        padded[: len(ids)] = torch.from_numpy(ids[: spec.width])
        return padded

    def _ids(self, spec: FieldSpec, values: list[Any]) -> np.ndarray:
        """Ids of raw values, (n,) int64; 0 for those that have none."""
        if spec.hashed:
            texts = [canonical(value) for value in values]
            return np.array([0 if text is None else hashed_id(text, spec.size - 1) for text in texts], np.int64)
        return self.conditions[spec.name].encode(values)

    def _unknown(self, spec: FieldSpec) -> str:
        if spec.hashed:
            return "is no value"
        return f"was not in the training data, which has {', '.join(self.conditions[spec.name].values[:8])} ..."


def _own_id(spec: FieldSpec, value: Any) -> int:
    """The id of a time field, which is its value."""
    try:
        number = -1 if isinstance(value, NO_NUMBERS) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < spec.size:
        raise InputError(
            f"condition field '{spec.name}': {brief(value)} is not a whole number from 0 to {spec.size - 1}"
        )
    return number


def _bucket(spec: FieldSpec, value: Any) -> int:
    """The id of a number in buckets."""
    return 1 + int(np.searchsorted(spec.edges or [], _number(spec, value), side="left"))


def _numbers(spec: FieldSpec, value: Any) -> Tensor:
    """A number, standardised as the dataset's are, or a vector of the field's width."""
    if spec.type == "numeric":
        return torch.tensor((_number(spec, value) - spec.mean) / spec.std)
    try:
        vector = np.array([_float(v) for v in _listed(value)])
    except (TypeError, ValueError, OverflowError):
        vector = np.empty(0)
    if len(vector) != spec.width or not np.isfinite(vector).all():
        raise InputError(f"condition field '{spec.name}': {brief(value)} is not a list of {spec.width} finite numbers")
    return torch.from_numpy(vector).float()


def _listed(value: Any) -> Sequence[Any] | np.ndarray | Tensor:
    """The value, which is in an order; text and sets are not numbers in an order."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray | Tensor):
        raise TypeError
    return value


def _float(value: Any) -> float:
    """A number, or text of one; times have a unit and are none."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        raise TypeError
    return float(value)


def _number(spec: FieldSpec, value: Any) -> float:
    """A finite number; for a time the days since 1970, also of a date or ISO 8601 text, which is UTC where it names no zone."""
    try:
        if spec.unit == DAYS and isinstance(value, str):
            value = datetime.fromisoformat(value)
        number = utc_seconds(value) / SECONDS["d"] if spec.unit == DAYS and isinstance(value, _DATES) else _float(value)
        if math.isfinite(number):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    wanted = "an ISO 8601 date or time or a number of days since 1970" if spec.unit == DAYS else "a finite number"
    raise InputError(f"condition field '{spec.name}': {brief(value)} is not {wanted}")
