"""What a user could have taken instead: where it is drawn from, what is asked about it, and that it teaches taste."""

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
from openlum.pretrain import time_matched_negatives as time_matched_negatives
from openlum.pretrain.initial import build_model
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.time_matched_negatives import TimeMatchedNegatives
from openlum.pretrain.train import Trainer, pretrain
from openlum.pretrain.validation import validate, validation_set
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings
from openlum.rank.knowledge import load_knowledge
from tests.prepare.logs import START, write_log

SHAPE = ModelSettings(width=16, layers=1, heads=2, embedding_width=16, field_width=8, max_events=16)
USERS, ITEMS, EVENTS = 60, 40, 24


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A log of purchases without feedback: half of the users buy even items, half odd ones, one a day, in a shop at random."""
    directory, rng = tmp_path_factory.mktemp("taken"), np.random.default_rng(0)
    user, day = np.divmod(np.arange(USERS * EVENTS), EVENTS)
    item = 2 * rng.integers(ITEMS // 2, size=len(user)) + user % 2
    events: dict[str, Any] = {
        "user": [f"u{one}" for one in user],
        "item": [f"i{one}" for one in item],
        "time": (START + 86_400 * day + rng.integers(80_000, size=len(user))).tolist(),
        "shop": [f"shop{one}" for one in rng.integers(3, size=len(user))],
    }
    other = {"item": [f"i{one ^ 1}" for one in item]}
    shown = {name: values + (other | events | other)[name] for name, values in events.items()}
    shown["label"] = [1] * len(user) + [0] * len(user)
    schema = write_log(
        directory,
        {"events": events, "shown": shown},
        events={"path": "events.parquet", "user": "user", "item": "item", "time": "time", "condition": {"shop": {}}},
        impressions={"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "label"},
        gap_unit="d",
    )
    prepare(schema, directory / "dataset")
    return Dataset(directory / "dataset")


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> LargeUserModel:
    return build_model(dataset, SHAPE, seed=0)


def all_of(dataset: Dataset) -> History:
    end = np.diff(dataset.sequences.offsets)
    return History.gather(dataset.sequences, Spans(np.arange(len(end)), 0 * end, end))


def test_draws_are_near_in_time_and_of_other_users(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a question about what another took is in all else the one about the event's own item, and follows it."""
    monkeypatch.setattr(time_matched_negatives, "NEAR", 40)
    n = len(dataset.sequences.item)
    sequences = replace(dataset.sequences, item=1 + np.arange(n))  # every event has an item of its own
    history = replace(all_of(dataset), item=torch.from_numpy(sequences.item))
    positions = torch.arange(0, n, 3)
    questions, taken = TimeMatchedNegatives(sequences, np.arange(n)).questions(history, positions, 4)
    assert questions.item is not None
    assert history.before is not None
    assert int(taken.sum()) == len(positions)
    assert 3 * len(positions) < int((1 - taken).sum()) < 4 * len(positions)  # some are of the same user
    event = positions[taken.cumsum(0) - 1]  # (Q,)
    assert torch.equal(questions.item[taken > 0], history.item[positions])
    assert torch.equal(questions.prefix, history.before[event])
    assert torch.equal(questions.user, torch.searchsorted(history.offsets, event, right=True) - 1)
    for name, field in questions.condition.items():
        assert torch.equal(field, history.condition[name][event])
    assert len(np.unique(sequences.time)) > n - 20
    rank = np.argsort(np.argsort(sequences.time, kind="stable"))
    drawn = questions.item[taken == 0].numpy() - 1
    begin = (rank[event[taken == 0]] - 40).clip(0, n - 81)
    away = rank[drawn] - begin
    assert (away >= -1).all()  # equal times may stand in either order
    assert (away <= 81).all()
    assert (away < 10).any()
    assert (away > 70).any()
    user = np.searchsorted(sequences.offsets, drawn, "right") - 1
    assert (user != questions.user[taken == 0].numpy()).all()


