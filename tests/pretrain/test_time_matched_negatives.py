"""Time-matched negatives: how they are drawn, the questions about them, and a model that learns the taste of users from them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.data.packing import Protocol, Spans, training_end, training_events
from openlum.errors import InputError
from openlum.model import History, LargeUserModel, ModelSettings
from openlum.prepare.run import prepare
from openlum.pretrain import time_matched_negatives
from openlum.pretrain.initialization import build_model
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.time_matched_negatives import TimeMatchedNegatives
from openlum.pretrain.train import Trainer, pretrain
from openlum.pretrain.validation import validate, validation_set
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings
from openlum.rank.knowledge import load_knowledge
from tests.prepare.logs import START, write_log

from .copies import original_events

SHAPE = ModelSettings(width=16, layers=1, heads=2, embedding_width=16, field_width=8, max_events=16)
USERS, ITEMS, EVENTS = 60, 40, 24


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A log of purchases without feedback. Half of the users buy even items, half odd items, one a day, in a random shop."""
    return prepare_purchases(tmp_path_factory.mktemp("taken"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The same log in six shards."""
    return prepare_purchases(tmp_path_factory.mktemp("sharded"), events_per_part=500)


def prepare_purchases(directory: Path, events_per_part: int = 2**20, first_shown_day: int = 20) -> Dataset:
    """Return the log. Its impressions, an item taken and its neighbour each, begin on a day that is after the training period."""
    rng = np.random.default_rng(0)
    user, day = np.divmod(np.arange(USERS * EVENTS), EVENTS)
    item = 2 * rng.integers(ITEMS // 2, size=len(user)) + user % 2
    events: dict[str, Any] = {
        "user": [f"u{index}" for index in user],
        "item": [f"i{index}" for index in item],
        "time": (START + 86_400 * day + rng.integers(80_000, size=len(user))).tolist(),
        "shop": [f"shop{index}" for index in rng.integers(3, size=len(user))],
    }
    negatives = {"item": [f"i{index ^ 1}" for index in item]}
    impressions = {name: values + (events | negatives)[name] for name, values in events.items()}
    impressions["label"] = [1] * len(user) + [0] * len(user)
    is_shown = np.flatnonzero(np.tile(day >= first_shown_day, 2))
    impressions = {name: [values[row] for row in is_shown] for name, values in impressions.items()}
    schema = write_log(
        directory,
        {"events": events, "impressions": impressions},
        events={"path": "events.parquet", "user": "user", "item": "item", "time": "time", "condition": {"shop": {}}},
        impressions={"path": "impressions.parquet", "user": "user", "item": "item", "time": "time", "label": "label"},
        gap_unit="d",
        engine={"events_per_part": events_per_part},
    )
    prepare(schema, directory / "dataset")
    return Dataset(directory / "dataset")


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> LargeUserModel:
    return build_model(dataset, SHAPE, seed=0)


def whole_histories(dataset: Dataset) -> History:
    """Return the events of all users."""
    end = np.diff(dataset.sequences.offsets)
    return History.gather(dataset.sequences, Spans(np.arange(len(end)), 0 * end, end))


def test_draws_are_near_in_time_and_of_other_users(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question about a negative follows the question about the event's item and differs only in the item."""
    monkeypatch.setattr(time_matched_negatives, "EVENTS_PER_SIDE", 40)
    n = len(dataset.sequences.item)
    sequences = replace(dataset.sequences, item=1 + np.arange(n))  # every event has a different item
    history = replace(whole_histories(dataset), item=torch.from_numpy(sequences.item))
    positions = torch.arange(0, n, 3)
    questions, labels = TimeMatchedNegatives(sequences, np.arange(n)).questions(history, positions, 4)
    assert questions.item is not None
    assert history.prefix is not None
    assert int(labels.sum()) == len(positions)
    assert 3 * len(positions) < int((1 - labels).sum()) < 4 * len(positions)  # some are of the same user
    event = positions[labels.cumsum(0) - 1]  # (Q,)
    assert torch.equal(questions.item[labels > 0], history.item[positions])
    assert torch.equal(questions.prefix, history.prefix[event])
    assert torch.equal(questions.user_index, torch.searchsorted(history.offsets, event, right=True) - 1)
    for name, field in questions.condition.items():
        assert torch.equal(field, history.condition[name][event])
    assert len(np.unique(sequences.time)) > n - 20
    rank = np.argsort(np.argsort(sequences.time, kind="stable"))
    negatives = questions.item[labels == 0].numpy() - 1
    begin = (rank[event[labels == 0]] - 40).clip(0, n - 81)
    distance = rank[negatives] - begin
    assert (distance >= -1).all()  # events of equal time have no fixed order
    assert (distance <= 81).all()
    assert (distance < 10).any()
    assert (distance > 70).any()
    user = np.searchsorted(sequences.offsets, negatives, "right") - 1
    assert (user != questions.user_index[labels == 0].numpy()).all()


def test_events_of_equal_time_are_drawn_uniformly(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The draws do not depend on user ids, which are sorted by activity. Events at the ends are drawn as often as others."""
    monkeypatch.setattr(time_matched_negatives, "EVENTS_PER_SIDE", 30)
    sequences = dataset.sequences
    n = len(sequences.item)
    days = replace(
        sequences, time=np.arange(n) % EVENTS // 8, item=1 + np.arange(n)
    )  # three days, and every event has a different item
    history = replace(whole_histories(dataset), item=torch.from_numpy(days.item))
    questions, labels = TimeMatchedNegatives(days, np.arange(n)).questions(history, torch.arange(n), 20)
    assert questions.item is not None
    counts = np.bincount(questions.item[labels == 0].numpy() - 1, minlength=n)
    assert 0.9 < counts.mean() / 20 <= 1
    assert counts.max() < 4 * counts.mean()
    assert (counts == 0).mean() < 0.02
    by_user = counts.reshape(USERS, EVENTS).sum(1)
    assert by_user.max() < 1.5 * by_user.min()
    # A window that includes events of another time draws them from many users, too.
    two_times = replace(days, time=(np.arange(n) > 0).astype(np.int64))
    questions, labels = TimeMatchedNegatives(two_times, np.arange(n)).questions(history, torch.tensor([0]), 500)
    assert questions.item is not None
    assert len(np.unique((questions.item[labels == 0].numpy() - 1) // EVENTS)) > USERS / 3


def test_negatives_come_from_the_pool_only(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large pool is reduced to an evenly spaced sample. Without a negative there is no question."""
    history, positions = whole_histories(dataset), torch.arange(50)
    pool_events = np.arange(0, len(dataset.sequences.item), 5)
    pool = set(dataset.sequences.item[pool_events].tolist())
    monkeypatch.setattr(time_matched_negatives, "MAX_POOL_EVENTS", 100)
    assert len(TimeMatchedNegatives(dataset.sequences, pool_events).events) == 100
    questions, labels = TimeMatchedNegatives(dataset.sequences, pool_events).questions(history, positions, 2)
    assert questions.item is not None
    assert set(questions.item[labels == 0].tolist()) <= pool
    own = np.arange(dataset.sequences.offsets[1])  # of the first user, like the events at the positions
    assert not len(TimeMatchedNegatives(dataset.sequences, pool_events[:0]).questions(history, positions, 2)[1])
    assert not len(TimeMatchedNegatives(dataset.sequences, own).questions(history, positions[: len(own)], 2)[1])


@pytest.mark.parametrize("protocol", ["time", "last", "both"])
def test_negatives_of_training_are_training_events_only(dataset: Dataset, tmp_path: Path, protocol: Protocol) -> None:
    settings = PretrainSettings(protocol=protocol)
    trainer = Trainer(build_model(dataset, SHAPE, 0, protocol), dataset, settings, tmp_path)
    end = training_end(dataset.sequences, dataset.info, protocol)
    trainer._open_buffer()
    assert trainer.objective.time_matched_negatives is not None
    assert set(trainer.objective.time_matched_negatives.events) == set(training_events(dataset.sequences, end))
    copied = original_events(dataset.sequences, trainer.validation.sequences)
    evaluated = copied[trainer.validation.time_matched_negatives.events]
    user_index = np.searchsorted(dataset.sequences.offsets, evaluated, "right") - 1
    number = evaluated - dataset.sequences.offsets[user_index]
    assert (number >= end[user_index]).all()
    if protocol == "time":
        assert (dataset.sequences.time[evaluated] < dataset.info.test_time).all()
    else:
        assert (number < dataset.sequences.test_at[user_index]).all()


def test_feedback_predictions_depend_on_time_fields_only(dataset: Dataset, model: LargeUserModel) -> None:
    """The item of another user comes from another shop, so the field `shop` would reveal which item is a negative."""
    history, positions = whole_histories(dataset), torch.arange(0, 200, 7)
    questions, _ = TimeMatchedNegatives(dataset.sequences, np.arange(1000)).questions(history, positions, 1)
    state = model.encode_history(history)
    logits = model.predict_feedback_logits(state, questions)[0]
    other_shop = replace(questions, condition=questions.condition | {"shop": 0 * questions.condition["shop"] + 2})
    assert torch.equal(model.predict_feedback_logits(state, other_shop)[0], logits)
    other_hour = replace(questions, condition=questions.condition | {"hour": (questions.condition["hour"] + 5) % 25})
    assert not torch.equal(model.predict_feedback_logits(state, other_hour)[0], logits)


@pytest.mark.parametrize("interruption", [2, 5])
@pytest.mark.parametrize("buffer_events", [500, 2**21])
def test_resumed_training_equals_an_uninterrupted_one(
    dataset: Dataset, sharded: Dataset, tmp_path: Path, interruption: int, buffer_events: int
) -> None:
    settings = PretrainSettings(
        epochs=2, batch_events=256, protocol="time", checkpoint_steps=2, buffer_events=buffer_events
    )
    dataset = sharded if buffer_events == 500 else dataset

    def trainer(work: Path) -> Trainer:
        return Trainer(build_model(dataset, SHAPE, 0), dataset, settings, work)

    uninterrupted = trainer(tmp_path / "uninterrupted")
    uninterrupted.run()
    trainer(tmp_path / "resumed").run(until=interruption)
    resumed = trainer(tmp_path / "resumed")
    resumed.run()
    for name, tensor in uninterrupted.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert uninterrupted.progress.best == resumed.progress.best


def test_negatives_come_from_the_open_buffer(sharded: Dataset, tmp_path: Path) -> None:
    settings = PretrainSettings(epochs=1, batch_events=256, protocol="time", buffer_events=500)
    trainer = Trainer(build_model(sharded, SHAPE, 0), sharded, settings, tmp_path)
    seen = set()
    for batch in trainer.batches(0):
        negatives, sequences = trainer.objective.time_matched_negatives, trainer.loader.sequences
        assert negatives is not None
        assert negatives.sequences is sequences
        seen.add(id(negatives))
        history = History.gather(sequences, batch)
        questions, labels = negatives.questions(history, torch.arange(len(history.item)), 1)
        assert questions.item is not None
        assert set(questions.item[labels == 0].tolist()) <= set(sequences.item.tolist())
    assert len(seen) > 1


def test_training_events_of_only_one_user_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    end = np.where(np.arange(USERS) == 3, EVENTS, 0)
    settings = PretrainSettings()
    with pytest.raises(InputError, match="all training events are of one user"):
        Trainer(build_model(dataset, SHAPE, 0), dataset, settings, tmp_path, lambda _: end)


def test_a_model_of_a_log_without_feedback_predicts_which_items_a_user_takes(dataset: Dataset, tmp_path: Path) -> None:
    """The predictions of the knowledge and of `predict_feedback` are right."""
    settings = PretrainSettings(epochs=40, batch_events=256, learning_rate=0.01, protocol="time", patience=40)
    pretrain(dataset.path, tmp_path / "model", SHAPE, settings)
    lines = map(json.loads, (tmp_path / "model" / "metrics.jsonl").read_text().splitlines())
    metrics = [line["validation"] for line in lines if "validation" in line]
    assert metrics[-1]["feedback_prediction_loss"] < 0.55 < np.log(2) - 0.05 < metrics[0]["feedback_prediction_loss"]
    assert metrics[-1]["auc taken predicted"] > 0.7
    query(dataset.path, tmp_path / "model", tmp_path / "knowledge", QuerySettings())
    knowledge, test = load_knowledge(tmp_path / "knowledge", dataset), dataset.impressions("test")
    predicted = ["taken=no", "taken=yes"]
    similarities = ["similarity.any", "similarity_in_context.any"]
    matched = [f"{tier}.{name}" for tier in ("nightly", "fresh") for name in predicted + similarities]
    assert knowledge.score_names == ["any", *predicted, *matched]
    odds = knowledge.scores[knowledge.index_of(test.row)]  # (I, 3)
    assert odds[:, 1] == pytest.approx(-odds[:, 2], abs=1e-4)
    # Compare the two rows of the same user and time.
    label = test.label > 0
    pairs = {(u, t): score for u, t, score in zip(test.user[label], test.time[label], odds[label, 2], strict=True)}
    better = [
        pairs[u, t] > score for u, t, score in zip(test.user[~label], test.time[~label], odds[~label, 2], strict=True)
    ]
    assert np.mean(better) > 0.95
    lum = LargeUserModel.load(tmp_path / "model")
    predictions = lum.predict_feedback([{"item": f"i{2 * n}"} for n in range(8)], ["i6", "i7"], {"shop": "shop1"})
    assert list(predictions[0]["taken"]) == ["no", "yes"]
    assert sum(predictions[0]["taken"].values()) == pytest.approx(1)
    assert predictions[0]["taken"]["yes"] > 0.5 > predictions[1]["taken"]["yes"]


def test_every_validation_draws_the_same_negatives(dataset: Dataset, model: LargeUserModel) -> None:
    validation = validation_set(dataset, "time", 16, 1000, seed=0)
    metrics = validate(model, validation, 512)
    torch.manual_seed(5)
    assert validate(model, validation, 512) == metrics
    assert 0 < metrics["feedback_prediction_loss"] < 1
