"""The report page of a run and the schema of summary.json."""

import copy
import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

import openlum
from openlum.errors import InputError
from openlum.report.run_report import knowledge_gains, summary_table, write_report
from tests.report.page import Page, check_layout

SCHEMA = json.loads((Path(openlum.__file__).parent / "pipeline/summary.schema.json").read_text())
HTML = '<script src="https://example.org/x.js">alert(1)</script> & "shoes"'


def metric(*seeds: float) -> dict[str, Any]:
    mean = sum(seeds) / len(seeds)
    return {"mean": mean, "std": (sum((s - mean) ** 2 for s in seeds) / len(seeds)) ** 0.5, "seeds": list(seeds)}


def ranker(auc: float) -> dict[str, Any]:
    return {
        "auc": metric(auc - 0.001, auc, auc + 0.002),
        "gauc": metric(auc - 0.03, auc - 0.029, auc - 0.031),
        "logloss": metric(0.43, 0.431, 0.429),
        "ne": metric(0.9, 0.91, 0.9),
    }


def segment(name: str, gain: float) -> dict[str, Any]:
    aucs = {"without": 0.6, "with": 0.6 + gain, "difference": gain, "ci95": [gain - 0.02, gain + 0.02], "p_value": 0.04}
    return {"name": name, "rows": 5000, "positives": 777} | aucs


SUMMARY: dict[str, Any] = {
    "ranking": {
        "dnn": ranker(0.652),
        "din": ranker(0.701),
        "dnn+knowledge": ranker(0.748),
        "din+knowledge": ranker(0.756),
    },
    "comparisons": [
        {
            "a": f"{name}+knowledge",
            "b": name,
            "metric": "auc",
            "difference": d,
            "ci95": [d - 0.01, d + 0.01],
            "p_value": p,
        }
        for name, d, p in (("dnn", 0.096, 1e-12), ("din", 0.055, 0.0003))
    ],
    "calibration": {
        name: [
            {"predicted": p, "observed": p + gap, "ci95": [p + gap - 0.02, p + gap + 0.03], "predictions": 4115}
            for p in (0.11, 0.23, 0.47)
        ]
        for name, gap in (("din", -0.05), ("din+knowledge", 0.01))
    },
    "segments": {
        "without": "din",
        "with": "din+knowledge",
        "groups": [
            {
                "by": "user",
                "rule": "Users by their events before the row",
                "segments": [
                    {"name": "0 events", "rows": 12, "positives": 0, "left_out": "all labels are 0"},
                    segment("1 to 5 events", 0.0321),
                ],
            },
            {"by": "condition.scene", "rule": "scene", "segments": [segment(HTML, -0.0123)]},
        ],
    },
    "fusion": {
        "rankers": {
            "dnn+knowledge": {"how": "late", "metric": "auc", "kept": [True], "gain": [0.09], "p_value": [1e-9]},
            "din+knowledge": {"how": "early", "metric": "auc", "gain": [-0.02], "p_value": [0.01]},
        },
        "rows": {"new_items": 0.98, "median_history": 12.0},
    },
    "controls": {
        "ranking": {"din+control:counters": ranker(0.71)},
        "validation": {"din+control:counters": ranker(0.72)},
        "kept": {"din+control:counters": [True, True, False]},
        "comparisons": [
            {
                "a": "din+control:counters",
                "b": "din",
                "metric": "auc",
                "difference": 0.009,
                "ci95": [0.001, 0.017],
                "p_value": 0.02,
            }
        ],
    },
    "oracle": {"auc": 0.85},
    "retrieval": {"any": {"hr@10": 0.11, "ndcg@10": 0.06, "hr@50": 0.3, "ndcg@50": 0.1, "mrr": 0.05}},
    "retrieval_protocol": {"users": 990, "candidates": 1500, "seen_items": "left out"},
    "pretrain": {
        "tokens_per_second": 15234.5,
        "steps": 812,
        "epochs": 6,
        "seconds": 92.4,
        "validation": {"item_loss": 5.61, "recall@10": 0.21},
        "parameters": 412345,
        "peak_memory_bytes": 812345678,
    },
    "query": {"rows": 120000, "questions": 3, "seconds": 21.4},
    "environment": {
        "openlum": "0.1.0",
        "torch": "2.13.0",
        "python": "3.11.9",
        "cpu": "a processor",
        "gpu": None,
        "commit": None,
        "seed": 0,
    },
}


