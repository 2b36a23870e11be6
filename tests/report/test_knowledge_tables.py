"""What `lum knowledge show` and `lum knowledge stats` print is what the directory holds."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from openlum.artefact.directory import files_of
from openlum.cli import app
from openlum.data.knowledge import Knowledge
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings
from openlum.report.knowledge_tables import statistics
from tests.conftest import built_once


def _query_tiny(run: Path, directory: Path) -> None:
    dataset, model = run / "runs/tiny/dataset", run / "runs/tiny/model"
    settings = QuerySettings(questions={"any": {}, "here": {"scenario": "$row"}}, rows_per_part=1500)
    query(dataset, model, directory / "impression", settings)
    query(dataset, model, directory / "user", settings.model_copy(update={"rows_per_part": 50}), "all", "2025-02-01")


@pytest.fixture(scope="module")
def directory(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knowledge of both forms, in several parts each."""
    return built_once(tmp_path_factory, "knowledge-tables", lambda target: _query_tiny(tiny_run, target))


def printed(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["knowledge", *map(str, arguments)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize("form", ["impression", "user"])
def test_figures_of_parts_are_those_of_the_whole_table(directory: Path, form: str) -> None:
    knowledge = Knowledge(directory / form)
    assert len(files_of(knowledge.path / f"{form}s")) > 2
    table, figures = knowledge.to_arrow(), statistics(knowledge)
    assert list(figures.columns) == knowledge.columns
    assert figures.users == len(set(table["user"].to_pylist()))
    for name in [*knowledge.score_columns, *(["events"] if form == "user" else [])]:
        values, column = table[name].to_numpy().astype(np.float64), figures.columns[name]
        assert (column.number, column.missing) == (len(values), 0)
        expected = [values.mean(), values.std(), values.min(), values.max()]
        assert [column.mean, column.std, column.lowest, column.highest] == pytest.approx(expected, abs=1e-6)
    for name in knowledge.answer_columns:
        assert figures.columns[name].mean == pytest.approx(1, abs=2e-3)
    if form == "user":
        last = table["last_event"]
        assert 0 < figures.columns["last_event"].missing == last.null_count < len(last)
        idle = [(a - b).total_seconds() for a, b in zip(table["as_of"].to_pylist(), last.to_pylist(), strict=True) if b]
        assert figures.idle.mean == pytest.approx(np.mean(idle))
        assert figures.columns["vectors"].number == len(table) * len(knowledge.info.vector_names)


def test_stats_names_rows_sizes_times_and_versions(directory: Path) -> None:
    for form in ("impression", "user"):
        knowledge = Knowledge(directory / form)
        output = printed("stats", knowledge.path)
        for line in (f"rows {len(knowledge):,}", f"model {knowledge.info.model}", "type of vectors float16"):
            assert line in output
        assert all(name in output for name in knowledge.columns)
    assert "uses the events strictly before 2025-02-01T00:00:00Z" in output
    assert output.count("2025-02-01 00:00:00") == 2  # the earliest and the latest time of rows


def test_show_prints_raw_ids_times_scores_and_first_numbers(directory: Path) -> None:
    knowledge = Knowledge(directory / "impression")
    user = knowledge.to_arrow(["user"])["user"][-1].as_py()
    output = printed("show", knowledge.path, "--user", user, "--rows", 2)
    rows = [row for row in knowledge.to_arrow().to_pylist() if row["user"] == user]
    assert output.startswith(f"2 of {len(knowledge):,} rows")
    shown = [row for row in rows if f"{row['similarity.here']:.4f}".replace("-", "−") in output]
    assert len(shown) >= 2
    assert f"… ({knowledge.info.width})" in output
    row = next(iter(Knowledge(directory / "user").to_arrow(["as_of"]).to_pylist()))
    output = printed("show", directory / "user", "--user", row["user"])
    assert output.startswith("1 of")
    assert "2025-02-01 00:00:00" in output


def test_a_user_without_rows_is_an_error(directory: Path) -> None:
    done = CliRunner().invoke(app, ["knowledge", "show", str(directory / "user"), "--user", "nobody"])
    assert "has no rows of the user 'nobody'" in str(done.exception)
