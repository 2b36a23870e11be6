"""The report page of a run and the schema of summary.json."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import openlum
from openlum.errors import InputError
from openlum.report.run_report import summary_table, write_report
from tests.report.page import Page, check_layout
from tests.report.summaries import HTML, SUMMARY, fill, ranker, segment

SCHEMA = json.loads((Path(openlum.__file__).parent / "pipeline/summary.schema.json").read_text())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    fill(tmp_path / "market")
    return tmp_path / "market"


@pytest.fixture(scope="module")
def complete_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a complete run."""
    directory = tmp_path_factory.mktemp("complete") / "market"
    fill(directory)
    return write_report(directory).read_text()


def test_schema_is_a_schema_and_describes_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    described = [
        SCHEMA["properties"],
        SCHEMA["properties"]["pretrain"]["properties"],
        SCHEMA["$defs"]["metric"]["properties"],
    ]
    assert [key for keys in described for key, value in keys.items() if "description" not in value] == []


@pytest.mark.parametrize(
    "absent", [(), ("ranking", "comparisons", "oracle"), ("retrieval", "retrieval_protocol"), "all"]
)
def test_schema_accepts_complete_and_partial_summaries(absent: Any) -> None:
    removed = set(SUMMARY) - {"environment"} if absent == "all" else set(absent)
    jsonschema.validate({key: value for key, value in SUMMARY.items() if key not in removed}, SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("environment",), None),
        (("ranking", "dnn", "auc"), 0.7),
        (("ranking", "dnn", "auc", "seeds"), []),
        (("comparisons", 0, "p_value"), 1.5),
        (("comparisons", 0, "ci95"), [0.1]),
        (("retrieval", "any", "hit@10"), 0.5),
        (("pretrain", "steps"), "812"),
        (("calibration", "din"), []),
        (("calibration", "din", 0, "predicted"), 11),
        (("segments", "groups", 0, "segments", 0), {"name": "0 events", "rows": 12, "positives": 0}),
        (("segments", "groups", 0, "segments", 0, "without"), 0.6),
        (("rankings",), {}),
    ],
)
def test_schema_rejects_wrong_summaries(path: tuple[Any, ...], value: Any) -> None:
    wrong = copy.deepcopy(SUMMARY)
    parent: Any = wrong
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


def test_report_escapes_values_from_data(complete_page: str) -> None:
    assert "<script" not in complete_page
    assert "<b>bold</b>" not in complete_page
    assert "&lt;script" in complete_page


def test_report_requests_nothing(complete_page: str) -> None:
    targets = re.findall(r"""<[^>]*?\b(?:src|href|srcset|data|action)\s*=\s*["']?([^"'\s>]+)""", complete_page)
    assert all(target.startswith("#") for target in targets), targets
    assert not re.search(r"@import|<link|<iframe|url\((?!#)", complete_page)


def test_report_shows_every_part(complete_page: str) -> None:
    for text in ("+0.0960", "0.7563 ± 0.0012", "oracle", "HR@10", "recall@10", "Blue Fjord tents 3", "query = tents"):
        assert text in complete_page, text
    for text in ("time in the future", "120,345", "2025-02-19", "a processor", "epochs: 6", "p &lt; 0.0001", "775 MiB"):
        assert text in complete_page, text
    for text in ("+0.0321", "−0.0123", "all labels are 0", "−0.0323 to +0.0077", "0.2400", "0.2200 to 0.2700", "4,115"):
        assert text in complete_page, text
    assert 'class="absent"' not in complete_page
    # The AUC of rankers, the calibration of two, and loss, item_loss, tokens_per_second, lr, recall@10.
    assert complete_page.count("<svg") == 1 + 2 + 5


SECTIONS = [
    "What knowledge adds",
    "Ranking",
    "Gains by segment",
    "Calibration",
    "Knowledge probe",
    "Comparisons",
    "Retrieval",
    "Pre-training",
    "One user, several questions",
    "Data",
    "Environment and settings",
]


def test_report_shows_the_warning_of_the_pre_training(run: Path) -> None:
    warned = copy.deepcopy(SUMMARY)
    warned["pretrain"]["warning"] = "popularity <b>wins</b>"
    jsonschema.validate(warned, SCHEMA)
    (run / "summary.json").write_text(json.dumps(warned))
    page = write_report(run).read_text()
    assert page.count("popularity &lt;b&gt;wins&lt;/b&gt;") == 2  # also as a reason why knowledge adds nothing
    assert 'role="alert"' in page


