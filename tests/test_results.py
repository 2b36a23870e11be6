"""The figures on README.md and docs/results.md equal their result files, and nobody types one by hand."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import pages  # noqa: E402
from page_tables import TABLES  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
RESULT_NAME = re.compile(r"[\w-]+_[\w-]*\d{4}-\d\d-\d\d(?:-\d)?\.json")
PAGE = ROOT / "docs" / "results.md"


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_page_shows_its_results_and_no_figure_typed_by_hand(page: Path) -> None:
    assert pages.problems(page, page.read_text(encoding="utf-8")) == []


def test_readme_shows_the_demo_and_the_gains() -> None:
    names = {region[2] for region in pages.REGION.finditer((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {"demo", "gains"} <= names


def test_results_page_shows_every_table() -> None:
    names = {region[2] for region in pages.REGION.finditer(PAGE.read_text(encoding="utf-8"))}
    assert names == set(TABLES)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_changed_figure_is_a_problem(name: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    region = next(region for region in pages.REGION.finditer(text) if region[2] == name)
    figure = re.search(r"\d\.\d*(\d)|\d+(\d)", text[region.start() : region.end()])
    assert figure
    last = region.start() + figure.end() - 1
    changed = text[:last] + str((int(text[last]) + 1) % 10) + text[last + 1 :]
    assert [problem for problem in pages.problems(PAGE, changed) if repr(name) in problem]


def test_table_without_closing_comment_is_a_problem() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("<!-- /figures -->", "", 1)
    assert pages.problems(PAGE, text) != []


@pytest.mark.parametrize(
    "sentence",
    [
        "`din` has 0.8055.",
        "`din` goes from .8055 to .8203.",
        "It gains 0.01 AUC.",
        "A gain of +0.5 points.",
        "A loss of −0.0013.",
        "This is significant, p < 0.05.",
        "Its p-value is 3e-19.",
        "An interval (0.0124 to 0.0162)",
        "| `din` | 0.8055 ± 0.0010 |",
    ],
)
def test_figure_typed_by_hand_is_a_problem(sentence: str) -> None:
    text = PAGE.read_text(encoding="utf-8") + f"\n{sentence}\n"
    assert pages.problems(PAGE, text) != []


@pytest.mark.parametrize(
    "sentence",
    [
        "Python 3.11 or newer, torch 2.13.0 and openlum 0.2.0.",
        "See [arXiv 2502.08309](https://arxiv.org/abs/2502.08309).",
        "All 3,883 films, 1,000,209 rows, 80/10/10, 95 % intervals, 2026-11-30.",
        "It takes 2.5 minutes and 1.5 GB.",
        "```python\nlearning_rate = 0.001\n```",
    ],
)
def test_other_number_is_no_problem(sentence: str) -> None:
    text = PAGE.read_text(encoding="utf-8") + f"\n{sentence}\n"
    assert pages.problems(PAGE, text) == []


def test_pages_name_every_result_file_and_no_other() -> None:
    named = {name for page in pages.pages() for name in RESULT_NAME.findall(page.read_text(encoding="utf-8"))}
    assert named == {file.name for file in RESULTS.glob("*.json")}
