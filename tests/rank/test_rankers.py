"""What holds for every ranker."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.rank.attention import TargetAttention
from openlum.rank.batches import Batch, RankingData, Rows
from openlum.rank.knowledge import load_knowledge
from openlum.rank.metrics import auc
from openlum.rank.rankers import Ranker, load_ranker, save_ranker
from openlum.rank.settings import KnowledgeSettings, RankSettings
from openlum.rank.train import build_ranker, fit, predict


@pytest.fixture(scope="module", params=["dnn", "din", "dnn+knowledge", "din+knowledge"])
def ranker(request: pytest.FixtureRequest, data: RankingData) -> Ranker:
    """A trained one."""
    architecture, _, knowledge = request.param.partition("+")
    return fit(data.config(architecture, bool(knowledge)), data, seed=0).ranker


def score(ranker: Ranker, data: RankingData, index: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return ranker(data.batch(data.rows["test"], index, ranker.config))


class TestEveryRanker:
    def test_learns_the_planted_signal(self, ranker: Ranker, data: RankingData) -> None:
        test = data.rows["test"]
        assert auc(test.label.numpy(), predict(ranker, data, test)) > 0.56

    def test_one_finite_logit_a_row(self, ranker: Ranker, data: RankingData) -> None:
        for rows in (0, 1, 7):
            logits = score(ranker, data, torch.arange(rows))
            assert logits.shape == (rows,)
            assert logits.isfinite().all()

    def test_a_row_does_not_depend_on_the_others(self, ranker: Ranker, data: RankingData) -> None:
        index = torch.randperm(100, generator=torch.Generator().manual_seed(3))
        together = score(ranker, data, index)
        torch.testing.assert_close(together[index.argsort()], score(ranker, data, torch.arange(100)))
        torch.testing.assert_close(together[:1], score(ranker, data, index[:1]))

    def test_padding_has_no_influence(self, ranker: Ranker, data: RankingData) -> None:
        batch = data.batch(data.rows["train"], torch.arange(300), ranker.config)  # the first rounds: short histories
        if batch.history is None:
            assert ranker.config.architecture == "dnn"
            return
        assert not batch.history.mask.all()
        with torch.inference_mode():
            torch.testing.assert_close(ranker(_other_padding(batch)), ranker(batch), rtol=0, atol=0)

    def test_the_future_never_changes_a_prediction(
        self, ranker: Ranker, data: RankingData, dataset: Dataset, knowledge_dir: Path
    ) -> None:
        rows = data.rows["test"]
        for index in (0, 50, len(rows) - 1):
            changed = Dataset(dataset.path)
            changed.__dict__["sequences"] = _other_events_after(changed, rows.user[index].item(), index)
            other = RankingData(changed, data.settings, load_knowledge(knowledge_dir, changed))
            assert score(ranker, other, torch.tensor([index])).equal(score(ranker, data, torch.tensor([index])))

    def test_saved_and_loaded_predicts_the_same(self, ranker: Ranker, data: RankingData, tmp_path: Path) -> None:
        save_ranker(ranker, tmp_path / "ranker.safetensors")
        loaded = load_ranker(tmp_path / "ranker.safetensors")
        assert loaded.config == ranker.config
        assert score(loaded, data, torch.arange(50)).equal(score(ranker, data, torch.arange(50)))


def _other_padding(batch: Batch) -> Batch:
    """The batch with other values where the history is empty."""
    assert batch.history is not None
    mask = batch.history.mask
    item = batch.history.item.where(mask, 1)
    condition = {name: values.where(mask, 1) for name, values in batch.history.condition.items()}
    return dataclasses.replace(batch, history=dataclasses.replace(batch.history, item=item, condition=condition))


def _other_events_after(dataset: Dataset, user: int, index: int):  # type: ignore[no-untyped-def]
    """The sequences with other events wherever the row must not look: from its prefix on, and at other users."""
    sequences = dataset.sequences
    place = sequences.position_of(np.array([user]))[0]
    begin = sequences.offsets[place]
    seen = np.zeros(len(sequences.item), bool)
    seen[begin : begin + dataset.impressions("test").prefix[index]] = True
    assert seen.any()
    item = np.where(seen, sequences.item, sequences.item % 3 + 1)
    condition = {name: np.where(seen, values, 1) for name, values in sequences.condition.items()}
    return dataclasses.replace(sequences, item=item, condition=condition)


def test_din_learns_from_the_history_what_dnn_cannot(data: RankingData) -> None:
    reached = {name: max(e.valid_auc for e in fit(data.config(name, False), data, 0).epochs) for name in ("dnn", "din")}
    assert reached["din"] > reached["dnn"] + 0.02


def test_informed_knowledge_helps_every_ranker(data: RankingData) -> None:
    for name in ("dnn", "din"):
        plain, informed = (max(e.valid_auc for e in fit(data.config(name, k), data, 0).epochs) for k in (False, True))
        assert informed > plain + 0.01  # din alone is not far below the truth


class TestDroppingKnowledge:
    """A ranker whose knowledge says nothing is the plain one, bit for bit, also after training."""

    @pytest.mark.parametrize("name", ["dnn", "din"])
    def test_switched_off(self, name: str, data: RankingData, settings: RankSettings) -> None:
        off = settings.model_copy(update={"knowledge": KnowledgeSettings(direct=False, matching=False)})
        config = data.config(name, True)  # type: ignore[arg-type]
        silent = RankingData(data.dataset, off, data.knowledge).config(name, True)  # type: ignore[arg-type]
        assert config.knowledge is not None
        assert silent.knowledge is not None
        self._equal(fit(silent, data, 1).ranker, fit(data.config(name, False), data, 1).ranker, data)  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["dnn", "din"])
    def test_all_zero(self, name: str, data: RankingData, settings: RankSettings) -> None:
        assert data.knowledge is not None
        empty = {field: np.zeros_like(getattr(data.knowledge, field)) for field in ("answers", "similarity", "items")}
        zero = RankingData(data.dataset, settings, dataclasses.replace(data.knowledge, **empty))
        ranker = fit(zero.config(name, True), zero, 1).ranker  # type: ignore[arg-type]
        assert ranker.knowledge is not None
        assert not any(parameter.any() for parameter in ranker.knowledge.parameters())
        self._equal(ranker, fit(data.config(name, False), data, 1).ranker, zero)  # type: ignore[arg-type]

    def test_begins_as_the_plain_ranker(self, data: RankingData) -> None:
        self._equal(
            build_ranker(data.config("din", True), data, 2), build_ranker(data.config("din", False), data, 2), data
        )

    @staticmethod
    def _equal(ranker: Ranker, plain: Ranker, data: RankingData) -> None:
        parameters = dict(ranker.named_parameters())
        for name, parameter in plain.named_parameters():
            assert parameter.equal(parameters[name]), name
        rows = data.rows["test"]
        assert np.array_equal(predict(ranker, data, rows), predict(plain, data, rows))


def test_a_user_who_was_never_trained_is_an_unknown_user(dataset: Dataset, settings: RankSettings) -> None:
    data = RankingData(dataset, settings.model_copy(update={"user_id": True, "max_epochs": 1}))
    train, test = data.rows["train"], data.rows["test"]
    new = int(test.user[0])
    data.rows["train"] = take(train, (train.user != new).nonzero().squeeze(1))
    ranker = fit(data.config("din", False), data, 0).ranker
    for user, same in ((new, True), (int(test.user[1]), False)):
        batch = data.batch(test, (test.user == user).nonzero().squeeze(1), ranker.config)
        with torch.inference_mode():
            unknown = ranker(dataclasses.replace(batch, user=torch.zeros_like(batch.user)))
            assert ranker(batch).equal(unknown) == same


def take(rows: Rows, index: torch.Tensor) -> Rows:
    fields = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}
    features = {name: values[index] for name, values in fields.pop("features").items()}
    return Rows(
        features=features, **{name: None if values is None else values[index] for name, values in fields.items()}
    )


def test_training_is_repeatable(data: RankingData) -> None:
    first, second = (fit(data.config("din", True), data, seed=4) for _ in range(2))
    assert [e.valid_auc for e in first.epochs] == [e.valid_auc for e in second.epochs]
    assert first.best_epoch == 1 + int(np.argmax([e.valid_auc for e in first.epochs]))


def test_attention_equals_its_textbook_form() -> None:
    torch.manual_seed(0)
    attention = TargetAttention(6, 5).double()
    query, keys = torch.randn(4, 6).double(), torch.randn(4, 7, 6).double()
    mask = torch.rand(4, 7) > 0.3
    q = query.unsqueeze(1).expand_as(keys)
    weights = attention.weight(attention.pair(torch.cat([q, keys, q - keys, q * keys], 2)).relu())
    expected = (weights * mask.unsqueeze(2) * keys).sum(1)
    torch.testing.assert_close(attention(query, keys, mask), expected)


def test_a_file_that_is_no_ranker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_ranker(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(InputError, match="not a ranker"):
        load_ranker(tmp_path / "text.safetensors")
