"""Properties of every ranker."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from openlum.data.dataset import Dataset, Sequences
from openlum.errors import InputError
from openlum.evaluation.metrics import auc
from openlum.rank.attention import TargetAttention
from openlum.rank.batches import Batch, RankingData
from openlum.rank.knowledge import load_knowledge
from openlum.rank.rankers import AnyRanker, load_ranker, save_ranker
from openlum.rank.rankers.base import Ranker
from openlum.rank.rankers.dcnv2 import DcnV2
from openlum.rank.rankers.dien import AttentionalGru, Dien
from openlum.rank.rankers.generative import GenerativeRanker
from openlum.rank.rankers.sim import Sim
from openlum.rank.settings import KnowledgeSettings, RankerConfig, RankSettings
from openlum.rank.train import build_ranker, fit

GENERATIVE = ["sasrec", "hstu"]
ROWWISE = ["dnn", "dcnv2", "din", "dien", "sim"]
RANKERS = [
    *ROWWISE,
    "lightgbm",
    *GENERATIVE,
    *(f"{name}+early" for name in [*ROWWISE, "lightgbm"]),
    *(f"{name}+late" for name in ["dnn", "din", "lightgbm"]),
]
EARLY = {"knowledge": KnowledgeSettings(tier="live", fusion="early")}


@pytest.fixture(scope="module", params=RANKERS)
def ranker(request: pytest.FixtureRequest, data: RankingData) -> AnyRanker:
    """Return a trained ranker."""
    architecture, _, fusion = request.param.partition("+")
    settings = data.settings.model_copy(update={"knowledge": KnowledgeSettings(tier="live", fusion=fusion or "late")})
    return fit(data.config(architecture, bool(fusion), settings), data, seed=0).ranker


def predict(ranker: AnyRanker, data: RankingData, index: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(ranker.predict(data, data.rows["test"].take(index)))


class TestEveryRanker:
    def test_learns_the_planted_signal(self, ranker: Ranker, data: RankingData) -> None:
        test = data.rows["test"]
        assert auc(test.label.numpy(), ranker.predict(data, test)) > 0.54

    def test_every_row_has_one_probability(self, ranker: Ranker, data: RankingData) -> None:
        for rows in (0, 1, 7):
            probability = predict(ranker, data, torch.arange(rows))
            assert probability.shape == (rows,)
            assert ((probability > 0) & (probability < 1)).all()

    def test_a_row_does_not_depend_on_the_others(self, ranker: Ranker, data: RankingData) -> None:
        index = torch.randperm(100, generator=torch.Generator().manual_seed(3))
        together = predict(ranker, data, index)
        torch.testing.assert_close(together[index.argsort()], predict(ranker, data, torch.arange(100)))
        torch.testing.assert_close(together[:1], predict(ranker, data, index[:1]))

    def test_padding_has_no_influence(self, ranker: Ranker, data: RankingData) -> None:
        if not isinstance(ranker, Ranker) or not ranker.config.history_length:
            return
        batch = data.batch(data.rows["train"], torch.arange(300), ranker.config)  # early rows have short histories
        assert batch.history is not None
        assert not batch.history.mask.all()
        with torch.inference_mode():
            torch.testing.assert_close(ranker(_with_other_padding(batch)), ranker(batch), rtol=0, atol=0)

    def test_the_future_never_changes_a_prediction(
        self, ranker: Ranker, data: RankingData, dataset: Dataset, knowledge_dir: Path
    ) -> None:
        rows = data.rows["test"]
        for index in (0, 50, len(rows) - 1):
            changed = Dataset(dataset.path)
            changed.__dict__["sequences"] = _with_other_hidden_events(
                changed, rows.user[index].item(), index, ranker.config
            )
            other = RankingData(changed, data.settings, load_knowledge(knowledge_dir, changed))
            assert predict(ranker, other, torch.tensor([index])).equal(predict(ranker, data, torch.tensor([index])))

    def test_the_past_changes_a_prediction(self, ranker: AnyRanker, data: RankingData, dataset: Dataset) -> None:
        if ranker.config.architecture in ("dnn", "dcnv2"):
            return
        changed = Dataset(dataset.path)
        condition = {name: values % 2 + 1 for name, values in changed.sequences.condition.items()}
        changed.__dict__["sequences"] = dataclasses.replace(changed.sequences, condition=condition)
        other = RankingData(changed, data.settings, data.knowledge)
        index = torch.arange(100)
        assert (predict(ranker, other, index) - predict(ranker, data, index)).abs().max() > 1e-3

    def test_saved_and_loaded_predicts_the_same(self, ranker: Ranker, data: RankingData, tmp_path: Path) -> None:
        save_ranker(ranker, tmp_path / "ranker.safetensors")
        loaded = load_ranker(tmp_path / "ranker.safetensors")
        assert loaded.config == ranker.config
        assert predict(loaded, data, torch.arange(50)).equal(predict(ranker, data, torch.arange(50)))


def _with_other_padding(batch: Batch) -> Batch:
    """Return the batch with other values in the padding of the history."""
    assert batch.history is not None
    mask = batch.history.mask
    item = batch.history.item.where(mask, 1)
    condition = {name: values.where(mask, 1) for name, values in batch.history.condition.items()}
    return dataclasses.replace(batch, history=dataclasses.replace(batch.history, item=item, condition=condition))


def _with_other_hidden_events(dataset: Dataset, user: int, index: int, config: RankerConfig) -> Sequences:
    """Return the sequences with other events where the row must not see them: from its prefix on, and of other users.

    Trees count the events of all users, so they may see every event before the row.
    """
    sequences = dataset.sequences
    user_index = sequences.user_index(np.array([user]))[0]
    begin = sequences.offsets[user_index]
    visible = np.zeros(len(sequences.item), bool)
    visible[begin : begin + dataset.impressions("test").prefix[index]] = True
    if config.architecture == "lightgbm":
        visible = sequences.time < dataset.impressions("test").time[index]
    assert visible.any()
    item = np.where(visible, sequences.item, sequences.item % 3 + 1)
    condition = {name: np.where(visible, values, 1) for name, values in sequences.condition.items()}
    return dataclasses.replace(sequences, item=item, condition=condition)


def valid_auc(name: str, data: RankingData, with_knowledge: bool = False, seed: int = 0) -> float:
    """Train a ranker and return its validation AUC; knowledge is an input."""
    config = data.config(name, with_knowledge, data.settings.model_copy(update=EARLY))  # type: ignore[arg-type]
    return auc(data.rows["valid"].label.numpy(), fit(config, data, seed).valid)


# `dien` first learns popularity alone, for a number of epochs that depends on its initial weights: 8 here, 19 with seed 0.
@pytest.mark.parametrize(("name", "epochs", "seed"), [("din", 8, 0), ("dien", 12, 1), ("sim", 8, 0)])
def test_the_history_has_a_signal_that_a_dnn_lacks(
    name: str, epochs: int, seed: int, dataset: Dataset, data: RankingData
) -> None:
    longer = RankingData(dataset, data.settings.model_copy(update={"max_epochs": epochs, "patience": epochs}))
    assert valid_auc(name, longer, seed=seed) > valid_auc("dnn", data) + 0.02


@pytest.mark.parametrize("name", ROWWISE)
def test_knowledge_with_signal_improves_early_fusion(name: str, data: RankingData) -> None:
    # The margin is small because `din` without knowledge is already close to the true AUC.
    assert valid_auc(name, data, True) > valid_auc(name, data) + 0.01


def test_knowledge_with_signal_improves_trees_without_item_fields(data: RankingData) -> None:
    early = data.settings.model_copy(update=EARLY)
    plain, with_knowledge = (
        fit(data.config("lightgbm", flag, early).model_copy(update={"item": []}), data, 0).valid
        for flag in (False, True)
    )
    label = data.rows["valid"].label.numpy()
    assert auc(label, with_knowledge) > auc(label, plain) + 0.05


def test_a_ranker_with_knowledge_starts_bit_for_bit_as_the_plain_ranker(data: RankingData) -> None:
    early = data.config("din", True, data.settings.model_copy(update=EARLY))
    with_knowledge, plain = build_ranker(early, data, 2), build_ranker(data.config("din", False), data, 2)
    parameters = dict(with_knowledge.named_parameters())
    for name, parameter in plain.named_parameters():
        assert parameter.equal(parameters[name]), name
    rows = data.rows["test"]
    assert np.array_equal(with_knowledge.predict(data, rows), plain.predict(data, rows))


def test_an_untrained_user_is_an_unknown_user(dataset: Dataset, settings: RankSettings) -> None:
    data = RankingData(dataset, settings.model_copy(update={"user_id": True, "max_epochs": 1}))
    train, test = data.rows["train"], data.rows["test"]
    new = int(test.user[0])
    data.rows["train"] = train.take((train.user != new).nonzero().squeeze(1))
    ranker = fit(data.config("din", False), data, 0).ranker
    for user, is_unknown in ((new, True), (int(test.user[1]), False)):
        batch = data.batch(test, (test.user == user).nonzero().squeeze(1), ranker.config)
        with torch.inference_mode():
            unknown = ranker(dataclasses.replace(batch, user=torch.zeros_like(batch.user)))
            assert ranker(batch).equal(unknown) == is_unknown
            new_user = torch.full_like(batch.user, ranker.config.users)  # as in a dataset that has grown
            assert ranker(dataclasses.replace(batch, user=new_user)).equal(unknown)


@pytest.mark.parametrize("name", ["dnn", "din", "hstu"])
def test_an_untrained_item_is_represented_by_its_fields(
    name, dataset: Dataset, settings: RankSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With id dropout; without it the untrained id keeps its random initial embedding."""
    for rate in (0.0, 0.3):
        data = RankingData(dataset, settings.model_copy(update={"item_id_dropout": rate, "max_epochs": 1}))
        test = data.rows["test"]
        new = int(test.item[0])
        config = data.config(name, False)
        trained = data.trained_items(config)
        assert trained[test.item].all()
        trained[new] = False
        monkeypatch.setattr(data, "trained_items", lambda config, trained=trained: trained)
        ranker = fit(config, data, 0).ranker
        assert isinstance(ranker, Ranker | GenerativeRanker)
        before = ranker.predict(data, test)
        with torch.no_grad():
            ranker.items.get_parameter("encoder.fields.0.table.weight")[new] += 1
        rows = (test.item == new).numpy()
        assert (ranker.predict(data, test)[rows] == before[rows]).all() == (rate > 0)


