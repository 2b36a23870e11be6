"""Bulk queries: the answers for an impression equal those of a separate pass, and no answer depends on later events."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from openlum.artefact.json_file import read_json
from openlum.data.dataset import SPLITS, Dataset
from openlum.data.packing import Spans, window_start
from openlum.errors import InputError
from openlum.model import History, LargeUserModel, ModelSettings, Questions
from openlum.model.batch import to_tensors
from openlum.pretrain.initialization import build_model
from openlum.query.answers import answer_impressions, before_the_day
from openlum.query.bulk import query
from openlum.query.questions import QuestionSet
from openlum.query.settings import QuerySettings
from openlum.rank.knowledge import load_knowledge
from tests.model.conftest import fill_zero_weights
from tests.recode import recode

QUESTIONS = {
    "any": {},
    "like": {"rating": 5},
    "here": {"rating": 5, "*": "$row"},
    "dislike": {"rating": 1, "weekday": "$row"},
}


@pytest.fixture(scope="module")
def model(small_dataset: Dataset) -> LargeUserModel:
    """A model with windows that are much shorter than histories, so that all rules about windows take effect."""
    shape = ModelSettings(width=16, layers=2, heads=2, embedding_width=8, field_width=8, max_events=10)
    model = build_model(small_dataset, shape, seed=0).eval()
    fill_zero_weights(model)
    return model


@torch.no_grad()
def test_bulk_answers_equal_those_of_one_pass_per_row(small_dataset: Dataset, model: LargeUserModel) -> None:
    sequences, rows = small_dataset.sequences, small_dataset.impressions("test")
    questions = QuestionSet(model.processor, model.config.condition, QUESTIONS)
    count, items = 0, model.items()
    settings = QuerySettings(batch_events=40)
    for index, answers, similarity, feedback in answer_impressions(model, sequences, rows, questions, settings, items):
        for row, row_answers, row_similarity, row_feedback in zip(index, answers, similarity, feedback, strict=True):
            user_index = int(sequences.user_index(rows.user[row : row + 1])[0])
            begin = int(window_start(rows.prefix[row : row + 1], 10)[0])
            n = int(rows.prefix[row]) - begin
            history = History.gather(sequences, Spans(*(np.array([x]) for x in (user_index, begin, begin + n))))
            condition = to_tensors({name: values[row : row + 1] for name, values in rows.condition.items()})
            item_questions = Questions(
                questions.conditions(condition, 1), torch.zeros(4, dtype=torch.int64), torch.full((4,), n)
            )
            state = model.encode_history(history)
            torch.testing.assert_close(row_answers, model.answer_questions(state, item_questions), atol=1e-5, rtol=0)
            item = torch.from_numpy(rows.item[row : row + 1].astype(np.int64))
            scores = model.score_items(state, item_questions, items)[:, int(item)]
            torch.testing.assert_close(row_similarity, scores, atol=1e-5, rtol=0)
            feedback_questions = Questions(condition, torch.zeros(1, dtype=torch.int64), torch.full((1,), n), item)
            odds = torch.logit(model.predict_feedback_logits(state, feedback_questions)[0].softmax(1))[0]
            torch.testing.assert_close(row_feedback, odds, atol=1e-4, rtol=0)
            count += 1
    assert count == len(rows.row)


def test_windows_have_the_right_length_and_no_later_events() -> None:
    prefix = np.arange(200)
    start = window_start(prefix, 10)
    assert (start[prefix <= 10] == 0).all()
    length = (prefix - start)[prefix > 10]
    assert length.min() == 6
    assert length.max() == 10


def test_knowledge_has_every_row_and_the_right_similarities(
    small_dataset: Dataset, model: LargeUserModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "model")
    settings = QuerySettings(questions=QUESTIONS, rows_per_part=100)
    paths = [str(path) for path in (small_dataset.path, tmp_path / "model", tmp_path / "knowledge")]
    summary = query(*paths, settings)
    parts = sorted((tmp_path / "knowledge" / "impressions").glob("part-*.parquet"))
    assert len(parts) > 1
    table = pq.read_table(parts).sort_by("row")
    rows = [small_dataset.impressions(split) for split in SPLITS]
    assert table["row"].to_pylist() == sorted(np.concatenate([split.row for split in rows]).tolist())
    assert summary["rows"] == len(table)
    target = dict(
        zip(np.concatenate([split.row for split in rows]), np.concatenate([split.item for split in rows]), strict=True)
    )
    items = np.array(pq.read_table(tmp_path / "knowledge" / "items")["embedding"].to_pylist(), np.float32)
    answers = np.array(table["answer.like"].to_pylist(), np.float32)
    cosine = (answers * items[[target[row] for row in table["row"].to_pylist()]]).sum(-1)
    similarity = table["similarity.like"].to_numpy()
    assert (similarity > cosine - 2e-3).all()  # an item of the history has more than its cosine
    assert (np.abs(similarity - cosine) < 2e-3).any()
    np.testing.assert_allclose(np.linalg.norm(answers, axis=1), 1, atol=2e-3)
    assert (
        read_json(tmp_path / "knowledge" / "knowledge.json", "lum query")["dataset"] == small_dataset.info.fingerprint
    )


def test_a_model_of_another_dataset_is_refused(small_dataset: Dataset, model: LargeUserModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    values = LargeUserModel.load(tmp_path / "model").processor.items.values
    other = LargeUserModel.load(tmp_path / "model")
    other.processor.items.values[:] = values[::-1]
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="pretrain again"):
        query(small_dataset.path, tmp_path / "other", tmp_path / "knowledge", QuerySettings())
    assert not (tmp_path / "knowledge").exists()


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"rating": "$row"}, "'rating' is feedback"),
        ({"ratings": 5}, "'ratings': the model has no such field"),
        ({"weekdays": "$row"}, "'weekdays': the model has no such field"),
        ({"rating": 9}, "was not in the training data"),
    ],
)
def test_the_message_names_a_wrong_question(model: LargeUserModel, question, message: str) -> None:
    with pytest.raises(InputError, match=f"question 'odd'.*{message}"):
        QuestionSet(model.processor, model.config.condition, {"odd": question})


def test_new_items_of_a_grown_dataset_have_the_answers_of_unknown_items(
    small_dataset: Dataset, model: LargeUserModel, tmp_path: Path
) -> None:
    """In histories and as targets, items that the model does not have equal item 0. Each has an embedding for the ranker."""
    model.save_pretrained(tmp_path / "model")
    values = [*small_dataset.vocabulary("items").values, "new", "newer"]
    knowledge = []
    for name, new in (("grown", len(values)), ("unknown", 0)):
        changes = {"sequences": {"item": {2: new}}, "train": {"item": {0: new}}, "test": {"item": {1: new}}}
        dataset = recode(small_dataset, tmp_path / name, {"items": values}, changes)
        query(dataset.path, tmp_path / "model", tmp_path / f"knowledge {name}", QuerySettings(questions=QUESTIONS))
        knowledge.append(load_knowledge(tmp_path / f"knowledge {name}", dataset))
    grown, unknown = knowledge
    np.testing.assert_array_equal(grown.answers, unknown.answers)
    np.testing.assert_array_equal(grown.scores, unknown.scores)
    assert len(grown.items) == len(values) + 1
    np.testing.assert_array_equal(grown.items[-2:], grown.items[[0, 0]])
    query(small_dataset.path, tmp_path / "model", tmp_path / "knowledge", QuerySettings(questions=QUESTIONS))
    before = load_knowledge(tmp_path / "knowledge", small_dataset)
    rows = small_dataset.impressions("valid")
    unchanged_rows = rows.row[rows.user != small_dataset.sequences.user[0]]
    places = before.index_of(unchanged_rows), grown.index_of(unchanged_rows)
    np.testing.assert_allclose(before.answers[places[0]], grown.answers[places[1]], atol=1e-3)
    np.testing.assert_allclose(before.scores[places[0]], grown.scores[places[1]], atol=1e-5)


def test_answers_as_of_the_day_see_the_events_before_midnight(small_dataset: Dataset) -> None:
    """The log is extended to twenty days, with some events of a user on each day."""
    changed = Dataset(small_dataset.path)
    begin = changed.sequences.time.min()
    factor = 20 * 86_400 // int(np.ptp(changed.sequences.time))
    changed.__dict__["sequences"] = replace(changed.sequences, time=begin + (changed.sequences.time - begin) * factor)
    rows, sequences = changed.impressions("train"), changed.sequences
    rows = replace(rows, time=begin + (rows.time - begin) * factor)
    nightly = before_the_day(sequences, rows)
    shorter = 0
    for row in range(len(rows.row)):
        user_index = int(sequences.user_index(rows.user[row : row + 1])[0])
        time = sequences.time[sequences.offsets[user_index] : sequences.offsets[user_index + 1]]
        prefix = int((time < rows.time[row] // 86_400 * 86_400).sum())
        assert nightly.prefix[row] == prefix
        # The gap is the time since the last event in the prefix, in log2 buckets of seconds from id 2 on.
        gap = 2 + int(np.log2(1 + rows.time[row] - time[prefix - 1])) if prefix else 1
        assert nightly.condition["gap"][row] == gap
        shorter += 0 < prefix < rows.prefix[row]
    assert shorter > 20


def test_int8_knowledge_is_half_the_size_and_nearly_the_same(
    small_dataset: Dataset, model: LargeUserModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "model")
    knowledge = {}
    for dtype in ("float16", "int8"):
        settings = QuerySettings(questions=QUESTIONS, dtype=dtype)
        query(small_dataset.path, tmp_path / "model", tmp_path / dtype, settings)
        knowledge[dtype] = load_knowledge(tmp_path / dtype, small_dataset)
    fine, coarse = (knowledge[dtype].answers.astype(np.float32) for dtype in ("float16", "int8"))
    assert (fine * coarse).sum(-1).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(coarse, axis=-1), 1, atol=2e-3)
    np.testing.assert_array_equal(knowledge["int8"].scores, knowledge["float16"].scores)
    column = pq.read_schema(tmp_path / "int8" / "impressions" / "part-00000-00000.parquet").field("answer.like").type
    assert (column.value_type, column.list_size) == (pa.int8(), 8)


def test_knowledge_of_other_settings_has_another_fingerprint(
    small_dataset: Dataset, model: LargeUserModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "model")
    changes: list[dict[str, Any]] = [
        {},
        {"as_of": "day"},
        {"dtype": "int8"},
        {"predict_feedback": False},
        {"questions": {"other": {}}},
    ]
    fingerprints = set()
    for index, changed in enumerate(changes):
        query(small_dataset.path, tmp_path / "model", tmp_path / str(index), QuerySettings(**changed))
        fingerprints.add(read_json(tmp_path / str(index) / "knowledge.json", "lum query")["fingerprint"])
    assert len(fingerprints) == len(changes)


def test_a_model_without_feedback_prediction_writes_no_feedback_columns(small_dataset: Dataset, tmp_path: Path) -> None:
    shape = ModelSettings(width=16, layers=1, heads=2, embedding_width=8)
    model = build_model(small_dataset, shape, seed=0, feedback_prediction=False)
    model.save_pretrained(tmp_path / "model")
    query(small_dataset.path, tmp_path / "model", tmp_path / "knowledge", QuerySettings())
    assert load_knowledge(tmp_path / "knowledge", small_dataset).score_names == ["any"]
    with pytest.raises(InputError, match="was not trained to predict feedback"):
        LargeUserModel.load(tmp_path / "model").predict_feedback([], ["1"])
