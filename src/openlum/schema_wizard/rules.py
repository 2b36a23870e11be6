"""Labels and held-out events, proposed from the feedback fields of a log."""

from collections.abc import Sequence

from openlum.schema_wizard.fields import Field
from openlum.schema_wizard.lines import Line, scalar
from openlum.schema_wizard.names import LABEL, has, rank

RATINGS = {"rating", "ratings", "stars", "star", "score", "overall", "rate"}
LIKED = {5: 4, 10: 8}
"""The most of a scale to the least that is a yes."""
GOALS = ("purchase", "buy", "transaction", "order", "click", "clicks", "like", "play", "watch")


def rule_lines(fields: Sequence[Field]) -> list[Line]:
    """`impressions_from_events`: commented out where the guess is not safe."""
    feedback = [one for one in fields if one.feedback and not one.off]
    yes_no = [one for one in feedback if one.facts.kind == "integer" and one.facts.distinct == 2 and _is_yes_no(one)]
    ranked = sorted((place, one.name) for one in yes_no if (place := rank(one.facts.name, LABEL)) is not None)
    ratings = [one for one in feedback if has(one.facts.name, RATINGS) and len(one.facts.numbers)]
    blank, key = Line(0, ""), "impressions_from_events:"
    why = "there is no impression log: every event is one, labelled by a field"
    if ranked:
        return [blank, Line(0, key, why), *_rule(ranked[0][1], 1, sure=True)]
    if ratings:
        most = ratings[0].facts.numbers.max()
        least = LIKED.get(int(most), round(0.8 * float(most), 2))
        sure = most in LIKED and len(ratings) == 1
        told = why if sure else f"{why}. A guess that needs your eyes"
        return [blank, Line(0, key, told, off=not sure), *_rule(ratings[0].name, least, sure)]
    unsure = yes_no or [one for one in feedback if len(one.facts.numbers)]
    if unsure:
        least = 1 if yes_no else round(float(unsure[0].facts.numbers.mean()), 2)
        told = "without impressions no ranker is trained; a rule like this makes them of events, labelled by a field"
        return [blank, Line(0, key, told, off=True), *_rule(unsure[0].name, least, sure=False)]
    told = "without impressions no ranker is trained; a rule needs a condition field of numbers, such as a rating or 0 and 1"
    return [blank, Line(0, f"{key} {{field: FIELD, at_least: 1}}", told, off=True)]


def holdout_lines(fields: Sequence[Field]) -> list[Line]:
    """`holdout`, commented out: which action retrieval is to foresee."""
    for one in fields:
        if one.feedback and not one.off and one.facts.kind == "text":
            goal = next((value for known in GOALS for value in one.facts.common if value.lower() == known), None)
            value = goal or one.facts.common[0]
            told = f"retrieval holds out the last event with one of these values of {one.name}, by default any event"
            return [
                Line(0, ""),
                Line(0, "holdout:", told, off=True),
                Line(0, f"  field: {scalar(one.name)}", off=True),
                Line(0, f"  values: {scalar([value])}", off=True),
            ]
    return []


def _rule(name: str, least: float, sure: bool) -> list[Line]:
    text = "  field: {}", "  at_least: {}"
    note = "a condition field", "the label is 1 from here on"
    values = scalar(name), f"{least:g}"
    return [Line(0, t.format(v), n, off=not sure) for t, v, n in zip(text, values, note, strict=True)]


def _is_yes_no(one: Field) -> bool:
    return set(one.facts.numbers) <= {0.0, 1.0}
