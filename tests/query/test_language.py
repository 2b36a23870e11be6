"""The language of questions: a question with tokens has the answers of the same questions written by hand."""

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from openlum.artefact.json_file import read_json
from openlum.cli import app
from openlum.config import parse_settings
from openlum.data.dataset import Dataset
from openlum.data.histories import raw_history
from openlum.data.knowledge import Knowledge
from openlum.data.sequences import Impressions
from openlum.errors import InputError
from openlum.model import LargeUserModel, ModelSettings
from openlum.model.batch import Moments
from openlum.prepare.run import prepare
from openlum.pretrain.initialization import build_model
from openlum.query.bulk import query
from openlum.query.encoding import encoded_moments
from openlum.query.questions import QuestionSet, question_set
from openlum.query.settings import QuerySettings
from openlum.query.shard import query_shard
from openlum.rank.inputs import select_questions
from tests.conftest import built_once
from tests.model.conftest import fill_zero_weights
from tests.prepare.logs import EVENTS, random_events, write_log

DAY = 86_400
QUESTIONS: dict[str, dict[str, Any]] = {
    "here": {"rating": 5, "scenario": "$row", "category": "$row", "hour": "$row", "weekday": "$row", "gap": "$row"},
    "top": {"category": "$top2", "rating": 5},
    "same": {"category": "$item", "scenario": "home"},
    "tagged": {"words": "$item.tags"},
    "later": {"*": "$row", "rating": 4, "$after": "3d"},
    "codes": {"$learned": True},
}


