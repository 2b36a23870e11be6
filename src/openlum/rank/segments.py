"""The gain of knowledge in segments of the test rows: new and old users, rare and popular items, and each scenario.

Shapes: I test rows, V items.
"""

from typing import Any, NamedTuple

import numpy as np

from openlum.evaluation.comparison import compare_auc
from openlum.evaluation.metrics import auc
from openlum.rank.batches import RankingData

USER_EVENTS = (0, 5, 20, 100)
"""Upper bounds of a user's events before the row, one per user segment; the last segment has no bound."""
POPULAR_SHARE = 0.5
"""Popular items are the most frequent items that together have this share of the training events."""
MAX_VALUES = 50
"""A condition field with more values gives no segments."""
LARGEST_VALUES = 6
"""Number of most frequent values of a condition field that have their own segment; all other values share one segment."""
MIN_ROWS = 20
"""Fewest rows of either label that the AUC of a segment needs."""


class Segment(NamedTuple):
    """A subset of the test rows."""

    name: str
    rows: np.ndarray
    """(I,) bool."""


class SegmentGroup(NamedTuple):
    """A division of the test rows into segments; every row lies in exactly one segment."""

    by: str
    """`user`, `item` or `condition.FIELD`."""
    rule: str
    """The rule of the division, in words."""
    segments: list[Segment]


def segment_gains(data: RankingData, plain: list[np.ndarray], with_knowledge: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return the test AUC of a ranker without and with knowledge in every segment, and the difference.

    Args:
        data: the data whose test rows were predicted.
        plain: test predictions (I,) of the ranker without knowledge, one per seed.
        with_knowledge: test predictions of the ranker with knowledge, with the same seeds.

    Returns:
        Groups with `by`, `rule` and `segments`. A segment has `name`, `rows`, `positives`, and either `without`, `with`,
        `difference`, `ci95` and `p_value`, or `left_out`: the reason why it has no AUC.
    """
    return [
        {
            "by": group.by,
            "rule": group.rule,
            "segments": [_gain(data, segment, plain, with_knowledge) for segment in group.segments],
        }
        for group in segment_groups(data)
    ]


def segment_groups(data: RankingData) -> list[SegmentGroup]:
    """Return all divisions of the test rows into segments."""
    return [_user_group(data), _item_group(data), *_condition_groups(data)]


def popularity_threshold(events: np.ndarray) -> int:
    """Return the fewest events of a popular item, from the number of events of each item (V,).

    Items with at least this many events have half of all events together.
    """
    falling = np.sort(events)[::-1]
    cumulative = np.cumsum(falling)
    return int(falling[np.searchsorted(cumulative, POPULAR_SHARE * cumulative[-1])])


def _user_group(data: RankingData) -> SegmentGroup:
    events = data.rows["test"].prefix.numpy()
    segment_index = np.searchsorted(USER_EVENTS, events)  # (I,)
    low = [0, *(bound + 1 for bound in USER_EVENTS)]
    names = [f"{a} to {b}" if a < b else str(a) for a, b in zip(low, USER_EVENTS, strict=False)]
    names.append(f"{low[-1]} and more")
    segments = [Segment(f"{name} events", segment_index == index) for index, name in enumerate(names)]
    return SegmentGroup("user", "Users by their number of events before the row (fixed bounds)", segments)


def _item_group(data: RankingData) -> SegmentGroup:
    info, items = data.dataset.info, len(data.dataset.vocabulary("items"))
    events = np.zeros(items, np.int64)  # (V,)
    for sequences in data.dataset.groups_of_sequences():
        events += np.bincount(sequences.item[sequences.time < info.valid_time], minlength=items)
    events[0] = 0  # item 0 stands for all unknown items
    threshold = max(popularity_threshold(events), 1)
    row_events = events[data.rows["test"].item.numpy()]  # (I,)
    segments = [Segment("untrained: no event", row_events == 0)]
    if threshold > 1:
        rare_range = f"1 to {threshold - 1} events" if threshold > 2 else "1 event"
        segments.append(Segment(f"rare: {rare_range}", (row_events > 0) & (row_events < threshold)))
    segments.append(Segment(f"popular: {threshold} and more events", row_events >= threshold))
    rule = "Items by their number of events in the training period (popular items have half of these events together)"
    return SegmentGroup("item", rule, segments)


def _condition_groups(data: RankingData) -> list[SegmentGroup]:
    """Return a group for each categorical condition field that is known before the item and has few values."""
    dataset, rows = data.dataset, data.rows["test"]
    vocabularies = dataset.vocabularies("condition")
    fields = [
        spec.name
        for spec in dataset.specs("condition")
        if spec.type == "categorical" and not spec.feedback and spec.name in vocabularies
    ]
    groups = []
    for name in fields:
        vocabulary, value = vocabularies[name], data.column(rows, f"condition.{name}").numpy()  # (I,)
        counts = np.bincount(value, minlength=len(vocabulary))
        if len(vocabulary) - 1 > MAX_VALUES or not counts[1:].any():
            continue
        falling = 1 + np.argsort(-counts[1:], kind="stable")
        falling = falling[counts[falling] > 0]
        largest, rest = falling[:LARGEST_VALUES], falling[LARGEST_VALUES:]
        names = vocabulary.decode(largest)
        segments = [Segment(text, value == index) for text, index in zip(names, largest, strict=True)]
        if len(rest):
            segments.append(Segment(f"{len(rest)} other value{'s' * (len(rest) > 1)}", np.isin(value, rest)))
        if counts[0]:
            segments.append(Segment("(unknown)", value == 0))
        groups.append(SegmentGroup(f"condition.{name}", f"{name} (its most frequent values)", segments))
    return groups


def _gain(
    data: RankingData, segment: Segment, plain: list[np.ndarray], with_knowledge: list[np.ndarray]
) -> dict[str, Any]:
    rows, index = data.rows["test"], np.flatnonzero(segment.rows)
    label, user, item = (values.numpy()[index] for values in (rows.label, rows.user, rows.item))
    positives = int((label > 0).sum())
    summary: dict[str, Any] = {"name": segment.name, "rows": len(label), "positives": positives}
    reason = _reason_without_auc(len(label), positives)
    if reason:
        return summary | {"left_out": reason}
    plain, with_knowledge = (
        [prediction[index] for prediction in predictions] for predictions in (plain, with_knowledge)
    )
    comparison = compare_auc(label, user, item, with_knowledge, plain)
    means = {
        key: float(np.mean([auc(label, prediction) for prediction in predictions]))
        for key, predictions in (("without", plain), ("with", with_knowledge))
    }
    return (
        summary
        | means
        | {"difference": comparison.difference, "ci95": list(comparison.ci95), "p_value": comparison.p_value}
    )


def _reason_without_auc(rows: int, positives: int) -> str | None:
    """Return why a segment has too few rows for an AUC, or None if it has enough."""
    if not rows:
        return "no rows"
    rarer = min(positives, rows - positives)
    if not rarer:
        return f"all labels are {int(positives > 0)}"
    return (
        f"fewer than {MIN_ROWS} rows with the label {int(positives <= rows - positives)}" if rarer < MIN_ROWS else None
    )
