"""The loader of training batches: its order, its coverage and its state."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import numpy as np
import pytest

from openlum.data import loader as loader_module
from openlum.data.dataset import Dataset
from openlum.data.loader import Share, TrainingLoader
from openlum.data.packing import batches, training_end, training_spans

Result = TypeVar("Result")
Batch = tuple[tuple[int, int, int], ...]
"""User id, start and end of each span of a batch."""


def new_loader(dataset: Dataset, **changes: Any) -> TrainingLoader:
    settings: dict[str, Any] = {"max_events": 10, "batch_events": 24, "buffer_events": 130, "seed": 3} | changes
    return TrainingLoader(dataset, lambda sequences: training_end(sequences, dataset.info, "time"), **settings)


def epoch(loader: TrainingLoader) -> list[Batch]:
    """Return the rest of the loader's epoch."""
    number, result = loader.epoch, []
    while loader.epoch == number:
        loader.open()
        for spans in loader.batches():
            users = loader.sequences.user[spans.user_index].tolist()
            result.append(tuple(zip(users, spans.start.tolist(), spans.end.tolist(), strict=True)))
    return result


def spans_of(epochs: list[Batch]) -> list[tuple[int, int, int]]:
    return [span for batch in epochs for span in batch]


def covered(spans: list[tuple[int, int, int]]) -> Counter[tuple[int, int]]:
    """Return how often each event of each user occurs."""
    return Counter((user, event) for user, start, end in spans for event in range(start, end))


def test_one_shard_has_the_order_of_the_spans_of_all_users(small_dataset: Dataset) -> None:
    loader, sequences = new_loader(small_dataset), small_dataset.sequences
    end = training_end(sequences, small_dataset.info, "time")
    for number in range(3):
        spans = training_spans(end, 10, np.random.default_rng((3, number)))
        expected = [
            tuple(zip(sequences.user[b.user_index].tolist(), b.start.tolist(), b.end.tolist(), strict=True))
            for b in batches(spans, 24)
        ]
        assert epoch(loader) == expected


def test_shards_in_one_buffer_have_the_order_of_one_shard(sharded_dataset: Dataset, small_dataset: Dataset) -> None:
    """So the number of parts changes no result of a small data set."""
    one, five = new_loader(small_dataset), new_loader(sharded_dataset, buffer_events=10**6)
    for _ in range(3):
        assert epoch(five) == epoch(one)


@pytest.mark.parametrize("buffer_events", [1, 130, 10**6])
def test_the_order_is_the_same_cached_or_not(sharded_dataset: Dataset, buffer_events: int) -> None:
    orders = []
    for cache_events in (0, 130, 10**6):
        dataset = Dataset(sharded_dataset.path)
        dataset.cache_events = cache_events
        loader = new_loader(dataset, buffer_events=buffer_events)
        orders.append([epoch(loader) for _ in range(3)])
        assert len(loader.buffers(0)) == {1: 5, 130: 3, 10**6: 1}[buffer_events]
    assert orders[0] == orders[1] == orders[2]
    assert orders[0][0] != orders[0][1]  # epochs differ
    assert orders[0] != [epoch(new_loader(sharded_dataset, buffer_events=buffer_events, seed=4)) for _ in range(3)]


def on_ranks(world_size: int, work: Callable[[Share], Result]) -> list[Result]:
    """Return what each rank's `work` returns. The ranks run at the same time, and agree on the largest of their numbers."""
    barrier, numbers = Barrier(world_size, timeout=60), [0] * world_size

    def share(rank: int) -> Share:
        def largest(number: int) -> int:
            numbers[rank] = number
            barrier.wait()
            result = max(numbers)
            barrier.wait()
            return result

        return Share(rank, world_size, largest)

    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(work, map(share, range(world_size))))


