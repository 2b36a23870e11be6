"""One user's raw history and the questions asked of it, checked, as what the model reads.

A question sees the events in the seconds before its time and nothing later, through the window of bulk queries. So the answer as
of a moment is the same whether it is asked then, afterwards, or in bulk.

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
from openlum.data.canonical import canonical
from openlum.data.packing import window_start
from openlum.data.time_fields import time_fields, utc_seconds
from openlum.errors import InputError
from openlum.model.batch import Fields, History, Questions
from openlum.model.processor import Processor
from openlum.model.settings import ModelConfig

FARTHEST = 1e11
"""Times beyond this, the year 5138, are no seconds since 1970."""
Event = Mapping[str, Any]
"""Raw values by field, with `item` and `time`; of a question, with `time`."""


@dataclass(frozen=True)
class Request:
    """What the model reads of a history, and the questions."""

    history: History
    """The history's B windows, each as if it were a user's."""
    questions: Questions
    """Q questions, those of one window next to each other."""
    order: torch.Tensor
    """(Q,) int64 where each question, in the order in which they came, lies in `questions`."""
    seen: list[int]
    """Q numbers of events: the question sees that many of the history."""


def encode_request(processor: Processor, config: ModelConfig, history: Any, questions: Any) -> Request:
    """Check a history and questions, and encode them.

    Args:
        processor: of the model.
        config: of the model.
        history: events, oldest first.
        questions: one or more.

    Raises:
        InputError: names the event or the question, and the field.
    """
    times = check_history(history)
    asked = check_questions(questions)
    history, questions = list(history), list(questions)  # a deque has no slices
    seen = [_events_before(times, time) for time in asked]
    start, window = np.unique(window_start(np.array(seen), config.settings.max_events), return_inverse=True)
    end = np.zeros_like(start)
    np.maximum.at(end, window, seen)
    first, last = int(start.min()), int(end.max())
    events, earlier = history[first:last], _times_before(times)[first:last]
    condition = _conditions(processor, config, events, times[first:last], earlier, lambda n: _event(first + n))
    items = torch.from_numpy(
        processor.item_ids([event["item"] for event in events], "of the history")
    )  # (last - first,)
    index = torch.from_numpy(
        np.concatenate([np.arange(*span) for span in zip(start, end, strict=True)]) - first
    )  # (L,)
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(end - start)]))
    windows = History(items[index], {name: field[index] for name, field in condition.items()}, offsets)
    latest = [_latest(times[:number]) for number in seen]
    condition = _conditions(processor, config, questions, asked, latest, _question, strict=True)
    order = np.argsort(window, kind="stable")  # (Q,)
    rows = Questions(
        {name: field[order] for name, field in condition.items()},
        torch.from_numpy(window[order]),
        torch.from_numpy((np.array(seen) - start[window])[order]),
    )
    return Request(windows, rows, torch.from_numpy(np.argsort(order)), seen)


def check_history(history: Any) -> list[int | None]:
    """The times of a history's events in whole seconds, None where an event has none.

    Raises:
        InputError: it is no list of mappings, an event has no item, or a time is none or lies before an earlier one.
    """
    times: list[int | None] = []
    last: float = -math.inf
    for number, event in enumerate(_mappings("history", history)):
        if not _is_id(f"{_event(number)}: 'item'", event.get("item")):
            raise InputError(f"{_event(number)} has no 'item'")
        time = None if event.get("time") is None else seconds(_event(number), event["time"])
        if time is not None:
            if time < last:
                raise InputError(f"{_event(number)} lies before the one ahead of it; give the oldest first")
            last = time
        times.append(None if time is None else math.floor(time))
    return times


def check_questions(questions: Any) -> list[int | None]:
    """The times of questions in whole seconds, None where a question has none.

    Raises:
        InputError: there is none, one is no mapping, or a time is none.
    """
    rows = _mappings("questions", questions)
    if not len(rows):
        raise InputError("questions: expected one or more; [{}] asks 'what next?'")
    for number, question in enumerate(rows):
        if "item" in question:
            raise InputError(f"{_question(number)} has an 'item'; predict_feedback(history, items) asks about items")
    times = [row.get("time") for row in rows]
    return [None if t is None else math.floor(seconds(_question(n), t)) for n, t in enumerate(times)]


def check_question(question: Any) -> Event:
    """A question, `{}` for none.

    Raises:
        InputError: it is no mapping.
    """
    if question is not None and not isinstance(question, Mapping):
        raise InputError(f"question: expected a mapping of fields to values, found {shown(question)}")
    return question or {}


def check_items(items: Any) -> list[Any]:
    """Raw item ids, one or more.

    Raises:
        InputError: they are no list (or array) of ids.
    """
    rows = items.tolist() if hasattr(items, "tolist") else items  # of NumPy and pandas
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes) or not len(rows):
        raise InputError(f"items: expected a list of one item or more, found {shown(items)}")
    for number, item in enumerate(rows):
        if not _is_id(f"items: number {number}", item):
            raise InputError(f"items: number {number} is {shown(item)}; expected an id")
    return list(rows)


def seconds(where: str, time: Any) -> float:
    """A time in seconds since 1970.

    Args:
        where: begins the message.
        time: a number, or a date or time of Python, NumPy or pandas, which is UTC where it names no other zone.

    Raises:
        InputError: it is neither, or not finite, or so far away that it must be in another unit.
    """
    number = math.nan
    if isinstance(time, dt.date | np.datetime64):
        number = utc_seconds(time)
    elif isinstance(time, numbers.Real) and not isinstance(time, NO_NUMBERS):
        number = time  # type: ignore[assignment]  # as it is: a float would round large integers
    if abs(number) <= FARTHEST:  # so it is a number
        return number
    remedy = "; leave it out where there is none" if is_missing(time) else ""
    if isinstance(time, str):
        remedy = "; datetime.fromisoformat reads text"
    if FARTHEST < abs(number) < math.inf:
        remedy = "; divide milliseconds by 1000"
    raise InputError(f"{where}: 'time' is {shown(time)}; expected seconds since 1970 or a datetime{remedy}")


def _mappings(name: str, rows: Any) -> list[Event]:
    """The rows, which are mappings from text, as a list."""
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        remedy = "; a data frame's rows are frame.to_dict('records')" if hasattr(rows, "columns") else ""
        raise InputError(f"{name}: expected a list of mappings, found {shown(rows)}{remedy}")
    name_of = _event if name == "history" else _question
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or not all(isinstance(key, str) for key in row):
            raise InputError(f"{name_of(number)}: expected a mapping of fields to values, found {shown(row)}")
    return list(rows)


def _is_id(where: str, value: Any) -> bool:
    """Whether a value is there; refuses what can be no id."""
    if is_missing(value):
        return False
    check_single(where, value)
    return canonical(value) is not None


def _event(number: int) -> str:
    return f"event {number} of the history"


def _question(number: int) -> str:
    return f"question {number}"


def _events_before(times: Sequence[int | None], moment: int | None) -> int:
    """How many events come before the first that is known to be in a moment's second or later; all for no moment."""
    if moment is None:
        return len(times)
    return next((index for index, time in enumerate(times) if time is not None and time >= moment), len(times))