@pytest.mark.parametrize(("name", "events"), [("dnn", []), ("din", ["clicked"]), ("hstu", ["clicked", "skipped"])])
def test_trained_items_are_targets_and_items_of_histories(
    name, events: list[str], dataset: Dataset, settings: RankSettings
) -> None:
    """Events of later periods do not count."""
    copied = Dataset(dataset.path)
    item = copied.sequences.item
    training = np.flatnonzero(copied.sequences.time < copied.info.valid_time)
    later = np.flatnonzero(copied.sequences.time >= copied.info.valid_time)
    clicked = (
        copied.sequences.condition["feedback"] == copied.vocabularies("condition")["feedback"].encode(["click"])[0]
    )
    items = {"target": 1, "clicked": 2, "skipped": 3, "late": 4}
    item[:] = 9
    item[training[clicked[training]][0]] = items["clicked"]
    item[training[~clicked[training]][0]] = items["skipped"]
    item[later] = items["late"]
    data = RankingData(copied, settings.model_copy(update={"history_where": {"feedback": ["click"]}}))
    data.rows["train"].item[:] = items["target"]
    trained = data.trained_items(data.config(name, False))
    assert {kind for kind, item in items.items() if trained[item]} == {"target", *events}


def test_training_is_repeatable(data: RankingData) -> None:
    early = data.settings.model_copy(update=EARLY)
    first, second = (fit(data.config("din", True, early), data, seed=4) for _ in range(2))
    assert [epoch.valid_auc for epoch in first.epochs] == [epoch.valid_auc for epoch in second.epochs]
    assert first.best_epoch == 1 + int(np.argmax([epoch.valid_auc for epoch in first.epochs]))


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_when_the_validation_auc_stops_rising(patience: int, data: RankingData) -> None:
    settings = data.settings.model_copy(update={"max_epochs": 40, "patience": patience})
    trained = fit(data.config("dnn", False, settings), data, 0)
    curve = [epoch.valid_auc for epoch in trained.epochs]
    assert len(curve) == trained.best_epoch + patience < 40
    assert max(curve[trained.best_epoch :]) <= curve[trained.best_epoch - 1]


