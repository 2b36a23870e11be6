"""Names and paths are printed unchanged."""

import io
import re
from pathlib import Path

import pytest

from openlum import console as consoles
from openlum.cli import main
from openlum.console import new_console, new_progress, tracked
from tests.prepare.logs import random_events, write_log

SOURCES = Path(__file__).parents[1]
MARKUP = "ds[/b] [red]x[/red] :cat:"


def test_text_is_printed_unchanged() -> None:
    console = new_console()
    console.file = io.StringIO()
    console.print(MARKUP, style="dim", soft_wrap=True)
    with new_progress("{task.description}", "{task.fields[note]}", console=console) as progress:
        progress.add_task(MARKUP, note="[/i]")
    assert list(tracked(range(3), MARKUP, console=console)) == [0, 1, 2]
    printed = console.file.getvalue()
    assert printed.count(MARKUP) >= 2
    assert "[/i]" in printed


def test_no_other_module_creates_a_console() -> None:
    """A console with rich's defaults reads `[b]` in a path as markup."""
    files = [*SOURCES.glob("src/openlum/**/*.py"), *SOURCES.glob("benchmarks/*.py")]
    creation = re.compile(r"\bConsole\(|\bTextColumn\b|\bProgress\(|import .*\btrack\b|\bmarkup\b|get_console")
    assert {file.name for file in files if creation.search(file.read_text())} == {Path(consoles.__file__).name}


@pytest.mark.parametrize("name", ["ds[/b]", "ds[a] :cat: it's*?"])
def test_a_dataset_may_have_any_directory_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path, {"events": random_events(1, 30), "more": random_events(2, 30)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lum", "prepare", "schema.yaml", "--out", name])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert f"dataset: {name}\n" in printed
    assert f"report: {tmp_path / name / 'report.html'}\n" in printed
    monkeypatch.setattr("sys.argv", ["lum", "prepare", "--append", "more.parquet", "--out", name])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert (tmp_path / name / "dataset.json").is_file()
