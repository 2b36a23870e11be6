"""Full ranking metrics against an independent implementation, and the held-out item's rank against a loop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from openlum.artefact.json_file import read_json
from openlum.data.dataset import Dataset
from openlum.data.histories import raw_history
from openlum.errors import InputError
from openlum.evaluation.retrieval_metrics import rank_of_target, retrieval_metrics
from openlum.model import LargeUserModel, ModelSettings
from openlum.pretrain.initialization import build_model
from openlum.retrieve.evaluate import retrieve
from openlum.retrieve.settings import RetrieveSettings
from tests.model.conftest import fill_zero_weights
from tests.recode import recode


def test_metrics_equal_an_independent_implementation() -> None:
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(200, 50)), rng.integers(0, 50, 200)
    relevance = np.eye(50)[target]
    metrics = retrieval_metrics(rank_of_target(torch.from_numpy(scores), torch.from_numpy(target)).numpy(), at=[5, 10])
    for k in (5, 10):
        assert metrics[f"ndcg@{k}"] == pytest.approx(ndcg_score(relevance, scores, k=k))
        hits = [target[row] in np.argsort(-scores[row])[:k] for row in range(200)]
        assert metrics[f"hr@{k}"] == pytest.approx(np.mean(hits))
    ranks = [int(np.flatnonzero(np.argsort(-scores[row]) == target[row])[0]) + 1 for row in range(200)]
    assert metrics["mrr"] == pytest.approx(np.mean(1 / np.array(ranks)))


def test_equal_scores_rank_before_the_target() -> None:
    """A model with the same score for every item must not look perfect."""
    assert rank_of_target(torch.zeros(1, 7), torch.tensor([3])).item() == 7


def test_scores_that_are_not_a_number_are_refused() -> None:
    """A model that diverged gives no rank, whichever item is the target."""
    scores = torch.tensor([[0.1, 0.2, 0.3], [-torch.inf, torch.nan, 0.3]])
    for target in (1, 2):
        with pytest.raises(InputError, match="score of item 1 in row 1 is nan"):
            rank_of_target(scores, torch.tensor([0, target]))


@pytest.mark.parametrize(
    ("rank", "at"), [([1, np.nan], [1]), ([0], [1]), ([], [1]), (3, [1]), ([1], [0]), ([1], 10), ([1], [1.5])]
)
def test_invalid_ranks_and_cut_offs_are_refused(rank: object, at: object) -> None:
    with pytest.raises(InputError, match=r"rank|at"):
        retrieval_metrics(rank, at)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [[0], [10, -5], [10, 10]])
def test_invalid_cut_offs_in_settings_are_refused(at: list[int]) -> None:
    with pytest.raises(ValueError, match="at"):
        RetrieveSettings(at=at)


def scores_of_all_items(model: LargeUserModel, history: list[dict[str, Any]], question: dict[str, Any]) -> torch.Tensor:
    """Return the scores of all items, (V,), by a question about one user."""
    state = model.user_state(history)
    return model.score_items(state.history, state.encode_questions([question]), model.items())[0]


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_evaluation_equals_a_loop_over_users(small_dataset: Dataset, tmp_path: Path, exclude_seen: bool) -> None:
    shape = ModelSettings(width=16, layers=1, heads=2, embedding_width=8, max_events=20)
    model = build_model(small_dataset, shape, seed=0).eval()
    fill_zero_weights(model)
    model.save_pretrained(tmp_path / "model")
    settings = RetrieveSettings(
        questions={"any": {}, "five": {"rating": 5}}, at=[3], exclude_seen=exclude_seen, batch_users=3
    )
    metrics = retrieve(str(small_dataset.path), str(tmp_path / "model"), str(tmp_path / "out"), settings)
    sequences = small_dataset.sequences
    ranks = []
    for user_index in range(len(sequences.user)):
        first, last = sequences.offsets[user_index], sequences.offsets[user_index] + sequences.test_at[user_index]
        if last >= sequences.offsets[user_index + 1]:
            continue
        history = raw_history(small_dataset, user_index)[: last - first]
        with torch.no_grad():
            scores = scores_of_all_items(model, history, {"rating": 5}).numpy()
        target = int(sequences.item[last])
        excluded = {0} | ({int(i) for i in sequences.item[first:last]} - {target} if exclude_seen else set())
        ranks.append(1 + sum(scores[i] >= scores[target] for i in range(len(scores)) if i not in excluded | {target}))
    assert metrics["five"] == pytest.approx(retrieval_metrics(ranks, [3]))
    assert read_json(tmp_path / "out" / "metrics.json", "lum retrieve")["protocol"]["users"] == len(ranks)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_items_added_after_training_are_ranked_last(small_dataset: Dataset, tmp_path: Path, exclude_seen: bool) -> None:
    """As a held-out item, it is behind all others. In a history, it is an unknown item and excludes nothing."""
    model = build_model(small_dataset, ModelSettings(width=16, layers=1, heads=2, embedding_width=8), seed=0)
    model.save_pretrained(tmp_path / "model")
    item_names, sequences = [*small_dataset.vocabulary("items").values, "new", "newer"], small_dataset.sequences
    settings = RetrieveSettings(at=[3, 20], exclude_seen=exclude_seen)

    def evaluate(name: str, items: dict[int, int]) -> dict[str, dict[str, float]]:
        dataset = recode(small_dataset, tmp_path / name, {"items": item_names}, {"sequences": {"item": items}})
        return retrieve(dataset.path, tmp_path / "model", tmp_path / f"{name} out", settings)

    assert evaluate("grown", {}) == retrieve(small_dataset.path, tmp_path / "model", tmp_path / "out", settings)
    first_events = [int(first) for first in sequences.offsets[:-1]]
    in_history = [
        evaluate(name, dict.fromkeys(first_events, new)) for name, new in (("new", len(item_names)), ("unknown", 0))
    ]
    assert in_history[0] == in_history[1]
    held_out = sequences.offsets[:-1] + sequences.test_at
    held_out = held_out[held_out < sequences.offsets[1:]]
    metrics = evaluate("held out", {int(event): len(item_names) - 1 for event in held_out})
    items = model.config.items
    assert metrics["any"] == pytest.approx({"hr@3": 0, "ndcg@3": 0, "hr@20": 0, "ndcg@20": 0, "mrr": 1 / items})
    protocol = read_json(tmp_path / "held out out" / "metrics.json", "lum retrieve")["protocol"]
    assert protocol["unknown_held_out"] == len(held_out)


@pytest.mark.parametrize("fields", [["scenario"], ["scenario", "gap"]])
def test_a_known_question_has_values_of_the_held_out_event(
    small_dataset: Dataset, awake: LargeUserModel, tmp_path: Path, fields: list[str]
) -> None:
    settings = RetrieveSettings(known={"known": fields}, at=[3], exclude_seen=False, batch_users=3)
    metrics = retrieve(small_dataset.path, tmp_path / "model", tmp_path / "out", settings)
    sequences, ranks = small_dataset.sequences, []
    for user_index in range(len(sequences.user)):
        last = int(sequences.offsets[user_index] + sequences.test_at[user_index])
        history = raw_history(small_dataset, user_index)
        event = history[last - sequences.offsets[user_index]]
        # Time fields are given as ids: with a time, the question would get all time fields.
        question = {name: event.get(name, int(sequences.fields(np.array([last]))[name][0])) for name in fields}
        with torch.no_grad():
            scores = scores_of_all_items(awake, history[: last - sequences.offsets[user_index]], question)
        ranks.append(int((scores[1:] >= scores[sequences.item[last]]).sum()))
    assert metrics["known"] == pytest.approx(retrieval_metrics(ranks, [3]))
    assert metrics["known"] != pytest.approx(metrics["any"])


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            "rating",
            "retrieve.known.wrong: 'rating' is not a condition field that is known before the item; "
            "choose from: scenario, hour",
        ),
        ("mood", "retrieve.known.wrong: 'mood' is not a condition field"),
    ],
)
def test_fields_that_are_not_known_before_the_item_are_refused(
    small_dataset: Dataset, awake: LargeUserModel, tmp_path: Path, field: str, message: str
) -> None:
    settings = RetrieveSettings(known={"right": ["scenario"], "wrong": ["scenario", field]})
    with pytest.raises(InputError, match=message):
        retrieve(small_dataset.path, tmp_path / "model", tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()
