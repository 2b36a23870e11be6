"""The shipped benchmarks, and settings with changed keys."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from openlum.bench.settings import DATASETS, RankingBench, RetrievalBench, bench_file, load_bench, with_changes
from openlum.errors import InputError
from openlum.rank.registry import RANKERS
from openlum.rank.settings import RankSettings

SHIPPED = sorted(file.stem for file in DATASETS.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_benchmark_loads(name: str) -> None:
    """Its changes fit the settings of its rankers, and every ranker has the same number of settings."""
    loaded = load_bench(bench_file(name))
    assert loaded.experiment.name == name
    assert loaded.ranking or loaded.retrieval
    if loaded.ranking:
        assert loaded.experiment.rank is not None
        assert set(loaded.ranking.tune) == set(RANKERS.built_in)
        assert len({len(tried) for tried in loaded.ranking.tune.values()}) == 1
        for tried in loaded.ranking.tune.values():
            settings = [with_changes(loaded.experiment.rank, changes) for changes in tried]
            assert all(a != b for index, a in enumerate(settings) for b in settings[:index])
    if loaded.retrieval:
        assert loaded.retrieval.pretrain.protocol == "last"
        assert not set(loaded.retrieval.retrieve.questions) & set(loaded.retrieval.retrieve.known)


def test_an_unknown_benchmark_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=f"unknown benchmark 'ml-2m'; choose from {', '.join(SHIPPED)}"):
        bench_file("ml-2m")


def test_a_missing_file_is_named() -> None:
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
        ("label: int8", "label: width 32", "the label 'width 32' is used twice"),
        ("label: int8", "label: whole method", "the label 'whole method' is used twice"),
        (
            "dien: [{}, {learning_rate: 0.001}",
            "dien: [{}, {learning_rat: 0.001}",
            "tune.dien, setting 2: unknown key 'learning_rat'",
        ),
        ("{trees: {leaves: 63}}, {trees: {leaves: 31}}", "{}, {trees: 31}", "tune.lightgbm, setting 2: key 'trees'"),
        ("    dnn: [{}, {learning_rate: 0.001}, {dropout: 0.2}]", "    dnn: []", "key 'ranking.tune.dnn'"),
        (
            "    dnn: [{}, {learning_rate: 0.001}, {dropout: 0.2}]",
            "    dnn: [{}]",
            "tune: every ranker must have the same number of settings (found dnn 1, dcnv2 3",
        ),
        (
            "sasrec: [{}, {sequence: {learning_rate: 0.001}}",
            "sasrec: [{}, {knowledge: {fusion: early}}",
            "tune.sasrec, setting 2: a setting must not change whether knowledge can enter 'sasrec'",
        ),
        (
            "ablation_ranker: din",
            "ablation_ranker: hstu",
            "ablation 'early fusion, answers': knowledge cannot enter the ranker 'hstu'",
        ),
        (
            "  rank:\n    knowledge: {tier: live}\n    item_activity: false           # as when the results were measured\n"
            "    history_where: {feedback: [click]}\n    max_epochs: 8\n    patience: 2",
            "  rank: null",
            "'ranking' and 'ablations' need the experiment's 'query' and 'rank'",
        ),
    ],
)
def test_mistakes_in_a_benchmark_are_refused_when_it_is_read(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = (DATASETS / "market.yaml").read_text()
    assert old in text
    (tmp_path / "shop.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        load_bench(tmp_path / "shop.yaml")
    assert "shop.yaml" in str(error.value)
    assert message in str(error.value)


def test_a_key_of_a_benchmark_is_overridden() -> None:
    file = bench_file("market")
    changed = load_bench(file, ["experiment.pretrain.epochs=3", "ranking.tune.dnn=[{}, {}, {}]", "ablations=[]"])
    assert changed.experiment.pretrain.epochs == 3
    assert changed.ranking is not None
    assert changed.ranking.tune["dnn"] == [{}, {}, {}]
    assert changed.ablations == []
    assert changed.experiment.model == load_bench(file).experiment.model


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
    changed = with_changes(settings, changes)
    content = settings.model_dump() | expected
    for name in ("trees", "knowledge"):
        content[name] = settings.model_dump()[name] | expected.get(name, {})
    assert changed.model_dump() == content
    assert settings.trees.leaves != 31  # the original settings are unchanged


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropuot": 0.2}, "unknown key 'dropuot'; did you mean 'dropout'"),
        ({"trees": {"leafs": 31}}, r"unknown key 'trees\.leafs'"),
        ({"dropout": 2}, "key 'dropout'.*found 2"),
    ],
)
def test_invalid_changes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_changes(RankSettings(), changes)


def test_tuning_of_an_unknown_ranker_is_refused() -> None:
    with pytest.raises(ValueError, match="tune"):
        RankingBench.model_validate({"tune": {"dinn": [{}]}})


def test_an_end_to_end_model_must_not_have_the_name_of_the_large_user_model() -> None:
    content = yaml.safe_load(bench_file("ml-1m").read_text())["retrieval"]
    content["opponents"]["lum"] = {}
    with pytest.raises(ValueError, match="give the end-to-end model another name"):
        RetrievalBench.model_validate(content)
