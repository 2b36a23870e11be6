"""Fill the tables of figures in README.md and docs/ from the JSON files under benchmarks/results/.

    python benchmarks/pages.py            # rewrite the pages
    python benchmarks/pages.py --check    # change nothing; exit with status 1 when a page is wrong

A page names a table in an HTML comment. Everything up to the closing comment is generated:

    <!-- figures: gains -->
    ...
    <!-- /figures -->

`page_tables.py` makes the tables. README.md and docs/results.md are strict pages: they contain no metric figure outside these
regions and fenced code, so that nobody types a figure by hand.
"""

import argparse
import re
import sys
from pathlib import Path

from page_tables import TABLES

ROOT = Path(__file__).parents[1]
STRICT_PAGES = [ROOT / "README.md", ROOT / "docs" / "results.md"]
"""Pages without a metric figure outside a generated table."""
REGION = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- /figures -->)", re.DOTALL)
METRIC = re.compile(
    r"""(?<![\w.])[+−-]?\d*\.\d{3,}        # three decimals or more: 0.8060, .8060
      | (?<![\w.])[+−-]?[01]?\.\d{2,}      # two decimals of a value below 2: 0.80, .80
      | (?<![\w.])[+−-]\d*\.\d+             # a signed decimal: +0.5
      | (?<![\w.])\d+(?:\.\d+)?e-\d+        # 3e-19
      | \bp\s*[=<>≤≈]\s*[\d.]+              # p < 0.05
    """,
    re.VERBOSE,
)
NOT_METRICS = re.compile(
    r"^```.*?^```$|<!-- figures: .*?<!-- /figures -->|\barXiv:?\s*\d{4}\.\d{5}|\(https?://[^)]*\)",
    re.DOTALL | re.MULTILINE,
)
"""Fenced code, generated regions, arXiv numbers and addresses of links."""


def pages() -> list[Path]:
    """Return the pages that may contain tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def fill(text: str) -> str:
    """Return the text of a page with every region generated anew."""

    def region(match: re.Match[str]) -> str:
        if match[2] not in TABLES:
            raise SystemExit(f"unknown table {match[2]!r}; choose from {', '.join(TABLES)}")
        return f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}"

    return REGION.sub(region, text)


def typed_figures(text: str) -> dict[int, list[str]]:
    """Return the metric figures outside generated regions and fenced code, by line."""
    rest = NOT_METRICS.sub(lambda match: "\n" * match[0].count("\n"), text)
    figures = {line: [match[0] for match in METRIC.finditer(row)] for line, row in enumerate(rest.split("\n"), 1)}
    return {line: on_line for line, on_line in figures.items() if on_line}


def problems(page: Path, text: str) -> list[str]:
    """Return what is wrong with a page, one message each."""
    name = page.relative_to(ROOT)
    if text.count("<!-- figures:") != len(REGION.findall(text)):
        return [f"{name}: a table has no closing comment <!-- /figures -->, or its opening comment is misspelt"]
    found = [
        f"{name}: table {old[2]!r} differs from its result file; run python benchmarks/pages.py"
        for old, new in zip(REGION.finditer(text), REGION.finditer(fill(text)), strict=True)
        if old[0] != new[0]
    ]
    if page in STRICT_PAGES:
        message = "typed by hand; show them in a generated table (benchmarks/page_tables.py)"
        found += [
            f"{name}:{line}: figures {', '.join(on_line)} {message}" for line, on_line in typed_figures(text).items()
        ]
    return found


def main() -> int:
    """Rewrite the pages, or check them; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when a page is wrong")
    check = parser.parse_args().check
    messages = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if not check:
            page.write_text(text := fill(text), encoding="utf-8")
        messages += problems(page, text)
    print("\n".join(messages), file=sys.stderr, end="\n" if messages else "")
    return bool(messages)


if __name__ == "__main__":
    sys.exit(main())
