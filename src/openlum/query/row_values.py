"""Values that questions take from the user's history and from the impression's item.

Shapes: n rows, N events, K values of a row, V items, M values of a multi field.
"""

from collections import Counter

import numpy as np

from openlum.data.sequences import Sequences
from openlum.data.shard import ShardedDataset
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model import Processor


def frequent_values(
    spec: FieldSpec, sequences: Sequences, user: np.ndarray, prefix: np.ndarray, k: int
) -> list[np.ndarray]:
    """Return the K values that the user's events before each row have most often: K arrays, (n,) or (n, M), most frequent first.

    Of values that are equally frequent, the one with the later event comes first. A user with fewer values has *any*. Values that
    the model does not know are not counted.

    Args:
        spec: the condition field, with ids as values.
        sequences: of the users.
        user: (n,) user ids.
        prefix: (n,) numbers of the users' events before the rows.
        k: K.
    """
    name = spec.name
    is_stored = name in sequences.condition
    values = sequences.condition[name] if is_stored else sequences.fields(np.arange(len(sequences.time)))[name]
    values = np.where(values < spec.size, values, 0)  # (N,) or (N, M)
    top = np.zeros((len(user), k), np.int32)
    user_index = sequences.user_index(user)
    order = np.lexsort((prefix, user_index))
    order = order[user_index[order] >= 0]
    previous_user, counts, best, seen = -1, Counter[int](), list[int](), 0
    for row in order.tolist():
        if user_index[row] != previous_user:
            previous_user, counts, best, seen = int(user_index[row]), Counter(), [], 0
        first = int(sequences.offsets[previous_user])
        for value in values[first + seen : first + int(prefix[row])].ravel().tolist():
            if value:
                counts[value] += 1
                _move_up(best, value, counts, k)
        seen = int(prefix[row])
        top[row, : len(best)] = best
    return [_as_field(spec, top[:, rank]) for rank in range(k)]


def _move_up(best: list[int], value: int, counts: Counter[int], k: int) -> None:
    """Put a value that occurred once more before all values that are not more frequent, and keep the first K."""
    if value in best:
        best.remove(value)
    place = next((index for index, other in enumerate(best) if counts[other] <= counts[value]), len(best))
    best.insert(place, value)
    del best[k:]


def item_values(dataset: ShardedDataset, processor: Processor, spec: FieldSpec, feature: str) -> np.ndarray:
    """Return the values of a condition field that equal the values of a feature of the dataset's items, (V,) or (V, M).

    A value that the condition field does not have is *any*.

    Args:
        dataset: with the items.
        processor: of the model.
        spec: the condition field.
        feature: name of the feature in the item table.

    Raises:
        InputError: the items have no such feature, or the values of the field or the feature are not in a vocabulary.
    """
    where = f"condition field '{spec.name}': $item.{feature}"
    if spec.feedback:
        raise InputError(f"{where}: the field is feedback, which an item does not have; set a value")
    if spec.name not in processor.conditions:
        raise InputError(f"{where} needs a field with a vocabulary; use another field, or $row")
    features = dataset.vocabularies("item")
    if feature not in features:
        choices = ", ".join(features) or "none: name categorical features in the schema's section 'items'"
        raise InputError(f"{where}: the items have no categorical feature of this name; choose from {choices}")
    ids = np.concatenate(
        [[0], processor.conditions[spec.name].encode(features[feature].values)]
    )  # by id of the feature
    encoded = ids[dataset.item_features()[feature]]  # (V,) or (V, values of the feature)
    encoded = encoded.reshape(len(encoded), -1)
    known_first = np.take_along_axis(encoded, np.argsort(encoded == 0, axis=1, kind="stable"), 1)
    return _as_field(spec, known_first)


def _as_field(spec: FieldSpec, ids: np.ndarray) -> np.ndarray:
    """Return ids, (n,) or (n, any number), as values of a field: (n,), or (n, M) padded with 0."""
    ids = ids.reshape(len(ids), -1).astype(np.int32)
    if spec.type == "categorical":
        return ids[:, 0]
    padded = np.zeros((len(ids), spec.width), np.int32)
    width = min(spec.width, ids.shape[1])
    padded[:, :width] = ids[:, :width]
    return padded
