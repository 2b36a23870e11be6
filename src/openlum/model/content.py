"""Comparisons of items with a user's last items by content vectors: the fields of type `vector` of the item table.

Nothing here is trained. A comparison needs the content of two items only, so it is right for items that no training has met.

Shapes: n candidates, H last items, W width of a content vector, F content fields.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from openlum.model.fields import MAX_NUMBER, ItemEncoder, known_ids

RECENT = 50
"""Number of a user's last items that a candidate is compared with."""
RECENT_BYTES = 4 * RECENT
"""Bytes of the ids of a user's last items."""
TEMPERATURES = {"soft": 5.0, "sharp": 15.0}
"""Name of each smooth maximum to its inverse temperature."""
COMPARISONS = ["mean", *TEMPERATURES, "max"]
"""What is computed from the cosines of a candidate's vector and those of the last items."""


def content_names(fields: list[str]) -> list[str]:
    """Return the names of the 4 F comparisons: content.FIELD.COMPARISON."""
    return [f"content.{field}.{comparison}" for field in fields for comparison in COMPARISONS]


def content_vectors(encoder: ItemEncoder, fields: list[str], ids: Tensor) -> list[Tensor]:
    """Return the content of items, (n,) ids, as one tensor (n, W) per field; of unit length, or 0 if it is missing.

    Items that the encoder does not have, and item 0, have no content.
    """
    ids, features = known_ids(ids, encoder.rows), encoder.features()
    contents = []
    for field in fields:
        values = features[field][ids].float()
        is_missing = values.isnan().any(-1) | (ids == 0)
        values = values.clamp(-MAX_NUMBER, MAX_NUMBER).masked_fill(is_missing.unsqueeze(-1), 0)
        contents.append(F.normalize(values, dim=-1))
    return contents


def compare_content(encoder: ItemEncoder, fields: list[str], items: Tensor, last_items: Tensor) -> Tensor:
    """Return the comparisons, (n, 4 F), of items with the last items of one user, in the order of `content_names`.

    Args:
        encoder: of the items.
        fields: with the content.
        items: (n,) ids.
        last_items: (H,) ids, oldest first, of which the last `RECENT` count.
    """
    last_items = F.pad(last_items[-RECENT:], (1, 0))  # an item without content: a user may have no last items
    contents = zip(content_vectors(encoder, fields, items), content_vectors(encoder, fields, last_items), strict=True)
    return torch.cat(
        [summarise(own @ last.T, has_content(own).unsqueeze(1) & has_content(last)) for own, last in contents], 1
    )


def has_content(vectors: Tensor) -> Tensor:
    """Return which vectors, (..., W) from `content_vectors`, are not missing, (...) bool."""
    return vectors.any(-1)


def summarise(cosines: Tensor, is_known: Tensor) -> Tensor:
    """Return mean, smooth maxima and maximum of cosines, (n, H) to (n, 4); 0 where no cosine is known.

    The smooth maximum with the inverse temperature t is log(mean(exp(t cosine))) / t.

    Args:
        cosines: of candidates and last items.
        is_known: (n, H) bool: whether both have content.
    """
    count = is_known.sum(1).clamp(min=1)
    known = cosines.masked_fill(~is_known, -torch.inf)
    smooth = [((t * known).logsumexp(1) - count.log()) / t for t in TEMPERATURES.values()]
    mean = cosines.masked_fill(~is_known, 0).sum(1) / count
    return torch.stack([mean, *smooth, known.amax(1)], 1).masked_fill(~is_known.any(1, keepdim=True), 0)
