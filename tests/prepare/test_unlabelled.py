"""Impressions without a label are prepared and queried, are not learned from, and take the label that arrives later."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from openlum.artefact.json_file import read_json
from openlum.data.dataset import SPLITS, Dataset, DatasetInfo
from openlum.errors import InputError
from openlum.model import ModelSettings
from openlum.prepare.row_checks import LATE_LABEL
from openlum.prepare.run import append, prepare
from openlum.pretrain.initialization import build_model
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings
from openlum.rank.knowledge import load_knowledge
from openlum.rank.run import rank
from openlum.rank.settings import RankSettings
from tests.prepare.logs import START, random_events, write_log

SHOWN = {"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "click"}
CONTEXT = {"context": {"place": {"type": "numeric"}, "device": {}}}


def impressions_of(events: dict[str, list[Any]], labels: list[Any], rows: slice = slice(None)) -> dict[str, list[Any]]:
    """Return one impression for each label: the user, item and scenario of an event, one second later."""
    n = len(labels)
    columns = {name: events[name][:n] for name in ("user", "item", "scenario")}
    columns |= {"time": [time + 1 for time in events["time"][:n]], "click": labels}
    columns |= {"place": [float(row % 7) for row in range(n)], "device": [f"d{row % 3}" for row in range(n)]}
    return {name: column[rows] for name, column in columns.items()}


def check_counts(info: DatasetInfo) -> DatasetInfo:
    """Check that accepted and rejected rows of every table add up to its input, and return `info`."""
    tables = [name.removesuffix("_in") for name in info.counts if name.endswith("_in")]
    for table in tables:
        rejected = sum(number for reason, number in info.rejected.items() if reason.startswith(f"{table}: "))
        assert info.counts[f"{table}_in"] == info.counts[table] + rejected, table
        assert info.counts[f"{table}_rejected"] == rejected, table
    return info


def test_unlabelled_rows_are_in_no_split_and_encoders_do_not_learn_from_them(tmp_path: Path) -> None:
    events = random_events(0)
    rows = impressions_of(events, [f"{row % 2}" for row in range(102)])
    rows["place"][60:], rows["device"][60:], rows["click"][60:100] = [1e6] * 42, ["new"] * 42, [None] * 40
    rows["click"][:2], rows["click"][100:] = [None, ""], ["2", "yes"]
    prepare(write_log(tmp_path, {"events": events, "shown": rows}, impressions=SHOWN | CONTEXT), tmp_path / "a")
    dataset = Dataset(tmp_path / "a")
    info = check_counts(dataset.info)
    assert (info.counts["impressions"], info.counts["impressions_unlabelled"]) == (100, 42)
    assert info.rejected == {"impressions: click: not 0 or 1": 2}
    assert sum(info.impressions.values()) == 58
    assert (
        info.notes["impressions without a label (not used for training or evaluation; `lum query` answers them)"] == 42
    )
    unlabelled = dataset.impressions("unlabelled")
    assert unlabelled.row.tolist() == [0, 1, *range(60, 100)]
    assert np.isnan(unlabelled.label).all()
    user, time = np.array(events["user"]), np.array(events["time"])
    before = [((user == rows["user"][row]) & (time < rows["time"][row])).sum() for row in unlabelled.row]
    assert unlabelled.prefix.tolist() == before
    scenario = dataset.vocabulary("condition.scenario").decode(unlabelled.condition["scenario"])
    assert scenario == [rows["scenario"][row] for row in unlabelled.row]
    assert sorted(dataset.vocabulary("context.device").values) == ["d0", "d1", "d2"]
    assert max(abs(dataset.impressions(split).context["place"]).max(initial=0) for split in SPLITS) < 5
    labelled = np.concatenate([dataset.impressions(split).row for split in SPLITS])
    assert sorted(labelled) == list(range(2, 60))
    assert not np.isnan(np.concatenate([dataset.impressions(split).label for split in SPLITS])).any()


def test_unlabelled_impressions_may_be_in_the_future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openlum.prepare.row_checks._now", lambda: (START + 1000) * 1_000_000)
    events = random_events(0)
    rows = impressions_of(events, [None, 1, None, None])
    rows["time"] = [START + 90_000, START + 90_000, START + 3, START + 400 * 86_400]
    info = prepare(write_log(tmp_path, {"events": events, "shown": rows}, impressions=SHOWN), tmp_path / "a")
    assert info.rejected == {"impressions: in the future": 1, "impressions: more than a year in the future": 1}
    unlabelled = Dataset(tmp_path / "a").impressions("unlabelled")
    assert unlabelled.row.tolist() == [0, 2]
    assert unlabelled.prefix[0] == events["user"].count(rows["user"][0])


@pytest.mark.parametrize("numbered", [False, True])
def test_an_unlabelled_row_takes_the_label_that_arrives_later(tmp_path: Path, numbered: bool) -> None:
    events, dataset = random_events(0), tmp_path / "dataset"

    def write(labels: list[Any], rows: slice) -> Path:
        columns: dict[str, Any] = impressions_of(events, labels, rows)
        if numbered:
            columns["row"] = [1000 + row for row in range(len(labels))][rows]
        columns["click"] = pa.array(columns["click"], pa.float64())
        write_log(tmp_path, {"shown": columns})
        return tmp_path / "shown.parquet"

    write([1, 0, None, None, None, None], slice(None))
    impressions = SHOWN | CONTEXT | ({"row": "row"} if numbered else {})
    prepare(write_log(tmp_path, {"events": events}, impressions=impressions, max_rejected=0), dataset)
    # Labels arrive, except for one row, and there is a new row. Logs with row ids must not overlap in any other row.
    labels, rows = ([1, 0, None, 1, 0, 1, 1], slice(3, 7)) if numbered else ([1, 0, None, 1, 0, None, 1], slice(7))
    info = check_counts(append(dataset, impressions=write(labels, rows)))
    first, expected = (1000, {3: 1, 4: 0, 5: 1}) if numbered else (0, {3: 1, 4: 0})
    assert info.rejected[f"impressions: {LATE_LABEL}"] == len(expected)
    assert info.rejected.get("impressions: already in the dataset", 0) == (0 if numbered else 4)
    prepared = Dataset(dataset)
    found = {
        int(row): label
        for split in SPLITS
        for row, label in zip(prepared.impressions(split).row, prepared.impressions(split).label, strict=True)
    }
    new = 1006 if numbered else 12
    assert found == {first: 1, first + 1: 0, new: 1} | {first + row: label for row, label in expected.items()}
    unlabelled = [row for row in range(2, 6) if row not in expected]
    assert prepared.impressions("unlabelled").row.tolist() == [first + row for row in unlabelled]
    if not numbered:  # the row that waits again, and one label more, contradicted by another
        again = impressions_of(events, [1, 0, 1])
        again = {name: [*column, column[2]] for name, column in again.items()}
        again["click"][3] = 0
        write_log(tmp_path, {"shown": again})
        info = check_counts(append(dataset, impressions=tmp_path / "shown.parquet"))
        assert info.counts["impressions"] == 8
        assert info.counts["impressions_unlabelled"] == 1
        assert info.rejected == {f"impressions: {LATE_LABEL}": 3, "impressions: already in the dataset": 6}
    rejected = pq.read_table(dataset / "rejected" / "impressions-1.parquet")
    assert rejected["reason"].to_pylist().count(LATE_LABEL) == len(expected)


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset whose impressions all lack a label, because the schema names none."""
    directory = tmp_path_factory.mktemp("candidates")
    events = random_events(0)
    impressions = {key: value for key, value in SHOWN.items() if key != "label"}
    schema = write_log(
        directory, {"events": events, "shown": impressions_of(events, [1] * 50)}, impressions=impressions
    )
    prepare(schema, directory / "dataset")
    return directory / "dataset"