def _times_before(times: Sequence[int | None]) -> list[int | None]:
    """The last time before the second of each event, None where there is none."""
    before: list[int | None] = []
    earlier = latest = None
    for time in times:
        if time is not None and time != latest:
            earlier, latest = latest, time
        before.append(earlier)
    return before


def _latest(times: Sequence[int | None]) -> int | None:
    return next((time for time in reversed(times) if time is not None), None)


def _conditions(
    processor: Processor,
    config: ModelConfig,
    rows: Sequence[Event],
    times: Sequence[int | None],
    earlier: Sequence[int | None],
    name_of: Callable[[int], str],
    strict: bool = False,
) -> Fields:
    """Conditions of events or questions, (n, ...), from their fields, their times and the times of the last events before."""
    values = [{name: value for name, value in row.items() if name not in ("item", "time")} for row in rows]
    timed = [index for index, time in enumerate(times) if time is not None]
    for index in timed:
        for field in config.time_fields:
            if field in values[index]:
                raise InputError(
                    f"{name_of(index)} names both 'time' and '{field}', which comes from it; leave one out"
                )
    fields = processor.encode_conditions(values, config.condition, strict, name_of)
    if timed and config.time_fields:
        now = np.array([times[index] for index in timed], np.int64)
        previous = [earlier[index] for index in timed]
        has_previous = np.array([time is not None for time in previous])
        before = np.array([time or 0 for time in previous], np.int64)
        for name, ids in time_fields(config.time_fields, now, before, has_previous, config.gap_unit).items():
            fields[name][timed] = torch.from_numpy(ids)
    return fields