def _prepare_asked(directory: Path) -> None:
    rng = np.random.default_rng(5)
    events = random_events(5, 260, seconds=9 * DAY)
    n = len(events["user"])
    events["category"] = [f"c {c}" for c in rng.integers(0, 4, n)]
    events["words"] = [[f"t{tag}" for tag in rng.choice(6, size, replace=False)] for size in rng.integers(0, 3, n)]
    events["price"] = rng.normal(10, 3, n).tolist()
    items = {
        "id": [f"i{number}" for number in range(20)],
        "category": [f"c {number % 5}" for number in range(20)],
        "tags": [[f"t{tag}" for tag in rng.choice(8, number % 4, replace=False)] for number in range(20)],
        "stock": rng.normal(size=20),
    }
    fields = {"category": {}, "words": {"type": "multi", "max_values": 2}, "price": {"type": "numeric"}}
    schema = write_log(
        directory,
        {"events": events, "items": items},
        events=EVENTS | {"condition": {**EVENTS["condition"], **fields}},  # type: ignore[dict-item]
        items={
            "path": "items.parquet",
            "id": "id",
            "features": {"category": {}, "tags": {"type": "multi", "max_values": 3}, "stock": {"type": "numeric"}},
        },
        impressions_from_events={"field": "rating", "at_least": 4},
        gap_unit="s",
    )
    prepare(str(schema), str(directory / "dataset"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A log whose condition fields `category` and `words` have values of item features."""
    return Dataset(built_once(tmp_path_factory, "asked", _prepare_asked) / "dataset")


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> LargeUserModel:
    shape = ModelSettings(
        width=16, layers=2, heads=2, embedding_width=8, field_width=8, max_events=10, learned_questions=3
    )
    model = build_model(dataset, shape, seed=0).eval()
    fill_zero_weights(model)
    return model


@pytest.fixture(scope="module")
def rows(dataset: Dataset) -> Impressions:
    return dataset.impressions("test")


@pytest.fixture(scope="module")
def answers(dataset: Dataset, model: LargeUserModel) -> dict[int, dict[str, Any]]:
    """Row id to the columns of knowledge."""
    table = query_shard(model, dataset.shards()[0], QUESTIONS)
    return {row["row"]: row for row in table.to_pylist()}


def by_hand(
    dataset: Dataset, model: LargeUserModel, rows: Impressions, row: int, question: dict[str, Any]
) -> np.ndarray:
    """Return the answer to a question in raw values about the user of a row, with the events before the row as history."""
    user_index = int(dataset.sequences.user_index(rows.user[row : row + 1])[0])
    history = raw_history(dataset, user_index)[: rows.prefix[row]]
    return model.ask(history, [question])[0].numpy()


def raw_condition(dataset: Dataset, rows: Impressions, row: int) -> dict[str, Any]:
    """Return the condition fields of a row in raw values, without time fields and unknown values."""
    values: dict[str, Any] = {}
    for name, vocabulary in dataset.vocabularies("condition").items():
        ids = np.atleast_1d(rows.condition[name][row])
        if (ids > 0).any():
            raw = vocabulary.decode(ids[ids > 0])
            values[name] = raw if name == "words" else raw[0]
    spec = next(spec for spec in dataset.specs("condition") if spec.name == "price")
    values["price"] = float(rows.condition["price"][row]) * spec.std + spec.mean
    return values


def frequent(dataset: Dataset, rows: Impressions, row: int, field: str) -> list[str]:
    """Return the values of a field before the second of a row, most frequent first, the later first if equally frequent."""
    user_index = int(dataset.sequences.user_index(rows.user[row : row + 1])[0])
    events = [event for event in raw_history(dataset, user_index) if event["time"] < rows.time[row]]
    values = [event[field] for event in events if field in event]
    counts = Counter(values)
    return sorted(counts, key=lambda value: (-counts[value], values[::-1].index(value)))


def assert_answer(found: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.array(found, np.float32), expected, atol=2e-3)


def test_each_has_the_answers_of_its_values_written_by_hand(dataset: Dataset, model: LargeUserModel) -> None:
    values = dataset.vocabulary("condition.category").values
    scenarios = dataset.vocabulary("condition.scenario").values
    hand = {
        f"each.{scenario}.{value.replace(' ', '_')}": {"scenario": scenario, "category": value, "rating": 5}
        for scenario in scenarios
        for value in values
    }
    shard = dataset.shards()[0]
    expected = query_shard(model, shard, hand)  # type: ignore[arg-type]
    found = query_shard(model, shard, {"each": {"scenario": "$each", "category": "$each", "rating": 5}})
    assert found.column_names == expected.column_names
    assert found.num_columns > 2 * len(scenarios) * len(values)
    assert found.equals(expected)


def test_each_asks_every_id_of_a_time_field_and_of_a_multi_field(dataset: Dataset, model: LargeUserModel) -> None:
    questions = question_set(model, {"day": {"weekday": "$each"}, "word": {"words": "$each"}}, dataset)
    hand = {f"day.{day}": {"weekday": day} for day in range(1, 8)}
    hand |= {f"word.{word}": {"words": [word]} for word in dataset.vocabulary("condition.words").values}  # type: ignore[misc]
    expected = question_set(model, hand, dataset)
    assert questions.names == expected.names
    for name, values in questions.conditions({}, 2).items():
        torch.testing.assert_close(values, expected.conditions({}, 2)[name], equal_nan=True)


def test_top_has_the_answers_of_the_most_frequent_values_as_of_then(
    dataset: Dataset, model: LargeUserModel, rows: Impressions, answers: dict[int, dict[str, Any]]
) -> None:
    fewer = 0
    for row in range(len(rows)):
        values = frequent(dataset, rows, row, "category")
        for rank in (0, 1):
            question = {"category": values[rank]} if rank < len(values) else {}
            fewer += not question
            expected = by_hand(dataset, model, rows, row, {"rating": 5, **question})
            assert_answer(answers[int(rows.row[row])][f"answer.top.top{rank + 1}"], expected)
    train = dataset.impressions("train")
    asked = question_set(model, {"top": {"category": "$top4"}}, dataset)
    columns = asked.row_values(dataset.sequences, train.user, train.prefix)
    for row in range(len(train)):
        expected_values = frequent(dataset, train, row, "category")[:4]
        ids = [int(columns[f"category$top{rank}"][row]) for rank in range(1, 5)]
        assert dataset.vocabulary("condition.category").decode([i for i in ids if i]) == expected_values
        fewer += len(expected_values) < 4
    assert fewer


@pytest.mark.parametrize("field", ["category", "words", "hour", "gap"])
def test_top_sees_no_event_of_the_second_of_the_row_or_later(
    dataset: Dataset, model: LargeUserModel, rows: Impressions, field: str
) -> None:
    asked = question_set(model, {"top": {field: "$top3"}}, dataset)
    sequences = dataset.sequences
    before = asked.row_values(sequences, rows.user, rows.prefix)
    changed_later = changed_earlier = 0
    for row in range(0, len(rows), 5):
        begin = int(sequences.offsets[sequences.user_index(rows.user[row : row + 1])[0]])
        cut = begin + int(rows.prefix[row])
        assert (sequences.time[cut : cut + 1] >= rows.time[row]).all()
        one = rows.take(np.array([row]))
        for first, is_later in ((cut, True), (begin, False)):
            planted = np.arange(len(sequences.time)) >= first
            condition = {
                name: np.where(planted.reshape(-1, *[1] * (values.ndim - 1)), np.full_like(values, 1), values)
                for name, values in sequences.condition.items()
            }
            time = np.where(planted, sequences.time + 7 * 3600 * np.arange(len(planted)), sequences.time)
            after = asked.row_values(replace(sequences, condition=condition, time=time), one.user, one.prefix)
            same = all(np.array_equal(values[[row]], after[name]) for name, values in before.items())
            assert same or not is_later
            changed_later += is_later
            changed_earlier += not same
    assert changed_later
    assert changed_earlier


def test_item_has_the_answers_of_the_values_of_the_impressions_item(
    dataset: Dataset, model: LargeUserModel, rows: Impressions, answers: dict[int, dict[str, Any]]
) -> None:
    features, vocabularies = dataset.item_features(), dataset.vocabularies("item")
    known = set(dataset.vocabulary("condition.category").values)
    unknown = 0
    for row in range(len(rows)):
        item = int(rows.item[row])
        category = vocabularies["category"].decode([features["category"][item]])[0]
        unknown += category not in known
        question = {"category": category} if category in known else {}
        expected = by_hand(dataset, model, rows, row, {"scenario": "home", **question})
        assert_answer(answers[int(rows.row[row])]["answer.same"], expected)
        tags = vocabularies["tags"].decode([index for index in features["tags"][item] if index])
        words = [tag for tag in tags if tag in dataset.vocabulary("condition.words").values][:2]
        expected = by_hand(dataset, model, rows, row, {"words": words} if words else {})
        assert_answer(answers[int(rows.row[row])]["answer.tagged"], expected)
    assert unknown


def test_after_moves_the_time_fields_and_nothing_else(
    dataset: Dataset, model: LargeUserModel, rows: Impressions, answers: dict[int, dict[str, Any]]
) -> None:
    differences = []
    for row in range(len(rows)):
        question = raw_condition(dataset, rows, row) | {"rating": 4, "time": int(rows.time[row]) + 3 * DAY}
        expected = by_hand(dataset, model, rows, row, question)
        assert_answer(answers[int(rows.row[row])]["answer.later"], expected)
        now = by_hand(dataset, model, rows, row, question | {"time": int(rows.time[row])})
        differences.append(np.abs(now - expected).max())
    assert max(differences) > 1e-2


@torch.inference_mode()
def test_learned_questions_have_the_answers_of_the_user_vectors(
    dataset: Dataset, model: LargeUserModel, rows: Impressions, answers: dict[int, dict[str, Any]]
) -> None:
    sequences = dataset.sequences
    for index, state, moments in encoded_moments(model, sequences, rows.user, rows.prefix, 3, 4096):
        vectors = model.network.user_vectors(state, Moments(moments.user_index, moments.prefix))[:, -3:]
        for row, row_vectors in zip(index, vectors, strict=True):
            for number, expected in enumerate(row_vectors, start=1):
                assert_answer(answers[int(rows.row[row])][f"answer.codes.{number}"], expected.numpy())
    assert model.network.user_vector_names[-1] == "learned 3"


def test_fixed_questions_are_those_without_values_of_the_impression(dataset: Dataset, model: LargeUserModel) -> None:
    questions = question_set(model, QUESTIONS, dataset)
    assert questions.names == [
        *("here", "top.top1", "top.top2", "same", "tagged", "later"),
        *("codes.1", "codes.2", "codes.3"),
    ]
    assert questions.fixed_names == ["top.top1", "top.top2", "codes.1", "codes.2", "codes.3"]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"category": "$all"}, r"'category': unknown token '\$all'; choose from \$row, .* or write '\$\$all'"),
        ({"category": "$top0"}, r"unknown token '\$top0'"),
        ({"categories": "$each"}, "'categories': the model has no such field; choose from category, "),
        ({"rating": "$item"}, "'rating': .*is feedback"),
        ({"price": "$each"}, r"'price': \$each needs a list of all values, but it is a number"),
        ({"price": "$top3"}, r"'price': \$top counts values, but the field is a number"),
        ({"price": "$item"}, "'price': .* needs a field with a vocabulary"),
        ({"category": "$item.stock"}, r"'category': \$item.stock: .*; choose from category, tags"),
        ({"scenario": "$item"}, "no categorical feature of this name"),
        ({"$after": "7d"}, r"'\$after' moves the time fields .*; take hour or weekday or gap from it"),
        ({"$after": "7w", "*": "$row"}, r"'\$after': expected a time such as 12h or 7d \(s, h or d\), found '7w'"),
        ({"$learned": True, "rating": 5}, "must be the only key"),
        ({"$before": "7d"}, r"unknown key '\$before'; choose from \$after and \$learned"),
        (
            {"hour": "$each", "gap": "$each", "category": "$each"},
            r"stands for \d,\d{3} questions \(24 of 'hour' x 33 of 'gap' x \d of 'category'\), and 0 come before it; at most",
        ),
        ({"category": "$$each"}, r"'category': '\$each' was not in the training data"),
    ],
)
def test_the_message_names_question_field_and_remedy(
    dataset: Dataset, model: LargeUserModel, question: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"question 'odd': .*{message}"):
        question_set(model, {"odd": question}, dataset)


def test_too_many_questions_in_all_are_refused(dataset: Dataset, model: LargeUserModel) -> None:
    many = {name: {"hour": "$each", "gap": "$each"} for name in ("first", "second")}
    with pytest.raises(InputError, match=r"question .second.: .*and 792 come before it"):
        question_set(model, many, dataset)


def test_settings_refuse_wrong_tokens_before_there_is_a_model() -> None:
    parse = partial(parse_settings, kind=QuerySettings, where="file")
    for questions, message in (
        ({"odd": {"category": "$every"}}, "question 'odd': condition field 'category': unknown token"),
        ({"fresh": {"category": "$each"}}, "question 'fresh': the names 'fresh.VALUE' are those of a tier"),
        ({"content": {"category": "$each"}}, "question 'content': the names 'content.VALUE' are those of a tier or"),
    ):
        with pytest.raises(InputError, match=message):
            parse({"questions": questions})
    assert parse({"questions": {"fresh": {"category": "$row"}}}).questions


def test_names_of_values_are_distinct_and_safe_for_columns(dataset: Dataset, model: LargeUserModel) -> None:
    processor = replace(model.processor, conditions=dict(model.processor.conditions))
    vocabulary = type(processor.items)(["a b", "a-b", "a_b_2", "å/b", "$x.y"])
    processor.conditions["category"] = vocabulary
    spec = next(spec for spec in model.config.condition if spec.name == "category")
    names = QuestionSet(processor, [spec.model_copy(update={"size": 6})], {"q": {"category": "$each"}}).names
    assert names == ["q.a_b", "q.a_b_2", "q.a_b_2_2", "q.å_b", "q._x_y"]


def test_rankers_name_a_question_or_all_that_it_stands_for() -> None:
    names = ["any", "each.home", "each.search", "feedback=click", "fresh.feedback=click"]
    assert select_questions(names, ["each"]) == ["each.home", "each.search"]
    assert select_questions(names, ["each.search", "feedback=click"]) == ["each.search", "feedback=click"]
    for unknown in ("fresh", "each.cart", "eac"):
        with pytest.raises(InputError, match=f"has no question '{unknown}'"):
            select_questions(names, [unknown])


def test_a_run_shows_questions_and_size_and_both_forms_have_them(
    dataset: Dataset, model: LargeUserModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "query.yaml").write_text(
        'query:\n  questions: {each: {scenario: $each, "*": $row}, top: {category: $top2}, codes: {$learned: true}}\n'
    )
    command = [
        *("query", "-d", str(dataset.path), "-m", str(tmp_path / "model")),
        *("-o", str(tmp_path / "knowledge"), "-c", str(tmp_path / "query.yaml")),
    ]
    done = CliRunner().invoke(app, command, env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    names = Knowledge(tmp_path / "knowledge").info.questions
    assert names[-5:] == ["top.top1", "top.top2", "codes.1", "codes.2", "codes.3"]
    assert f"questions: {len(names)} ({', '.join(names)})" in done.output
    # Answers and similarities; five ratings are predicted, also in two tiers, with twelve similarities each.
    row_bytes = 16 + len(names) * (8 * 2 + 4) + (5 + 2 * (5 + 12)) * 4
    count = dataset.impression_count
    assert f"knowledge: {count:,} impressions, about {row_bytes} bytes each, " in done.output
    assert read_json(tmp_path / "knowledge" / "knowledge.json", "lum query")["asked"]["top"] == {"category": "$top2"}
    settings = QuerySettings(questions={"top": {"category": "$top2"}, "codes": {"$learned": True}, "x": {"*": "$row"}})
    query(dataset.path, tmp_path / "model", tmp_path / "users", settings, users="all")
    table = Knowledge(tmp_path / "users").to_arrow()
    assert [name for name in table.column_names if name.startswith("answer.")] == [
        *("answer.top.top1", "answer.top.top2"),
        *("answer.codes.1", "answer.codes.2", "answer.codes.3"),
    ]
    vectors = np.array(table["vectors"].to_pylist(), np.float32).reshape(len(table), -1, 8)
    codes = [np.array(table[f"answer.codes.{number}"].to_pylist(), np.float32) for number in (1, 2, 3)]
    np.testing.assert_allclose(np.stack(codes, 1), vectors[:, -3:], atol=2e-3)
    histories = dataset.histories(table["user"].to_pylist())
    for row in table.to_pylist():
        values = [event["category"] for event in histories[row["user"]]]
        counts = Counter(values)
        best = max(counts, key=lambda value: (counts[value], -values[::-1].index(value)))
        expected = model.ask(histories[row["user"]], [{"category": best}])[0].numpy()
        assert_answer(row["answer.top.top1"], expected)


def test_a_part_of_the_rows_has_the_answers_of_all_rows(dataset: Dataset, model: LargeUserModel) -> None:
    shard = dataset.shards()[0]
    whole = query_shard(model, shard, QUESTIONS, QuerySettings(batch_events=4096))
    small = query_shard(model, shard, QUESTIONS, QuerySettings(batch_events=16))
    for name in whole.column_names:
        first, second = (table.sort_by("row")[name].combine_chunks() for table in (whole, small))
        if pa.types.is_fixed_size_list(first.type):
            first, second = first.flatten(), second.flatten()
        if not pa.types.is_string(first.type):
            np.testing.assert_allclose(
                first.to_numpy(zero_copy_only=False).astype(float),
                second.to_numpy(zero_copy_only=False).astype(float),
                atol=2e-3,
            )