def test_a_schema_without_a_label_gives_rows_to_query_but_none_to_rank(candidates: Path, tmp_path: Path) -> None:
    dataset = Dataset(candidates)
    info = check_counts(dataset.info)
    assert info.label_rule == "the rows of shown.parquet, which have no labels"
    assert info.impressions == dict.fromkeys(SPLITS, 0)
    model = build_model(dataset, ModelSettings(width=16, layers=1, heads=2, embedding_width=8), seed=0)
    model.save_pretrained(tmp_path / "model")
    assert query(candidates, tmp_path / "model", tmp_path / "knowledge", QuerySettings())["rows"] == 50
    knowledge = load_knowledge(tmp_path / "knowledge", dataset)
    assert knowledge.row.tolist() == list(range(50))
    assert read_json(tmp_path / "knowledge" / "knowledge.json", "lum query")["rows"] == 50
    with pytest.raises(InputError, match=r"no train impressions with a label \(50 impressions have no label\)"):
        rank(candidates, tmp_path / "knowledge", tmp_path / "ranker", RankSettings(rankers=["dnn"]))


def test_answers_do_not_depend_on_labels(candidates: Path, tmp_path: Path) -> None:
    events = random_events(0)
    schema = write_log(tmp_path, {"events": events, "shown": impressions_of(events, [1, 0] * 25)}, impressions=SHOWN)
    prepare(schema, tmp_path / "dataset")
    shape = ModelSettings(width=16, layers=1, heads=2, embedding_width=8)
    build_model(Dataset(candidates), shape, seed=0).save_pretrained(tmp_path / "model")
    answers = []
    for dataset in (candidates, tmp_path / "dataset"):
        query(dataset, tmp_path / "model", tmp_path / "knowledge", QuerySettings())
        knowledge = load_knowledge(tmp_path / "knowledge", Dataset(dataset))
        answers.append(knowledge.answers[knowledge.index_of(np.arange(50))])
    torch.testing.assert_close(*map(torch.from_numpy, answers))


@pytest.mark.parametrize("kind", ["candidates.parquet", "candidates.csv"])
def test_candidates_need_no_label_column(tmp_path: Path, kind: str) -> None:
    events = random_events(0)
    write_log(tmp_path, {"events": events, "shown": impressions_of(events, ["0", "1"] * 30)})
    prepare(write_log(tmp_path, {}, impressions=SHOWN), tmp_path / "dataset")
    rows = impressions_of(events, [None] * 70, slice(60, 70))
    del rows["click"]
    write_log(tmp_path, {kind.removesuffix(".parquet"): rows})
    info = check_counts(append(tmp_path / "dataset", impressions=tmp_path / kind))
    assert (info.counts["impressions"], info.counts["impressions_unlabelled"]) == (70, 10)
    assert "labelled by its column 'click'" in info.label_rule


def test_true_and_false_are_labels_in_csv(tmp_path: Path) -> None:
    events = random_events(0)
    written = {"events": events, "shown.csv": impressions_of(events, ["True", "False"] * 30)}
    info = check_counts(
        prepare(write_log(tmp_path, written, impressions=SHOWN | {"path": "shown.csv"}), tmp_path / "ds")
    )
    assert sum(split.positives for split in info.profile.splits.values()) == 30
