"""Held-out items without a training event are ranked by their fields alone, beside random and popularity."""

from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.artefact.json_file import read_json
from openlum.data.dataset import Dataset
from openlum.data.histories import raw_history
from openlum.data.item_activity import refreshed
from openlum.evaluation.retrieval_metrics import retrieval_metrics
from openlum.model import ModelSettings
from openlum.pretrain.initialization import build_model
from openlum.results import Retrieval
from openlum.retrieve.cold_items import random_metrics
from openlum.retrieve.evaluate import retrieve
from openlum.retrieve.settings import POPULARITY, RetrieveSettings
from tests.model.conftest import fill_zero_weights

AT = [2, 5]


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_cold_ranks_equal_a_loop_over_users(small_dataset: Dataset, tmp_path: Path, exclude_seen: bool) -> None:
    """Also with weights for activity, which the ranks by the fields alone must not have."""
    model = build_model(small_dataset, ModelSettings(width=16, layers=1, heads=2, embedding_width=8), seed=0).eval()
    fill_zero_weights(model)
    model.network.activity_weights.fill_(0.3)
    sequences = small_dataset.sequences
    held_out = [int(sequences.item[o + t]) for o, t in zip(sequences.offsets, sequences.test_at, strict=False)]
    cold = sorted({*held_out[:3], 1, 2, 3, 4, 5})
    trained = torch.ones(model.config.items, dtype=torch.bool)
    trained[cold] = False
    model.network.item_encoder.set_trained_items(trained)
    model.save_pretrained(tmp_path / "model")
    settings = RetrieveSettings(at=AT, exclude_seen=exclude_seen, batch_users=3)
    metrics = retrieve(small_dataset.path, tmp_path / "model", tmp_path / "out", settings)
    block = read_json(tmp_path / "out" / "metrics.json", "lum retrieve")["cold_items"]
    assert Retrieval(tmp_path / "out").cold_items == block

    any_ranks, popularity_ranks = [], []
    for user_index, target in enumerate(held_out):
        if target not in cold:
            continue
        first, cut = int(sequences.offsets[user_index]), int(sequences.test_at[user_index])
        state = model.user_state(raw_history(small_dataset, user_index)[:cut])
        with torch.no_grad():
            scores = model.score_items(state.history, state.encode_questions([{}]), model.items())[0].numpy()
        moment = int(refreshed(sequences.time[first + cut]))
        counts = np.bincount(sequences.item[sequences.time < moment], minlength=len(scores))
        seen = set(sequences.item[first : first + cut].tolist()) if exclude_seen else set()
        others = [item for item in cold if item != target and item not in seen]
        any_ranks.append(1 + sum(scores[item] >= scores[target] for item in others))
        popularity_ranks.append(1 + sum(counts[item] >= counts[target] for item in others))
    assert 3 <= len(any_ranks) < len(held_out)
    assert (block["users"], block["candidates"]) == (len(any_ranks), len(cold))
    assert block["among_cold"]["any"] == pytest.approx(retrieval_metrics(any_ranks, AT))
    assert block["among_cold"][POPULARITY] == pytest.approx(retrieval_metrics(popularity_ranks, AT))
    assert block["among_all"].keys() == {*metrics, "random"}
    assert block["among_all"]["random"] == random_metrics(model.config.items - 1, AT)


def test_without_cold_items_there_is_no_block(small_dataset: Dataset, tmp_path: Path) -> None:
    model = build_model(small_dataset, ModelSettings(width=16, layers=1, heads=2, embedding_width=8), seed=0)
    model.save_pretrained(tmp_path / "model")
    retrieve(small_dataset.path, tmp_path / "model", tmp_path / "out", RetrieveSettings(at=AT))
    assert Retrieval(tmp_path / "out").cold_items is None


def test_random_metrics_are_the_mean_over_all_ranks() -> None:
    metrics = random_metrics(8, [2])
    assert metrics["hr@2"] == pytest.approx(2 / 8)
    assert metrics["mrr"] == pytest.approx(sum(1 / rank for rank in range(1, 9)) / 8)
