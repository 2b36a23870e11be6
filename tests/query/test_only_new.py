"""`lum query --only-new` adds the missing rows and gives what a whole query gives."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import openlum as ol
from openlum.artefact.directory import files_of
from openlum.artefact.verify import verify
from openlum.cli import app
from openlum.data.dataset import Dataset
from openlum.data.knowledge import Knowledge
from openlum.errors import InputError
from openlum.model import ModelSettings
from openlum.prepare.run import append, prepare
from openlum.pretrain.initialization import build_model
from openlum.query.audit import audit
from openlum.query.bulk import query
from openlum.query.earlier import EarlierKnowledge
from openlum.query.settings import QuerySettings
from tests.model.conftest import fill_zero_weights
from tests.prepare.logs import random_events, write_log

SHOWN = {"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "click"}
SETTINGS = QuerySettings(questions={"any": {}, "here": {"rating": 5, "*": "$row"}}, rows_per_part=20)


def shown(events: dict[str, list[Any]], rows: slice) -> dict[str, list[Any]]:
    """Return an impression for each of some events, a second later, without labels."""
    columns = {name: events[name][rows] for name in ("user", "item", "scenario")}
    return columns | {"time": [time + 1 for time in events["time"][rows]]}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `dataset`, `model` and the dataset `later`, which has a day and tomorrow's candidates more.

    `knowledge` has the answers to the impressions of `dataset`.
    """
    directory = tmp_path_factory.mktemp("only-new")
    events = random_events(0, 250, seconds=9000)
    order = np.argsort(events["time"], kind="stable")
    events = {name: [values[index] for index in order] for name, values in events.items()}
    first = {name: values[:150] for name, values in events.items()}
    labelled = shown(first, slice(20, 150)) | {"click": [row % 2 for row in range(130)]}
    tables = {"events": first, "shown": labelled}
    schema = write_log(directory, tables, impressions=SHOWN, gap_unit="s", engine={"events_per_part": 40})
    prepare(schema, directory / "dataset")
    model = build_model(
        Dataset(directory / "dataset"), ModelSettings(width=16, layers=1, heads=2, embedding_width=8, max_events=10), 0
    )
    fill_zero_weights(model)
    model.save_pretrained(directory / "model")
    query(directory / "dataset", directory / "model", directory / "knowledge", SETTINGS)
    shutil.copytree(directory / "dataset", directory / "later")
    new = {
        name: [*values[150:], value]
        for (name, values), value in zip(events.items(), ["new user", "i1", events["time"][-1], 5, "home"], strict=True)
    }
    write_log(directory / "new", {"events": new, "candidates": shown(new, slice(None))})
    append(directory / "later", directory / "new/events.parquet", directory / "new/candidates.parquet")
    return directory


@pytest.fixture
def out(grown: Path, tmp_path: Path) -> Path:
    """A copy of `knowledge`."""
    shutil.copytree(grown / "knowledge", tmp_path / "knowledge")
    return tmp_path / "knowledge"


def test_rows_are_added_and_the_union_is_a_whole_query(grown: Path, out: Path, tmp_path: Path) -> None:
    before = {
        name: (out / name).read_bytes() for name in files_of(out / "impressions") for name in [f"impressions/{name}"]
    }
    assert len(before) > 3
    figures = query(grown / "later", grown / "model", out, SETTINGS, only_new=True)
    total = Dataset(grown / "later").impression_count
    assert (figures["rows"], figures["new_rows"]) == (total, total - 130)
    assert figures["new_rows"] == Dataset(grown / "later").info.counts["impressions_unlabelled"] > 90
    assert {name: (out / name).read_bytes() for name in before} == before
    verify(out)
    query(grown / "later", grown / "model", tmp_path / "whole", SETTINGS)
    mine, whole = Knowledge(out), Knowledge(tmp_path / "whole")
    assert mine.info == whole.info
    assert mine.items().equals(whole.items())
    for name in whole.columns:
        own, expected = mine.to_arrow()[name], whole.to_arrow()[name]
        if pa.types.is_fixed_size_list(expected.type) or pa.types.is_floating(expected.type):
            np.testing.assert_allclose(
                np.array(own.to_pylist(), np.float32), np.array(expected.to_pylist(), np.float32), atol=1e-3
            )
        else:
            assert own.equals(expected)
    assert audit(out, grown / "later", grown / "model", rows=40).differences == []
    again = {name: (out / name).read_bytes() for name in files_of(out)}
    assert query(grown / "later", grown / "model", out, SETTINGS, only_new=True)["new_rows"] == 0
    assert {name for name in again if (out / name).read_bytes() != again[name]} <= {"knowledge.json"}  # the duration
    assert files_of(out).keys() == again.keys()


def test_the_command_and_the_function_answer_everything_where_there_is_nothing(grown: Path, tmp_path: Path) -> None:
    arguments = ["-d", grown / "dataset", "-m", grown / "model", "-o", tmp_path / "command", "--only-new"]
    done = CliRunner().invoke(app, ["query", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    written = ol.query(grown / "dataset", grown / "model", tmp_path / "function", only_new=True, progress=False)
    assert len(written) == 130
    assert written.to_arrow().equals(Knowledge(tmp_path / "command").to_arrow())


def test_rows_that_would_not_mean_the_same_are_refused(grown: Path, out: Path, tmp_path: Path) -> None:
    def add(dataset: str = "later", settings: QuerySettings = SETTINGS, **options: Any) -> Callable[[], Any]:
        return lambda: query(grown / dataset, grown / "model", out, settings, only_new=True, **options)

    changed = {
        name: SETTINGS.model_copy(update=update)
        for name, update in {
            "questions": {"questions": {"any": {}}},
            "data type": {"dtype": "int8"},
            "rule for events": {"as_of": "day"},
            "predictions of the matching head": {"matching_head": ["fresh"]},
        }.items()
    }
    for name, settings in changed.items():
        with pytest.raises(InputError, match=f"answered with another {name}; answer all impressions again"):
            add(settings=settings)()
    with pytest.raises(InputError, match="leave users out"):
        add(users="all")()
    add()()
    with pytest.raises(InputError, match=r"has answers to impressions that .* does not have"):
        add(dataset="dataset")()
    dataset, earlier = Dataset(grown / "dataset"), EarlierKnowledge(grown / "knowledge")
    rows = dataset.impressions("train")
    assert len(earlier.without_answered(rows, dataset)) == 0
    for name, ids in (("user", rows.user), ("item", rows.item)):
        with pytest.raises(InputError, match=f"row {rows.row[5]} has another {name} in the dataset"):
            earlier.without_answered(
                replace(rows, **{name: np.where(rows.row == rows.row[5], 1 + ids % 3, ids)}), dataset
            )
    query(grown / "dataset", grown / "model", tmp_path / "users", SETTINGS, "all")
    with pytest.raises(InputError, match="holds knowledge per user"):
        query(grown / "dataset", grown / "model", tmp_path / "users", SETTINGS, only_new=True)