def fill(run: Path) -> None:
    """Write a complete run with titles and values that break a page if they are not escaped."""
    (run / "dataset").mkdir(parents=True)
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    lines: list[dict[str, Any]] = []
    for step in range(20, 400, 20):
        train = {"loss": 7 - step / 200, "item_loss": 6 - step / 200, "tokens_per_second": 15000.0, "lr": 1e-3}
        lines.append({"step": step, "epoch": step // 100, **train})
        if step % 100 == 0:
            lines.append({"step": step, "validation": {"loss": 7 - step / 220, "recall@10": step / 2000}})
    (run / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    history = [
        {"title": HTML, "condition": {"scenario": "search", "query": "sandals"}, "time": "2025-02-01 18:00"},
        {
            "title": "Red Norvik sandals 17",
            "condition": {"scenario": "home", "query": None},
            "time": "2025-02-02 09:10",
        },
    ]
    items = [
        {"rank": n + 1, "title": f"Blue Fjord tents {n}", "similarity": 0.9 - n / 50, "hit": None, "other_hit": None}
        for n in range(10)
    ]
    answers = [
        {"question": name, "words": words, "items": items}
        for name, words in (("any", "nothing is known"), ("search", "scenario = search, query = tents"), ("like", HTML))
    ]
    later = [
        {"title": f"Blue Fjord tents {n}", "condition": {"scenario": "home", "tags": ["a", HTML]}, "again": n == 7}
        | {"time": "2025-02-03 10:00"}
        for n in (7, 3)
    ]
    example = {"user": "17", "history": history, "next": later, "answers": answers}
    (run / "example.json").write_text(json.dumps(example))
    (run / "config.resolved.yaml").write_text("# <b>bold</b>\nname: market\npretrain:\n  epochs: 6\n")
    dataset = {
        "name": "market",
        "counts": {"events": 120345, "users": 1000, "items": 1500},
        "rejected": {"time in the future": 3},
        "notes": {"events_out_of_order": 12},
        "valid_time": 1740000000,
        "test_time": 1740500000,
        "impressions": {"train": 96000, "valid": 12000, "test": 12345},
        "label_rule": "The impression log's column 'label'.",
    }
    (run / "dataset" / "dataset.json").write_text(json.dumps(dataset))


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


def test_gains_distinguish_improvement_harm_and_no_difference() -> None:
    gains = knowledge_gains(SUMMARY)
    assert [(gain["b"], gain["verdict"]) for gain in gains] == [("dnn", "improves"), ("din", "improves")]
    plain = SUMMARY["ranking"]["dnn"]["auc"]["mean"]
    assert gains[0]["oracle_gap_share"] == pytest.approx(0.096 / (0.85 - plain))
    other = copy.deepcopy(SUMMARY)
    other["comparisons"][0] |= {"difference": -0.01}
    other["comparisons"][1] |= {"p_value": 0.4}
    verdicts = [gain["verdict"] for gain in knowledge_gains(other)]
    assert verdicts == ["harms", "makes no significant difference to"]


def test_summary_table_has_a_row_for_each_ranker_control_and_the_oracle() -> None:
    table = summary_table(SUMMARY)
    assert table.row_count == 6
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    for part in ("din+knowledge", "0.7563 ± 0.0012", "+0.0550, p = 0.0003", "0.8500"):
        assert part in text


def test_the_page_and_the_table_show_controls_and_harm(tmp_path: Path) -> None:
    fill(tmp_path)
    page = write_report(tmp_path).read_text()
    assert "KNOWLEDGE HARMS din" in page
    assert "98 % of the validation rows&#39; items were not in the training period" in page
    assert "control:counters" in page
    console = Console(file=io.StringIO(), width=120)
    console.print(summary_table(SUMMARY))
    text = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "KNOWLEDGE HARMS din" in text
    assert "din+control:counters" in text
    assert "+0.0090, p = 0.02" in text


def test_knowledge_that_is_not_used_adds_nothing() -> None:
    summary = copy.deepcopy(SUMMARY)
    summary["fusion"]["rankers"]["dnn+knowledge"]["kept"] = [False, False]
    gain = knowledge_gains(summary)[0]
    assert (gain["b"], gain["verdict"], gain["used"]) == ("dnn", "adds nothing to", False)


def test_metrics_within_a_request_come_first_where_they_exist(run: Path) -> None:
    within = {"request_gauc": metric(0.6123), "request_ndcg": metric(0.4567)}
    ranking = {name: within | metrics for name, metrics in SUMMARY["ranking"].items()}
    names = [str(column.header) for column in summary_table(SUMMARY | {"ranking": ranking}).columns]
    assert names[:4] == ["Ranker", "AUC in request", "NDCG@10 in request", "AUC"]
    assert "in request" not in " ".join(str(column.header) for column in summary_table(SUMMARY).columns)
    (run / "summary.json").write_text(json.dumps(SUMMARY | {"ranking": ranking}))
    page = write_report(run).read_text()
    assert page.index("<th>AUC in request</th>") < page.index("<th>AUC</th>")
    assert "0.4567" in page