@pytest.mark.parametrize("batch_events", [5, 24])
@pytest.mark.parametrize("buffer_events", [1, 130, 10**6])
@pytest.mark.parametrize("dealt_shards", [1, 8])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_ranks_see_every_training_event_once_in_an_epoch_and_have_as_many_batches(
    sharded_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    world_size: int,
    dealt_shards: int,
    buffer_events: int,
    batch_events: int,
) -> None:
    """Whether they share every shard or each takes some shards, whose sizes differ."""
    monkeypatch.setattr(loader_module, "DEALT_SHARDS", dealt_shards)
    is_dealt = dealt_shards * world_size <= 5
    end = training_end(sharded_dataset.sequences, sharded_dataset.info, "time")
    expected = {(int(u), n) for u, e in zip(sharded_dataset.sequences.user, end, strict=True) for n in range(e)}

    def work(share: Share) -> tuple[list[list[Batch]], list[int]]:
        loader = new_loader(
            Dataset(sharded_dataset.path), share=share, buffer_events=buffer_events, batch_events=batch_events
        )
        assert loader.is_dealt == is_dealt
        return [epoch(loader) for _ in range(2)], [len(loader.buffers(number)) for number in range(2)]

    results = on_ranks(world_size, work)
    assert all(buffers == results[0][1] for _, buffers in results)
    for number in range(2):
        by_rank = [epochs[number] for epochs, _ in results]
        events = covered([span for batches_of_rank in by_rank for span in spans_of(batches_of_rank)])
        assert set(events) == expected
        assert set(events.values()) == {1}
        assert len(set(map(len, by_rank))) == 1
        assert all(any(batches_at_step) for batches_at_step in zip(*by_rank, strict=True))  # no step without an event
        if not is_dealt:  # shared evenly, except for one span of each buffer
            spans = [len(spans_of(batches_of_rank)) for batches_of_rank in by_rank]
            assert max(spans) - min(spans) <= results[0][1][number]


@pytest.mark.parametrize("dealt_shards", [1, 8])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_are_at_the_same_position_and_continue_there(
    sharded_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, world_size: int, dealt_shards: int
) -> None:
    monkeypatch.setattr(loader_module, "DEALT_SHARDS", dealt_shards)

    def loader_of(share: Share) -> TrainingLoader:
        return new_loader(Dataset(sharded_dataset.path), share=share)

    def states_and_batches(share: Share) -> tuple[list[dict[str, int]], list[Batch]]:
        loader, states = loader_of(share), []
        for _ in loader.epoch_batches():
            states.append(loader.state())
        return states, epoch(_at_state(loader_of(share), {"epoch": 0, "buffer": 0, "batch": 0}))

    results = on_ranks(world_size, states_and_batches)
    states = results[0][0]
    assert all(other == states for other, _ in results)
    for number, state in enumerate(states):
        rest = on_ranks(world_size, lambda share, state=state: epoch(_at_state(loader_of(share), state)))
        assert rest == [batches_of_rank[number + 1 :] for _, batches_of_rank in results]


@pytest.mark.parametrize("buffer_events", [1, 130, 10**6])
def test_a_loader_continues_at_every_state(sharded_dataset: Dataset, buffer_events: int) -> None:
    loader, states, order = new_loader(sharded_dataset, buffer_events=buffer_events), [], []
    for _ in range(2):
        while loader.epoch == len(order):
            loader.open()
            states.append(json.dumps(loader.state()))
            for _ in loader.batches():
                states.append(json.dumps(loader.state()))
        order.append(epoch(_at(sharded_dataset, {"epoch": len(order), "buffer": 0, "batch": 0}, buffer_events)))
    flat = [batch for batches_of_epoch in order for batch in batches_of_epoch]
    position = 0
    for state in dict.fromkeys(states):
        resumed = _at(sharded_dataset, json.loads(state), buffer_events)
        number = resumed.epoch
        rest = epoch(resumed) + ([] if number == 1 else epoch(resumed))
        assert rest == flat[len(flat) - len(rest) :]
        position = max(position, len(flat) - len(rest))
    assert position == len(flat)  # the last state is the end


def _at(dataset: Dataset, state: dict[str, int], buffer_events: int) -> TrainingLoader:
    return _at_state(new_loader(dataset, buffer_events=buffer_events), state)


def _at_state(loader: TrainingLoader, state: dict[str, int]) -> TrainingLoader:
    loader.load_state(state)
    return loader


def test_only_one_buffer_is_in_memory(sharded_dataset: Dataset) -> None:
    dataset = Dataset(sharded_dataset.path)
    dataset.cache_events = 0
    loader = new_loader(dataset)
    while loader.epoch < 2:
        loader.open()
        assert len(loader.sequences.item) <= 130
        assert [loader.sequences] == list(dataset._cache.values())
        assert set(loader.sequences.user) <= set(dataset.sequences.user)
        loader.skip_buffer()


def test_the_order_of_shards_changes_from_epoch_to_epoch(sharded_dataset: Dataset) -> None:
    loader = new_loader(sharded_dataset)
    orders = {tuple(shard.name for buffer in loader.buffers(number) for shard in buffer) for number in range(20)}
    assert len(orders) > 10
    assert {len(order) for order in orders} == {5}
