"""The baselines of retrieval: popularity, recent popularity, repeating the last items, and those of `item_to_item`.

Shapes: n users, V items.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import Dataset
from openlum.data.item_activity import WINDOWS, ItemActivity, moments
from openlum.data.packing import Protocol
from openlum.evaluation.retrieval_metrics import user_metrics
from openlum.retrieve.held_out import HeldOut, eligible_ids
from openlum.retrieve.item_to_item import ItemToItem
from openlum.retrieve.settings import BASELINES, EASE, ITEM_KNN, POPULARITY, RECENT_POPULARITY, REPEAT


def baseline_ranks(
    dataset: Dataset,
    items: int,
    exclude_seen: bool,
    batch_users: int,
    names: Sequence[str] = BASELINES,
    protocol: Protocol = "last",
) -> dict[str, np.ndarray]:
    """Return the rank of every user's held-out test item, (n,) by user id, by each baseline.

    Args:
        dataset: whose events are held out.
        items: V; a later item is ranked behind all others.
        exclude_seen: as in `HeldOut`. `repeat last` is left out if items of the history are excluded.
        batch_users: number of users per batch.
        names: of the baselines.
        protocol: says on which events `item-kNN` and `EASE` are trained.
    """
    fitted = [name for name in names if name in (ITEM_KNN, EASE)]
    ranks = _unfitted_ranks(dataset, items, exclude_seen, batch_users) if len(fitted) < len(names) else {}
    if fitted:
        model = ItemToItem(dataset, items, exclude_seen, batch_users, protocol)
        ranks |= {name: model.ranks(name) for name in fitted}
    return {name: ranks[name] for name in names if name in ranks}


def _unfitted_ranks(dataset: Dataset, items: int, exclude_seen: bool, batch_users: int) -> dict[str, np.ndarray]:
    """Return the ranks of the baselines that count events. The arguments are those of `baseline_ranks`.

    `popularity` counts all events before the moment, `recent popularity` those of the last hour, day or week, whichever has the
    best NDCG@10 on the validation events. `repeat last` puts the user's own items first, the last one at the top, and the most
    popular other items after them; where `holdout` names the events that can be held out, only these events count.
    """
    activity = dataset.item_activity
    users, eligible = [np.empty(0, np.int32)], eligible_ids(dataset)
    ranks: dict[str, list[np.ndarray]] = {}
    for sequences in dataset.groups_of_sequences():
        valid, test = (HeldOut(sequences, split, items, exclude_seen) for split in ("valid", "test"))
        users.append(test.user)
        group = {f"valid {window}": _ranks(valid, activity, batch_users, s) for window, s in WINDOWS.items()}
        group |= {f"test {window}": _ranks(test, activity, batch_users, s) for window, s in WINDOWS.items()}
        group[POPULARITY] = _ranks(test, activity, batch_users)
        if not exclude_seen:
            group[REPEAT] = _ranks(test, activity, batch_users, repeat=eligible)
        for name, rank in group.items():
            ranks.setdefault(name, []).append(rank)
    order = np.argsort(np.concatenate(users))
    joined = {name: np.concatenate(parts) for name, parts in ranks.items()}
    best = max(WINDOWS, key=lambda window: _ndcg(joined[f"valid {window}"]))
    chosen = {POPULARITY: joined[POPULARITY], RECENT_POPULARITY: joined[f"test {best}"]}
    if not exclude_seen:
        chosen[REPEAT] = joined[REPEAT]
    return {name: rank[order] for name, rank in chosen.items()}


def _ndcg(rank: np.ndarray) -> float:
    return float(user_metrics(rank, [10])["ndcg@10"].mean()) if len(rank) else 0.0


def _ranks(
    held_out: HeldOut,
    activity: ItemActivity,
    batch_users: int,
    seconds: int | None = None,
    repeat: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Return the rank of every held-out item, (n,), by the number of events in the last `seconds`, or in all time.

    With `repeat`, the user's own items come first: those of the events that have one of these ids in each of these fields.
    """
    ranks = [np.empty(0, np.int64)]
    for batch in held_out.batches(batch_users):
        scores = popularity_scores(held_out, batch, activity, seconds)
        if repeat is not None:
            user, item, distance = held_out.history(batch, repeat)
            own = np.full(scores.shape, np.inf, np.float32)
            np.minimum.at(own, (user, item), distance)  # events since the user's last event with the item
            largest = scores.numpy().max(initial=0) + 1 + distance.max(initial=0)
            scores = torch.from_numpy(np.where(np.isfinite(own), largest - own, scores.numpy()))
        ranks.append(held_out.rank(batch, scores))
    return np.concatenate(ranks)


def popularity_scores(
    held_out: HeldOut, batch: np.ndarray, activity: ItemActivity, seconds: int | None = None
) -> Tensor:
    """Return the number of events of all items before the held-out events of a batch of users, (n, V).

    Args:
        held_out: the held-out events.
        batch: indices of users.
        activity: of the dataset.
        seconds: counts only the events of so many seconds before; None counts all.
    """
    scores, items = np.empty((len(batch), held_out.items), np.float32), np.arange(held_out.items)
    for moment, rows in moments(held_out.time[batch]):
        scores[rows] = activity.counts(items, np.full(held_out.items, moment), seconds)
    return torch.from_numpy(scores)
