"""Shards: together they are the whole data set, and only a bounded number of their events is in memory."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from openlum.data.dataset import SPLITS, Dataset
from openlum.data.packing import Spans, copy_spans
from openlum.data.sequences import Sequences, concatenate, join_sequences
from openlum.data.time_fields import moment_starts
from openlum.errors import InputError
from openlum.model import History


def columns(table: Any) -> dict[str, Any]:
    """Return all columns of sequences or impressions by name."""
    flat = {}
    for name, values in vars(table).items():
        flat |= {f"{name}.{field}": v for field, v in values.items()} if isinstance(values, dict) else {name: values}
    return flat


def assert_same(first: Any, second: Any) -> None:
    assert columns(first).keys() == columns(second).keys()
    for name, values in columns(first).items():
        np.testing.assert_array_equal(values, columns(second)[name], err_msg=name)
        if isinstance(values, np.ndarray) and name != "moment_start":
            assert values.dtype == columns(second)[name].dtype, name


def test_the_shards_together_are_the_whole(sharded_dataset: Dataset, small_dataset: Dataset) -> None:
    shards = sharded_dataset.shards()
    assert len(shards) == 5
    users = [shard.sequences.user for shard in shards]
    assert len(np.unique(np.concatenate(users))) == sum(map(len, users))  # each user is in one shard
    assert sum(shard.events for shard in shards) == len(sharded_dataset.sequences.item)
    assert_same(join_sequences([shard.sequences for shard in shards]), sharded_dataset.sequences)
    assert_same(sharded_dataset.sequences, small_dataset.sequences)
    for split in SPLITS:
        rows = concatenate([shard.impressions(split) for shard in shards])
        assert_same(rows.take(np.argsort(rows.row)), sharded_dataset.impressions(split))
        assert_same(sharded_dataset.impressions(split), small_dataset.impressions(split))


def test_the_impressions_of_a_shard_are_those_of_its_users(sharded_dataset: Dataset) -> None:
    for shard in sharded_dataset.shards():
        for split in SPLITS:
            assert set(shard.impressions(split).user) <= set(shard.sequences.user)


def test_an_event_needs_less_than_forty_bytes(small_dataset: Dataset) -> None:
    """A training step needs one item, one time and the fields of the log for each event, and where its second begins."""
    sequences = small_dataset.sequences
    arrays = [sequences.time, sequences.item, sequences.moment_start, sequences.condition["rating"]]
    assert sum(array.nbytes for array in arrays) == 20 * len(sequences.item)


def test_a_shard_may_have_no_impressions_of_a_split(sharded_dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(sharded_dataset.path, tmp_path / "dataset", ignore=shutil.ignore_patterns("manifest.json"))
    shard = sharded_dataset.shards()[1]
    (tmp_path / "dataset" / "impressions" / "test" / shard.name).unlink()
    without = Dataset(tmp_path / "dataset").shards()[1]
    rows, expected = without.impressions("test"), shard.impressions("test").take(slice(0))
    assert_same(rows, expected)


@pytest.mark.parametrize("files", [1, 2])
def test_a_part_may_be_a_directory(sharded_dataset: Dataset, tmp_path: Path, files: int) -> None:
    """Spark writes a directory, in which other files than the data begin with `_` or a dot."""
    shutil.copytree(sharded_dataset.path, tmp_path / "dataset", ignore=shutil.ignore_patterns("manifest.json"))
    for part in list((tmp_path / "dataset").glob("*/**/part-*.parquet")):
        if part.is_file() and part.parts[-2] != "rejected":
            table = pq.read_table(part)
            part.unlink()
            part.mkdir()
            for number, rows in enumerate(np.array_split(np.arange(len(table)), files)):
                pq.write_table(table.take(rows), part / f"part-{number}.snappy.parquet")
            (part / "_SUCCESS").touch()
    copied = Dataset(tmp_path / "dataset")
    assert [shard.name for shard in copied.shards()] == [shard.name for shard in sharded_dataset.shards()]
    for shard, expected in zip(copied.shards(), sharded_dataset.shards(), strict=True):
        assert shard.events == expected.events
        assert_same(shard.sequences, expected.sequences)
        assert_same(shard.impressions("train"), expected.impressions("train"))


@pytest.mark.parametrize("cache_events", [0, 130, 10**6])
def test_cached_events_are_bounded_and_change_nothing(sharded_dataset: Dataset, cache_events: int) -> None:
    dataset = Dataset(sharded_dataset.path)
    dataset.cache_events = cache_events
    shards = dataset.shards()
    for index in np.random.default_rng(0).integers(5, size=30):
        assert_same(shards[index].sequences, sharded_dataset.shards()[index].sequences)
        cached = sum(len(sequences.item) for sequences in dataset._cache.values())
        assert cached <= max(cache_events, shards[index].events)
        assert (shards[index].sequences is shards[index].sequences) == (cached > 0)
    assert (len(dataset._cache) == 5) == (cache_events == 10**6)


def test_a_damaged_shard_is_named(sharded_dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(sharded_dataset.path, tmp_path / "dataset", ignore=shutil.ignore_patterns("manifest.json"))
    (tmp_path / "dataset" / "sequences" / "part-3.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"sequences/part-3\.parquet: cannot be read .*; run 'lum prepare' again"):
        Dataset(tmp_path / "dataset").shards()


def test_raw_ids_are_those_of_the_vocabulary(small_dataset: Dataset) -> None:
    for name in ("items", "users"):
        ids = small_dataset.raw_ids(name).to_pylist()  # type: ignore[arg-type]
        assert ids == [None, *small_dataset.vocabulary(name).values]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("same_second", [False, True])
def test_copied_spans_give_the_same_batches(small_dataset: Dataset, seed: int, same_second: bool) -> None:
    """Items, fields (also the gap to an event before the span) and prefixes are the same, in any order of the spans."""
    sequences = small_dataset.sequences
    if same_second:  # seconds of many events, which spans cut
        step = int(np.ptp(sequences.time)) // 20
        sequences = with_times(sequences, sequences.time // step * step)
    rng, lengths = np.random.default_rng(seed), np.diff(sequences.offsets)
    users = rng.permutation(len(lengths))[:5]
    end = rng.integers(1, lengths[users] + 1)
    start = rng.integers(0, end)
    copy, begin = copy_spans(sequences, Spans(users, start, end))
    index = copy.user_index(sequences.user[users])
    copied = History.gather(copy, Spans(index, start - begin[index], end - begin[index]))
    original = History.gather(sequences, Spans(users, start, end))
    assert copied.item.equal(original.item)
    assert copied.prefix is not None
    assert copied.prefix.equal(original.prefix)
    assert copied.condition.keys() == original.condition.keys()
    for name, values in original.condition.items():
        np.testing.assert_array_equal(copied.condition[name], values, err_msg=name)
    assert len(copy.item) < len(sequences.item)


def with_times(sequences: Sequences, time: np.ndarray) -> Sequences:
    """Return sequences with other times."""
    first = np.zeros(len(time), bool)
    first[sequences.offsets[:-1]] = True
    return dataclasses.replace(sequences, time=time, moment_start=moment_starts(time, first))


def test_gathered_time_fields_equal_those_of_a_loop(small_dataset: Dataset) -> None:
    """The gap is the time since the last event of an earlier second."""
    original = small_dataset.sequences
    step = int(np.ptp(original.time)) // 40  # many events share a second
    for sequences in (original, with_times(original, original.time // step * step)):
        gap = sequences.fields(np.arange(len(sequences.time)))["gap"]
        gaps = set()
        for begin, end in zip(sequences.offsets, sequences.offsets[1:], strict=False):
            for event in range(begin, end):
                earlier = sequences.time[begin:end][sequences.time[begin:end] < sequences.time[event]]
                expected = 2 + int(np.log2(1 + sequences.time[event] - earlier[-1])) if len(earlier) else 1
                assert gap[event] == expected
                gaps.add(expected)
        assert len(gaps) > 3
