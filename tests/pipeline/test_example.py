"""The example user of the report: what was predicted, and what the user did next."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from openlum.data.dataset import Dataset
from openlum.data.packing import Protocol, training_end
from openlum.model import LargeUserModel, ModelSettings
from openlum.pipeline.example import SHOWN, example_user, raw_history
from openlum.pretrain.initial import build_model

PROTOCOLS: list[Protocol] = ["time", "last", "both"]


class Asked:
    """Stands for a model that answers every question with the same items, and keeps what it was given.

    Args:
        model: that it stands for.
        items: raw ids.
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


def asked(dataset: Dataset, protocol: Protocol, items: list[str], **questions: dict[str, Any]) -> tuple[Any, Asked]:
    """The example user of a model that answers with these items, and the model."""
    stand_in = Asked(model_of(dataset, protocol), items)
    return example_user(stand_in, dataset, questions or {"any": {}}), stand_in  # type: ignore[arg-type]


def events_of(dataset: Dataset, example: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """The user's place in the sequences, and all events."""
    user = dataset.vocabulary("users").encode([example["user"]])
    place = int(dataset.sequences.position_of(user)[0])
    return place, raw_history(dataset, place)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_came_next_follows_the_history_and_was_not_trained_on(small_dataset: Dataset, protocol: Protocol) -> None:
    example, model = asked(small_dataset, protocol, ["i1"])
    place, events = events_of(small_dataset, example)
    cut = len(model.history)
    assert list(model.history) == events[:cut]
    assert cut >= training_end(small_dataset, protocol)[place]
    assert [event["condition"].get("rating") for event in example["next"]] == [
        event.get("rating") for event in events[cut : cut + SHOWN]
    ]
    assert [event["condition"].get("rating") for event in example["history"]] == [
        event.get("rating") for event in events[:cut][-SHOWN:]
    ]
    assert example["next"]
    assert events[cut - 1]["time"] < events[cut]["time"], "events of one second do not know each other"
    seen = {event["item"] for event in events[:cut]}
    assert [event["again"] for event in example["next"]] == [event["item"] in seen for event in events[cut:][:SHOWN]]


def test_the_moment_is_where_the_test_begins(small_dataset: Dataset) -> None:
    for protocol in ("time", "both"):
        _, model = asked(small_dataset, protocol, ["i1"])
        assert model.history[-1]["time"] < small_dataset.info.test_time
    example, model = asked(small_dataset, "last", ["i1"])
    place, events = events_of(small_dataset, example)
    held_out = int(small_dataset.sequences.test_at[place])
    assert events[len(model.history)]["time"] == events[held_out]["time"]


def test_a_hit_has_the_item_and_agrees_with_the_question(small_dataset: Dataset) -> None:
    items = ["no such item", *small_dataset.vocabulary("items").values]
    questions: dict[str, dict[str, Any]] = {"any": {}, "five": {"rating": 5}, "both": {"rating": 4, "scenario": "home"}}
    example, model = asked(small_dataset, "time", items, **questions)
    later = events_of(small_dataset, example)[1][len(model.history) :][:SHOWN]
    outcomes = set()
    for answer in example["answers"]:
        wanted = {field: str(value) for field, value in questions[answer["question"]].items()}
        for rank, (item, row) in enumerate(zip(items, answer["items"], strict=True), start=1):
            met = [number for number, event in enumerate(later, start=1) if event["item"] == item]
            hits = [number for number in met if wanted.items() <= later[number - 1].items()]
            expected = {"rank": rank, "hit": hits[0] if hits else None, "met": met[0] if met else None}
            assert {key: row[key] for key in expected} == expected
            outcomes.add((bool(hits), bool(met)))
    assert outcomes == {(True, True), (False, True), (False, False)}


def test_a_log_that_ends_there_has_no_next(small_dataset: Dataset) -> None:
    ended = copy.copy(small_dataset)
    ended.info = small_dataset.info.model_copy(update={"test_time": 2**40})
    example, model = asked(ended, "time", ["i1"])
    assert example["next"] == []
    assert list(model.history) == events_of(ended, example)[1]
    assert example["answers"][0]["items"][0]["hit"] is None


def test_the_user_is_chosen_by_lengths_alone(small_dataset: Dataset) -> None:
    users = {asked(small_dataset, "time", items)[0]["user"] for items in (["i1"], ["i2"], [])}
    assert len(users) == 1


def test_a_model_answers_for_its_own_dataset(small_dataset: Dataset) -> None:
    example = example_user(model_of(small_dataset, "both"), small_dataset, {"any": {}, "five": {"rating": 5}})
    for answer in example["answers"]:
        similarity = [item["similarity"] for item in answer["items"]]
        assert similarity == sorted(similarity, reverse=True)
        assert np.isfinite(similarity).all()
