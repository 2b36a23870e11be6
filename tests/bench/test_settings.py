"""The shipped benchmarks, and settings with some keys changed."""

from pathlib import Path
from typing import Any, get_args

import pytest

from openlum.bench import settings as bench_settings
from openlum.bench.settings import DATASETS, RankingBench, changed, load_bench
from openlum.errors import InputError
from openlum.rank.settings import Architecture, RankSettings

SHIPPED = sorted(file.stem for file in DATASETS.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_benchmark_loads(name: str) -> None:
    """Its changes fit the settings of its rankers, and every ranker may try equally many."""
    loaded = load_bench(name)
    assert loaded.experiment.name == name
    assert loaded.ranking or loaded.retrieval
    if loaded.ranking:
        assert loaded.experiment.rank is not None
        assert set(loaded.ranking.tune) == set(get_args(Architecture))
        assert len({len(tried) for tried in loaded.ranking.tune.values()}) == 1
        for tried in loaded.ranking.tune.values():
            made = [changed(loaded.experiment.rank, changes) for changes in tried]
            assert all(one != other for index, one in enumerate(made) for other in made[:index])
    if loaded.retrieval:
        assert loaded.retrieval.pretrain.protocol == "last"
        assert not set(loaded.retrieval.retrieve.questions) & set(loaded.retrieval.retrieve.known)


def test_an_unknown_benchmark_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=f"no benchmark for 'ml-2m'; there are {', '.join(SHIPPED)}"):
        load_bench("ml-2m")


def test_a_misspelt_key_of_a_benchmark_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_settings, "DATASETS", tmp_path)
    (tmp_path / "tiny.yaml").write_text((DATASETS / "market.yaml").read_text().replace("protocol:", "protocoll:", 1))
    with pytest.raises(InputError, match=r"tiny\.yaml.*protocoll"):
        load_bench("tiny")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"dropout": 0.2}, {"dropout": 0.2}),
        ({"trees": {"leaves": 31}}, {"trees": {"learning_rate": 0.01, "leaves": 31}}),
        (
            {"knowledge": {"matching_questions": ["a"]}, "dropout": 0.1},
            {"knowledge": {"matching_questions": ["a"]}, "dropout": 0.1},
        ),
        ({"hidden": [8]}, {"hidden": [8]}),
        ({"history_where": {"feedback": ["buy"]}}, {"history_where": {"feedback": ["buy"]}}),
    ],
)
def test_only_the_named_keys_change(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    settings = RankSettings.model_validate({"trees": {"learning_rate": 0.01}, "hidden": [16, 8]})
    found = changed(settings, changes)
    content = settings.model_dump() | expected
    for name in ("trees", "knowledge"):
        content[name] = settings.model_dump()[name] | expected.get(name, {})
    assert found.model_dump() == content
    assert settings.trees.leaves != 31  # what was given stays as it is


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropuot": 0.2}, "unknown key 'dropuot'; did you mean 'dropout'"),
        ({"trees": {"leafs": 31}}, r"unknown key 'trees\.leafs'"),
        ({"dropout": 2}, "key 'dropout'.*found 2"),
    ],
)
def test_changes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        changed(RankSettings(), changes)


def test_a_ranker_that_there_is_not_cannot_be_tuned() -> None:
    with pytest.raises(ValueError, match="tune"):
        RankingBench.model_validate({"tune": {"dinn": [{}]}})
