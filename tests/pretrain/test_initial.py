"""A training that begins with the weights of an earlier one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.artefact.directory import read_json
from openlum.data.dataset import Dataset
from openlum.data.packing import Spans
from openlum.errors import InputError
from openlum.model import History, LargeUserModel, ModelSettings
from openlum.pipeline.example import raw_history
from openlum.pretrain.initial import build_model, starting_point
from openlum.pretrain.objective import Objective
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import Trainer, pretrain
from tests.recode import recode

from . import golden

SETTINGS = PretrainSettings(epochs=12, batch_events=64, learning_rate=0.01, patience=12)
SHORT = PretrainSettings(epochs=1, batch_events=64, learning_rate=1e-4)
NAMES = ("items", "condition.scenario", "condition.rating", "item.tags")
LIKE_OLD = ModelSettings()


@pytest.fixture(scope="module")
def old(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("old") / "model"
    pretrain(small_dataset.path, directory, golden.SHAPE, SETTINGS)
    return directory


@pytest.fixture(scope="module")
def grown(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """New values of every vocabulary at its end, some of them in the events."""
    words = {name: [*small_dataset.vocabulary(name).values, f"new {name}"] for name in NAMES}
    put = {"sequences": {"item": {0: len(words["items"])}, "condition.scenario": {3: len(words["condition.scenario"])}}}
    return recode(small_dataset, tmp_path_factory.mktemp("grown") / "dataset", words, put)


def begin(dataset: Dataset, directory: Path) -> LargeUserModel:
    model, settings = starting_point(directory, dataset, LIKE_OLD, "both")
    return build_model(dataset, settings, seed=1, old=model).eval()


def test_an_unchanged_dataset_is_first_validated_as_the_old_model_was(
    small_dataset: Dataset, old: Path, tmp_path: Path
) -> None:
    summary = pretrain(small_dataset.path, tmp_path / "model", LIKE_OLD, SHORT, init_from=old)
    former, model = LargeUserModel.load(old), LargeUserModel.load(tmp_path / "model")
    first = json.loads((tmp_path / "model" / "metrics.jsonl").read_text().splitlines()[0])
    validation = read_json(old / "pretrain.json", "lum pretrain")["validation"]
    assert (first["step"], first["epoch"]) == (0, 0)
    assert {name: first["validation"][name] for name in validation} == validation
    assert model.config.settings == former.config.settings
    assert model.config.initialised_from == summary["initialised_from"] == former.config.fingerprint
    assert model.config.fingerprint != former.config.fingerprint
    assert former.config.fingerprint in (tmp_path / "model" / "README.md").read_text()


def test_old_rows_are_copied_and_new_ones_are_fresh(small_dataset: Dataset, grown: Dataset, old: Path) -> None:
    former, model, fresh = LargeUserModel.load(old), begin(grown, old), build_model(grown, golden.SHAPE, seed=1)
    former_weights, fresh_weights = dict(former.named_parameters()), dict(fresh.named_parameters())
    longer = 0
    for name, weight in model.named_parameters():
        rows = len(former_weights[name]) if weight.dim() else None
        assert torch.equal(weight[:rows] if rows else weight, former_weights[name]), name
        if rows and len(weight) > rows:
            assert torch.equal(weight[rows:], fresh_weights[name][rows:])
            longer += 1
    assert longer == len(NAMES) + 2  # a judge's last layer has weights and biases for each value of its field
    known = len(small_dataset.vocabulary("items"))
    assert torch.equal(model.item_encoder.trained_items[1:known], former.item_encoder.trained_items[1:])
    assert former.item_encoder.trained_items[1:].any()
    assert not model.item_encoder.trained_items[known:].any()
    features = grown.item_features()["content"]
    assert torch.equal(dict(model.item_encoder.named_buffers())["feature_2"], torch.from_numpy(features))


def test_training_goes_on_from_the_old_loss(small_dataset: Dataset, grown: Dataset, old: Path, tmp_path: Path) -> None:
    def loss(model: LargeUserModel, dataset: Dataset) -> float:
        places = np.arange(len(dataset.sequences.user))
        objective = Objective(model.config, SHORT, np.ones(model.config.items), torch.arange(model.config.items))
        everything = Spans(places, 0 * places, dataset.sequences.valid_at)
        torch.manual_seed(0)
        with torch.no_grad():
            return float(objective.total(objective(model.eval(), History.gather(dataset.sequences, everything))))

    before, after = loss(LargeUserModel.load(old), small_dataset), loss(begin(grown, old), grown)
    fresh = loss(build_model(grown, golden.SHAPE, seed=1), grown)
    assert abs(after - before) < 0.3 * (fresh - before)
    pretrain(grown.path, tmp_path / "model", LIKE_OLD, SHORT, init_from=old)
    assert loss(LargeUserModel.load(tmp_path / "model"), grown) < after + 0.1 * (fresh - before)


def test_rows_are_matched_by_value(small_dataset: Dataset, old: Path, tmp_path: Path) -> None:
    """Under other ids, the same raw history has the same answers."""
    rng = np.random.default_rng(0)
    words = {name: list(rng.permutation(small_dataset.vocabulary(name).values)) for name in NAMES}
    other = recode(small_dataset, tmp_path / "other", words)
    former, model = LargeUserModel.load(old), begin(other, old)
    history, question = raw_history(small_dataset, 2), {"rating": 5, "scenario": "home"}
    assert raw_history(other, 2) == history
    torch.testing.assert_close(model.ask(history, [question]), former.ask(history, [question]), atol=1e-6, rtol=0)
    tops = [lum.recommend(history[:9], question, k=5) for lum in (former, model)]
    assert [row["item"] for row in tops[0]] == [row["item"] for row in tops[1]]
    with torch.no_grad():
        here = model.items()[torch.from_numpy(model.processor.items.encode(former.processor.items.values))]
        torch.testing.assert_close(here, former.items()[1:], atol=1e-6, rtol=0)


def test_a_resumed_training_validates_its_beginning_once(small_dataset: Dataset, old: Path, tmp_path: Path) -> None:
    def trainer(name: str) -> Trainer:
        (tmp_path / name / "checkpoints").mkdir(parents=True, exist_ok=True)
        return Trainer(begin(small_dataset, old), small_dataset, SHORT, tmp_path / name)

    whole = trainer("whole")
    whole.run()
    trainer("resumed").run(until=2)
    resumed = trainer("resumed")
    resumed.run()
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "resumed")]
    assert [log.count('"validation"') for log in logs] == [2, 2]
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(tensor, resumed.model.state_dict()[name], rtol=0, atol=0, equal_nan=True, msg=name)


def refused(dataset: Dataset, old: Path, message: str, protocol="both", **shape: int) -> None:
    with pytest.raises(InputError, match=message):
        starting_point(old, dataset, ModelSettings(**shape), protocol)


def test_what_does_not_fit_is_named(small_dataset: Dataset, old: Path, tmp_path: Path) -> None:
    refused(small_dataset, old, r"key 'model\.width': 32 was given, but the model in .* has 16", width=32)
    refused(small_dataset, old, r"key 'model\.layers'", layers=3)
    refused(small_dataset, tmp_path, "lum pretrain")
    specs = [spec.model_dump() for spec in small_dataset.info.item]
    scaled = [spec | ({"mean": 1.0} if spec["name"] == "price" else {}) for spec in specs]
    refused(recode(small_dataset, tmp_path / "scaled", {}, item=scaled), old, "item field 'price': 'mean'.*--append")
    refused(
        recode(small_dataset, tmp_path / "less", {}, item=specs[:2]), old, "item fields.*are not those of the model"
    )


def test_dropout_and_window_may_change(small_dataset: Dataset, old: Path) -> None:
    settings = starting_point(old, small_dataset, ModelSettings(dropout=0.5, max_events=8), "both")[1]
    assert settings == golden.SHAPE.model_copy(update={"dropout": 0.5, "max_events": 8})


def test_the_window_of_hstu_is_part_of_its_shape(small_dataset: Dataset, tmp_path: Path) -> None:
    """Its bias has a weight for each position."""
    shape = golden.SHAPE.model_copy(update={"encoder": "hstu"})
    pretrain(small_dataset.path, tmp_path / "hstu", shape, SHORT)
    refused(small_dataset, tmp_path / "hstu", r"key 'model\.max_events': 8 was given, but the model", max_events=8)


def test_what_is_held_out_was_not_seen_by_the_old_model_either(
    small_dataset: Dataset, old: Path, tmp_path: Path
) -> None:
    early = recode(small_dataset, tmp_path / "early", {}, valid_time=small_dataset.info.valid_time - 5)
    refused(early, old, "validation period")
    pretrain(small_dataset.path, tmp_path / "last", golden.SHAPE, SHORT.model_copy(update={"protocol": "last"}))
    refused(small_dataset, tmp_path / "last", r"'pretrain\.protocol': 'both'.*its own was 'last'")
    starting_point(tmp_path / "last", early, LIKE_OLD, "last")
