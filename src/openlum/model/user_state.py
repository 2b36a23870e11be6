"""The state of one user that a service keeps: the encoded history, which new events extend.

Shapes: L events of the window, Q questions, E embedding width.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from openlum.artefact.tensors import tensors_from_bytes, tensors_to_bytes
from openlum.data.packing import window_start
from openlum.errors import InputError
from openlum.model.batch import Fields, History, Questions, blank
from openlum.model.network import Network
from openlum.model.processor import Processor
from openlum.model.request import (
    Clock,
    check_history,
    check_questions,
    encode_conditions,
    events_before,
    previous_times,
    question_name,
)
from openlum.model.settings import ModelConfig
from openlum.model.state import EncoderState, HistoryState

FORMAT = "1"
"""Version of the bytes of a state."""
NO_TIME = torch.iinfo(torch.int64).min
"""Stands for an event without a time in the bytes of a state."""
REMEDY = "encode the history again with model.user_state(history)"


class Model(Protocol):
    """What a state needs of its `LargeUserModel`."""

    config: ModelConfig
    processor: Processor
    network: Network

    @property
    def weights_fingerprint(self) -> str:
        """The fingerprint of weights and configuration."""
        ...


@dataclass(frozen=True)
class UserState:
    """One user's encoded history. `LargeUserModel.user_state` makes it, and it belongs to that model.

    The state has the window of the history that a question without a time looks back through. If new events move the window, the
    state encodes the new window from the ids of its events, which it keeps. So the caller passes every event once.

    Examples:
        >>> state = model.user_state(history)                                              # doctest: +SKIP
        >>> state = state.extend([{"item": "661", "rating": 3}])                           # doctest: +SKIP
        >>> store.set(user, state.to_bytes())                                              # doctest: +SKIP
        >>> UserState.from_bytes(store.get(user), model).ask([{"rating": 5}])              # doctest: +SKIP
    """

    model: Model
    """The model that encoded the history."""
    fingerprint: str
    """The fingerprint of the model's weights and configuration when it encoded the history."""
    history: HistoryState
    """The encoded window, as a batch of one user on the device of the weights."""
    item: Tensor
    """(L,) int64 on the CPU: item ids of the window."""
    condition: Fields
    """Condition fields of the window, (L, ...), on the CPU."""
    times: list[int | None]
    """Times of the window's L events in seconds since 1970; None for an event without a time."""
    earlier_times: Clock
    """The clock before the window."""
    window_start: int
    """Index of the window's first event in the user's history."""

    @property
    def events(self) -> int:
        """Number of events of the user's history."""
        return self.window_start + len(self.item)

    @property
    def last_time(self) -> int | None:
        """Time of the last event that has a time, or None."""
        return previous_times(self.times, self.earlier_times)[1][1]

    @classmethod
    @torch.inference_mode()
    def empty(cls, model: Model) -> "UserState":
        """Return the state of a user without events."""
        item, condition = torch.zeros(0, dtype=torch.int64), blank(model.config.condition, 0)
        history = _encode(model.network, item, condition)
        return cls(model, model.weights_fingerprint, history, item, condition, [], (None, None), 0)

    @torch.inference_mode()
    def extend(self, events: Sequence[Mapping[str, Any]]) -> "UserState":
        """Return the state of the history with further events.

        Answers equal those of encoding the longer history again, except for rounding. If the window stays, only the new events
        are encoded.

        Args:
            events: the new events, oldest first, in the form of `LargeUserModel.ask`.

        Raises:
            InputError: if an event is wrong or earlier than the last event, or the weights of the model have changed.
        """
        self._check_weights()
        config, processor = self.model.config, self.model.processor
        new_times = check_history(events, "new events", self.last_time)
        times = self.times + new_times
        total = self.window_start + len(times)
        start = int(window_start(np.array(total), config.settings.max_events))
        moved = start - self.window_start
        skipped = max(moved - len(self.item), 0)  # new events that are before the window already
        rows = list(events)[skipped:]
        previous = previous_times(times, self.earlier_times)[0][len(self.item) + skipped :]
        condition = encode_conditions(
            processor,
            config,
            rows,
            new_times[skipped:],
            previous,
            lambda index: f"event {skipped + index} of the new events",
        )
        item = torch.from_numpy(processor.items.encode([row["item"] for row in rows]))
        if moved or not len(self.item):
            kept = slice(moved, None)
            item = torch.cat([self.item[kept], item])
            condition = {name: torch.cat([field[kept], condition[name]]) for name, field in self.condition.items()}
            history = _encode(self.model.network, item, condition)
        else:
            new = History(item, condition, torch.tensor([0, len(item)]))
            history = self.model.network.eval().extend_history(self.history, new.to(self.model.network.device))
            item = torch.cat([self.item, item])
            condition = {name: torch.cat([field, condition[name]]) for name, field in self.condition.items()}
        clock = previous_times(times[:moved], self.earlier_times)[1]
        return UserState(self.model, self.fingerprint, history, item, condition, times[moved:], clock, start)

    @torch.inference_mode()
    def ask(self, questions: Sequence[Mapping[str, Any]]) -> Tensor:
        """Return the answers to questions, (Q, E), of unit length, as `LargeUserModel.ask` does with the whole history.

        Args:
            questions: in the form of `LargeUserModel.ask`.

        Raises:
            InputError: if a question is wrong, its time lies too far before the last event, or the weights have changed.
        """
        self._check_weights()
        network = self.model.network.eval()
        return network.answer_questions(self.history, self.encode_questions(questions).to(network.device))

    def encode_questions(self, questions: Sequence[Mapping[str, Any]]) -> Questions:
        """Return the checked and encoded questions, for the methods of the model that take a `HistoryState`.

        Raises:
            InputError: if a question is wrong, or its time lies so far before the last event that it looks back through another
                window than that of the state.
        """
        question_times = check_questions(questions)
        prefix = [events_before(self.times, time) for time in question_times]
        starts = window_start(self.window_start + np.array(prefix), self.model.config.settings.max_events)
        for index, (time, start) in enumerate(zip(question_times, starts, strict=True)):
            too_early = time is not None and self.earlier_times[1] is not None and time <= self.earlier_times[1]
            if too_early or start != self.window_start:
                raise InputError(
                    f"{question_name(index)}: 'time' is before events that the state has encoded with others; "
                    "ask the model with the history"
                )
        last_times = [previous_times(self.times[:count], self.earlier_times)[1][1] for count in prefix]
        condition = encode_conditions(
            self.model.processor, self.model.config, questions, question_times, last_times, question_name, strict=True
        )
        return Questions(condition, torch.zeros(len(prefix), dtype=torch.int64), torch.tensor(prefix))

    def to_bytes(self) -> bytes:
        """Return the state in the safetensors format. It does not contain the model."""
        tensors = _tensors(self.history) | {f"condition.{name}": field for name, field in self.condition.items()}
        times = [NO_TIME if time is None else time for time in self.times]
        tensors |= {"item": self.item, "time": torch.tensor(times, dtype=torch.int64)}
        metadata = {
            "format": FORMAT,
            "model": self.fingerprint,
            "window_start": str(self.window_start),
            "earlier_times": json.dumps(self.earlier_times),
        }
        return tensors_to_bytes({name: tensor.cpu() for name, tensor in tensors.items()}, metadata)

    @classmethod
    @torch.inference_mode()
    def from_bytes(cls, data: bytes, model: Model) -> "UserState":
        """Return the state that `to_bytes` wrote.

        Args:
            data: from `to_bytes`.
            model: that encoded the history, or a model with the same weights and configuration.

        Raises:
            InputError: if the bytes are damaged, or are the state of another model.
        """
        try:
            tensors, metadata = tensors_from_bytes(data)
        except ValueError as error:
            raise InputError(f"user state: damaged ({error}); {REMEDY}") from None
        if metadata.get("format") != FORMAT:
            raise InputError(f"user state: has the format {metadata.get('format')}, expected {FORMAT}; {REMEDY}")
        reference = cls.empty(model)
        if metadata.get("model") != reference.fingerprint:
            raise InputError(f"user state: was encoded by another model; {REMEDY}")
        try:
            return reference._filled(tensors, metadata)
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(f"user state: damaged ({error}); {REMEDY}") from None

    def _filled(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> "UserState":
        """Return this empty state with the content of `to_bytes`.

        Raises:
            ValueError: if a tensor is missing or has another type or shape than this state's.
        """
        events, device = len(tensors["item"]), self.model.network.device
        expected = _tensors(self.history) | {f"condition.{name}": field for name, field in self.condition.items()}
        expected |= {"item": self.item, "time": self.item}
        if tensors.keys() != expected.keys():
            raise ValueError(f"expected the tensors {', '.join(sorted(expected))}")
        for name, tensor in tensors.items():
            rows = events * (2 if name.startswith("block.") else 1)  # a block has two tokens an event
            if tensor.dtype != expected[name].dtype or tensor.shape != (rows, *expected[name].shape[1:]):
                raise ValueError(f"tensor {name} has the wrong type or shape")
        blocks = [
            {name: tensors[f"block.{index}.{name}"].to(device) for name in block}
            for index, block in enumerate(self.history.encoder.blocks)
        ]
        pointer = {
            name: tensors["item" if name == "item" else f"pointer.{name}"].to(device) for name in self.history.pointer
        }
        encoder = EncoderState(blocks, torch.tensor([0, 2 * events]))
        history = HistoryState(encoder, tensors["last_event"].to(device), pointer)
        previous, current = (None if time is None else int(time) for time in json.loads(metadata["earlier_times"]))
        return UserState(
            self.model,
            self.fingerprint,
            history,
            tensors["item"],
            {name: tensors[f"condition.{name}"] for name in self.condition},
            [None if time == NO_TIME else time for time in tensors["time"].tolist()],
            (previous, current),
            int(metadata["window_start"]),
        )

    def _check_weights(self) -> None:
        if self.fingerprint != self.model.weights_fingerprint:
            raise InputError(f"user state: the weights of the model have changed since it was encoded; {REMEDY}")


def _encode(network: Network, item: Tensor, condition: Fields) -> HistoryState:
    """Return the state of the history of one user, with items (L,) and condition fields (L, ...) on the CPU."""
    history = History(item, condition, torch.tensor([0, len(item)]))
    return network.eval().encode_history(history.to(network.device))


def _tensors(history: HistoryState) -> dict[str, Tensor]:
    """Return the tensors of an encoded history by name."""
    blocks = enumerate(history.encoder.blocks)
    tensors = {f"block.{index}.{name}": tensor for index, block in blocks for name, tensor in block.items()}
    # The items of the pointer are those of the state.
    tensors |= {f"pointer.{name}": tensor for name, tensor in history.pointer.items() if name != "item"}
    return tensors | {"last_event": history.last_event}
