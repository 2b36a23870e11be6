"""The plan of a pre-training, and what a training does with it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from openlum.artefact.json_file import read_json
from openlum.data.dataset import Dataset
from openlum.model import LargeUserModel, ModelSettings
from openlum.pretrain.plan import TrainingPlan, plan_for, plan_pretraining
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import pretrain
from openlum.training.plan import LogSize, duration, log_size

TINY = ModelSettings(width=16, layers=1, heads=2, embedding_width=8, max_events=20, dropout=0.0)


def plan(events: int, gpu: bool = False, model: ModelSettings | None = None, **keys: object) -> TrainingPlan:
    log = LogSize(events, max(events // 50, 1), 1000, 50)
    return plan_pretraining(log, gpu, model or ModelSettings(), PretrainSettings.model_validate(keys))


@given(events=st.integers(1, 10**11), gpu=st.booleans())
@hypothesis_settings(max_examples=60, deadline=None)
def test_every_log_gets_a_complete_plan(events: int, gpu: bool) -> None:
    result = plan(events, gpu)
    assert "auto" not in result.model.model_dump().values()
    assert "auto" not in result.settings.model_dump().values()
    assert plan(events, gpu) == result
    assert f"{events:,} events: " in str(result)


@pytest.mark.parametrize("events", [10_000, 30_000, 100_000, 300_000, 1_000_000])
def test_a_log_of_any_usual_size_gets_thousands_of_steps(events: int) -> None:
    assert 1800 <= plan(events).steps <= 6000


def test_larger_logs_get_larger_batches_and_fewer_epochs() -> None:
    plans = [plan(events) for events in (3_000, 30_000, 300_000, 3_000_000, 30_000_000)]
    batches, epochs = [p.settings.batch_events for p in plans], [p.settings.epochs for p in plans]
    assert batches == sorted(batches)
    assert epochs == sorted(epochs, reverse=True)


def test_the_keys_of_the_user_stay_and_others_follow() -> None:
    chosen = plan(
        30_000, batch_events=1024, patience=7, learning_rate=0.5, model=ModelSettings(dropout=0.4, size=400_000)
    )
    assert (chosen.settings.batch_events, chosen.settings.patience, chosen.settings.learning_rate) == (1024, 7, 0.5)
    assert (chosen.model.dropout, chosen.model.size) == (0.4, 400_000)
    assert chosen.model.width > 64
    assert chosen.settings.epochs == 40  # small steps are more; the number of passes is bounded
    assert plan(30_000, epochs="auto") == plan(30_000)


def test_settings_with_all_keys_are_not_changed() -> None:
    once = plan(30_000)
    again = plan_pretraining(LogSize(10**9, 10, 10, 10), True, once.model, once.settings)
    assert (again.model, again.settings) == (once.model, once.settings)


def test_wider_models_learn_with_smaller_rates() -> None:
    rates = [plan(30_000, model=ModelSettings(width=width)).settings.learning_rate for width in (32, 64, 256, 4096)]
    assert rates == sorted(rates, reverse=True)
    assert rates[1] == 2e-3


def test_log_size_counts_training_events_only(small_dataset: Dataset, sharded_dataset: Dataset) -> None:
    size = log_size(small_dataset, "both")
    assert log_size(sharded_dataset, "both") == size
    assert size.events < len(small_dataset.sequences.item)
    assert size.events <= log_size(small_dataset, "time").events


def test_the_model_and_its_summary_have_the_numbers_of_the_plan(
    small_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = PretrainSettings(epochs=1, validation_events=200)
    summary = pretrain(small_dataset.path, tmp_path / "model", TINY, settings)
    printed = " ".join(capsys.readouterr().out.split())
    assert str(plan_for(small_dataset, TINY, settings)) in printed
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "auto" not in content["settings"].values()
    assert "auto" not in json.loads((tmp_path / "model" / "training.json").read_text()).values()
    assert LargeUserModel.load(tmp_path / "model").config.settings.width == 16
    assert 0 <= summary["validation"]["recall@10 popularity"] <= 1
    assert read_json(tmp_path / "model" / "pretrain.json", "lum pretrain") == summary


def test_a_training_that_has_not_learned_says_so(
    small_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = PretrainSettings(epochs=1, learning_rate=1e-9, batch_events=10**6, validation_events=10**6)
    summary = pretrain(small_dataset.path, tmp_path / "model", TINY, settings)
    validation = summary["validation"]
    learned = max(validation["recall@10"], validation["recall@10 any"]) > validation["recall@10 popularity"]
    assert ("warning" in summary) == (not learned)
    assert ("WARNING" in capsys.readouterr().out) == (not learned)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "less than a minute"),
        (60, "about a minute"),
        (230, "about 4 minutes"),
        (5399, "about 90 minutes"),
        (9000, "about 2.5 hours"),
    ],
)
def test_durations_are_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text
