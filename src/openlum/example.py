"""One user in words: what they did, and the top answers to different questions. For the report."""

import datetime as dt
from typing import Any

import numpy as np

from openlum.data.dataset import Dataset
from openlum.model import LargeUserModel

SHOWN = 20
ANSWERS = 10


def example_user(model: LargeUserModel, dataset: Dataset, questions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A user with a history longer than three in four, and the answers as of its end.

    Args:
        model: to ask.
        dataset: that it was trained on.
        questions: name to condition fields and raw values.

    Returns:
        `user`, `history` (title, condition, time of the last events) and `answers` (question, its words, items).
    """
    sequences = dataset.sequences
    lengths = np.diff(sequences.offsets)
    place = int(np.argmin(np.abs(lengths - np.quantile(lengths, 0.75))))
    history = raw_history(dataset, place)
    titles = dict(zip(dataset.vocabulary("items").values, model.lexicon.titles[1:], strict=True))
    return {
        "user": dataset.vocabulary("users").decode([int(sequences.user[place])])[0],
        "history": [
            {
                "title": titles.get(event["item"], event["item"]),
                "condition": {name: value for name, value in event.items() if name not in ("item", "time")},
                "time": dt.datetime.fromtimestamp(event["time"], dt.UTC).strftime("%Y-%m-%d %H:%M"),
            }
            for event in history[-SHOWN:]
        ],
        "answers": [
            {
                "question": name,
                "words": ", ".join(f"{field} = {value}" for field, value in question.items()) or "what next?",
                "items": [
                    {"title": row["title"], "similarity": round(row["similarity"], 4)}
                    for row in model.recommend(history, question, ANSWERS)
                ],
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
