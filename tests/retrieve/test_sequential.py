"""End-to-end next-item models, with both kinds of blocks."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from openlum.data.dataset import Dataset
from openlum.data.packing import Spans
from openlum.errors import InputError
from openlum.evaluation.retrieval_metrics import retrieval_metrics
from openlum.model import ModelSettings
from openlum.retrieve.held_out import HeldOut, all_held_out, excludes_seen
from openlum.retrieve.sequential import SequentialModel, _SequentialTraining, fit_sequential, sequential_ranks
from openlum.retrieve.settings import SequentialSettings
from openlum.training.loop import BatchLoss
from tests.model.conftest import fill_zero_weights

ENCODERS = ["transformer", "hstu"]


@pytest.fixture(params=ENCODERS)
def settings(request: pytest.FixtureRequest) -> SequentialSettings:
    """Return settings with short windows, so that most histories are cut."""
    shape = ModelSettings(
        encoder=request.param, width=16, layers=2, heads=2, embedding_width=8, field_width=4, max_events=12
    )
    return SequentialSettings(model=shape, epochs=1, batch_events=64, learning_rate=1e-2)


@pytest.fixture(scope="module", params=ENCODERS)
def trained(request: pytest.FixtureRequest, planted: Dataset) -> SequentialModel:
    shape = ModelSettings(encoder=request.param, width=16, layers=1, heads=2, embedding_width=16, max_events=20)
    settings = SequentialSettings(model=shape, epochs=40, patience=40, batch_events=64, learning_rate=2e-2)
    return fit_sequential(planted, settings, seed=0)


@torch.no_grad()
def loop(model: SequentialModel, dataset: Dataset, held_out: HeldOut) -> list[int]:
    """Return the rank of every user's held-out item, computed one user at a time."""
    sequences, e, ranks = dataset.sequences, model.items(), []
    for user_index, cut in zip(held_out.user_index, held_out.cut, strict=True):
        events = sequences.item[sequences.offsets[user_index] : sequences.offsets[user_index + 1]]
        history, target = events[:cut], int(events[cut])
        latest = torch.from_numpy(history[-model.settings.max_events :])
        scores = e @ model(e, latest, torch.tensor([0, len(latest)]))[-1]
        candidates = set(range(1, len(e))) - {target} - (set(history.tolist()) if held_out.exclude_seen else set())
        ranks.append(1 + sum(bool(scores[item] >= scores[target]) for item in candidates))
    return ranks


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_untrained_ranks_equal_a_loop_over_users(
    small_dataset: Dataset, settings: SequentialSettings, split: str, exclude_seen: bool
) -> None:
    torch.manual_seed(0)
    model = SequentialModel(small_dataset, settings.model).eval()
    fill_zero_weights(model)  # type: ignore[arg-type]  # initial blocks are the identity
    held_out = all_held_out(small_dataset, split, model.item_encoder.rows, exclude_seen)  # type: ignore[arg-type]
    assert held_out.cut.max() > settings.model.max_events
    ranks = sequential_ranks(model, small_dataset, split, exclude_seen, batch_users=3)  # type: ignore[arg-type]
    assert ranks.tolist() == loop(model, small_dataset, held_out)


def test_trained_ranks_equal_a_loop_over_users(planted: Dataset, trained: SequentialModel) -> None:
    held_out = all_held_out(planted, "test", trained.item_encoder.rows, exclude_seen=False)
    ranks = sequential_ranks(trained, planted, "test", exclude_seen=False, batch_users=7)
    assert ranks.tolist() == loop(trained, planted, held_out)


def test_the_next_item_is_learned(planted: Dataset, trained: SequentialModel) -> None:
    """The most popular item is right for few users; the planted rule is right for nearly all."""
    held_out = all_held_out(planted, "test", trained.item_encoder.rows, exclude_seen=True)
    sequences = planted.sequences
    counts = np.bincount(sequences.item, minlength=trained.item_encoder.rows)
    popular = torch.from_numpy(counts).float().repeat(len(held_out.user_index), 1)
    popularity = retrieval_metrics(held_out.rank(held_out.batches(1000)[0], popular), [1])
    learned = retrieval_metrics(sequential_ranks(trained, planted, "test"), [1])
    assert popularity["hr@1"] < 0.3
    assert learned["hr@1"] > 0.9


def weights(dataset: Dataset, settings: SequentialSettings) -> dict[str, Tensor]:
    return dict(fit_sequential(dataset, settings, seed=3).named_parameters())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(value.equal(b[name]) for name, value in a.items())


