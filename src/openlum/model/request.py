"""The conversion of one user's raw history and raw questions to the model's inputs, with checks.

A question sees the events in the seconds before its time and no later event, through the same window as bulk queries. So the
answer as of a time is the same whether it is computed at that time, later, or in bulk.

Shapes: L events, Q questions, B windows of the history.
"""

import datetime as dt
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from openlum.arguments.values import NO_NUMBERS, check_single, is_missing, shown
from openlum.data.canonical import canonical_text
from openlum.data.packing import window_start
from openlum.data.time_fields import time_fields, utc_seconds
from openlum.errors import InputError
from openlum.model.batch import Fields, History, Questions
from openlum.model.processor import Processor
from openlum.model.settings import ModelConfig

MAX_SECONDS = 1e11
"""Numbers beyond this, the year 5138, cannot be seconds since 1970."""
QUESTIONS = "questions"
"""Name of the list of questions in messages."""
Clock = tuple[int | None, int | None]
"""The last two different times before an event: the earlier one, and the later one. None stands for no time."""
RawFields = Mapping[str, Any]
"""Field to raw value: an event has `item` and may have `time`; a question may have `time`."""


@dataclass(frozen=True)
class Request:
    """One user's history and questions as inputs of the model."""

    history: History
    """The B windows of the history that the questions look back through, encoded as B users."""
    questions: Questions
    """Q questions. The questions of one window are adjacent."""
    order: torch.Tensor
    """(Q,) int64: index in `questions` of each question, in the caller's order."""
    prefix: list[int]
    """For each of the Q questions, in the caller's order: how many events of the history it may see."""


def encode_request(processor: Processor, config: ModelConfig, history: Any, questions: Any) -> Request:
    """Return the checked and encoded request.

    Args:
        processor: of the model.
        config: of the model.
        history: events, oldest first.
        questions: at least one.

    Raises:
        InputError: names the event or the question, and the field.
    """
    times = check_history(history)
    question_times = check_questions(questions)
    history, questions = list(history), list(questions)  # a deque has no slices
    prefix = [events_before(times, time) for time in question_times]
    start, window = np.unique(window_start(np.array(prefix), config.settings.max_events), return_inverse=True)
    end = np.zeros_like(start)
    np.maximum.at(end, window, prefix)
    first, last = int(start.min()), int(end.max())
    events, previous = history[first:last], previous_times(times)[0][first:last]
    condition = encode_conditions(
        processor, config, events, times[first:last], previous, lambda index: _row_name("history", first + index)
    )
    items = torch.from_numpy(
        processor.item_ids([event["item"] for event in events], "of the history")
    )  # (last - first,)
    index = torch.from_numpy(
        np.concatenate([np.arange(*span) for span in zip(start, end, strict=True)]) - first
    )  # (L,)
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(end - start)]))
    windows = History(items[index], {name: field[index] for name, field in condition.items()}, offsets)
    last_times = [last_time(times[:count]) for count in prefix]
    condition = encode_conditions(processor, config, questions, question_times, last_times, question_name, strict=True)
    order = np.argsort(window, kind="stable")  # (Q,)
    encoded_questions = Questions(
        {name: field[order] for name, field in condition.items()},
        torch.from_numpy(window[order]),
        torch.from_numpy((np.array(prefix) - start[window])[order]),
    )
    return Request(windows, encoded_questions, torch.from_numpy(np.argsort(order)), prefix)


def check_history(history: Any, name: str = "history", after: int | None = None) -> list[int | None]:
    """Return the times of a history's events in whole seconds, with None for events without a time.

    Args:
        history: events, oldest first.
        name: of the history in messages.
        after: the last time before these events, in whole seconds.

    Raises:
        InputError: if the history is not a list of mappings, an event has no item, a time is wrong, or the events are not
            sorted by time.
    """
    times: list[int | None] = []
    last: float = -math.inf if after is None else after
    for index, event in enumerate(_mappings(name, history)):
        where = _row_name(name, index)
        if not _is_id(f"{where}: 'item'", event.get("item")):
            raise InputError(f"{where} has no 'item'")
        time = None if event.get("time") is None else seconds(where, event["time"])
        if time is not None:
            if time < last:
                raise InputError(
                    f"{where}: 'time' is earlier than the time of a previous event; sort the events, oldest first"
                )
            last = time
        times.append(None if time is None else math.floor(time))
    return times


def check_questions(questions: Any) -> list[int | None]:
    """Return the times of questions in whole seconds, with None for questions without a time.

    Raises:
        InputError: if there is no question, a question is not a mapping, or a time is wrong.
    """
    rows = _mappings(QUESTIONS, questions)
    if not len(rows):
        raise InputError("questions: expected at least one question; [{}] is the question 'what next?'")
    for index, question in enumerate(rows):
        if "item" in question:
            raise InputError(
                f"{question_name(index)} has an 'item'; use predict_feedback(history, items) for questions about items"
            )
    times = [row.get("time") for row in rows]
    return [
        None if time is None else math.floor(seconds(question_name(index), time)) for index, time in enumerate(times)
    ]


def check_question(question: Any) -> RawFields:
    """Return the question, or `{}` for None.

    Raises:
        InputError: if the question is not a mapping.
    """
    if question is not None and not isinstance(question, Mapping):
        raise InputError(f"question: expected a mapping of fields to values, found {shown(question)}")
    return question or {}


