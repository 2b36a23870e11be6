"""The report page and the schema of summary.json."""

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
from openlum.report import knowledge_gains, summary_table, write_report

SCHEMA = json.loads((Path(openlum.__file__).parent / "summary.schema.json").read_text())
EVIL = '<script src="https://example.org/x.js">alert(1)</script> & "shoes"'


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
    """A whole run, with titles and values that would break a page which does not escape them."""
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
        {"title": EVIL, "condition": {"scenario": "search", "query": "sandals"}, "time": "2025-02-01 18:00"},
        {
            "title": "Red Norvik sandals 17",
            "condition": {"scenario": "home", "query": None},
            "time": "2025-02-02 09:10",
        },
    ]
    items = [{"title": f"Blue Fjord tents {n}", "similarity": 0.9 - n / 50} for n in range(10)]
    answers = [
        {"question": name, "words": words, "items": items}
        for name, words in (("any", "nothing is known"), ("search", "scenario = search, query = tents"), ("like", EVIL))
    ]
    (run / "example.json").write_text(json.dumps({"user": "17", "history": history, "answers": answers}))
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


def test_schema_is_a_schema_and_describes_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    told = [
        SCHEMA["properties"],
        SCHEMA["properties"]["pretrain"]["properties"],
        SCHEMA["$defs"]["metric"]["properties"],
    ]
    assert [key for keys in told for key, value in keys.items() if "description" not in value] == []


@pytest.mark.parametrize(
    "absent", [(), ("ranking", "comparisons", "oracle"), ("retrieval", "retrieval_protocol"), "all"]
)
def test_schema_accepts_whole_and_partial_summaries(absent: Any) -> None:
    gone = set(SUMMARY) - {"environment"} if absent == "all" else set(absent)
    jsonschema.validate({key: value for key, value in SUMMARY.items() if key not in gone}, SCHEMA)


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


def test_report_escapes_what_comes_from_data(run: Path) -> None:
    page = write_report(run).read_text()
    assert "<script" not in page
    assert "<b>bold</b>" not in page
    assert "&lt;script" in page


def test_report_requests_nothing(run: Path) -> None:
    page = write_report(run).read_text()
    targets = re.findall(r"""<[^>]*?\b(?:src|href|srcset|data|action)\s*=\s*["']?([^"'\s>]+)""", page)
    assert all(target.startswith("#") for target in targets), targets
    assert not re.search(r"@import|<link|<iframe|url\((?!#)", page)


def test_report_shows_every_part(run: Path) -> None:
    page = write_report(run).read_text()
    for text in ("+0.0960", "0.7563 ± 0.0012", "oracle", "HR@10", "recall@10", "Blue Fjord tents 3", "query = tents"):
        assert text in page, text
    for text in ("time in the future", "120,345", "2025-02-19", "a processor", "epochs: 6", "p &lt; 0.0001", "775 MiB"):
        assert text in page, text
    assert 'class="absent"' not in page
    assert page.count("<svg") == 1 + 5  # the AUC of rankers, and loss, item_loss, tokens_per_second, lr, recall@10


@pytest.mark.parametrize(
    "name", ["summary.json", "metrics.jsonl", "example.json", "config.resolved.yaml", "dataset/dataset.json"]
)
def test_report_does_without_a_part(run: Path, name: str) -> None:
    (run / name).unlink()
    assert 'class="absent"' in write_report(run).read_text()


def test_report_of_an_empty_run(tmp_path: Path) -> None:
    assert "Left out" in write_report(tmp_path).read_text()


def test_report_of_single_sections(run: Path) -> None:
    for section in SUMMARY:
        part = {"environment": SUMMARY["environment"], section: SUMMARY[section]}
        (run / "summary.json").write_text(json.dumps(part))
        write_report(run)
        summary_table(part)


def test_unreadable_parts_are_the_users_to_mend(run: Path) -> None:
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    with pytest.raises(InputError, match="line 2"):
        write_report(run)
    with pytest.raises(InputError, match="no such run"):
        write_report(run / "nowhere")


def test_gains_name_improvement_harm_and_neither() -> None:
    gains = knowledge_gains(SUMMARY)
    assert [(gain["b"], gain["verdict"]) for gain in gains] == [("dnn", "improves"), ("din", "improves")]
    plain = SUMMARY["ranking"]["dnn"]["auc"]["mean"]
    assert gains[0]["closed"] == pytest.approx(0.096 / (0.85 - plain))
    other = copy.deepcopy(SUMMARY)
    other["comparisons"][0] |= {"difference": -0.01}
    other["comparisons"][1] |= {"p_value": 0.4}
    verdicts = [gain["verdict"] for gain in knowledge_gains(other)]
    assert verdicts == ["harms", "makes no significant difference to"]


def test_summary_table_has_a_row_for_each_ranker_and_the_oracle() -> None:
    table = summary_table(SUMMARY)
    assert table.row_count == 5
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    for part in ("din+knowledge", "0.7563 ± 0.0012", "+0.0550, p = 0.0003", "0.8500"):
        assert part in text