def test_contents_are_the_sections_and_tables_scroll(run: Path) -> None:
    splits = {"train": 0.7, "valid": 0.6, "test": 0.6}
    complete = SUMMARY | {"knowledge": {"all": splits, "questions": {HTML: splits}, "gap": 0.1}}
    (run / "summary.json").write_text(json.dumps(complete))
    page = Page(write_report(run).read_text())
    check_layout(page)
    assert [title for _, title in page.sections] == SECTIONS
    for part in run.rglob("*"):
        if part.is_file():
            part.unlink()
    empty = Page(write_report(run).read_text())
    check_layout(empty)
    assert {title for _, title in empty.sections} < set(SECTIONS)


def test_every_plot_has_a_description(complete_page: str) -> None:
    plots = [attributes for tag, attributes in Page(complete_page).tags if tag == "svg"]
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    descriptions = [plot["aria-label"] or "" for plot in plots]
    assert (
        "Calibration of din: 11 % predicted 6 % observed, 23 % predicted 18 % observed, 47 % predicted 42 % observed"
        in descriptions
    )


def outcomes(run: Path, **changes: Any) -> str:
    """Return the words of the page if the third item of every answer has these outcomes."""
    (run / "metrics.jsonl").unlink(missing_ok=True)
    example = json.loads((run / "example.json").read_text())
    for answer in example["answers"]:
        answer["items"][2] |= changes
    (run / "example.json").write_text(json.dumps(example))
    return " ".join(Page(write_report(run).read_text()).words.split())


def test_report_shows_the_hits_of_each_answer(run: Path) -> None:
    no_hit = outcomes(run)
    assert no_hit.count("Hits: none of the 10 items.") == 3
    assert "✓ event" not in no_hit
    assert no_hit.count("in the history") == 1
    other = outcomes(run, other_hit=2)
    assert other.count("Hits: none of the 10 items.") == 3
    assert other.count("3 Blue Fjord tents 2 ○ event 2") == 3
    hit = outcomes(run, hit=2)
    assert hit.count("Hits: 1 of 10 items, the first at rank 3.") == 3
    assert hit.count("3 Blue Fjord tents 2 ✓ event 2") == 3


def test_report_of_a_user_without_later_events_says_so(run: Path) -> None:
    example = json.loads((run / "example.json").read_text())
    (run / "example.json").write_text(json.dumps(example | {"next": []}))
    words = Page(write_report(run).read_text()).words
    assert "no later event of this user" in words
    assert "Hits:" not in words
    assert "What the user did next" not in words


def test_names_of_any_length_and_direction_do_not_break_the_page(run: Path) -> None:
    """Unprintable characters, such as a switch of direction, are replaced. Long names are cut."""
    override, endless = "\u202eturned", "w" * 5000
    summary = copy.deepcopy(SUMMARY)
    names = [f"{endless}{n}" for n in range(8)] + ["$x^2$", "حذاء"]
    summary["ranking"] = {name + form: ranker(0.7) for name in names for form in ("", "+knowledge")}
    summary["segments"]["groups"][1]["segments"] = [segment(name, 0.01) for name in (override, endless, "حذاء")]
    summary["calibration"] = dict.fromkeys(names[-3:], summary["calibration"]["din"])
    (run / "summary.json").write_text(json.dumps(summary))
    example = json.loads((run / "example.json").read_text())
    example["next"][0] |= {"title": override, "condition": {"query": endless}}
    (run / "example.json").write_text(json.dumps(example))
    text = write_report(run).read_text()
    check_layout(Page(text))
    assert "\u202e" not in text
    assert "<bdi>حذاء</bdi>" in text


@pytest.mark.parametrize(
    "name", ["summary.json", "metrics.jsonl", "example.json", "config.resolved.yaml", "dataset/dataset.json"]
)
def test_report_works_without_one_of_its_files(run: Path, name: str) -> None:
    (run / name).unlink()
    assert 'class="absent"' in write_report(run).read_text()


def test_report_of_an_empty_run_says_what_is_not_available(tmp_path: Path) -> None:
    assert "Not available" in write_report(tmp_path).read_text()


def test_report_works_with_a_single_section(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    for section in SUMMARY:
        part = {"environment": SUMMARY["environment"], section: SUMMARY[section]}
        (run / "summary.json").write_text(json.dumps(part))
        write_report(run)
        summary_table(part)


def test_unreadable_files_are_named(run: Path) -> None:
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    with pytest.raises(InputError, match="line 2"):
        write_report(run)
    with pytest.raises(InputError, match="no such run"):
        write_report(run / "nowhere")
