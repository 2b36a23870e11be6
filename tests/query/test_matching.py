"""The columns of the matching head in knowledge: each row's user vectors are as of the row, or of the beginning of its day."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.data.packing import window_start
from openlum.data.sequences import Impressions, Sequences, concatenate
from openlum.model import History, LargeUserModel, Questions
from openlum.model.batch import Moments, to_tensors
from openlum.model.matching_head import similarity_names
from openlum.query.answers import before_the_day, embed_items, log_odds
from openlum.query.matching import matched_scores, user_vectors_at
from openlum.query.settings import QuerySettings
from openlum.query.shard import query_shard

from .test_bulk import model

__all__ = ["model"]
"""A fixture."""


@pytest.fixture(scope="session")
def rows(small_dataset: Dataset) -> tuple[Sequences, Impressions]:
    shard = small_dataset.shards()[0]
    return shard.sequences, concatenate([shard.impressions(split) for split in small_dataset.impression_sets])


@torch.inference_mode()
def one_by_one(
    model: LargeUserModel, sequences: Sequences, impressions: Impressions, items: torch.Tensor
) -> np.ndarray:
    """Return the predictions of the matching head with one pass over its window per row."""
    predicted = []
    for row in range(len(impressions)):
        begin = sequences.offsets[sequences.user_index(impressions.user[[row]])[0]]
        prefix = impressions.prefix[row]
        index = begin + np.arange(window_start(prefix, model.config.settings.max_events), prefix)
        condition = to_tensors(sequences.fields(index))
        history = History(
            torch.from_numpy(sequences.item[index].astype(np.int64)), condition, torch.tensor([0, len(index)])
        )
        moments = Moments(torch.tensor([0]), torch.tensor([len(index)]))
        vectors = model.network.user_vectors(model.encode_history(history), moments)
        item = torch.from_numpy(impressions.item[[row]].astype(np.int64))
        context = to_tensors({name: values[[row]] for name, values in impressions.condition.items()})
        none = torch.zeros(1, dtype=torch.int64)
        matched = model.network.match(vectors, Questions(context, none, none, item), items[item])
        predicted.append(torch.cat([log_odds(matched.logits), matched.similarities], 1)[0].numpy())
    return np.stack(predicted)


@pytest.mark.parametrize("batch_events", [20, 4096])
def test_batches_equal_one_pass_per_row(
    model: LargeUserModel, small_dataset: Dataset, rows: tuple[Sequences, Impressions], batch_events: int
) -> None:
    sequences, impressions = rows
    items = embed_items(model, len(small_dataset.vocabulary("items")))
    for asked in (impressions, before_the_day(sequences, impressions)):
        found = matched_scores(model, sequences, asked, items, batch_events)
        np.testing.assert_allclose(found, one_by_one(model, sequences, asked, items), atol=1e-4)


def test_columns_of_knowledge(
    model: LargeUserModel, small_dataset: Dataset, rows: tuple[Sequences, Impressions]
) -> None:
    sequences, impressions = rows
    items = embed_items(model, len(small_dataset.vocabulary("items")))
    table = query_shard(model, small_dataset.shards()[0], {"any": {}}).sort_by("row")
    order = np.argsort(impressions.row)
    for tier, asked in (("fresh", impressions), ("nightly", before_the_day(sequences, impressions))):
        names = [name for name in table.column_names if name.startswith(f"{tier}.")]
        feedback = [name.partition(".")[2] for name in table.column_names if name.startswith("feedback.")]
        similarities = similarity_names(model.processor, model.config.condition)
        assert names == [f"{tier}.{name}" for name in feedback + similarities]
        expected = matched_scores(model, sequences, asked, items, 4096)[order]
        np.testing.assert_allclose(np.stack([table[name].to_numpy() for name in names], 1), expected, atol=1e-4)
    assert np.abs(table[names[0]].to_numpy() - table[names[0].replace("nightly", "fresh")].to_numpy()).max() > 1e-3


def test_tiers_may_be_left_out(model: LargeUserModel, small_dataset: Dataset) -> None:
    shard = small_dataset.shards()[0]
    for tiers in ([], ["nightly"]):
        table: pa.Table = query_shard(model, shard, {"any": {}}, QuerySettings(matching_head=tiers))
        found = {name.partition(".")[0] for name in table.column_names} & {"nightly", "fresh"}
        assert found == set(tiers)


def test_later_events_do_not_change_user_vectors(model: LargeUserModel, rows: tuple[Sequences, Impressions]) -> None:
    sequences, _ = rows
    half = np.diff(sequences.offsets) // 2
    later = np.concatenate([np.arange(n) >= k for n, k in zip(np.diff(sequences.offsets), half, strict=True)])
    changed = replace(sequences, item=np.where(later, 1, sequences.item))
    for (index, before), (_, after) in zip(
        user_vectors_at(model, sequences, sequences.user, half, 4096),
        user_vectors_at(model, changed, sequences.user, half, 4096),
        strict=True,
    ):
        assert len(index)
        torch.testing.assert_close(after, before)
