"""An audit passes for knowledge as `lum query` writes it, and finds every way in which later events or changes got into it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from openlum.cli import app
from openlum.data.dataset import Dataset
from openlum.data.knowledge import Knowledge
from openlum.data.sequences import Impressions
from openlum.data.shard import Shard
from openlum.errors import InputError
from openlum.model import LargeUserModel
from openlum.query.audit import _sample, audit
from openlum.query.bulk import query
from openlum.query.replayed_row import history_before
from openlum.query.settings import QuerySettings
from openlum.query.shard import ShardQuery
from openlum.query.users import UserQuery
from tests.prepare.logs import START
from tests.query.conftest import DAY

SETTINGS = QuerySettings(
    questions={
        "any": {},
        "here": {"rating": 5, "*": "$row"},
        "rated": {"rating": "$each"},
        "often": {"rating": "$top2"},
        "learned": {"$learned": True},
    },
    rows_per_part=40,
)
MIDDLE = START + 6 * DAY


@pytest.fixture(scope="module")
def answered(dataset: Dataset, model_dir: Path) -> Callable[..., Path]:
    """Return a function that queries the dataset."""

    def run(form: str, name: str = "clean", **settings: Any) -> Path:
        out = model_dir.parent / f"audit-{form}-{name}"
        if not out.exists():
            users = ("all", MIDDLE) if form == "user" else ()
            query(dataset.path, model_dir, out, SETTINGS.model_copy(update=settings), *users)
        return out

    return run


@pytest.mark.parametrize(
    ("form", "name", "settings"),
    [
        ("impression", "clean", {}),
        ("impression", "day", {"as_of": "day", "dtype": "int8"}),
        ("impression", "plain", {"predict_feedback": False, "matching_head": []}),
        ("user", "clean", {}),
        ("user", "int8", {"dtype": "int8"}),
    ],
)
def test_what_lum_query_writes_passes(
    dataset: Dataset, model_dir: Path, answered: Callable[..., Path], form: str, name: str, settings: dict[str, Any]
) -> None:
    directory = answered(form, name, **settings)
    result = audit(directory, dataset.path, model_dir, rows=60)
    stored = Knowledge(directory)
    assert result.differences == result.notes == []
    assert result.rows == min(60, len(stored))
    unknown = {"row"} if form == "impression" else {"user", "as_of"}
    assert result.compared == dict.fromkeys(set(stored.columns) - unknown, result.rows)
    assert 0 < max(result.largest[name] for name in stored.answer_columns) < 5e-3


def _one_event_more(query: ShardQuery, shard: Shard) -> Impressions:
    rows = ROWS(query, shard)
    events = np.append(np.diff(shard.sequences.offsets), 0)[shard.sequences.user_index(rows.user)]
    return rows.with_prefix(shard.sequences, np.minimum(rows.prefix + 1, events))


ROWS = ShardQuery.rows


def test_knowledge_that_sees_one_event_too_many_is_found(
    dataset: Dataset, model_dir: Path, answered: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ShardQuery, "rows", _one_event_more)
        leaking = answered("impression", "leak")
        moments = UserQuery.moments
        patch.setattr(UserQuery, "moments", lambda query, *of: _later(moments(query, *of)))
        leaking_users = answered("user", "leak")
    arguments = ["-d", str(dataset.path), "-m", str(model_dir), "--rows", "30"]
    for directory, columns in (
        (leaking, ["answer.any", "similarity.here", "feedback.rating=5", "fresh.rating=1"]),
        (leaking_users, ["vectors", "answer.any", "events"]),
    ):
        result = audit(directory, dataset.path, model_dir, rows=30)
        assert set(columns) <= {one.column for one in result.differences}
        done = CliRunner().invoke(app, ["knowledge", "audit", str(directory), *arguments], env={"COLUMNS": "200"})
        assert done.exit_code == 1, done.output
        output = " ".join(done.output.split())
        first = result.differences[0]
        assert "First values that differ" in output
        assert f"{first.row} {first.user} " in output
        assert f"{len(result.differences):,} values differ in {result.rows} rows" in output


def _later(moments: Any) -> Any:
    moments.prefix[moments.prefix > 0] += 1
    return moments


def write_few(directory: Path, target: Path, column: str, change: Callable[[Any], Any]) -> Any:
    """Write a copy of knowledge with six rows, and a change in one column of the fourth; return the key of that row."""
    shutil.copytree(directory, target, ignore=shutil.ignore_patterns("manifest.json", "part-*"))
    shutil.copytree(directory / "items", target / "items", dirs_exist_ok=True)
    knowledge = Knowledge(directory)
    table = knowledge.to_arrow()[:6]
    values = table[column].to_pylist()
    values[3] = change(values[3])
    if isinstance(values[3], list):
        values = [np.array(value, np.float16) for value in values]
    key = table[knowledge.key][3].as_py()
    changed = pa.array(values, table.schema.field(column).type)
    table = table.set_column(table.column_names.index(column), column, changed)
    pq.write_table(table, target / f"{knowledge.info.form}s" / "part-00000-00000.parquet")
    content = json.loads((target / "knowledge.json").read_text())
    (target / "knowledge.json").write_text(json.dumps(content | {"rows": 6}))
    return key


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("similarity.any", lambda value: value + 0.01),
        ("nightly.rating=2", lambda value: -value),
        ("answer.here", lambda vector: [*vector[1:], vector[0]]),
        ("user", lambda user: f"{user}0"),
    ],
)
def test_a_changed_value_is_found_at_its_row(
    dataset: Dataset,
    model_dir: Path,
    answered: Callable[..., Path],
    tmp_path: Path,
    column: str,
    change: Callable[[Any], Any],
) -> None:
    row = write_few(answered("impression"), tmp_path / "changed", column, change)
    result = audit(tmp_path / "changed", dataset.path, model_dir)
    assert result.rows == 6
    assert [(one.row, one.column) for one in result.differences] == [(row, column)]


def test_another_seed_samples_other_rows(dataset: Dataset, model_dir: Path, answered: Callable[..., Path]) -> None:
    samples = [[row["row"] for row in _sample(Knowledge(answered("impression")), 20, seed)] for seed in (0, 0, 1)]
    assert samples[0] == samples[1] != samples[2]
    assert len(set(samples[2])) == 20


def test_rows_and_users_that_the_dataset_does_not_have_differ(
    dataset: Dataset, model_dir: Path, answered: Callable[..., Path], tmp_path: Path
) -> None:
    for form, column, new in (("impression", "row", 10**6), ("user", "user", "nobody")):
        write_few(answered(form), tmp_path / form, column, lambda _, value=new: value)
        result = audit(tmp_path / form, dataset.path, model_dir)
        (found,) = result.differences
        assert (found.row, found.column, found.replayed) == (new, column, "not in the dataset")


def test_another_model_is_refused_and_a_grown_dataset_is_noted(
    dataset: Dataset, model_dir: Path, model: LargeUserModel, answered: Callable[..., Path], tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(answered("user"), changed)
    (changed / "manifest.json").unlink()
    content = json.loads((changed / "knowledge.json").read_text())
    for key, value in (("dataset", "other"), ("model", "other")):
        (changed / "knowledge.json").write_text(json.dumps(content | {key: value}))
        if key == "dataset":
            assert "dataset has changed" in audit(changed, dataset.path, model_dir, rows=3).notes[0]
        else:
            with pytest.raises(InputError, match="answered by another model"):
                audit(changed, dataset.path, model_dir)


def test_a_cut_history_has_no_event_at_or_after_the_second(dataset: Dataset) -> None:
    sequences = dataset.sequences
    for index in (0, 3, 7):
        user = int(sequences.user[index])
        own = slice(*sequences.offsets[index : index + 2])
        second = int(sequences.time[own][20])
        cut = history_before(sequences, user, second)
        assert 0 < len(cut.time) == (sequences.time[own] < second).sum()
        assert cut.item.tolist() == sequences.item[own][: len(cut.item)].tolist()
        events = np.arange(len(cut.time))
        for name, values in sequences.fields(events + own.start).items():
            np.testing.assert_array_equal(cut.fields(events)[name], values)
    assert len(history_before(sequences, 10**6, second).time) == 0
