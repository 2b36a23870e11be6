"""Every snippet of README and the docs works: what a page shows is run, in the order of the page, and gives what the page shows.

Snippets run beside a small copy of what `make demo` writes (`runs/market`) and the log of a shop, with small models. Figures
differ from the page's, which are of the whole demo, so an output is compared in its form: the same keys, the same number of
things, the same words.
"""

import ast
import contextlib
import io
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from typer.testing import CliRunner

from openlum.bench.settings import Bench
from openlum.cli import app
from openlum.cli.bench import bench
from openlum.cli.export import export
from openlum.cli.knowledge import knowledge
from openlum.config import Settings, load_settings
from openlum.pipeline.experiment import Experiment
from openlum.schema import Schema

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
NOT_RUN = {
    "lum bench": "takes hours",
    "lum data ": "needs the publisher's files, or the network",
    "lum market ": "writes a large log",
    "lum run configs/": "takes minutes; other tests run it small",
    "lum prepare data/": "reads what the lines that are not run write",
}
"""How a command line begins that is not run, only checked for its options, and why."""
SMALL: dict[str, dict[str, Any]] = {
    "model": {"width": 16, "layers": 1, "heads": 2},
    "pretrain": {"epochs": 1},
    "rank": {"seeds": [0, 1], "max_epochs": 1},
}
"""Settings of the experiments on the pages and of the commands of single steps, unless the page has others, to save time."""
SHELL = ("make ", "pip ", "source ", "python ", "git ")
"""Lines of a shell that other tests cover: targets of the Makefile, the wheel, the examples."""


@dataclass(frozen=True)
class Snippet:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.language}"


def name_of(page: Path) -> str:
    """Return the path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def snippets(page: Path) -> list[Snippet]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = re.finditer(r"^```([\w-]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [
        Snippet(name_of(page), text.count("\n", 0, block.start()) + 1, block[1], block[2].replace("\\\n", " "))
        for block in blocks
    ]


def commands(snippet: Snippet) -> list[str]:
    """The command lines of a snippet in a shell's language, without comments."""
    lines = [line.partition(" #")[0].strip() for line in snippet.text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


ALL = [snippet for page in PAGES for snippet in snippets(page)]
LUM = sorted({line for one in ALL if one.language == "bash" for line in commands(one) if line.startswith("lum")})


def write_shop(directory: Path, log: Path) -> None:
    """The log of a shop with the names that the pages use, made of the market's: three quarters, and days that come later."""
    for name in ("log", "shown", "candidates"):
        (directory / name).mkdir()
    events = f"select * exclude (time), time as timestamp from '{log}/events.parquet'"
    events = f"select * replace (case feedback when 'click' then 'buy' else feedback end as feedback) from ({events})"
    shown = f"select * exclude (time, row), time as timestamp from '{log}/impressions.parquet'"
    cut = f"(select quantile_disc(time, 0.75) from '{log}/events.parquet')"
    for file, query in {
        "events": f"from ({events}) where timestamp < {cut}",
        "impressions": f"from ({shown}) where timestamp < {cut}",
        "items": f"from '{log}/items.parquet'",
        "2026-01-02": f"from ({events}) where timestamp >= {cut}",
    }.items():
        duckdb.sql(query).write_parquet(str(directory / f"{file}.parquet"))
    for file, target in {
        "events": "log/2026-01-01",
        "impressions": "shown/2026-01-01",
        "2026-01-02": "log/2026-01-02",
    }.items():
        shutil.copyfile(directory / f"{file}.parquet", directory / f"{target}.parquet")
    later = f"from ({shown}) where timestamp >= {cut}"
    duckdb.sql(later).write_parquet(str(directory / "shown/2026-01-02.parquet"))
    waiting = f"select * replace (timestamp + interval 9 second as timestamp, null::bigint as label) {later} limit 50"
    duckdb.sql(waiting).write_parquet(str(directory / "candidates/2026-01-03.parquet"))
    shutil.copyfile(directory / "impressions.parquet", directory / "shown.parquet")
    (directory / "history.csv").write_text("item,scenario,feedback\n7,home,click\n12,search,click\n")


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=name_of)
def test_snippets_of_a_page_run_and_give_what_it_shows(
    page: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_run / "runs/tiny", tmp_path / "runs/market")
    write_shop(tmp_path, tmp_path / "runs/market/log")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    output = ""
    for snippet in snippets(page):
        match snippet.language:
            case "python":
                output = run_python(snippet, names)
            case "python-output":
                assert form(output) == form(snippet.text), f"{snippet}: gives\n{output}"
            case "yaml":
                load_yaml(snippet)
            case "bash":
                for line in commands(snippet):
                    run_line(line, snippet)
            case "py":
                ast.parse(snippet.text)  # needs a server, or a library that is not always installed
            case "diff" | "":
                pass  # lines of examples/own_ranker.py (tests/test_examples.py), and drawings
            case other:
                pytest.fail(f"{snippet}: no rule for the language '{other}'")