def with_other_items(dataset: Dataset, first: np.ndarray) -> Dataset:
    """Return the data set with other items from the event `first`, (U,), of each user on."""
    changed, sequences = Dataset(dataset.path), dataset.sequences
    lengths = np.diff(sequences.offsets)
    later = np.arange(len(sequences.item)) >= np.repeat(sequences.offsets[:-1] + first, lengths)
    assert later.any()
    item = np.where(later, sequences.item % 5 + 1, sequences.item)
    changed.__dict__["sequences"] = dataclasses.replace(sequences, item=item)
    return changed


def test_held_out_events_are_not_trained_on(small_dataset: Dataset, settings: SequentialSettings) -> None:
    """After one epoch, whose weights are always kept. The last check shows that earlier events do change the weights."""
    original, sequences = weights(small_dataset, settings), small_dataset.sequences
    assert same(original, weights(small_dataset, settings))
    assert same(original, weights(with_other_items(small_dataset, sequences.valid_at), settings))
    assert not same(original, weights(with_other_items(small_dataset, sequences.valid_at - 1), settings))


def test_the_test_event_does_not_choose_the_epoch(small_dataset: Dataset, settings: SequentialSettings) -> None:
    longer = settings.model_copy(update={"epochs": 4, "patience": 2})
    changed = with_other_items(small_dataset, small_dataset.sequences.test_at)
    assert same(weights(small_dataset, longer), weights(changed, longer))


def test_the_best_epoch_is_kept(small_dataset: Dataset, settings: SequentialSettings) -> None:
    longer, curve = settings.model_copy(update={"epochs": 6, "patience": 2}), []
    model = fit_sequential(small_dataset, longer, 0, lambda epoch, ndcg: curve.append(ndcg))
    exclude_seen = excludes_seen(small_dataset, model.item_encoder.rows, None)
    ndcg = retrieval_metrics(sequential_ranks(model, small_dataset, "valid", exclude_seen), [10])["ndcg@10"]
    assert ndcg == pytest.approx(max(curve))
    assert len(curve) == min(1 + int(np.argmax(curve)) + 2, 6)


def test_an_item_of_held_out_events_only_is_not_a_negative_and_has_no_id(
    small_dataset: Dataset, settings: SequentialSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds for the Large User Model."""
    dataset = Dataset(small_dataset.path)
    sequences = dataset.sequences
    within = np.arange(len(sequences.item)) - np.repeat(sequences.offsets[:-1], np.diff(sequences.offsets))
    held_out = within >= np.repeat(sequences.valid_at, np.diff(sequences.offsets))
    new = int(sequences.item.max())
    sequences.item[:] = np.where(held_out, new, np.where(sequences.item == new, 1, sequences.item))
    catalogues: list[Tensor] = []
    loss = _SequentialTraining.loss

    def recorded_loss(training: _SequentialTraining, batch: Spans) -> BatchLoss:
        catalogues.append(training.catalogue)
        return loss(training, batch)

    monkeypatch.setattr(_SequentialTraining, "loss", recorded_loss)
    model = fit_sequential(dataset, settings, seed=0)
    assert all(new not in catalogue for catalogue in catalogues)
    trained = sequences.item[~held_out]
    assert set(trained.tolist()) <= set(catalogues[0].tolist())
    assert not model.item_encoder.trained_items[new]
    assert model.item_encoder.trained_items[trained[trained > 0]].all()


def test_a_training_that_diverges_is_refused(small_dataset: Dataset, settings: SequentialSettings) -> None:
    with pytest.raises(InputError, match=r"the training loss is (nan|inf) at step \d+; lower its learning_rate"):
        fit_sequential(small_dataset, settings.model_copy(update={"learning_rate": 1e30, "epochs": 5}), seed=0)


def test_the_number_of_parts_changes_no_training_that_fits_into_one_buffer(
    small_dataset: Dataset, sharded_dataset: Dataset, settings: SequentialSettings
) -> None:
    assert same(weights(small_dataset, settings), weights(sharded_dataset, settings))


def test_a_training_and_its_ranks_never_read_all_events_at_once(
    small_dataset: Dataset, sharded_dataset: Dataset, settings: SequentialSettings
) -> None:
    dataset = Dataset(sharded_dataset.path)
    dataset.cache_events = 100

    def refuse(names: list[str]) -> None:
        assert len(names) < len(dataset.shards())
        return read(names)

    read, dataset._read_sequences = dataset._read_sequences, refuse
    model = fit_sequential(dataset, settings.model_copy(update={"buffer_events": 130}), seed=0)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    ranks = sequential_ranks(model, dataset, "test")
    assert "sequences" not in vars(dataset)
    assert ranks.tolist() == sequential_ranks(model, small_dataset, "test").tolist()
