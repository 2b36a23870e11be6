"""The model card shows the names and ids of a log literally, whatever characters they have."""

import ast
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from openlum.data.dataset import Dataset
from openlum.model import LargeUserModel
from openlum.pretrain.card import write_card
from openlum.pretrain.initialization import build_model
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
    """Return the card of a model in which all names from logs and files are `name`."""
    specs = [spec.model_copy(update={"name": name}) for spec in model.config.condition[:1]]
    model.config = model.config.model_copy(update={"condition": specs, "initialised_from": name})
    model.processor.items.values[0] = name
    summary = {"parameters": 5, "steps": 6, "epochs": 1, "validation": {"recall@10": 0.5, f"auc {name}": 0.5}}
    write_card(directory, model, dataset.info.model_copy(update={"name": name}), PretrainSettings(), summary)
    return (directory / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_do_not_change_the_structure_of_a_card(
    model: LargeUserModel, small_dataset: Dataset, tmp_path: Path, name: str
) -> None:
    plain, hostile = (ModelCard(card(model, small_dataset, text, tmp_path)) for text in ("shop", name))
    assert hostile.data.to_dict() == plain.data.to_dict()
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    blocks = [[(token.type, token.tag) for token in parser.parse(page.text)] for page in (plain, hostile)]
    assert blocks[0] == blocks[1]
    assert inline_types(parser, hostile.text) == inline_types(parser, plain.text)
    expected = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    assert visible_text(parser, hostile.text).count(expected) == visible_text(parser, plain.text).count("shop") == 5
    code = next(token.content for token in parser.parse(hostile.text) if token.type == "fence")
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    recommend = next(call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "recommend")
    assert ast.literal_eval(recommend.args[0]) == [{"item": name}]


def inline_types(parser: MarkdownIt, page: str) -> list[str]:
    """Return the types of all inline tokens of a page except text."""
    children = [child for token in parser.parse(page) for child in token.children or []]
    return [child.type for child in children if child.type != "text"]


def visible_text(parser: MarkdownIt, page: str) -> str:
    """Return the text of a page that a reader sees, without code."""
    children: list[Any] = [child for token in parser.parse(page) for child in token.children or []]
    return "".join(child.content if child.type == "text" else "\n" for child in children)