def check_items(items: Any) -> list[Any]:
    """Return raw item ids as a list of at least one id.

    Raises:
        InputError: if `items` is not a list or an array of ids, or is empty.
    """
    return check_ids("items", items, "a list of at least one item", fewest=1)


def check_ids(where: str, items: Any, expected: str = "a list of raw ids", fewest: int = 0) -> list[Any]:
    """Return raw item ids as a list.

    Args:
        where: the start of the message.
        items: a list or an array.
        expected: what `items` should be, for the message.
        fewest: smallest number of ids.

    Raises:
        InputError: if `items` is not a list or an array of so many ids.
    """
    rows = items.tolist() if hasattr(items, "tolist") else items  # arrays of NumPy and pandas
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes) or len(rows) < fewest:
        raise InputError(f"{where}: expected {expected}, found {shown(items)}")
    for index, item in enumerate(rows):
        if not _is_id(f"{where}: element {index}", item):
            raise InputError(f"{where}: element {index} is {shown(item)}; expected an id")
    return list(rows)


def seconds(where: str, time: Any) -> float:
    """Return a time in seconds since 1970.

    Args:
        where: the start of the message.
        time: a number, or a date or time of Python, NumPy or pandas. A time without a time zone is UTC.

    Raises:
        InputError: the time has another type, is not finite, or is so large that it must have another unit.
    """
    number = math.nan
    if isinstance(time, dt.date | np.datetime64):
        number = utc_seconds(time)
    elif isinstance(time, numbers.Real) and not isinstance(time, NO_NUMBERS):
        number = time  # type: ignore[assignment]  # not as a float, which would round large integers
    if abs(number) <= MAX_SECONDS:  # false for NaN
        return number
    remedy = "; leave a missing time out" if is_missing(time) else ""
    if isinstance(time, str):
        remedy = "; convert text with datetime.fromisoformat"
    if MAX_SECONDS < abs(number) < math.inf:
        remedy = "; divide milliseconds by 1000"
    raise InputError(f"{where}: 'time' is {shown(time)}; expected seconds since 1970 or a datetime{remedy}")


def _mappings(name: str, rows: Any) -> list[RawFields]:
    """Return the rows as a list of mappings with text as keys."""
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        remedy = "; convert a data frame with frame.to_dict('records')" if hasattr(rows, "columns") else ""
        raise InputError(f"{name}: expected a list of mappings, found {shown(rows)}{remedy}")
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or not all(isinstance(key, str) for key in row):
            raise InputError(f"{_row_name(name, index)}: expected a mapping of fields to values, found {shown(row)}")
    return list(rows)


def _is_id(where: str, value: Any) -> bool:
    """Return whether a value is an id and not missing; raise an error for a value that cannot be an id."""
    if is_missing(value):
        return False
    check_single(where, value)
    return canonical_text(value) is not None


def _row_name(name: str, index: int) -> str:
    return question_name(index) if name == QUESTIONS else f"event {index} of the {name}"


def question_name(index: int) -> str:
    """Return the name of a question in messages."""
    return f"question {index}"


def events_before(times: Sequence[int | None], question_time: int | None) -> int:
    """Return how many events come before the first event at or after the question's time; without a time, all."""
    if question_time is None:
        return len(times)
    return next((index for index, time in enumerate(times) if time is not None and time >= question_time), len(times))


def previous_times(times: Sequence[int | None], earlier: Clock = (None, None)) -> tuple[list[int | None], Clock]:
    """Return, for each event, the last time before the event's second, and the clock after the events.

    Args:
        times: of the events.
        earlier: the clock before the events.
    """
    result: list[int | None] = []
    previous, current = earlier
    for time in times:
        if time is not None and time != current:
            previous, current = current, time
        result.append(previous)
    return result, (previous, current)


def last_time(times: Sequence[int | None]) -> int | None:
    """Return the last time of events, or None if no event has a time."""
    return next((time for time in reversed(times) if time is not None), None)


def encode_conditions(
    processor: Processor,
    config: ModelConfig,
    rows: Sequence[RawFields],
    times: Sequence[int | None],
    previous_times: Sequence[int | None],
    name_of_row: Callable[[int], str],
    strict: bool = False,
) -> Fields:
    """Return the condition fields, (n, ...), of events or questions.

    Args:
        processor: of the model.
        config: of the model.
        rows: the n events or questions.
        times: their times, in seconds.
        previous_times: for each row, the time of the last event before its second.
        name_of_row: maps the index of a row to its name in messages.
        strict: as in `Processor.encode_conditions`.
    """
    values = [{name: value for name, value in row.items() if name not in ("item", "time")} for row in rows]
    timed = [index for index, time in enumerate(times) if time is not None]
    for index in timed:
        for field in config.time_fields:
            if field in values[index]:
                raise InputError(
                    f"{name_of_row(index)} has both 'time' and '{field}', which is computed from the time; leave one of them out"
                )
    fields = processor.encode_conditions(values, config.condition, strict, name_of_row)
    if timed and config.time_fields:
        time = np.array([times[index] for index in timed], np.int64)
        optional_times = [previous_times[index] for index in timed]
        has_previous = np.array([previous is not None for previous in optional_times])
        previous_time = np.array([previous or 0 for previous in optional_times], np.int64)
        for name, ids in time_fields(config.time_fields, time, previous_time, has_previous, config.gap_unit).items():
            fields[name][timed] = torch.from_numpy(ids)
    return fields
