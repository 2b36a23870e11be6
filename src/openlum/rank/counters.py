"""The control `counters`: eight plain counters in place of knowledge, joined by the same late fusion.

If counters add as much to a ranker as knowledge does, the ranker lacked counters, and no Large User Model is needed for the gain.

Shapes: I rows.
"""

import numpy as np

from openlum.data.dataset import SPLITS, Split
from openlum.rank.batches import RankingData, Rows
from openlum.rank.event_index import index_labels

SMOOTHING = 10.0
"""Rows with the training rows' share of positives that are added to every share."""


def counter_scores(data: RankingData, splits: list[Split]) -> dict[Split, np.ndarray]:
    """Return the counters of the rows of some splits, (I, 8) float32 each, from what lies strictly before each row's second.

    The counters are logarithms of counts and log-odds of smoothed shares: events of the user and of the item; the shares of
    positive labels of both; count and share of user and scenario, and of item and scenario. Labels are those of earlier rows of
    all splits. The scenario is the first categorical condition field that is known before the item. Without one, the last four
    repeat the counters of user and item.
    """
    all_rows = [data.rows[split] for split in SPLITS]
    user, item, time, label, scenario = (
        np.concatenate(columns) for columns in zip(*(_columns(data, rows) for rows in all_rows), strict=True)
    )
    begin = np.cumsum([0, *map(len, all_rows)])
    is_train = np.arange(len(label)) < begin[1]
    prior = np.clip(label[is_train].mean() if is_train.any() else 0.5, 0.01, 0.99)
    scenarios = int(scenario.max(initial=0)) + 1
    item_events = data.item_events.before(item[:, None], time).count()
    user_events = np.concatenate([rows.prefix.numpy() for rows in all_rows])
    columns = [np.log1p(user_events), np.log1p(item_events)]
    for keys, with_count in ((user, False), (item, False), (_pairs(user, scenario, scenarios), True)):
        columns += _label_counters(keys, time, label, prior, with_count)
    columns += _label_counters(_pairs(item, scenario, scenarios), time, label, prior, True)
    counters = np.stack(columns, 1).astype(np.float32)
    parts = dict(zip(SPLITS, np.split(counters, begin[1:-1]), strict=True))
    return {split: parts[split] for split in splits}


def _columns(data: RankingData, rows: Rows) -> tuple[np.ndarray, ...]:
    """Return user, item, time, label and scenario of rows, (I,) each; the scenario is 0 if no field gives it."""
    times = data.dataset.info.data_schema.time_fields
    fields = [
        spec.name
        for spec in data.dataset.specs("condition")
        if spec.type == "categorical" and not spec.feedback and spec.name not in times
    ]
    scenario = data.column(rows, f"condition.{fields[0]}").numpy() if fields else np.zeros(len(rows))
    ids = (column.astype(np.int64) for column in (rows.user.numpy(), rows.item.numpy(), rows.time.numpy()))
    return *ids, rows.label.numpy(), scenario.astype(np.int64)


def _pairs(ids: np.ndarray, scenario: np.ndarray, scenarios: int) -> np.ndarray:
    """Return a key for each pair of a user or item and a scenario, (I,)."""
    return ids * scenarios + scenario


def _label_counters(
    keys: np.ndarray, time: np.ndarray, label: np.ndarray, prior: float, with_count: bool
) -> list[np.ndarray]:
    """Return the log count of earlier rows with the row's key (if `with_count`), and the log-odds of their share of positives."""
    before = index_labels(keys, time, label).before(keys[:, None], time)
    count = before.count()
    positives = np.nan_to_num(before.shares()["label_1"]) * count
    share = (positives + SMOOTHING * prior) / (count + SMOOTHING)
    return [np.log1p(count)] * with_count + [np.log(share / (1 - share))]
