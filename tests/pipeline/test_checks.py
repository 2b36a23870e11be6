"""Mistakes that would stop a later step are found before training. Each test changes one part of a valid experiment."""

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from openlum import capacity
from openlum.config import parse_settings
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import ModelSettings
from openlum.pipeline.checks import check_before_training
from openlum.pipeline.experiment import Experiment
from openlum.pretrain.checks import check_events
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import pretrain
from openlum.rank.settings import RankSettings
from openlum.retrieve.evaluate import retrieve
from openlum.retrieve.sequential import check_sequential
from openlum.retrieve.settings import RetrieveSettings, SequentialSettings

VALID: dict[str, Any] = {
    "name": "x",
    "data": {"schema_file": "schema.yaml"},
    "model": {"width": 16, "layers": 1, "heads": 2, "embedding_width": 16},
    "query": {"questions": {"high": {"rating": 5, "*": "$row"}, "any": {}}},
    "rank": {"rankers": ["dnn", "din", "lightgbm", "sasrec"], "history_where": {"rating": [5, "4"]}},
    "retrieve": {"at": [1, 10], "known": {"here": ["scenario"]}},
    "example": {"anything": {}, "at home": {"scenario": "home"}},
}


def check(dataset: Dataset, directory: Path, changes: dict[str, Any]) -> None:
    """Run the checks on the valid experiment with some keys of its sections changed."""
    content = VALID | {
        name: VALID[name] | change if isinstance(change, dict) and name in VALID else change
        for name, change in changes.items()
    }
    experiment = parse_settings(content, Experiment, "x.yaml")
    check_before_training(
        dataset,
        directory,
        experiment.model,
        experiment.pretrain,
        experiment.query,
        [experiment.rank] if experiment.rank else [],
        experiment.retrieve,
        experiment.example,
    )


def with_changes(dataset: Dataset, **changes: Any) -> Dataset:
    """Return the dataset with some arrays of its sequences, or other attributes, replaced."""
    copy = Dataset(dataset.path)
    arrays = {name: changes.pop(name) for name in list(changes) if name in ("item", "valid_at", "test_at", "time")}
    vars(copy)["sequences"] = dataclasses.replace(dataset.sequences, **arrays)
    vars(copy).update(changes)
    return copy


