"""The conversion between raw values (item ids, titles, condition values) and the ids and numbers that a model reads."""

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

from openlum.arguments.values import NO_NUMBERS, brief, check_single, is_missing, nearest
from openlum.artefact.parts import damaged, is_text, read_parts
from openlum.data.canonical import LIST_MARK, canonical_text
from openlum.data.dataset import Dataset
from openlum.data.time_fields import utc_seconds
from openlum.data.vocabulary import Vocabulary, hashed_id
from openlum.errors import InputError
from openlum.field_spec import SECONDS, FieldSpec
from openlum.model.batch import Fields, blank
from openlum.model.settings import TAKEN, TAKEN_VALUES

DAYS = "days since 1970"
"""`FieldSpec.unit` of a time. The raw value may be a number, a date or ISO 8601 text."""
_DATES = (date, np.datetime64)


@dataclass(frozen=True)
class Processor:
    """The vocabularies of a model, and the conversion of raw values to ids and back."""

    items: Vocabulary
    """Vocabulary of the raw item ids."""
    titles: list[str]
    """(V,) readable title of each item."""
    conditions: dict[str, Vocabulary]
    """Condition field to its vocabulary. Time fields, numbers and hashed fields have no vocabulary."""
    features: dict[str, Vocabulary] = field(default_factory=dict)
    """Item field to its vocabulary. `--init-from` uses it to copy embedding rows by value."""

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
    def from_dataset(cls, dataset: Dataset) -> "Processor":
        """Return the processor with the vocabularies of a dataset."""
        vocabularies = dataset.vocabularies("condition"), dataset.vocabularies("item")
        return cls(dataset.vocabulary("items"), dataset.item_titles(), *vocabularies)

    @classmethod
    def load(cls, directory: Path) -> "Processor":
        """Return the processor that `save` wrote to a directory.

        Raises:
            InputError: if a file is missing or damaged.
        """
        vocab = directory / "vocab"
        file = vocab / "titles.parquet"
        titles = read_parts(file, {"title": is_text}, "lum pretrain")["title"].to_pylist()
        items = Vocabulary.load(vocab / "items.parquet", "lum pretrain")
        if len(titles) != len(items):
            raise damaged(file, f"has {len(titles):,} titles for {len(items):,} items", "lum pretrain")
        conditions, features = (
            {
                file.name.removeprefix(f"{kind}.").removesuffix(".parquet"): Vocabulary.load(file, "lum pretrain")
                for file in sorted(vocab.glob(f"{kind}.*.parquet"))
            }
            for kind in ("condition", "item")
        )
        return cls(items, titles, conditions, features)

    def item_ids(self, values: Sequence[Any], description: str) -> np.ndarray:
        """Return the ids of raw items, (n,) int64, with 0 for items that the model does not know.

        If the model knows none of the items, the raw ids probably differ from the ids in its training data: a warning is issued.

        Args:
            values: raw ids.
            description: follows "items" in the warning, such as "of the history".
        """
        ids = self.items.encode(values)
        if len(ids) and not ids.any():
            sample = ", ".join(repr(value) for value in list(values)[:3])
            sample += " ..." if len(ids) > 3 else ""
            warnings.warn(
                f"the model knows none of the {len(ids)} items {description}: {sample}", UserWarning, stacklevel=2
            )
        return ids

    def encode_conditions(
        self,
        rows: Sequence[Mapping[str, Any]],
        specs: list[FieldSpec],
        strict: bool,
        name_of_row: Callable[[int], str] | None = None,
    ) -> Fields:
        """Return raw condition values as fields, (n, ...). A field that a row leaves out is *any*.

        Args:
            rows: one mapping from field to raw value per row.
            specs: the condition fields.
            strict: for questions; missing values and values that are not in the training data are errors. Otherwise, for
                histories, a missing value becomes *any* and a new value *unknown*.
            name_of_row: maps the index of a row to its name in messages.

        Raises:
            InputError: if a row has a field that the model does not have, or a wrong value.
        """
        specs_by_name = {spec.name: spec for spec in specs}
        fields = blank(specs, len(rows))
        for index, row in enumerate(rows):
            try:
                for name, value in row.items():
                    if name not in specs_by_name:
                        remedy = f"choose from {', '.join(specs_by_name)}" if specs_by_name else "it has none at all"
                        raise InputError(f"condition field '{name}': the model has no such field; {remedy}")
                    if strict or not is_missing(value):
                        fields[name][index] = _encode(
                            f"condition field '{name}'", specs_by_name[name], self.conditions.get(name), value, strict
                        )
            except InputError as error:
                if name_of_row is None:
                    raise
                raise InputError(f"{name_of_row(index)}: {error}") from None
        return fields

    def encode_items(self, rows: Sequence[Mapping[str, Any]], specs: list[FieldSpec]) -> Fields:
        """Return raw item fields as fields, (n, ...). A field that a row leaves out is missing, and a new value is unknown.

        Args:
            rows: one mapping from field to raw value per item.
            specs: the item fields.

        Raises:
            InputError: a row has a field that the model does not have, or a wrong value.
        """
        specs_by_name = {spec.name: spec for spec in specs}
        fields = blank(specs, len(rows))
        for index, row in enumerate(rows):
            for name, value in row.items():
                where = f"item {index}: field '{name}'"
                if name not in specs_by_name:
                    raise InputError(
                        f"{where}: the model has no such item field; choose from {', '.join(specs_by_name)}"
                    )
                if not is_missing(value):
                    fields[name][index] = _encode(
                        where, specs_by_name[name], self.features.get(name), value, strict=False
                    )
        return fields

    def encode_question(self, name: str, question: Mapping[str, Any], specs: list[FieldSpec]) -> Fields:
        """Return the fields, (1, ...), of one question. An error message names the question.

        Raises:
            InputError: if a field or a value of the question is wrong.
        """
        try:
            return self.encode_conditions([question], specs, strict=True)
        except InputError as error:
            raise InputError(f"question '{name}': {error}") from None

    def feedback_values(self, spec: FieldSpec) -> list[str]:
        """Return the R values of one of `feedback_targets`, in the order of the model's logits: raw values or ranges."""
        return TAKEN_VALUES if spec == TAKEN else self.values(spec)

    def values(self, spec: FieldSpec) -> list[str]:
        """Return the values of a field with ids, from id 1 on: raw values, ranges of numbers, or the ids of a time field."""
        if spec.edges is not None:
            bounds = [f"{edge:.9g}" for edge in spec.edges]
            ranges = [f"{low} to {high}" for low, high in pairwise(bounds)]
            return [f"to {bounds[0]}", *ranges, f"above {bounds[-1]}"] if bounds else ["any number"]
        if self.is_time_field(spec):
            return [str(index) for index in range(1, spec.size)]
        return list(self.conditions[spec.name].values)

    def is_time_field(self, spec: FieldSpec) -> bool:
        """Return whether a condition field is computed from the time. Its ids are its values, so it has no vocabulary."""
        return spec.in_vocabulary and spec.name not in self.conditions


