"""Trainings that start with the weights of an earlier model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.artefact.json_file import read_json
from openlum.data.dataset import Dataset
from openlum.data.histories import raw_history
from openlum.data.packing import Spans
from openlum.errors import InputError
from openlum.model import History, LargeUserModel, ModelSettings
from openlum.pretrain.initialization import build_model, load_initial_model
from openlum.pretrain.objective import Objective
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import Trainer, pretrain
from tests.recode import recode

from . import golden

SETTINGS = PretrainSettings(epochs=12, batch_events=64, learning_rate=0.01, patience=12)
SHORT = PretrainSettings(epochs=1, batch_events=64, learning_rate=1e-4)
NAMES = ("items", "condition.scenario", "condition.rating", "item.tags")
DEFAULTS = ModelSettings()
"""No key is set, so every key has the value of the initial model."""


@pytest.fixture(scope="module")
def initial_dir(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("initial") / "model"
    pretrain(small_dataset.path, directory, golden.SHAPE, SETTINGS)
    return directory


@pytest.fixture(scope="module")
def grown(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The dataset with a new value at the end of every vocabulary, some of them in the events."""
    values = {name: [*small_dataset.vocabulary(name).values, f"new {name}"] for name in NAMES}
    scenarios = len(values["condition.scenario"])
    changes = {"sequences": {"item": {0: len(values["items"])}, "condition.scenario": {3: scenarios}}}
    return recode(small_dataset, tmp_path_factory.mktemp("grown") / "dataset", values, changes)


def initialised_model(dataset: Dataset, directory: Path) -> LargeUserModel:
    initial_model, settings = load_initial_model(directory, dataset, DEFAULTS, "both")
    return build_model(dataset, settings, seed=1, initial_model=initial_model).eval()


def test_the_first_validation_on_an_unchanged_dataset_equals_that_of_the_initial_model(
    small_dataset: Dataset, initial_dir: Path, tmp_path: Path
) -> None:
    summary = pretrain(small_dataset.path, tmp_path / "model", DEFAULTS, SHORT, init_from=initial_dir)
    initial, model = LargeUserModel.load(initial_dir), LargeUserModel.load(tmp_path / "model")
    first = json.loads((tmp_path / "model" / "metrics.jsonl").read_text().splitlines()[0])
    validation = read_json(initial_dir / "pretrain.json", "lum pretrain")["validation"]
    assert (first["step"], first["epoch"]) == (0, 0)
    assert {name: first["validation"][name] for name in validation} == validation
    assert model.config.settings == initial.config.settings
    assert model.config.initialised_from == summary["initialised_from"] == initial.config.fingerprint
    assert model.config.fingerprint != initial.config.fingerprint
    assert initial.config.fingerprint in (tmp_path / "model" / "README.md").read_text()


def test_rows_of_old_values_are_copied_and_rows_of_new_values_are_random(
    small_dataset: Dataset, grown: Dataset, initial_dir: Path
) -> None:
    initial, model, fresh = (
        LargeUserModel.load(initial_dir),
        initialised_model(grown, initial_dir),
        build_model(grown, golden.SHAPE, seed=1),
    )
    initial_weights, fresh_weights = dict(initial.network.named_parameters()), dict(fresh.network.named_parameters())
    longer = 0
    for name, weight in model.network.named_parameters():
        if name.startswith("matching_head."):  # it has other inputs and outputs: there are new feedback values
            assert torch.equal(weight, fresh_weights[name])
            continue
        rows = len(initial_weights[name]) if weight.dim() else None
        assert torch.equal(weight[:rows] if rows else weight, initial_weights[name]), name
        if rows and len(weight) > rows:
            assert torch.equal(weight[rows:], fresh_weights[name][rows:])
            longer += 1
    assert longer == len(NAMES) + 2  # the last layer of a feedback head has weights and biases for each value
    old_items = len(small_dataset.vocabulary("items"))
    assert torch.equal(
        model.network.item_encoder.trained_items[1:old_items], initial.network.item_encoder.trained_items[1:]
    )
    assert initial.network.item_encoder.trained_items[1:].any()
    assert not model.network.item_encoder.trained_items[old_items:].any()
    features = grown.item_features()["content"]
    assert torch.equal(dict(model.network.item_encoder.named_buffers())["feature_2"], torch.from_numpy(features))


def test_training_continues_from_the_loss_of_the_initial_model(
    small_dataset: Dataset, grown: Dataset, initial_dir: Path, tmp_path: Path
) -> None:
    def loss(model: LargeUserModel, dataset: Dataset) -> float:
        user_index = np.arange(len(dataset.sequences.user))
        objective = Objective(model.config, SHORT, np.ones(model.config.items), torch.arange(model.config.items))
        spans = Spans(user_index, 0 * user_index, dataset.sequences.valid_at)
        torch.manual_seed(0)
        with torch.no_grad():
            return float(objective.total(objective(model.eval().network, History.gather(dataset.sequences, spans))))

    before, after = (
        loss(LargeUserModel.load(initial_dir), small_dataset),
        loss(initialised_model(grown, initial_dir), grown),
    )
    fresh = loss(build_model(grown, golden.SHAPE, seed=1), grown)
    assert abs(after - before) < 0.3 * (fresh - before)
    pretrain(grown.path, tmp_path / "model", DEFAULTS, SHORT, init_from=initial_dir)
    assert loss(LargeUserModel.load(tmp_path / "model"), grown) < after + 0.1 * (fresh - before)


