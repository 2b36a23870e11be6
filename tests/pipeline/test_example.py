"""The example user of the report: the answers, and the user's later events."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from openlum.data.dataset import Dataset
from openlum.data.histories import raw_history
from openlum.data.packing import Protocol, training_end
from openlum.model import LargeUserModel, ModelSettings
from openlum.pipeline.example import MAX_EVENTS, example_user
from openlum.pretrain.initialization import build_model

PROTOCOLS: list[Protocol] = ["time", "last", "both"]


class FixedAnswers:
    """Stand-in for a model that answers every question with the same items and records the history.

    Args:
        model: the model that it replaces.
        items: raw ids of the items in every answer.
    """

    def __init__(self, model: LargeUserModel, items: list[str]) -> None:
        self.config, self.processor, self.items = model.config, model.processor, items
        self.history: Sequence[Mapping[str, Any]] = []

    def recommend(self, history: Sequence[Mapping[str, Any]], question: Any, k: int) -> list[dict[str, Any]]:
        self.history = history
        return [{"item": item, "title": f"title of {item}", "similarity": 0.5} for item in self.items]


def model_of(dataset: Dataset, protocol: Protocol) -> LargeUserModel:
    shape = ModelSettings(width=16, layers=1, heads=2, embedding_width=8, max_events=20)
    return build_model(dataset, shape, seed=0, protocol=protocol)


def example_of(
    dataset: Dataset, protocol: Protocol, items: list[str], **questions: dict[str, Any]
) -> tuple[Any, FixedAnswers]:
    """Return the example user of a model that answers with these items, and the model."""
    stand_in = FixedAnswers(model_of(dataset, protocol), items)
    return example_user(stand_in, dataset, questions or {"any": {}}), stand_in  # type: ignore[arg-type]


def events_of(dataset: Dataset, example: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Return the user's row in the sequences, and all events of the user."""
    user = dataset.vocabulary("users").encode([example["user"]])
    user_index = int(dataset.sequences.user_index(user)[0])
    return user_index, raw_history(dataset, user_index)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_next_events_follow_the_history_and_are_held_out_from_training(
    small_dataset: Dataset, protocol: Protocol
) -> None:
    example, model = example_of(small_dataset, protocol, ["i1"])
    user_index, events = events_of(small_dataset, example)
    cut = len(model.history)
    assert list(model.history) == events[:cut]
    assert cut >= training_end(small_dataset.sequences, small_dataset.info, protocol)[user_index]
    assert [event["condition"].get("rating") for event in example["next"]] == [
        event.get("rating") for event in events[cut : cut + MAX_EVENTS]
    ]
    assert [event["condition"].get("rating") for event in example["history"]] == [
        event.get("rating") for event in events[:cut][-MAX_EVENTS:]
    ]
    assert example["next"]
    assert events[cut - 1]["time"] < events[cut]["time"], "events of one second are not each other's history"
    history_items = {event["item"] for event in events[:cut]}
    assert [event["again"] for event in example["next"]] == [
        event["item"] in history_items for event in events[cut:][:MAX_EVENTS]
    ]


def test_the_questions_are_asked_at_the_begin_of_the_test(small_dataset: Dataset) -> None:
    for protocol in ("time", "both"):
        _, model = example_of(small_dataset, protocol, ["i1"])
        assert model.history[-1]["time"] < small_dataset.info.test_time
    example, model = example_of(small_dataset, "last", ["i1"])
    user_index, events = events_of(small_dataset, example)
    held_out = int(small_dataset.sequences.test_at[user_index])
    assert events[len(model.history)]["time"] == events[held_out]["time"]


def test_a_hit_has_the_item_and_matches_the_question(small_dataset: Dataset) -> None:
    items = ["no such item", *small_dataset.vocabulary("items").values]
    questions: dict[str, dict[str, Any]] = {"any": {}, "five": {"rating": 5}, "both": {"rating": 4, "scenario": "home"}}
    example, model = example_of(small_dataset, "time", items, **questions)
    later = events_of(small_dataset, example)[1][len(model.history) :][:MAX_EVENTS]
    outcomes = set()
    for answer in example["answers"]:
        condition = {field: str(value) for field, value in questions[answer["question"]].items()}
        for rank, (item, row) in enumerate(zip(items, answer["items"], strict=True), start=1):
            occurrences = [number for number, event in enumerate(later, start=1) if event["item"] == item]
            hits = [number for number in occurrences if condition.items() <= later[number - 1].items()]
            expected = {
                "rank": rank,
                "hit": hits[0] if hits else None,
                "other_hit": occurrences[0] if occurrences else None,
            }
            assert {key: row[key] for key in expected} == expected
            outcomes.add((bool(hits), bool(occurrences)))
    assert outcomes == {(True, True), (False, True), (False, False)}


def test_without_a_test_period_there_are_no_next_events(small_dataset: Dataset) -> None:
    ended = copy.copy(small_dataset)
    ended.info = small_dataset.info.model_copy(update={"test_time": 2**40})
    example, model = example_of(ended, "time", ["i1"])
    assert example["next"] == []
    assert list(model.history) == events_of(ended, example)[1]
    assert example["answers"][0]["items"][0]["hit"] is None


def test_the_answers_do_not_influence_the_choice_of_the_user(small_dataset: Dataset) -> None:
    users = {example_of(small_dataset, "time", items)[0]["user"] for items in (["i1"], ["i2"], [])}
    assert len(users) == 1


def test_the_answers_of_a_real_model_are_sorted_by_similarity(small_dataset: Dataset) -> None:
    example = example_user(model_of(small_dataset, "both"), small_dataset, {"any": {}, "five": {"rating": 5}})
    for answer in example["answers"]:
        similarity = [item["similarity"] for item in answer["items"]]
        assert similarity == sorted(similarity, reverse=True)
        assert np.isfinite(similarity).all()
