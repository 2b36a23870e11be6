"""What a user could have taken instead: where it is drawn from, what is asked about it, and that it teaches taste."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.data.packing import Stretches, training_end
from openlum.data.prepare import prepare
from openlum.model import History, LargeUserModel, ModelSettings
from openlum.pretrain import contemporaries
from openlum.pretrain.contemporaries import Contemporaries
from openlum.pretrain.initial import build_model
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import pretrain
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings
from openlum.rank.knowledge import load_knowledge
from tests.data.logs import START, write_log

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
    return History.gather(dataset.sequences, Stretches(np.arange(len(end)), 0 * end, end))


def test_draws_are_near_in_time_and_of_other_users_and_items(
    dataset: Dataset, model: LargeUserModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contemporaries, "NEAR", 40)
    sequences, history = dataset.sequences, all_of(dataset)
    n = len(sequences.item)
    others = Contemporaries(sequences, np.arange(n))
    positions = torch.arange(0, n, 3)
    questions, taken = others.questions(history, positions, 4, model.config)
    assert questions.item is not None
    assert int(taken.sum()) == len(positions)
    assert 3 * len(positions) < int((1 - taken).sum()) < 4 * len(positions)  # some are of the same user or item
    # An event's question is followed by those about what others took then, which see the same.
    own = taken.cumsum(0) - 1  # (Q,) which of the positions
    event = positions[own]
    assert torch.equal(questions.item[taken > 0], history.item[positions])
    assert (questions.item[taken == 0] != history.item[event][taken == 0]).all()
    assert history.before is not None
    assert torch.equal(questions.prefix, history.before[event])
    assert (questions.user.diff() >= 0).all()
    rank = np.argsort(np.argsort(sequences.time, kind="stable"))
    for number in np.random.default_rng(1).integers(len(taken), size=100):
        place = int(event[number])
        near = np.abs(rank - rank[place]) <= 40 + 1
        near &= np.repeat(np.arange(USERS), np.diff(sequences.offsets)) != int(questions.user[number])
        allowed = sequences.item[near] if not taken[number] else history.item[place : place + 1].numpy()
        assert int(questions.item[number]) in allowed


def test_a_contemporary_is_asked_about_under_its_own_condition_at_the_time_of_the_other(
    dataset: Dataset, model: LargeUserModel
) -> None:
    """With the event's own shop, an item that was never sold there would be known for not taken."""
    dataset = Dataset(dataset.path)
    sequences, history = dataset.sequences, all_of(dataset)
    n = len(sequences.item)
    sequences.condition["shop"][:] = 1 + sequences.item % 3  # every item has its shop
    positions = torch.arange(n)
    questions, taken = Contemporaries(sequences, np.arange(n)).questions(history, positions, 2, model.config)
    assert questions.item is not None
    assert torch.equal(questions.condition["shop"], 1 + questions.item % 3)
    event = positions[taken.cumsum(0) - 1]
    for name in model.config.time_fields:
        assert torch.equal(questions.condition[name], history.condition[name][event])


def test_only_some_events_may_be_drawn(
    dataset: Dataset, model: LargeUserModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those given, or an even sample of them; and none where there are none."""
    history, positions = all_of(dataset), torch.arange(50)
    few = np.arange(0, len(dataset.sequences.item), 5)
    pool = set(dataset.sequences.item[few].tolist())
    monkeypatch.setattr(contemporaries, "MOST", 100)
    assert len(Contemporaries(dataset.sequences, few).events) == 100
    questions, taken = Contemporaries(dataset.sequences, few).questions(history, positions, 2, model.config)
    assert questions.item is not None
    assert set(questions.item[taken == 0].tolist()) <= pool
    none = Contemporaries(dataset.sequences, few[:0]).questions(history, positions, 2, model.config)
    assert none[1].tolist() == [1] * 50


def test_a_model_of_a_log_without_feedback_knows_what_a_user_takes(dataset: Dataset, tmp_path: Path) -> None:
    """From training to knowledge, and for one user."""
    settings = PretrainSettings(epochs=40, batch_events=256, learning_rate=0.01, protocol="time", patience=40)
    pretrain(dataset.path, tmp_path / "model", SHAPE, settings)
    lines = map(json.loads, (tmp_path / "model" / "metrics.jsonl").read_text().splitlines())
    figures = [line["validation"] for line in lines if "validation" in line]
    assert figures[-1]["judged_loss"] < 0.55 < np.log(2) - 0.05 < figures[0]["judged_loss"]
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


def test_validation_draws_the_same_every_time_and_no_later_event(dataset: Dataset) -> None:
    from openlum.pretrain.validation import validate, validation_set

    chosen = validation_set(dataset, "time", 16, 1000, seed=0)
    drawn = dataset.sequences.time[chosen.others.events]
    assert (drawn >= dataset.info.valid_time).all()
    assert (drawn < dataset.info.test_time).all()
    assert training_end(dataset, "time").sum() > len(drawn) > 0
    lum = build_model(dataset, SHAPE, seed=0)
    once = validate(lum, dataset, chosen, 512)
    torch.manual_seed(5)
    assert validate(lum, dataset, chosen, 512) == once
