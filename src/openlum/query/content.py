"""Comparisons of impressions' items with the users' last items, by content vectors; `model/content.py` says what they are.

Shapes: n rows, b rows of a batch, H last items, V items, W width of a content vector, F content fields.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from openlum.data.sequences import Sequences
from openlum.model import LargeUserModel
from openlum.model.content import COMPARISONS, RECENT, content_names, content_vectors, has_content, summarise

RECENT_ITEMS = "recent_items"
"""The column of knowledge per user with the raw ids of the last items."""
BATCH_NUMBERS = 2**22
"""Numbers of content vectors that are in memory at a time."""
BATCH_ROWS = 16_384
"""Rows whose last items are in memory at a time."""


def content_column_names(tiers: Sequence[str], fields: list[str]) -> list[str]:
    """Return the names of the columns: content.FIELD.COMPARISON, and the same as of the beginning of the day for `nightly`.

    Args:
        tiers: that the matching head predicts.
        fields: with the content.
    """
    names = content_names(fields)
    return [*names, *(f"nightly.{name}" for name in names if "nightly" in tiers)]


def item_contents(model: LargeUserModel, items: int) -> list[Tensor]:
    """Return the content of a dataset's items 0 to `items` - 1, (V, W) on the CPU for each field; 0 if the model has none."""
    ids = torch.arange(items, device=model.device)
    contents = content_vectors(model.network.item_encoder, model.config.content_fields, ids)
    return [content.cpu() for content in contents]


def last_items(sequences: Sequences, user: np.ndarray, prefix: np.ndarray) -> np.ndarray:
    """Return the items of the last H events before moments, (n, H) ids, oldest first; 0 before the user's first event.

    Args:
        sequences: of the users.
        user: (n,) user ids.
        prefix: (n,) numbers of the users' events before the moments.
    """
    within = prefix[:, None] + np.arange(-RECENT, 0)  # (n, H) index of an event among the user's events
    event = sequences.offsets[sequences.user_index(user)][:, None] + within
    items = np.append(sequences.item, np.int32(0))  # the last one stands for no event
    return items[np.where(within >= 0, event, len(items) - 1)]


def last_raw_items(sequences: Sequences, user: np.ndarray, prefix: np.ndarray, raw_ids: pa.Array) -> pa.Array:
    """Return the raw ids of `last_items`, a list of at most H for each moment, (n,).

    Args:
        sequences: of the users.
        user: (n,) user ids.
        prefix: (n,) numbers of the users' events before the moments.
        raw_ids: of all items by id.
    """
    items = last_items(sequences, user, prefix)
    ends = np.cumsum(np.minimum(prefix, RECENT))
    is_event = np.arange(RECENT) >= RECENT - prefix[:, None]
    return pa.ListArray.from_arrays(pa.array(np.append(0, ends), pa.int32()), raw_ids.take(pa.array(items[is_event])))


def content_scores(
    contents: list[Tensor], sequences: Sequences, user: np.ndarray, prefix: np.ndarray, item: np.ndarray
) -> np.ndarray:
    """Return the comparisons of items with the users' last items as of moments, (n, 4 F) float32.

    Args:
        contents: the content of all items, (V, W) for each field, from `item_contents`.
        sequences: of the users.
        user: (n,) user ids.
        prefix: (n,) numbers of the users' events before the moments.
        item: (n,) item ids.
    """
    scores = [np.empty((0, len(contents) * len(COMPARISONS)), np.float32)]
    for start in range(0, len(item) if contents else 0, BATCH_ROWS):
        rows = slice(start, start + BATCH_ROWS)
        scores.append(compare_rows(contents, last_items(sequences, user[rows], prefix[rows]), item[rows]))
    return np.concatenate(scores) if contents else np.empty((len(item), 0), np.float32)


def compare_rows(contents: list[Tensor], last: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return the comparisons of items, (n,) ids, with their users' last items, (n, H) ids, as (n, 4 F) float32.

    Args:
        contents: the content of all items, (V, W) for each field, from `item_contents`.
        last: 0 in the place of an item that is missing.
        item: of the rows.
    """
    scores = np.empty((len(item), len(contents), len(COMPARISONS)), np.float32)
    last_ids, ids = torch.from_numpy(last.astype(np.int64)), torch.from_numpy(item.astype(np.int64))
    for field, content in enumerate(contents):
        known, step = has_content(content), max(BATCH_NUMBERS // (RECENT * content.shape[1]), 1)
        for start in range(0, len(item), step):
            rows = slice(start, start + step)
            own, past = ids[rows], last_ids[rows]  # (b,), (b, H)
            cosines = torch.bmm(content[past], content[own].unsqueeze(2)).squeeze(2)  # (b, H)
            scores[rows, field] = summarise(cosines, known[past] & known[own].unsqueeze(1)).numpy()
    return scores.reshape(len(item), len(contents) * len(COMPARISONS))
