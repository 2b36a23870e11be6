"""A summary with every part, and a run directory that has it."""

import json
from pathlib import Path
from typing import Any

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