def test_rows_are_matched_by_value(small_dataset: Dataset, initial_dir: Path, tmp_path: Path) -> None:
    """The same raw history has the same answers if the dataset has other ids."""
    rng = np.random.default_rng(0)
    values = {name: list(rng.permutation(small_dataset.vocabulary(name).values)) for name in NAMES}
    other = recode(small_dataset, tmp_path / "other", values)
    initial, model = LargeUserModel.load(initial_dir), initialised_model(other, initial_dir)
    history, question = raw_history(small_dataset, 2), {"rating": 5, "scenario": "home"}
    assert raw_history(other, 2) == history
    torch.testing.assert_close(model.ask(history, [question]), initial.ask(history, [question]), atol=1e-6, rtol=0)
    tops = [lum.recommend(history[:9], 5, question) for lum in (initial, model)]
    assert [row["item"] for row in tops[0]] == [row["item"] for row in tops[1]]
    with torch.no_grad():
        embeddings = model.items()[torch.from_numpy(model.processor.items.encode(initial.processor.items.values))]
        torch.testing.assert_close(embeddings, initial.items()[1:], atol=1e-6, rtol=0)


def test_a_resumed_training_validates_the_initial_model_once(
    small_dataset: Dataset, initial_dir: Path, tmp_path: Path
) -> None:
    def trainer(name: str) -> Trainer:
        return Trainer(initialised_model(small_dataset, initial_dir), small_dataset, SHORT, tmp_path / name)

    uninterrupted = trainer("uninterrupted")
    uninterrupted.run()
    trainer("resumed").run(until=2)
    resumed = trainer("resumed")
    resumed.run()
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("uninterrupted", "resumed")]
    assert [log.count('"validation"') for log in logs] == [2, 2]
    for name, tensor in uninterrupted.model.state_dict().items():
        torch.testing.assert_close(tensor, resumed.model.state_dict()[name], rtol=0, atol=0, equal_nan=True, msg=name)


def assert_refused(dataset: Dataset, initial_dir: Path, message: str, protocol="both", **shape: int) -> None:
    with pytest.raises(InputError, match=message):
        load_initial_model(initial_dir, dataset, ModelSettings(**shape), protocol)


def test_the_message_names_what_does_not_fit(small_dataset: Dataset, initial_dir: Path, tmp_path: Path) -> None:
    assert_refused(small_dataset, initial_dir, r"key 'model\.width': is 32, but the model in .* has 16", width=32)
    assert_refused(small_dataset, initial_dir, r"key 'model\.layers'", layers=3)
    assert_refused(small_dataset, tmp_path, "lum pretrain")
    specs = [spec.model_dump() for spec in small_dataset.info.item]
    scaled = [spec | ({"mean": 1.0} if spec["name"] == "price" else {}) for spec in specs]
    assert_refused(
        recode(small_dataset, tmp_path / "scaled", {}, item=scaled), initial_dir, "item field 'price': 'mean'.*--append"
    )
    assert_refused(
        recode(small_dataset, tmp_path / "less", {}, item=specs[:2]),
        initial_dir,
        "the dataset has the item fields .*, but the model has",
    )


def test_dropout_and_window_may_change(small_dataset: Dataset, initial_dir: Path) -> None:
    settings = load_initial_model(initial_dir, small_dataset, ModelSettings(dropout=0.5, max_events=8), "both")[1]
    assert settings == golden.SHAPE.model_copy(update={"dropout": 0.5, "max_events": 8, "size": settings.size})


def test_max_events_of_hstu_may_not_change(small_dataset: Dataset, tmp_path: Path) -> None:
    """The bias of HSTU has a weight for each position."""
    shape = golden.SHAPE.model_copy(update={"encoder": "hstu"})
    pretrain(small_dataset.path, tmp_path / "hstu", shape, SHORT)
    assert_refused(small_dataset, tmp_path / "hstu", r"key 'model\.max_events': is 8, but the model", max_events=8)


def test_an_initial_model_that_was_trained_on_held_out_events_is_refused(
    small_dataset: Dataset, initial_dir: Path, tmp_path: Path
) -> None:
    early = recode(small_dataset, tmp_path / "early", {}, valid_time=small_dataset.info.valid_time - 5)
    assert_refused(early, initial_dir, "validation period")
    pretrain(small_dataset.path, tmp_path / "last", golden.SHAPE, SHORT.model_copy(update={"protocol": "last"}))
    assert_refused(
        small_dataset,
        tmp_path / "last",
        r"'pretrain\.protocol': the model .* the protocol 'last', on events that 'both' holds out",
    )
    load_initial_model(tmp_path / "last", early, DEFAULTS, "last")
