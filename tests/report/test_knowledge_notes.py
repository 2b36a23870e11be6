"""What the terminal and the page say about knowledge that adds nothing or harms."""

from typing import Any

import pytest

from openlum.report.knowledge_notes import knowledge_notes

ROWS = {"new_items": 0.1, "median_history": 40.0}


def summary(rows: dict[str, float] = ROWS, **figures: Any) -> dict[str, Any]:
    late = {"how": "late", "metric": "auc", "kept": [False], "gain": [-0.0004], "p_value": [0.7]}
    return {"fusion": {"rankers": {"din+knowledge": late | figures}, "rows": rows}}


def test_knowledge_that_every_seed_uses_needs_no_note() -> None:
    assert knowledge_notes(summary(kept=[True])) == []
    assert knowledge_notes({}) == []


def test_knowledge_that_adds_nothing_is_named_with_its_gain() -> None:
    (note,) = knowledge_notes(summary())
    assert note.warns
    assert note.text.startswith("din: knowledge adds nothing here, so the predictions are those without it")
    assert "validation gain in AUC: -0.0004 (p = 0.7)" in note.text
    (note,) = knowledge_notes(summary(gain=[None], p_value=[None]))
    assert "too few users to measure a gain" in note.text
    (note,) = knowledge_notes(summary(kept=[True, False], gain=[0.01, 0.0], p_value=[0.001, 0.4]))
    assert "knowledge is used by 1 of 2 seeds" in note.text


def test_early_fusion_that_harms_is_loud() -> None:
    early = {"how": "early", "gain": [-0.012], "p_value": [1e-5]}
    (note,) = knowledge_notes(summary(**early))
    assert note.warns
    assert "KNOWLEDGE HARMS din" in note.text
    assert "-0.0120, p = 1e-05" in note.text
    assert knowledge_notes(summary(**early | {"gain": [0.01]})) == []


@pytest.mark.parametrize(
    ("rows", "more", "reason"),
    [
        ({"new_items": 0.98}, {}, "98 % of the validation rows' items were not in the training period"),
        ({"median_history": 1.0}, {}, "half of the validation rows have at most 1 earlier events"),
        ({}, {"knowledge": {"all": {"valid": 0.51}}}, "hardly better than chance (AUC 0.51)"),
        ({}, {"pretrain": {"warning": "It ended too early."}}, "Why: It ended too early."),
    ],
)
def test_known_reasons_are_given(rows: dict[str, float], more: dict[str, Any], reason: str) -> None:
    assert reason in knowledge_notes(summary(ROWS | rows) | more)[-1].text
    kept = summary(ROWS | rows, kept=[True]) | more
    assert knowledge_notes(kept) == []
