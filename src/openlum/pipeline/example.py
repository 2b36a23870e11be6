"""One user in words: what they did, the top answers to different questions, and what they did next. For the report."""

import datetime as dt
from typing import Any

import numpy as np

from openlum.data.dataset import Dataset
from openlum.data.packing import Protocol, training_end
from openlum.model import LargeUserModel

SHOWN = 20
"""Most events that are shown of the history, and of what came next."""
ANSWERS = 10


def example_user(model: LargeUserModel, dataset: Dataset, questions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a user, the answers as of a moment in the log, and what the user did next, which no training has read.

    Of the users of whom at least the median number of events is known afterwards, it is one with a history longer than three in
    four; the answers have no part in the choice. Where no user has events that training left out, the moment is the end of the
    log and nothing comes next.

    Args:
        model: to ask.
        dataset: that it was trained on.
        questions: name to condition fields and raw values.

    Returns:
        `user`, `history`, `next` and `answers`. `history` has the title, condition and time of the last events before the moment;
        `next` those of the first ones after it, and `again`: whether the history has the item, which is then no answer. An answer
        has `question`, `words` and `items`; an item `rank`, `title`, `similarity`, `hit` (number, from 1, of the first event of
        `next` that has the item and agrees with the question) and `met` (the same, whether or not it agrees), None if there is
        none.
    """
    place, cut = _moment(dataset, model.config.protocol)
    events = raw_history(dataset, place)
    history, later = events[:cut], events[cut : cut + SHOWN]
    titles = dict(zip(dataset.vocabulary("items").values, dataset.item_titles()[1:], strict=True))
    before = {event["item"] for event in history}
    return {
        "user": dataset.vocabulary("users").decode([int(dataset.sequences.user[place])])[0],
        "history": [_in_words(event, titles) for event in history[-SHOWN:]],
        "next": [_in_words(event, titles) | {"again": event["item"] in before} for event in later],
        "answers": [
            {
                "question": name,
                "words": ", ".join(f"{field} = {value}" for field, value in question.items()) or "what next?",
                "items": _answer(
                    model, history, question, later, _agreeing(model, dataset, place, cut, name, question)
                ),
            }
            for name, question in questions.items()
        ],
    }


def raw_history(dataset: Dataset, place: int) -> list[dict[str, Any]]:
    """The events of the user at `place` in the sequences, in raw values, without numbers, vectors and what is *any*."""
    sequences = dataset.sequences
    events = slice(int(sequences.offsets[place]), int(sequences.offsets[place + 1]))
    items = dataset.vocabulary("items").decode(sequences.item[events])
    history: list[dict[str, Any]] = [
        {"item": item, "time": int(time)} for item, time in zip(items, sequences.time[events], strict=True)
    ]
    for name, vocabulary in dataset.vocabularies("condition").items():
        for event, value in zip(history, sequences.condition[name][events], strict=True):
            ids = np.atleast_1d(value)
            ids = ids[ids > 0]
            if len(ids):
                words = vocabulary.decode(ids)
                event[name] = words if np.ndim(value) else words[0]
    return history


def _moment(dataset: Dataset, protocol: Protocol) -> tuple[int, int]:
    """Return the example user's place in the sequences, and how many of the events lie before the moment of asking."""
    lengths = np.diff(dataset.sequences.offsets)
    cut = _events_before(dataset, protocol)  # (U,)
    places = np.flatnonzero((cut > 0) & (cut < lengths) & (cut >= training_end(dataset, protocol)))
    if not len(places):
        cut, places = lengths, np.flatnonzero(lengths)
    after = (lengths - cut)[places]
    places = places[after >= np.median(after)]
    place = int(places[np.argmin(np.abs(cut[places] - np.quantile(cut[places], 0.75)))])
    return place, int(cut[place])


def _events_before(dataset: Dataset, protocol: Protocol) -> np.ndarray:
    """(U,) how many events of each user lie before the test period; with the protocol `last`, before the second of the user's
    event that is held out for the test."""
    sequences = dataset.sequences
    begin, end = sequences.offsets[:-1], sequences.offsets[1:]
    if protocol == "last":
        held_out = np.minimum(begin + sequences.test_at, end)
        moment = np.append(sequences.moment, len(sequences.time))
        return np.where(held_out < end, moment[held_out], end) - begin
    before = np.concatenate([[0], np.cumsum(sequences.time < dataset.info.test_time)])
    return before[end] - before[begin]


def _answer(
    model: LargeUserModel,
    history: list[dict[str, Any]],
    question: dict[str, Any],
    later: list[dict[str, Any]],
    agrees: np.ndarray,
) -> list[dict[str, Any]]:
    """The items of one answer, and what became of them: `items` of `example_user`."""
    out = []
    for rank, row in enumerate(model.recommend(history, question, ANSWERS), start=1):
        met = [number for number, event in enumerate(later, start=1) if event["item"] == row["item"]]
        hits = [number for number in met if agrees[number - 1]]
        outcome = {"hit": hits[0] if hits else None, "met": met[0] if met else None}
        out.append({"rank": rank, "title": row["title"], "similarity": round(row["similarity"], 4)} | outcome)
    return out


def _agreeing(
    model: LargeUserModel, dataset: Dataset, place: int, cut: int, name: str, question: dict[str, Any]
) -> np.ndarray:
    """(L,) bool: which events of a user from `cut` on have all values that a question names; numbers and vectors do not count."""
    sequences, specs = dataset.sequences, model.config.condition
    events = slice(int(sequences.offsets[place]) + cut, int(sequences.offsets[place + 1]))
    asked = model.processor.encode_question(name, question, specs)
    agrees = np.ones(len(sequences.time[events]), bool)
    for spec in specs:
        if spec.name in question and spec.size:
            values = sequences.condition[spec.name][events].reshape(len(agrees), -1)  # (L, M)
            for value in filter(None, asked[spec.name].flatten().tolist()):
                agrees &= (values == value).any(1)
    return agrees


def _in_words(event: dict[str, Any], titles: dict[str, str]) -> dict[str, Any]:
    return {
        "title": titles.get(event["item"], event["item"]),
        "condition": {name: value for name, value in event.items() if name not in ("item", "time")},
        "time": dt.datetime.fromtimestamp(event["time"], dt.UTC).strftime("%Y-%m-%d %H:%M"),
    }
