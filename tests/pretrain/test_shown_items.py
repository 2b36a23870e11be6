"""Shown items: a model of a log without feedback learns from the impressions of the training period, and from no others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.data.dataset import SPLITS, Dataset
from openlum.data.packing import Protocol, Spans, training_end
from openlum.data.sequences import Impressions, concatenate
from openlum.model import History
from openlum.pretrain.initialization import build_model
from openlum.pretrain.objective import SHOWN_PER_EVENT
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.shown_items import ShownItems, has_shown_items, share_of_new_items
from openlum.pretrain.train import Trainer
from openlum.pretrain.validation import _evaluated_batches, validate, validation_set

from .test_time_matched_negatives import EVENTS, SHAPE, USERS, prepare_purchases

MANY = 10**6
"""More questions per event than there are impressions: all are asked."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A log of purchases without feedback, with impressions of the whole time: an item that was taken, and one that was not."""
    return prepare_purchases(tmp_path_factory.mktemp("shown"), first_shown_day=0)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The same log in six shards."""
    return prepare_purchases(tmp_path_factory.mktemp("sharded"), events_per_part=500, first_shown_day=0)


@pytest.fixture(scope="module")
def impressions(dataset: Dataset) -> Impressions:
    """All impressions."""
    return concatenate([dataset.impressions(split) for split in SPLITS])


def spans_from(dataset: Dataset, first: int) -> Spans:
    """Return a span for every user that begins at the event `first`."""
    end = np.diff(dataset.sequences.offsets)
    return Spans(np.arange(len(end)), np.full(len(end), first), end)


def keys_of(impressions: Impressions) -> list[tuple[int, int, int]]:
    """Return user, time and item of each impression."""
    return list(zip(impressions.user.tolist(), impressions.time.tolist(), impressions.item.tolist(), strict=True))


@pytest.mark.parametrize("first", [0, 5])
def test_a_question_is_about_an_impression_and_sees_the_events_before_it(
    dataset: Dataset, impressions: Impressions, first: int
) -> None:
    """Every impression before an event of the batch has one question, wherever the spans of the batch begin."""
    sequences = dataset.sequences
    history = History.gather(sequences, spans_from(dataset, first))
    questions, labels = ShownItems(sequences, impressions).questions(history, torch.arange(len(history.item)), MANY)
    assert questions.item is not None
    expected = impressions.take(impressions.prefix >= first)
    rows = zip(expected.user, expected.prefix, expected.item, expected.label, expected.condition["hour"], strict=True)
    user, prefix = sequences.user[questions.user_index.numpy()], questions.prefix.numpy() + first
    hour, item = questions.condition["hour"].tolist(), questions.item.tolist()
    asked = zip(user.tolist(), prefix.tolist(), item, labels.tolist(), hour, strict=True)
    assert sorted(asked) == sorted(tuple(map(int, row)) for row in rows)


def test_a_step_asks_about_a_sample_of_many_impressions(dataset: Dataset, impressions: Impressions) -> None:
    """Both labels are drawn alike, and so the prediction has the level of the labels."""
    many = concatenate([impressions] * 10)  # 20 an event
    history = History.gather(dataset.sequences, spans_from(dataset, 0))
    questions, labels = ShownItems(dataset.sequences, many).questions(history, torch.arange(len(history.item)), 5)
    assert len(questions.prefix) == len(labels) == pytest.approx(5 * USERS * EVENTS, rel=0.05)
    assert float(labels.float().mean()) == pytest.approx(0.5, abs=0.03)


def test_impressions_that_no_event_follows_and_unknown_items_are_left_out(
    dataset: Dataset, impressions: Impressions
) -> None:
    history = History.gather(dataset.sequences, spans_from(dataset, 0))
    positions = torch.arange(len(history.item))
    last = replace(impressions, prefix=np.full_like(impressions.prefix, EVENTS))
    unknown = replace(impressions, item=0 * impressions.item)
    other_users = replace(impressions, user=impressions.user + USERS + 1)
    for rows in (last, unknown, other_users):
        assert not len(ShownItems(dataset.sequences, rows).questions(history, positions, MANY)[1])


@pytest.mark.parametrize("protocol", ["time", "last", "both"])
def test_impressions_of_training_end_with_the_training_events(
    dataset: Dataset, impressions: Impressions, tmp_path: Path, protocol: Protocol
) -> None:
    """And those of validation come after them, and before the test events."""
    settings, sequences = PretrainSettings(protocol=protocol), dataset.sequences
    trainer = Trainer(build_model(dataset, SHAPE, 0, protocol), dataset, settings, tmp_path)
    end, train = training_end(sequences, dataset.info, protocol), dataset.impressions("train")
    asked = 0
    for batch in trainer.batches(0):
        history = History.gather(sequences, batch)
        assert trainer.objective.shown_items is not None
        questions, _ = trainer.objective.shown_items.questions(history, torch.arange(len(history.item)), MANY)
        user = batch.user_index[questions.user_index.numpy()]
        assert (questions.prefix.numpy() + batch.start[questions.user_index.numpy()] < end[user]).all()
        asked += len(user)
    assert asked == int((train.prefix < end[sequences.user_index(train.user)]).sum())
    validation = trainer.validation
    assert validation.shown_items is not None
    history, positions = next(_evaluated_batches(validation, 10**6))
    assert history.event_index is not None
    shown = validation.shown_items
    rows = [np.arange(*shown.begin[event : event + 2]) for event in history.event_index[positions].tolist()]
    evaluated = shown.impressions.take(np.concatenate(rows))
    prefixes = dict(zip(keys_of(impressions), impressions.prefix.tolist(), strict=True))
    prefix, user = np.array([prefixes[key] for key in keys_of(evaluated)]), sequences.user_index(evaluated.user)
    assert len(prefix)
    assert (prefix >= end[user]).all()
    assert (evaluated.time < dataset.info.test_time if protocol == "time" else prefix < sequences.test_at[user]).all()


def test_labels_after_the_training_events_do_not_change_the_training(dataset: Dataset, tmp_path: Path) -> None:
    """Nothing of the validation and test impressions is learned."""
    weights = []
    for name, splits in (("all", SPLITS), ("training", SPLITS[:1])):
        copy = Dataset(dataset.path)
        read = copy.impressions_of
        copy.impressions_of = lambda shard, split, read=read, splits=splits: (  # type: ignore[method-assign, misc]
            read(shard, split) if split in splits else read(shard, split).take(slice(0))
        )
        settings = PretrainSettings(epochs=1, batch_events=256, protocol="both")
        trainer = Trainer(build_model(copy, SHAPE, 0), copy, settings, tmp_path / name)
        trainer.run(until=3)
        weights.append(trainer.model.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def test_shown_items_come_from_the_open_buffer(sharded: Dataset, tmp_path: Path) -> None:
    settings = PretrainSettings(epochs=1, batch_events=256, protocol="time", buffer_events=500)
    trainer = Trainer(build_model(sharded, SHAPE, 0), sharded, settings, tmp_path)
    asked = 0
    for batch in trainer.batches(0):
        assert trainer.objective.shown_items is not None
        history = History.gather(trainer.loader.sequences, batch)
        asked += len(trainer.objective.shown_items.questions(history, torch.arange(len(history.item)), MANY)[1])
    end = training_end(sharded.sequences, sharded.info, "time")
    rows = sharded.impressions("train")
    assert asked == int((rows.prefix < end[sharded.sequences.user_index(rows.user)]).sum())


def test_impressions_of_one_label_tell_nothing(dataset: Dataset, tmp_path: Path) -> None:
    assert has_shown_items(dataset)
    assert not has_shown_items(prepare_purchases(tmp_path))


def test_a_model_learns_what_is_taken_where_it_is_shown(dataset: Dataset, tmp_path: Path) -> None:
    settings = PretrainSettings(epochs=40, batch_events=256, learning_rate=0.01, protocol="time", patience=40)
    trainer = Trainer(build_model(dataset, SHAPE, 0), dataset, settings, tmp_path)
    before = validate(trainer.model, trainer.validation, 512)["auc taken predicted"]
    trainer.run()
    after = validate(trainer.model, trainer.validation, 512)["auc taken predicted"]
    assert before < 0.65 < 0.95 < after


def test_every_validation_asks_about_the_same_impressions(dataset: Dataset) -> None:
    model, validation = build_model(dataset, SHAPE, seed=0), validation_set(dataset, "time", 16, 1000, seed=0)
    metrics = validate(model, validation, 512)
    torch.manual_seed(5)
    assert validate(model, validation, 512) == metrics
    assert SHOWN_PER_EVENT > 2 > metrics["feedback_prediction_loss"] > 0


def test_a_log_with_feedback_does_not_need_its_impressions(small_dataset: Dataset, tmp_path: Path) -> None:
    """The events of such a log have the reactions to what was shown already."""
    assert len(small_dataset.labels("train")) == 2
    assert not has_shown_items(small_dataset)
    trainer = Trainer(build_model(small_dataset, SHAPE, 0), small_dataset, PretrainSettings(), tmp_path)
    next(trainer.batches(0))
    assert trainer.objective.shown_items is None
    assert trainer.validation.shown_items is None


def test_impressions_are_not_learned_where_most_items_are_new(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such labels teach how popular single items were."""
    assert share_of_new_items(dataset) == 0
    sequences, info = dataset.sequences, dataset.info
    is_later = (sequences.time >= info.valid_time) & (sequences.time < info.test_time)
    for kept, share in ((0.6, 0.4), (0.3, 0.7)):
        item = np.where(is_later, 2, 1)
        item[np.flatnonzero(is_later)[: round(kept * is_later.sum())]] = 1
        monkeypatch.setattr(Dataset, "groups_of_sequences", lambda _, item=item: iter([replace(sequences, item=item)]))
        assert share_of_new_items(dataset) == pytest.approx(share, abs=0.02)
        assert has_shown_items(dataset) == (share < 0.5)