def test_target_attention_equals_its_textbook_form() -> None:
    torch.manual_seed(0)
    attention = TargetAttention(6, 5).double()
    query, keys = torch.randn(4, 6).double(), torch.randn(4, 7, 6).double()
    mask = torch.rand(4, 7) > 0.3
    q = query.unsqueeze(1).expand_as(keys)
    weights = attention.weight(attention.pair(torch.cat([q, keys, q - keys, q * keys], 2)).relu())
    expected = (weights * mask.unsqueeze(2) * keys).sum(1)
    torch.testing.assert_close(attention(query, keys, mask), expected)


def test_crosses_equal_their_textbook_form(data: RankingData) -> None:
    """x_0 * (U V x + b) + x in every layer (Wang et al. 2021, equation 2)."""
    ranker = build_ranker(data.config("dcnv2", False), data, 0)
    assert isinstance(ranker, DcnV2)
    down, _ = ranker.layers[0]
    x = torch.randn(5, down.in_features)
    expected = x
    for down, up in ranker.layers:
        expected = x * (expected @ (up.weight @ down.weight).T + up.bias) + expected
    torch.testing.assert_close(ranker.cross(x), expected)


def test_the_attentional_gru_equals_its_textbook_form() -> None:
    """Zhou et al. 2019, equations 8 to 10: the update gate is scaled by the attention."""
    torch.manual_seed(0)
    gru = AttentionalGru(4)
    x, weight = torch.randn(3, 6, 4), torch.rand(3, 6)
    (u_x, r_x, c_x), (u_h, r_h, c_h) = gru.of_input.weight.chunk(3), gru.of_state.weight.chunk(3)
    u_b, r_b, c_b = gru.of_input.bias.chunk(3)
    state = torch.zeros(3, 4)
    for step in range(6):
        update = (x[:, step] @ u_x.T + u_b + state @ u_h.T).sigmoid() * weight[:, step, None]
        reset = (x[:, step] @ r_x.T + r_b + state @ r_h.T).sigmoid()
        state = (1 - update) * state + update * (x[:, step] @ c_x.T + c_b + reset * (state @ c_h.T)).tanh()
    torch.testing.assert_close(gru(x, weight), state)


