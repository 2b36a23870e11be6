"""Every question of an evaluation has its own filter, and its own metrics."""

from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.artefact.json_file import read_json
from openlum.data.dataset import Dataset
from openlum.data.histories import raw_history
from openlum.errors import InputError
from openlum.evaluation.retrieval_metrics import retrieval_metrics
from openlum.model import LargeUserModel
from openlum.retrieve.evaluate import retrieve
from openlum.retrieve.settings import RetrieveSettings


def evaluate(dataset: Dataset, directory: Path, **settings: object) -> dict[str, dict[str, float]]:
    content = {"questions": {"any": {}, "five": {"rating": 5}}, "at": [3], "exclude_seen": False}
    parsed = RetrieveSettings.model_validate(content | settings)
    return retrieve(dataset.path, directory / "model", directory / "out", parsed)


def test_a_filter_ranks_the_held_out_item_among_its_items(
    small_dataset: Dataset, awake: LargeUserModel, tmp_path: Path
) -> None:
    plain = evaluate(small_dataset, tmp_path)
    metrics = evaluate(small_dataset, tmp_path, filters={"five": {"where": {"tags": ["t1", "t2"]}, "deny": ["i3"]}})
    assert metrics["any"] == plain["any"]
    assert metrics["five"] != plain["five"]
    tags = small_dataset.item_features()["tags"]
    ids = small_dataset.vocabulary("item.tags").encode(["t1", "t2"])
    allowed = np.isin(tags, ids).any(1)
    allowed[small_dataset.vocabulary("items").encode(["i3"])] = False
    sequences, ranks, left_out = small_dataset.sequences, [], 0
    for user_index in range(len(sequences.user)):
        first, cut = int(sequences.offsets[user_index]), int(sequences.test_at[user_index])
        target = int(sequences.item[first + cut])
        state = awake.user_state(raw_history(small_dataset, user_index)[:cut])
        with torch.no_grad():
            scores = awake.score_items(state.history, state.encode_questions([{"rating": 5}]), awake.items())[0].numpy()
        left_out += not allowed[target]
        ranks.append(int((scores[allowed] >= scores[target]).sum()) if allowed[target] else awake.config.items)
    assert 0 < left_out < len(ranks)
    assert metrics["five"] == pytest.approx(retrieval_metrics(ranks, [3]))
    protocol = read_json(tmp_path / "out" / "metrics.json", "lum retrieve")["protocol"]
    assert protocol["held_out_left_out_by_filter_of_five"] == left_out


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"six": {}}, "retrieve.filters: 'six' is not a question; choose from any, five"),
        ({"any": {"where": {"colour": "red"}}}, "retrieve.filters.any: 'colour' is not a field"),
        ({"any": {"where": {"tags": "t99"}}}, "retrieve.filters.any: no item has 't99' in the field 'tags'"),
    ],
)
def test_a_wrong_filter_is_explained_before_the_evaluation(
    small_dataset: Dataset, awake: LargeUserModel, tmp_path: Path, filters: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(small_dataset, tmp_path, filters=filters)
