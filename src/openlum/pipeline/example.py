"""The example user of the report: the history, the top items for several questions, and the events after the questions."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openlum.data.canonical import canonical_text
from openlum.data.dataset import Dataset
from openlum.data.histories import raw_history
from openlum.data.packing import Protocol, events_before, training_end
from openlum.model import LargeUserModel
from openlum.model.request import seconds

MAX_EVENTS = 20
"""The report shows at most this many events before the questions, and as many after them."""
TIME_FORMAT = "%Y-%m-%d %H:%M"
"""Format of times for people."""
ANSWER_ITEMS = 10
"""Number of items in an answer."""


def example_user(model: LargeUserModel, dataset: Dataset, questions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a user, the model's answers at one moment of the log, and the user's later events, which are not trained on.

    The candidates are the users with at least the median number of later events. The example user is the candidate whose history
    length is nearest to the 75 % quantile. The answers do not influence the choice. If no event is held out of training, the
    answers are as of the end of the log, and there are no later events.

    Args:
        model: the model that answers.
        dataset: the dataset that the model was trained on.
        questions: name to condition fields and raw values.

    Returns:
        A mapping with `user`, `history`, `next` and `answers`.

        - `history`: `title`, `condition` and `time` of the last events before the moment.
        - `next`: the first events after the moment, with the same keys, and `again`: whether the item is in the history. Answers
          never contain items of the history, so an event with `again` cannot be a hit.
        - `answers`: each with `question`, `words` and `items`. An item has `rank`, `title`, `similarity`, `hit` and
          `other_hit`.

        `hit` is the number, from 1, of the first event in `next` that has the item and matches the question's condition.
        `other_hit` is the number of the first event that has the item under any condition. Without such an event, they are None.
    """
    user_index, cut = _moment(dataset, model.config.protocol)
    events = raw_history(dataset, user_index)
    history, later = events[:cut], events[cut : cut + MAX_EVENTS]
    titles = dict(zip(dataset.vocabulary("items").values, dataset.item_titles()[1:], strict=True))
    history_items = {event["item"] for event in history}
    return {
        "user": dataset.vocabulary("users").decode([int(dataset.sequences.user[user_index])])[0],
        "history": [in_words(event, titles) for event in history[-MAX_EVENTS:]],
        "next": [in_words(event, titles) | {"again": event["item"] in history_items} for event in later],
        "answers": [
            {
                "question": name,
                "words": question_in_words(question),
                "items": _answer(
                    model, history, question, later, _matches(model, dataset, user_index, cut, name, question)
                ),
            }
            for name, question in questions.items()
        ],
    }


def _moment(dataset: Dataset, protocol: Protocol) -> tuple[int, int]:
    """Return the row of the example user in the sequences, and the number of the user's events before the questions."""
    lengths = np.diff(dataset.sequences.offsets)
    cut = _test_start(dataset, protocol)  # (U,)
    users = np.flatnonzero(
        (cut > 0) & (cut < lengths) & (cut >= training_end(dataset.sequences, dataset.info, protocol))
    )
    if not len(users):
        cut, users = lengths, np.flatnonzero(lengths)
    later = (lengths - cut)[users]
    users = users[later >= np.median(later)]
    user_index = int(users[np.argmin(np.abs(cut[users] - np.quantile(cut[users], 0.75)))])
    return user_index, int(cut[user_index])


def _test_start(dataset: Dataset, protocol: Protocol) -> np.ndarray:
    """Return the number of each user's events before the test period, (U,).

    With the protocol `last` it is the number of events before the second in which the user's test event lies.
    """
    sequences = dataset.sequences
    begin, end = sequences.offsets[:-1], sequences.offsets[1:]
    if protocol == "last":
        held_out = np.minimum(begin + sequences.test_at, end)
        moment = np.append(sequences.moment_start, len(sequences.time))
        return np.where(held_out < end, moment[held_out], end) - begin
    return events_before(sequences, dataset.info.test_time)


def _answer(
    model: LargeUserModel,
    history: list[dict[str, Any]],
    question: dict[str, Any],
    later: list[dict[str, Any]],
    matches: np.ndarray,
) -> list[dict[str, Any]]:
    """Return the items of one answer with the later events that have them: `items` of `example_user`."""
    out = []
    for rank, row in enumerate(model.recommend(history, ANSWER_ITEMS, question), start=1):
        occurrences = [number for number, event in enumerate(later, start=1) if event["item"] == row["item"]]
        hits = [number for number in occurrences if matches[number - 1]]
        outcome = {"hit": hits[0] if hits else None, "other_hit": occurrences[0] if occurrences else None}
        out.append({"rank": rank, "title": row["title"], "similarity": round(row["similarity"], 4)} | outcome)
    return out


def _matches(
    model: LargeUserModel, dataset: Dataset, user_index: int, cut: int, name: str, question: dict[str, Any]
) -> np.ndarray:
    """Return which events of a user from `cut` on have all values of a question, (L,) bool. Numbers and vectors do not count."""
    sequences, specs = dataset.sequences, model.config.condition
    events = np.arange(sequences.offsets[user_index] + cut, sequences.offsets[user_index + 1])
    fields = sequences.fields(events)
    condition = model.processor.encode_question(name, question, specs)
    matches = np.ones(len(events), bool)
    for spec in specs:
        if spec.name in question and spec.size:
            values = fields[spec.name].reshape(len(matches), -1)  # (L, M)
            for value in filter(None, condition[spec.name].flatten().tolist()):
                matches &= (values == value).any(1)
    return matches


def in_words(event: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, Any]:
    """Return the title, the time and the categories of an event in raw values; fractions and vectors are left out.

    Args:
        event: as from `raw_history`, or of a caller: it need not have a time, and its item need not be known.
        titles: raw id of each item to its title.
    """
    fields = {name: value for name, value in event.items() if name not in ("item", "time")}
    item, time = canonical_text(event["item"]) or "", event.get("time")
    return {
        "title": titles.get(item, item),
        "condition": {name: value for name, value in fields.items() if isinstance(_first(value), str | int)},
        "time": ""
        if time is None
        else dt.datetime.fromtimestamp(seconds("history", time), dt.UTC).strftime(TIME_FORMAT),
    }


def _first(value: Any) -> Any:
    """Return the first element of a list, and any other value unchanged."""
    return value[0] if isinstance(value, Sequence) and len(value) else value


def question_in_words(question: Mapping[str, Any]) -> str:
    """Return the condition fields of a question as text."""
    return ", ".join(f"{field} = {value}" for field, value in question.items()) or "what next?"
