"""Impressions whose label is not known: they are prepared and asked about, teach nothing, and take the label that comes later."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from openlum.artefact.directory import read_json
from openlum.data.dataset import SPLITS, Dataset, DatasetInfo
from openlum.errors import InputError
from openlum.model import ModelSettings
from openlum.prepare.intake import LABEL_LATER
from openlum.prepare.run import append, prepare
from openlum.pretrain.initial import build_model
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings
from openlum.rank.knowledge import load_knowledge
from openlum.rank.run import rank
from openlum.rank.settings import RankSettings
from tests.prepare.logs import START, random_events, write_log

SHOWN = {"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "click"}
CONTEXT = {"context": {"place": {"type": "numeric"}, "device": {}}}


def shown(events: dict[str, list[Any]], labels: list[Any], rows: slice = slice(None)) -> dict[str, list[Any]]:
    """A row for each label: an event's user, item and scenario, a second later."""
    n = len(labels)
    columns = {name: events[name][:n] for name in ("user", "item", "scenario")}
    columns |= {"time": [time + 1 for time in events["time"][:n]], "click": labels}
    columns |= {"place": [float(row % 7) for row in range(n)], "device": [f"d{row % 3}" for row in range(n)]}
    return {name: column[rows] for name, column in columns.items()}


def accounted(info: DatasetInfo) -> DatasetInfo:
    """The same, checked: accepted and rejected rows of every table make its input."""
    tables = [name.removesuffix("_in") for name in info.counts if name.endswith("_in")]
    for table in tables:
        refused = sum(number for reason, number in info.rejected.items() if reason.startswith(f"{table}: "))
        assert info.counts[f"{table}_in"] == info.counts[table] + refused, table
        assert info.counts[f"{table}_rejected"] == refused, table
    return info


def test_rows_without_a_label_lie_apart_and_teach_nothing(tmp_path: Path) -> None:
    events = random_events(0)
    rows = shown(events, [f"{row % 2}" for row in range(102)])
    rows["place"][60:], rows["device"][60:], rows["click"][60:100] = [1e6] * 42, ["new"] * 42, [None] * 40
    rows["click"][:2], rows["click"][100:] = [None, ""], ["2", "yes"]
    prepare(write_log(tmp_path, {"events": events, "shown": rows}, impressions=SHOWN | CONTEXT), tmp_path / "a")
    dataset = Dataset(tmp_path / "a")
    info = accounted(dataset.info)
    assert (info.counts["impressions"], info.counts["impressions_unlabelled"]) == (100, 42)
    assert info.rejected == {"impressions: click: not 0 or 1": 2}
    assert sum(info.impressions.values()) == 58
    assert info.notes["impressions without a label (in no split; questions are asked of them)"] == 42
    waiting = dataset.impressions("unlabelled")
    assert waiting.row.tolist() == [0, 1, *range(60, 100)]
    assert np.isnan(waiting.label).all()
    user, time = np.array(events["user"]), np.array(events["time"])
    before = [((user == rows["user"][row]) & (time < rows["time"][row])).sum() for row in waiting.row]
    assert waiting.prefix.tolist() == before
    scenario = dataset.vocabulary("condition.scenario").decode(waiting.condition["scenario"])
    assert scenario == [rows["scenario"][row] for row in waiting.row]
    assert sorted(dataset.vocabulary("context.device").values) == ["d0", "d1", "d2"]
    assert max(abs(dataset.impressions(split).context["place"]).max(initial=0) for split in SPLITS) < 5
    labelled = np.concatenate([dataset.impressions(split).row for split in SPLITS])
    assert sorted(labelled) == list(range(2, 60))
    assert not np.isnan(np.concatenate([dataset.impressions(split).label for split in SPLITS])).any()


def test_what_is_still_to_be_shown_may_lie_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openlum.prepare.intake._now", lambda: (START + 1000) * 1_000_000)
    events = random_events(0)
    rows = shown(events, [None, 1, None, None])
    rows["time"] = [START + 90_000, START + 90_000, START + 3, START + 400 * 86_400]
    info = prepare(write_log(tmp_path, {"events": events, "shown": rows}, impressions=SHOWN), tmp_path / "a")
    assert info.rejected == {"impressions: in the future": 1, "impressions: more than a year in the future": 1}
    waiting = Dataset(tmp_path / "a").impressions("unlabelled")
    assert waiting.row.tolist() == [0, 2]
    assert waiting.prefix[0] == events["user"].count(rows["user"][0])