def _encode(where: str, spec: FieldSpec, vocabulary: Vocabulary | None, value: Any, strict: bool) -> Tensor | int:
    """Return the id or the numbers of a raw value of a field.

    Args:
        where: the field's name in messages.
        spec: the field.
        vocabulary: of the field; None if it has none.
        value: the raw value.
        strict: whether a missing value and a value without an id are errors.
    """
    if is_missing(value):
        raise InputError(f"{where}: {brief(value)} is a missing value; leave the field out, which means 'any'")
    if spec.type in ("numeric", "vector"):
        return _numbers(where, spec, value)
    if spec.edges is not None:
        return _bucket(where, spec, value)
    if not spec.hashed and vocabulary is None:  # a time field: its ids are its values
        return _time_field_id(where, spec, value)
    if spec.type == "multi" and isinstance(value, str):
        value = value.split(LIST_MARK)  # as in the columns of a table
    is_collection = spec.type == "multi" and isinstance(value, list | tuple | set | frozenset | np.ndarray)
    values = list(value) if is_collection and np.ndim(value) else [value]
    if not strict:
        values = [element for element in values if not is_missing(element)]
    for element in values:
        check_single(where, element)
    ids = _hashed_ids(spec, values) if vocabulary is None else vocabulary.encode(values)
    if strict and (ids == 0).any():
        raise InputError(f"{where}: {brief(value)} {_unknown_value(vocabulary, values[int(np.argmin(ids))])}")
    if spec.type == "categorical":
        return int(ids[0])
    padded = torch.zeros(spec.width, dtype=torch.int64)
    padded[: len(ids)] = torch.from_numpy(ids[: spec.width])
    return padded


def _hashed_ids(spec: FieldSpec, values: list[Any]) -> np.ndarray:
    """Return the ids of raw values of a hashed field, (n,) int64, with 0 for missing values."""
    texts = [canonical_text(value) for value in values]
    return np.array([0 if text is None else hashed_id(text, spec.size - 1) for text in texts], np.int64)


def _unknown_value(vocabulary: Vocabulary | None, value: Any) -> str:
    """Return the part of a message that says why a value has no id."""
    if vocabulary is None:
        return "is a missing value"
    return f"was not in the training data; {nearest(value, vocabulary.values)}"


def _time_field_id(where: str, spec: FieldSpec, value: Any) -> int:
    """Return the id of a time field's value, which is the value itself."""
    try:
        number = -1 if isinstance(value, NO_NUMBERS) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < spec.size:
        raise InputError(f"{where}: {brief(value)} is not a whole number from 0 to {spec.size - 1}")
    return number


def _bucket(where: str, spec: FieldSpec, value: Any) -> int:
    """Return the id of the bucket that a number falls into."""
    return 1 + int(np.searchsorted(spec.edges or [], _number(where, spec, value), side="left"))


def _numbers(where: str, spec: FieldSpec, value: Any) -> Tensor:
    """Return a number, standardised as in the dataset, or a vector of the field's width."""
    if spec.type == "numeric":
        return torch.tensor((_number(where, spec, value) - spec.mean) / spec.std)
    try:
        vector = np.array([_float(element) for element in _ordered(value)])
    except (TypeError, ValueError, OverflowError):
        vector = np.empty(0)
    if len(vector) != spec.width or not np.isfinite(vector).all():
        raise InputError(f"{where}: {brief(value)} is not a list of {spec.width} finite numbers")
    return torch.from_numpy(vector).float()


def _ordered(value: Any) -> Sequence[Any] | np.ndarray | Tensor:
    """Return the value if its elements have an order and it is not text; otherwise raise a TypeError."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray | Tensor):
        raise TypeError
    return value


def _float(value: Any) -> float:
    """Return a number, also from text. A NumPy time has a unit and raises a TypeError."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        raise TypeError
    return float(value)


def _number(where: str, spec: FieldSpec, value: Any) -> float:
    """Return a finite number. A time, also a date or ISO 8601 text, becomes days since 1970; without a time zone, it is UTC."""
    try:
        if spec.unit == DAYS and isinstance(value, str):
            value = datetime.fromisoformat(value)
        number = utc_seconds(value) / SECONDS["d"] if spec.unit == DAYS and isinstance(value, _DATES) else _float(value)
        if math.isfinite(number):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    expected = "an ISO 8601 date or time or a number of days since 1970" if spec.unit == DAYS else "a finite number"
    raise InputError(f"{where}: {brief(value)} is not {expected}")