def run_python(snippet: Snippet, names: dict[str, Any]) -> str:
    """What a snippet prints; the value of a last line that is an expression is shown, as a notebook does."""
    tree = ast.parse(snippet.text)
    printed = io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, str(snippet), "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), str(snippet), "eval"), names)
            if value is not None:
                print(repr(value))
    return printed.getvalue()


def form(output: str) -> Any:
    """An output without its figures: of Python values their types, of text its words."""
    try:
        return shape_of(ast.literal_eval(output.strip()))
    except (SyntaxError, ValueError):
        return re.sub(r"\d+", "0", " ".join(output.split()))


def shape_of(value: Any) -> Any:
    """The types in a value: of a dictionary by key, of a list in order."""
    match value:
        case dict():
            return {key: shape_of(item) for key, item in value.items()}
        case list() | tuple():
            return [shape_of(item) for item in value]
        case _:
            return type(value).__name__


def load_yaml(snippet: Snippet) -> None:
    """Load a snippet as what it describes, and leave it in the file that its first line names."""
    name = re.match(r"# ([\w.-]+\.yaml)", snippet.text)
    file = Path(name[1] if name else "snippet.yaml")
    content = yaml.safe_load(snippet.text)
    if "experiment" in content:
        kind: type[Settings] = Bench
    elif "data" in content:
        kind = Experiment
    else:
        kind = Schema
        base = {
            "name": "shop",
            "events": {"path": "events.parquet", "user": "user_id", "item": "item_id", "time": "timestamp"},
        }
        snippet_text = snippet.text if "events" in content else yaml.safe_dump(base | content)
        file.write_text(snippet_text, encoding="utf-8")
        load_settings(file, kind)
        return
    file.write_text(snippet.text, encoding="utf-8")
    load_settings(file, kind)
    if kind is Experiment:
        small = {section: keys | content.get(section, {}) for section, keys in SMALL.items()}
        file.write_text(yaml.safe_dump(content | small), encoding="utf-8")


def run_line(line: str, snippet: Snippet) -> None:
    """Run a command of `lum`, unless it is one of `NOT_RUN`."""
    if line.startswith("lum"):
        if not any(line.startswith(begin) for begin in NOT_RUN) and line != "lum":
            done = CliRunner().invoke(app, [*shlex.split(line)[1:], *small_settings(line)])
            assert done.exit_code == 0, f"{snippet}: '{line}': {done.output}{done.exception!r}"
    else:
        assert line.startswith(SHELL), f"{snippet}: no rule for '{line}'"


def small_settings(line: str) -> list[str]:
    """Return the options that set `SMALL` for a single step; none if the step reads an experiment file, which has them."""
    sections = {"pretrain": ("model", "pretrain"), "rank": ("rank",)}.get(line.split()[1], ())
    if "--config" in line:
        return []
    values = [f"{section}.{key}={value}" for section in sections for key, value in SMALL[section].items()]
    return [word for value in values for word in ("--set", value)]


@pytest.mark.parametrize("line", LUM)
def test_commands_on_the_pages_have_these_options(line: str) -> None:
    words = shlex.split(line)[1:]
    verb = (
        words[:2]
        if words[:1] in (["bench"], ["export"], ["knowledge"])
        else [word for word in words[:1] if not word.startswith("-")]
    )
    help_text = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"}).output
    for option in [word for word in words if word.startswith("--")]:
        assert option in help_text


def test_every_command_shows_an_example() -> None:
    for command in [command for group in (app, bench, export, knowledge) for command in group.registered_commands]:
        assert command.callback is not None
        assert "Example" in (command.callback.__doc__ or "")


def test_make_targets_on_the_pages_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {
        line.split()[1] for one in ALL if one.language == "bash" for line in commands(one) if line[:5] == "make "
    }
    assert targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_files_outside_the_site_lead_to_files(name: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / name).read_text(encoding="utf-8"))
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| message contains \|.*\n(?:\|.*\n)+", page, re.MULTILINE)
    messages = [message for table in tables for message in re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)]
    source = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py"))
    assert len(messages) > 20
    assert [message for message in messages if message not in source] == []


def test_folders_and_files_of_the_design_page_exist() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    table = re.search(r"^\| where \|.*\n(?:\|.*\n)+", page, re.MULTILINE)
    assert table
    package = ROOT / "src" / "openlum"
    in_table = {name for row in table[0].splitlines() for name in re.findall(r"`(\w+)/`", row.split("|")[1])}
    assert in_table == {file.parent.name for file in package.glob("*/__init__.py")}
    files = re.findall(r"`([\w/]+\.py)", page)
    assert [name for name in files if not list(package.rglob(name))] == []