def test_events_of_one_time_are_drawn_evenly(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their users' ids, which go by how much users do; and at the ends no event is drawn more than others."""
    monkeypatch.setattr(time_matched_negatives, "NEAR", 30)
    sequences = dataset.sequences
    n = len(sequences.item)
    days = replace(
        sequences, time=np.arange(n) % EVENTS // 8, item=1 + np.arange(n)
    )  # three days, and items are events
    history = replace(all_of(dataset), item=torch.from_numpy(days.item))
    questions, taken = TimeMatchedNegatives(days, np.arange(n)).questions(history, torch.arange(n), 20)
    assert questions.item is not None
    drawn = np.bincount(questions.item[taken == 0].numpy() - 1, minlength=n)
    assert 0.9 < drawn.mean() / 20 <= 1
    assert drawn.max() < 4 * drawn.mean()
    assert (drawn == 0).mean() < 0.02
    by_user = drawn.reshape(USERS, EVENTS).sum(1)
    assert by_user.max() < 1.5 * by_user.min()
    # Where a window reaches into another time, its users come in no order either.
    late = replace(days, time=(np.arange(n) > 0).astype(np.int64))
    questions, taken = TimeMatchedNegatives(late, np.arange(n)).questions(history, torch.tensor([0]), 500)
    assert questions.item is not None
    assert len(np.unique((questions.item[taken == 0].numpy() - 1) // EVENTS)) > USERS / 3


def test_only_some_events_may_be_drawn(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those given, or an even sample of them; where there are none, nothing is asked."""
    history, positions = all_of(dataset), torch.arange(50)
    few = np.arange(0, len(dataset.sequences.item), 5)
    pool = set(dataset.sequences.item[few].tolist())
    monkeypatch.setattr(time_matched_negatives, "MOST", 100)
    assert len(TimeMatchedNegatives(dataset.sequences, few).events) == 100
    questions, taken = TimeMatchedNegatives(dataset.sequences, few).questions(history, positions, 2)
    assert questions.item is not None
    assert set(questions.item[taken == 0].tolist()) <= pool
    own = np.arange(dataset.sequences.offsets[1])  # of the first user, whose events the positions are
    assert not len(TimeMatchedNegatives(dataset.sequences, few[:0]).questions(history, positions, 2)[1])
    assert not len(TimeMatchedNegatives(dataset.sequences, own).questions(history, positions[: len(own)], 2)[1])


@pytest.mark.parametrize("protocol", ["time", "last", "both"])
def test_training_draws_from_what_it_may_learn_from_alone(dataset: Dataset, tmp_path: Path, protocol: Protocol) -> None:
    (tmp_path / "checkpoints").mkdir()
    settings = PretrainSettings(protocol=protocol)
    trainer = Trainer(build_model(dataset, SHAPE, 0, protocol), dataset, settings, tmp_path)
    end = training_end(dataset, protocol)
    assert trainer.objective.others is not None
    assert set(trainer.objective.others.events) == set(training_events(dataset.sequences, end))
    place = np.searchsorted(dataset.sequences.offsets, trainer.validation.others.events, "right") - 1
    number = trainer.validation.others.events - dataset.sequences.offsets[place]
    assert (number >= end[place]).all()
    if protocol == "time":
        assert (dataset.sequences.time[trainer.validation.others.events] < dataset.info.test_time).all()
    else:
        assert (number < dataset.sequences.test_at[place]).all()


def test_what_is_known_of_the_scenario_does_not_count(dataset: Dataset, model: LargeUserModel) -> None:
    """The history may tell a user's shop, and another's item comes from another shop: time alone may be known."""
    history, positions = all_of(dataset), torch.arange(0, 200, 7)
    questions, _ = TimeMatchedNegatives(dataset.sequences, np.arange(1000)).questions(history, positions, 1)
    state = model.encode_history(history)
    logits = model.predict_feedback_logits(state, questions)[0]
    elsewhere = replace(questions, condition=questions.condition | {"shop": 0 * questions.condition["shop"] + 2})
    assert torch.equal(model.predict_feedback_logits(state, elsewhere)[0], logits)
    later = replace(questions, condition=questions.condition | {"hour": (questions.condition["hour"] + 5) % 25})
    assert not torch.equal(model.predict_feedback_logits(state, later)[0], logits)


@pytest.mark.parametrize("interruption", [2, 5])
def test_resumed_training_equals_an_uninterrupted_one(dataset: Dataset, tmp_path: Path, interruption: int) -> None:
    settings = PretrainSettings(epochs=2, batch_events=256, protocol="time", checkpoint_steps=2)

    def trainer(work: Path) -> Trainer:
        (work / "checkpoints").mkdir(parents=True, exist_ok=True)
        return Trainer(build_model(dataset, SHAPE, 0), dataset, settings, work)

    whole = trainer(tmp_path / "whole")
    whole.run()
    trainer(tmp_path / "resumed").run(until=interruption)
    resumed = trainer(tmp_path / "resumed")
    resumed.run()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert whole.progress.best_validation == resumed.progress.best_validation


def test_one_user_alone_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    end = np.where(np.arange(USERS) == 3, EVENTS, 0)
    settings = PretrainSettings()
    with pytest.raises(InputError, match="one user alone"):
        Trainer(build_model(dataset, SHAPE, 0), dataset, settings, tmp_path, end)


def test_a_model_of_a_log_without_feedback_knows_what_a_user_takes(dataset: Dataset, tmp_path: Path) -> None:
    """From training to knowledge, and for one user."""
    settings = PretrainSettings(epochs=40, batch_events=256, learning_rate=0.01, protocol="time", patience=40)
    pretrain(dataset.path, tmp_path / "model", SHAPE, settings)
    lines = map(json.loads, (tmp_path / "model" / "metrics.jsonl").read_text().splitlines())
    figures = [line["validation"] for line in lines if "validation" in line]
    assert figures[-1]["feedback_prediction_loss"] < 0.55 < np.log(2) - 0.05 < figures[0]["feedback_prediction_loss"]
    assert figures[-1]["auc taken judged"] > 0.7
    query(dataset.path, tmp_path / "model", tmp_path / "knowledge", QuerySettings())
    knowledge, test = load_knowledge(tmp_path / "knowledge", dataset), dataset.impressions("test")
    assert knowledge.questions == ["any", "taken=no", "taken=yes"]
    odds = knowledge.similarity[knowledge.places(test.row)]  # (I, 3)
    assert odds[:, 1] == pytest.approx(-odds[:, 2], abs=1e-4)
    # Each row beside the same user's at the same time with the other item.
    label = test.label > 0
    pairs = {(u, t): score for u, t, score in zip(test.user[label], test.time[label], odds[label, 2], strict=True)}
    better = [
        pairs[u, t] > score for u, t, score in zip(test.user[~label], test.time[~label], odds[~label, 2], strict=True)
    ]
    assert np.mean(better) > 0.95
    lum = LargeUserModel.load(tmp_path / "model")
    found = lum.predict_feedback([{"item": f"i{2 * n}"} for n in range(8)], ["i6", "i7"], {"shop": "shop1"})
    assert list(found[0]["taken"]) == ["no", "yes"]
    assert sum(found[0]["taken"].values()) == pytest.approx(1)
    assert found[0]["taken"]["yes"] > 0.5 > found[1]["taken"]["yes"]


def test_validation_draws_the_same_every_time(dataset: Dataset, model: LargeUserModel) -> None:
    chosen = validation_set(dataset, "time", 16, 1000, seed=0)
    once = validate(model, dataset, chosen, 512)
    torch.manual_seed(5)
    assert validate(model, dataset, chosen, 512) == once
    assert 0 < once["feedback_prediction_loss"] < 1
