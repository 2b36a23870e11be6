"""What knowledge adds in parts of the test rows: new and old users, rare and popular items, and each scenario.

Shapes: I test rows, V items.
"""

from typing import Any, NamedTuple

import numpy as np

from openlum.evaluation.comparison import compare_auc
from openlum.evaluation.metrics import auc
from openlum.rank.batches import RankingData

USER_EVENTS = (0, 5, 20, 100)
"""Most events before the row of the users of each segment but the last."""
POPULAR_PART = 0.5
"""Part of the training events that the popular items have together."""
MOST_VALUES = 50
"""A condition field with more values makes no segments."""
SHOWN_VALUES = 6
"""Most frequent values of a condition field that are segments of their own; the others are one together."""
FEWEST = 20
"""Rows of either label that a segment's AUC needs."""


class Segment(NamedTuple):
    """Some of the test rows."""

    name: str
    rows: np.ndarray
    """(I,) bool."""


class Group(NamedTuple):
    """A way to divide the test rows into segments: every row lies in one of them."""

    by: str
    """`user`, `item` or `condition.FIELD`."""
    rule: str
    """In words, how the rows are divided."""
    segments: list[Segment]


def segment_gains(data: RankingData, without: list[np.ndarray], informed: list[np.ndarray]) -> list[dict[str, Any]]:
    """Compare the test AUC of a ranker without and with knowledge in every segment.

    Args:
        data: whose test rows were predicted.
        without: test predictions (I,) of the ranker without knowledge, one a seed.
        informed: the same with knowledge, of the same seeds.

    Returns:
        Groups with `by`, `rule` and `segments`. A segment has `name`, `rows`, `positives`, and either `without`, `with`,
        `difference`, `ci95` and `p_value`, or `left_out`: why its AUC would tell nothing.
    """
    return [
        {
            "by": group.by,
            "rule": group.rule,
            "segments": [_gain(data, segment, without, informed) for segment in group.segments],
        }
        for group in groups(data)
    ]


def groups(data: RankingData) -> list[Group]:
    """All ways in which the test rows are divided."""
    return [_by_user(data), _by_item(data), *_by_condition(data)]


def popular_from(events: np.ndarray) -> int:
    """Fewest events of a popular item, from the events of all items (V,): items with as many or more have half of all events."""
    falling = np.sort(events)[::-1]
    so_far = np.cumsum(falling)
    return int(falling[np.searchsorted(so_far, POPULAR_PART * so_far[-1])])


def _by_user(data: RankingData) -> Group:
    events = data.rows["test"].prefix.numpy()
    place = np.searchsorted(USER_EVENTS, events)  # (I,)
    low = [0, *(most + 1 for most in USER_EVENTS)]
    names = [f"{a} to {b}" if a < b else str(a) for a, b in zip(low, USER_EVENTS, strict=False)]
    names.append(f"{low[-1]} and more")
    segments = [Segment(f"{name} events", place == index) for index, name in enumerate(names)]
    return Group("user", "Users by their events before the row (fixed cuts)", segments)


def _by_item(data: RankingData) -> Group:
    sequences, info = data.dataset.sequences, data.dataset.info
    items = len(data.dataset.vocabulary("items"))
    events = np.bincount(sequences.item[sequences.time < info.valid_time], minlength=items)  # (V,)
    events[0] = 0  # all unknown items together
    cut = max(popular_from(events), 1)
    of_rows = events[data.rows["test"].item.numpy()]  # (I,)
    segments = [Segment("unmet: no event", of_rows == 0)]
    if cut > 1:
        few = f"1 to {cut - 1} events" if cut > 2 else "1 event"
        segments.append(Segment(f"rare: {few}", (of_rows > 0) & (of_rows < cut)))
    segments.append(Segment(f"popular: {cut} and more events", of_rows >= cut))
    rule = "Items by their events in the training period (the popular ones have half of these events together)"
    return Group("item", rule, segments)


def _by_condition(data: RankingData) -> list[Group]:
    """A group for each categorical field with few values that is known before the item is."""
    dataset, rows = data.dataset, data.rows["test"]
    vocabularies = dataset.vocabularies("condition")
    fields = [
        spec.name
        for spec in dataset.specs("condition")
        if spec.type == "categorical" and not spec.feedback and spec.name in vocabularies
    ]
    out = []
    for name in fields:
        vocabulary, value = vocabularies[name], rows.features[f"condition.{name}"].numpy()  # (I,)
        number = np.bincount(value, minlength=len(vocabulary))
        if len(vocabulary) - 1 > MOST_VALUES or not number[1:].any():
            continue
        falling = 1 + np.argsort(-number[1:], kind="stable")
        falling = falling[number[falling] > 0]
        shown, others = falling[:SHOWN_VALUES], falling[SHOWN_VALUES:]
        words = vocabulary.decode(shown)
        segments = [Segment(word, value == index) for word, index in zip(words, shown, strict=True)]
        if len(others):
            segments.append(Segment(f"{len(others)} other value{'s' * (len(others) > 1)}", np.isin(value, others)))
        if number[0]:
            segments.append(Segment("(unknown)", value == 0))
        out.append(Group(f"condition.{name}", f"{name} (its most frequent values)", segments))
    return out


def _gain(data: RankingData, segment: Segment, without: list[np.ndarray], informed: list[np.ndarray]) -> dict[str, Any]:
    rows, inside = data.rows["test"], np.flatnonzero(segment.rows)
    label, user, item = (values.numpy()[inside] for values in (rows.label, rows.user, rows.item))
    positives = int((label > 0).sum())
    told: dict[str, Any] = {"name": segment.name, "rows": len(label), "positives": positives}
    reason = _left_out(len(label), positives)
    if reason:
        return told | {"left_out": reason}
    plain, other = ([prediction[inside] for prediction in of_seeds] for of_seeds in (without, informed))
    found = compare_auc(label, user, item, other, plain)
    means = {
        key: float(np.mean([auc(label, prediction) for prediction in of_seeds]))
        for key, of_seeds in (("without", plain), ("with", other))
    }
    return told | means | {"difference": found.difference, "ci95": list(found.ci95), "p_value": found.p_value}


def _left_out(rows: int, positives: int) -> str | None:
    """Why the AUC of a segment would tell nothing, if so."""
    if not rows:
        return "no rows"
    rarer = min(positives, rows - positives)
    if not rarer:
        return f"all labels are {int(positives > 0)}"
    return f"fewer than {FEWEST} rows with the label {int(positives <= rows - positives)}" if rarer < FEWEST else None
