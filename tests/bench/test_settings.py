"""The shipped benchmarks, and settings with some keys changed."""

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from openlum.bench.settings import DATASETS, RankingBench, RetrievalBench, bench_file, changed, load_bench
from openlum.errors import InputError
from openlum.rank.settings import Architecture, RankSettings

SHIPPED = sorted(file.stem for file in DATASETS.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_benchmark_loads(name: str) -> None:
    """Its changes fit the settings of its rankers, and every ranker may try equally many."""
    loaded = load_bench(bench_file(name))
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
        bench_file("ml-2m")


def test_a_file_that_there_is_not_is_named() -> None:
    with pytest.raises(InputError, match=r"shops/none\.yaml: no such file"):
        load_bench(bench_file("shops/none.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("protocol:", "protocoll:", "unknown key 'protocoll'"),
        (
            "label: int8, query: {dtype: int8}",
            "label: int8, query: {dtype: int4}",
            "ablation 'int8', query: key 'dtype'",
        ),
        (
            "label: int8, query: {dtype: int8}",
            "label: int8, pretrain: {protocol: last}",
            "ablation 'int8': pretrain.protocol 'last' trains on the test period",
        ),
        ("label: int8", "label: width 32", "the label 'width 32' is taken"),
        ("label: int8", "label: whole method", "the label 'whole method' is taken"),
        (
            "dien: [{}, {learning_rate: 0.001}",
            "dien: [{}, {learning_rat: 0.001}",
            "tune.dien, setting 2: unknown key 'learning_rat'",
        ),
        ("lightgbm: [{}, {trees: {leaves: 31}}", "lightgbm: [{}, {trees: 31}", "tune.lightgbm, setting 2: key 'trees'"),
        ("    dnn: [{}, {learning_rate: 0.001}, {dropout: 0.2}]", "    dnn: []", "key 'ranking.tune.dnn'"),
        (
            "    dnn: [{}, {learning_rate: 0.001}, {dropout: 0.2}]",
            "    dnn: [{}]",
            "tune: every ranker must have as many settings as the others (dnn 1, dcnv2 3",
        ),
        (
            "sasrec: [{}, {sequence: {learning_rate: 0.001}}",
            "sasrec: [{}, {knowledge: {fusion: early}}",
            "tune.sasrec, setting 2: whether knowledge can enter 'sasrec' must not change",
        ),
        (
            "ablation_ranker: din",
            "ablation_ranker: hstu",
            "ablation 'early fusion, answers': knowledge cannot enter 'hstu' like this",
        ),
        (
            "  rank:\n    history_where: {feedback: [click]}",
            "  rank: null",
            "'ranking' and 'ablations' need the experiment's 'query' and 'rank'",
        ),
    ],
)
def test_what_is_wrong_with_a_benchmark_is_found_before_it_runs(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    text = (DATASETS / "market.yaml").read_text()
    assert old in text
    (tmp_path / "shop.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as found:
        load_bench(tmp_path / "shop.yaml")
    assert "shop.yaml" in str(found.value)
    assert message in str(found.value)


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


def test_no_end_to_end_model_is_named_as_the_large_user_model() -> None:
    content = yaml.safe_load(bench_file("ml-1m").read_text())["retrieval"]
    content["opponents"]["lum"] = {}
    with pytest.raises(ValueError, match="name the end-to-end model otherwise"):
        RetrievalBench.model_validate(content)
