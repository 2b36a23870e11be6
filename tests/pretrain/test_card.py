"""A model card shows the names and ids of a log as they are, whatever they hold."""

import ast
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from openlum.data.dataset import Dataset
from openlum.model import LargeUserModel
from openlum.pretrain.card import write_card
from openlum.pretrain.initial import build_model
from openlum.pretrain.settings import PretrainSettings

from . import golden

HOSTILE = [
    "{x}",
    "{data.__class__} {0}",
    "<script>alert(1)</script> & co",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "---\nlicense: mit\n---\n# Another\n\n- list",
    "[click](javascript:alert(1)) ![image](http://example.org/x.png) <http://example.org>",
    "`code` ``` *strong* __strong__ ~~gone~~ $x^2$",
    "\"]}]); import os; os.system('rm') #",
    "back\\slash \\| \\`",
    "a\u2028b\u202ec\0d\x1be",
    "ünïcödé 商店",
]


@pytest.fixture(scope="module")
def model(small_dataset: Dataset) -> LargeUserModel:
    return build_model(small_dataset, golden.SHAPE, seed=0)


def card(model: LargeUserModel, dataset: Dataset, name: str, directory: Path) -> str:
    """The card of a model where everything that a log or a file names is `name`."""
    specs = [spec.model_copy(update={"name": name}) for spec in model.config.condition[:1]]
    model.config = model.config.model_copy(update={"condition": specs, "initialised_from": name})
    model.processor.items.values[0] = name
    summary = {"parameters": 5, "steps": 6, "epochs": 1, "validation": {"recall@10": 0.5, f"auc {name}": 0.5}}
    write_card(directory, model, dataset.info.model_copy(update={"name": name}), PretrainSettings(), summary)
    return (directory / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_card_is_one_page_whatever_names_hold(
    model: LargeUserModel, small_dataset: Dataset, tmp_path: Path, name: str
) -> None:
    plain, hostile = (ModelCard(card(model, small_dataset, one, tmp_path)) for one in ("shop", name))
    assert hostile.data.to_dict() == plain.data.to_dict()
    read = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    blocks = [[(one.type, one.tag) for one in read.parse(page.text)] for page in (plain, hostile)]
    assert blocks[0] == blocks[1]
    assert spans(read, hostile.text) == spans(read, plain.text)
    shown = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    assert text(read, hostile.text).count(shown) == text(read, plain.text).count("shop") == 5
    code = next(one.content for one in read.parse(hostile.text) if one.type == "fence")
    history = next(one for one in ast.walk(ast.parse(code)) if isinstance(one, ast.keyword) and one.arg == "history")
    assert ast.literal_eval(history.value) == [{"item": name}]


def spans(read: MarkdownIt, page: str) -> list[str]:
    """The kinds of everything within lines but text."""
    inside = [child for one in read.parse(page) for child in one.children or []]
    return [child.type for child in inside if child.type != "text"]


def text(read: MarkdownIt, page: str) -> str:
    """What a reader sees outside of code."""
    inside: list[Any] = [child for one in read.parse(page) for child in one.children or []]
    return "".join(child.content if child.type == "text" else "\n" for child in inside)
