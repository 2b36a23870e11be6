"""Questions to one user: the end of the history and the top items of each answer, in words."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import LargeUserModel, default_device
from openlum.model.histories import USER, frame_histories
from openlum.model.request import check_history, events_before
from openlum.pipeline.example import in_words, question_in_words
from openlum.query.user_ids import given_second, read_text_csv

LAST_EVENTS = 10
"""At most this many events of the history are shown."""
TIME = "time"


def ask_run(
    run: Path, user: str, questions: Sequence[str], k: int, as_of: str | None, model: str | None = None
) -> dict[str, Any]:
    """Return answers about a user of a dataset; see `answers_in_words`.

    Args:
        run: directory with `dataset` and `model`, as `lum run` writes it.
        user: raw id.
        questions: as in `parse_condition`.
        k: number of items.
        as_of: as in `given_second`.
        model: another model than that of the run, as in `LargeUserModel.from_pretrained`.

    Raises:
        InputError: the dataset has no such user, or the model has no field or value of a question. The message names the nearest.
    """
    history = Dataset(run / "dataset").histories([user])[user]
    return answers_in_words(load_model(model or str(run / "model")), history, questions, k, as_of)


def load_model(name: str) -> LargeUserModel:
    """Return a model from its directory or from the Hugging Face Hub, on the default device."""
    return LargeUserModel.from_pretrained(name, map_location=default_device())


def answers_in_words(
    model: LargeUserModel, history: Sequence[dict[str, Any]], questions: Sequence[str], k: int, as_of: str | None
) -> dict[str, Any]:
    """Return the end of a history and the top items for questions, in words.

    Args:
        model: that answers.
        history: events in raw values, oldest first.
        questions: as in `parse_condition`; without any, the question "what next?".
        k: number of items.
        as_of: only earlier events count, and the questions are asked as of this time; None for the whole history.

    Returns:
        A mapping with `events` (number of events that count), `history` (the last of them, as from `in_words`) and `answers`,
        each with `words` and `items`: rows of `LargeUserModel.recommend`.
    """
    time = {} if as_of is None else {TIME: given_second("as_of", as_of)}
    known = history[: events_before(check_history(history), time.get(TIME))]
    titles = dict(zip(model.processor.items.values, model.processor.titles[1:], strict=True))
    answers = []
    for text in questions or [""]:
        question = parse_condition(text)
        items = model.recommend(list(history), k, question | time)
        answers.append({"words": question_in_words(question), "items": items})
    return {
        "events": len(known),
        "history": [in_words(event, titles) for event in known[-LAST_EVENTS:]],
        "answers": answers,
    }


def parse_condition(text: str) -> dict[str, Any]:
    """Return the condition fields of a question such as `scenario=search, category=Shoes`. A value may contain commas.

    Raises:
        InputError: a part of the text has no `=`.

    Example:
        >>> parse_condition("query=red, blue, rating=5")
        {'query': 'red, blue', 'rating': 5}
    """
    question: dict[str, Any] = {}
    for part in re.split(r",\s*(?=[^,=]+=)", text.strip()) if text.strip() else []:
        name, separator, value = (word.strip() for word in part.partition("="))
        if not (name and separator and value):
            raise InputError(f"question '{text}': expected FIELD=VALUE, FIELD=VALUE, found '{part}'")
        question[name] = int(value) if re.fullmatch(r"-?(0|[1-9]\d{0,17})", value) else value
    return question


def read_history(file: Path, user: str | None = None) -> list[dict[str, Any]]:
    """Return the events of a user in a file, oldest first.

    Args:
        file: Parquet, CSV, or JSON (a list of events). Its columns are `item`, and optionally `time` (seconds since 1970, or ISO
            8601 text, UTC), condition fields, and `user`.
        user: raw id; None if the file has one user.

    Raises:
        InputError: the file cannot be read, has no such user, or has several users and none is named.
    """
    try:
        table = _read_table(file)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    if USER not in table.column_names:
        table = table.append_column(USER, pa.array([user or USER] * len(table)))
    if TIME in table.column_names and pa.types.is_string(table[TIME].type):
        times = [
            None if not value else given_second(f"{file}: column '{TIME}'", value) for value in table[TIME].to_pylist()
        ]
        table = table.set_column(table.column_names.index(TIME), TIME, pa.array(times, pa.int64()))
    histories = frame_histories(table)
    if user is None and len(histories) == 1:
        user = next(iter(histories))
    if user not in histories:
        users = ", ".join(list(histories)[:8])
        problem = f"has events of {len(histories):,} users" if user is None else f"has no user '{user}'"
        raise InputError(f"{file}: {problem}; name one with --user: {users}")
    return [{name: value for name, value in event.items() if value not in ("", [])} for event in histories[user]]


def _read_table(file: Path) -> pa.Table:
    """Return the table in a file. All columns of CSV are text."""
    if file.suffix == ".parquet":
        return pq.read_table(file)
    if file.suffix == ".json":
        rows = json.loads(file.read_text(encoding="utf-8-sig"))
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("expected a list of events, each with names and values")
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.table({name: [row.get(name) for row in rows] for name in names})
    return read_text_csv(file)