@pytest.mark.parametrize("numbered", [False, True])
def test_a_label_that_comes_later_is_taken_by_the_row_that_waits(tmp_path: Path, numbered: bool) -> None:
    events, dataset = random_events(0), tmp_path / "dataset"

    def write(labels: list[Any], rows: slice) -> Path:
        columns: dict[str, Any] = shown(events, labels, rows)
        if numbered:
            columns["row"] = [1000 + row for row in range(len(labels))][rows]
        columns["click"] = pa.array(columns["click"], pa.float64())
        write_log(tmp_path, {"shown": columns})
        return tmp_path / "shown.parquet"

    write([1, 0, None, None, None, None], slice(None))
    impressions = SHOWN | CONTEXT | ({"row": "row"} if numbered else {})
    prepare(write_log(tmp_path, {"events": events}, impressions=impressions, max_rejected=0), dataset)
    # Labels come, for one row there is none yet, and there is a new row. Logs with row ids must not overlap otherwise.
    labels, rows = ([1, 0, None, 1, 0, 1, 1], slice(3, 7)) if numbered else ([1, 0, None, 1, 0, None, 1], slice(7))
    info = accounted(append(dataset, impressions=write(labels, rows)))
    first, expected = (1000, {3: 1, 4: 0, 5: 1}) if numbered else (0, {3: 1, 4: 0})
    assert info.rejected[f"impressions: {LABEL_LATER}"] == len(expected)
    assert info.rejected.get("impressions: already in the dataset", 0) == (0 if numbered else 4)
    prepared = Dataset(dataset)
    found = {
        int(row): label
        for split in SPLITS
        for row, label in zip(prepared.impressions(split).row, prepared.impressions(split).label, strict=True)
    }
    new = 1006 if numbered else 12
    assert found == {first: 1, first + 1: 0, new: 1} | {first + row: label for row, label in expected.items()}
    waiting = [row for row in range(2, 6) if row not in expected]
    assert prepared.impressions("unlabelled").row.tolist() == [first + row for row in waiting]
    if not numbered:  # the row that waits again, and one label more, contradicted by another
        again = shown(events, [1, 0, 1])
        again = {name: [*column, column[2]] for name, column in again.items()}
        again["click"][3] = 0
        write_log(tmp_path, {"shown": again})
        info = accounted(append(dataset, impressions=tmp_path / "shown.parquet"))
        assert info.counts["impressions"] == 8
        assert info.counts["impressions_unlabelled"] == 1
        assert info.rejected == {f"impressions: {LABEL_LATER}": 3, "impressions: already in the dataset": 6}
    refused = pq.read_table(dataset / "rejected" / "impressions-1.parquet")
    assert refused["reason"].to_pylist().count(LABEL_LATER) == len(expected)


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, all of whose impressions are without a label, for the schema names none."""
    directory = tmp_path_factory.mktemp("candidates")
    events = random_events(0)
    impressions = {key: value for key, value in SHOWN.items() if key != "label"}
    schema = write_log(directory, {"events": events, "shown": shown(events, [1] * 50)}, impressions=impressions)
    prepare(schema, directory / "dataset")
    return directory / "dataset"


def test_a_schema_without_a_label_has_rows_to_ask_about_and_none_to_rank(candidates: Path, tmp_path: Path) -> None:
    dataset = Dataset(candidates)
    info = accounted(dataset.info)
    assert info.label_rule == "the rows of shown.parquet, which have no labels"
    assert info.impressions == dict.fromkeys(SPLITS, 0)
    model = build_model(dataset, ModelSettings(width=16, layers=1, heads=2, embedding_width=8), seed=0)
    model.save_pretrained(tmp_path / "model")
    assert query(candidates, tmp_path / "model", tmp_path / "knowledge", QuerySettings())["rows"] == 50
    knowledge = load_knowledge(tmp_path / "knowledge", dataset)
    assert knowledge.row.tolist() == list(range(50))
    assert read_json(tmp_path / "knowledge" / "knowledge.json", "lum query")["rows"] == 50
    with pytest.raises(InputError, match=r"no train impressions with a label \(of 50 the label is missing\)"):
        rank(candidates, tmp_path / "knowledge", tmp_path / "ranker", RankSettings(rankers=["dnn"]))


def test_answers_do_not_depend_on_whether_the_label_is_known(candidates: Path, tmp_path: Path) -> None:
    events = random_events(0)
    schema = write_log(tmp_path, {"events": events, "shown": shown(events, [1, 0] * 25)}, impressions=SHOWN)
    prepare(schema, tmp_path / "dataset")
    shape = ModelSettings(width=16, layers=1, heads=2, embedding_width=8)
    build_model(Dataset(candidates), shape, seed=0).save_pretrained(tmp_path / "model")
    answers = []
    for dataset in (candidates, tmp_path / "dataset"):
        query(dataset, tmp_path / "model", tmp_path / "knowledge", QuerySettings())
        knowledge = load_knowledge(tmp_path / "knowledge", Dataset(dataset))
        answers.append(knowledge.answers[knowledge.places(np.arange(50))])
    torch.testing.assert_close(*map(torch.from_numpy, answers))


@pytest.mark.parametrize("kind", ["candidates.parquet", "candidates.csv"])
def test_candidates_need_no_column_for_the_label(tmp_path: Path, kind: str) -> None:
    events = random_events(0)
    write_log(tmp_path, {"events": events, "shown": shown(events, ["0", "1"] * 30)})
    prepare(write_log(tmp_path, {}, impressions=SHOWN), tmp_path / "dataset")
    rows = shown(events, [None] * 70, slice(60, 70))
    del rows["click"]
    write_log(tmp_path, {kind.removesuffix(".parquet"): rows})
    info = accounted(append(tmp_path / "dataset", impressions=tmp_path / kind))
    assert (info.counts["impressions"], info.counts["impressions_unlabelled"]) == (70, 10)
    assert "labelled by its column 'click'" in info.label_rule


def test_true_and_false_are_labels_in_csv_too(tmp_path: Path) -> None:
    events = random_events(0)
    written = {"events": events, "shown.csv": shown(events, ["True", "False"] * 30)}
    info = accounted(prepare(write_log(tmp_path, written, impressions=SHOWN | {"path": "shown.csv"}), tmp_path / "ds"))
    assert sum(split.positives for split in info.profile.splits.values()) == 30
