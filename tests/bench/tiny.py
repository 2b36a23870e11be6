"""A tiny benchmark for tests of `lum bench`, and helpers to run it."""

import json
from pathlib import Path
from typing import Any

import jsonschema
from typer.testing import CliRunner, Result

import openlum
from openlum.cli import app

SHAPE = {"width": 16, "layers": 1, "heads": 2, "embedding_width": 16, "field_width": 8, "max_events": 16}
TINY: dict[str, Any] = {
    "protocol": ["a market for tests"],
    "experiment": {
        "name": "tiny",
        "data": {"market": {"users": 100, "items": 120, "sessions": 5, "seed": 3}},
        "model": SHAPE,
        "pretrain": {"protocol": "time", "epochs": 1, "batch_events": 512},
        "query": {"questions": {"click": {"feedback": "click", "*": "$row"}, "skip": {"feedback": "skip"}}, "matching_head": []},
        "rank": {"knowledge": {"tier": "live"}, "max_epochs": 2, "hidden": [16],
                 "sequence": {"width": 16, "layers": 1, "heads": 2, "max_events": 16}},
        "retrieve": None,
    },
    "ranking": {"tune": {"dnn": [{"dropout": 0.1}, {"dropout": 0.3}], "hstu": [{}, {"max_epochs": 1}]}},
    "ablation_ranker": "dnn",
    "ablations": [
        {"table": "use", "label": "early fusion", "rank": {"knowledge": {"fusion": "early", "direct": False}}},
        {"table": "freshness", "label": "as of the day", "query": {"as_of": "day"}},
        {"table": "conditions", "label": "no conditions", "query": {"questions": {"any": {}}, "predict_feedback": False},
         "model": {"conditions": False}, "pretrain": {"feedback_contrast_weight": 0.0, "feedback_prediction_weight": 0.0}},
    ],
    "retrieval": {
        "protocol": ["the last event"],
        "model": SHAPE,
        "pretrain": {"protocol": "last", "epochs": 1, "batch_events": 512, "feedback_contrast_weight": 0.0},
        "retrieve": {"questions": {"any": {}}, "known": {"known": ["scenario"]}, "at": [10]},
        "opponents": {name: {"model": SHAPE | {"encoder": kind}, "epochs": 1}
                      for name, kind in (("sasrec", "transformer"), ("hstu", "hstu"))},
    },
}  # fmt: skip


def lum_bench(*arguments: str) -> Result:
    """Run `lum bench` with arguments."""
    return CliRunner().invoke(app, ["bench", *arguments], env={"COLUMNS": "200"})


def forbid(*_: object, **__: object) -> None:
    """Raise, in place of a function that must not be called."""
    raise AssertionError("this must not run again")


def check_form(result: dict[str, Any]) -> None:
    """Check the result against the schema of `summary.json`."""
    jsonschema.validate(
        result, json.loads((Path(openlum.__file__).parent / "pipeline/summary.schema.json").read_text())
    )