def second_inputs(module: torch.nn.Module) -> list[torch.Tensor]:
    """Return a list that collects the second input of every later call of a module."""
    collected: list[torch.Tensor] = []
    module.register_forward_hook(lambda module, inputs, output: collected.append(inputs[1]))
    return collected


def test_dien_weighs_states_by_their_match_with_the_target(data: RankingData) -> None:
    ranker = build_ranker(data.config("dien", False), data, 0)
    assert isinstance(ranker, Dien)
    weights = second_inputs(ranker.evolve)
    batch = data.batch(data.rows["test"], torch.arange(40), ranker.config)
    ranker(batch)
    with torch.no_grad():
        ranker.match.weight *= 0
    ranker(batch)
    assert (weights[1] == 0.5).logical_or(weights[1] == 0).all()
    assert (weights[0] - weights[1]).abs().max() > 0.01


def test_the_search_returns_the_behaviours_nearest_to_the_target(data: RankingData) -> None:
    """Nearest, not latest."""
    ranker = build_ranker(data.config("sim", False), data, 0)
    assert isinstance(ranker, Sim)
    searched = second_inputs(ranker.attention)
    batch = data.batch(data.rows["test"], torch.arange(40), ranker.config)
    target, keys = torch.randn(40, 8), torch.randn(40, 40, 8)
    assert batch.history is not None
    mask = batch.history.mask
    assert mask.shape == keys.shape[:2]
    ranker.interest(target, keys, batch.history)
    score = (keys @ ranker.search(target).unsqueeze(2)).squeeze(2).masked_fill(~mask, float("-inf"))
    best = score.argsort(1, descending=True)[:, :20]  # history_length of them
    torch.testing.assert_close(searched[0], keys.gather(1, best.unsqueeze(2).expand(-1, -1, 8)))


@pytest.mark.parametrize("name", [*ROWWISE, *GENERATIVE])
def test_ids_added_after_training_are_unknown(name, data: RankingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """New items and new field values, as in a dataset that has grown."""
    ranker = fit(data.config(name, False, data.settings.model_copy(update={"max_epochs": 1})), data, 0).ranker
    rows = data.rows["test"].take(torch.arange(20))
    ((buffer, _),) = data.buffers(rows, torch.arange(20))
    stored, predictions = buffer.rows["test"], []
    fields = stored.features
    for item, value in ((ranker.config.items, 99), (0, 0)):
        ids = {n: torch.full_like(x, value) if x.dtype == torch.int32 else x for n, x in fields.items()}
        monkeypatch.setattr(stored, "features", ids)
        predictions.append(ranker.predict(data, dataclasses.replace(rows, item=torch.full_like(rows.item, item))))
    assert np.array_equal(*predictions)


class LookupsOnOneDevice(TorchFunctionMode):
    """A check that ids are on the device of their table; `meta` does not check it."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.embedding:
            assert args[0].device == args[1].device
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [*ROWWISE, *GENERATIVE, *(f"{name}+early" for name in ROWWISE)])
def test_a_ranker_computes_where_its_weights_are(name: str, data: RankingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` replaces a GPU: it has shapes without values, and refuses to mix with the CPU like a GPU."""
    monkeypatch.setattr("openlum.rank.train.default_device", lambda: torch.device("meta"))
    architecture, _, early = name.partition("+")
    settings = data.settings.model_copy(update=EARLY)
    ranker = build_ranker(data.config(architecture, bool(early), settings), data, 0)  # type: ignore[arg-type]
    with torch.fx.experimental._config.patch(meta_nonzero_assume_all_nonzero=True), LookupsOnOneDevice():
        if isinstance(ranker, GenerativeRanker):
            logits = next(ranker.batch_logits(data, data.rows["train"], None))[1]
        else:
            logits = ranker(data.batch(data.rows["train"], torch.arange(50), ranker.config))
    assert logits.is_meta
    assert len(logits)


def test_a_file_without_a_ranker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_ranker(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(InputError, match="not a ranker"):
        load_ranker(tmp_path / "text.safetensors")