def test_a_valid_experiment_passes(small_dataset: Dataset, tmp_path: Path) -> None:
    check(small_dataset, tmp_path, {})
    check(small_dataset, tmp_path, {"rank": {"knowledge": {"fusion": "early", "direct_questions": ["high"]}}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": {"questions": {"q": {"ratng": 5}}}}, "query: question 'q': condition field 'ratng'"),
        ({"query": {"questions": {"q": {"rating": 6}}}}, "query: question 'q': .* was not in the training data"),
        ({"query": {"questions": {"q": {"rating": "$row"}}}}, "'rating' is feedback"),
        ({"query": {"questions": {"q": {"hour": 25}}}}, "25 is not a whole number from 0 to"),
        ({"example": {"e": {"scenario": "moon"}}}, "example: question 'e': .* 'moon' was not in"),
        ({"retrieve": {"questions": {"q": {"scenario": "moon"}}}}, "retrieve: question 'q': .* 'moon' was not in"),
        (
            {"retrieve": {"known": {"k": ["rating"]}}},
            r"retrieve\.known\.k: 'rating' is not a condition field that is known",
        ),
        ({"retrieve": {"known": {"k": ["size"]}}}, r"retrieve\.known\.k: 'size' is not a condition field"),
        ({"retrieve": {"at": [10, 21]}}, r"retrieve\.at: the cut-off 21 exceeds the 20 items that are ranked"),
        ({"rank": {"history_where": {"scenari": ["home"]}}}, r"rank\.history_where: 'scenari' is not a categorical"),
        (
            {"rank": {"history_where": {"rating": ["6"]}}},
            r"rank\.history_where\.rating: the dataset has no value '6'; it has ",
        ),
        (
            {"rank": {"knowledge": {"matching_questions": ["hgh"]}}},
            "the knowledge has no question 'hgh'; choose from high",
        ),
        (
            {
                "rank": {"knowledge": {"matching_questions": ["rating=5"]}},
                "pretrain": {"feedback_prediction_weight": 0},
            },
            "the knowledge has no question 'rating=5'",
        ),
        (
            {"rank": {"knowledge": {"fusion": "early", "direct_questions": ["low"]}}},
            "the knowledge has no question 'low'",
        ),
        (
            {"model": {"width": 65536, "layers": 1000, "heads": 2}},
            r"training a model \([\d,]+ tokens per step\) of [\d,]{17,} weights needs at least [\d,]+\.\d GB of memory, "
            r"and (this machine|the GPU) has [\d,]+\.\d GB; lower model\.width",
        ),
        ({"model": {"embedding_width": 65536, "field_width": 65536, "width": 65536}}, "of memory, .* lower model"),
        ({"rank": {"hidden": [65536] * 100}}, "training 'dnn' of [0-9,]+ weights needs .* lower the widths of 'rank'"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_dataset_are_named(
    changes: dict[str, Any], message: str, small_dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        check(small_dataset, tmp_path, changes)


def test_data_without_the_needed_events_or_labels_are_refused(small_dataset: Dataset, tmp_path: Path) -> None:
    sequences = small_dataset.sequences
    lengths = np.diff(sequences.offsets)
    short = with_changes(small_dataset, test_at=lengths)
    with pytest.raises(InputError, match=r"no user has three events, so no event .*'retrieve: null'"):
        check(short, tmp_path, {})
    check(short, tmp_path, {"retrieve": None})
    late = with_changes(small_dataset, time=sequences.time + 10**9)
    with pytest.raises(InputError, match="no event lies in the training period; check 'splits'"):
        check(late, tmp_path, {})
    for labels, message in ((set(), "has no train impressions"), ({1.0}, "all train impressions have the label 1")):
        with pytest.raises(InputError, match=f"{message}.*'rank: null'"):
            check(with_changes(small_dataset, labels=lambda split, labels=labels: set(labels)), tmp_path, {})
    with pytest.raises(InputError, match="all training events are of one user"):
        check_events(small_dataset, 10, users=1, needs_other_users=True)
    with pytest.raises(InputError, match="no event is left to train 'sasrec' on"):
        check_sequential(with_changes(small_dataset, valid_at=lengths * 0), "sasrec", SequentialSettings())


def test_a_library_that_is_not_installed_is_named(
    small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(InputError, match=r"pip install '\.\[trees\]' in the clone of openlum"):
        check(small_dataset, tmp_path, {})
    check(small_dataset, tmp_path, {"rank": {"rankers": ["dnn"]}})


def test_a_full_disk_is_named(small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"knowledge: knowledge of \d+ impressions needs about .* MB are free; name"):
        check(small_dataset, tmp_path, {})
    with pytest.raises(InputError, match="model: a model of this size, with its checkpoint, needs about"):
        check(small_dataset, tmp_path, {"query": None})


@pytest.mark.parametrize("name", ["model", "knowledge", "ranker", "retrieval"])
def test_a_path_with_other_files_is_refused(small_dataset: Dataset, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("my own")
    with pytest.raises(InputError, match=f"{name}: is a file"):
        check(small_dataset, tmp_path, {})
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("my own")
    with pytest.raises(InputError, match=f"{name}: holds files that lum did not write"):
        check(small_dataset, tmp_path, {})


def test_single_steps_run_their_checks_first(small_dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("my own")
    dataset, shape = small_dataset.path, ModelSettings(width=65536, layers=1000, heads=2)
    with pytest.raises(InputError, match="file: is a file"):
        pretrain(dataset, tmp_path / "file", ModelSettings(), PretrainSettings())
    with pytest.raises(InputError, match="GB of memory"):
        pretrain(dataset, tmp_path / "model", shape, PretrainSettings())
    with pytest.raises(InputError, match="file: is a file"):
        retrieve(dataset, tmp_path / "none", tmp_path / "file", RetrieveSettings())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_cut_offs_in_the_settings_must_lie_within_the_catalogue(small_dataset: Dataset, tmp_path: Path) -> None:
    assert max(RetrieveSettings().at) > len(small_dataset.vocabulary("items"))
    model, training = ModelSettings(width=16, heads=2), PretrainSettings()
    check_before_training(small_dataset, tmp_path, model, training, None, [], RetrieveSettings())


def test_all_rankings_of_a_benchmark_are_checked(small_dataset: Dataset, tmp_path: Path) -> None:
    rankings = [RankSettings(), RankSettings(history_where={"rating": ["7"]})]
    with pytest.raises(InputError, match="the dataset has no value '7'"):
        check_before_training(small_dataset, tmp_path, ModelSettings(), PretrainSettings(), None, rankings)
