"""`impressions_from_events` and `holdout`, proposed from the feedback fields of a log."""

from collections.abc import Sequence

from openlum.schema_wizard.commented_yaml import YamlLine, format_scalar
from openlum.schema_wizard.fields import ProposedField
from openlum.schema_wizard.name_hints import LABEL, RATINGS, has_word, rank_among

LOWEST_POSITIVE = {5: 4, 10: 8}
"""Highest value of a rating scale to the lowest value that counts as positive."""
GOALS = ("purchase", "buy", "transaction", "order", "click", "clicks", "like", "play", "watch")
"""Actions that retrieval may have to predict, the most valuable first."""


def impression_rule_lines(fields: Sequence[ProposedField]) -> list[YamlLine]:
    """Return the lines of `impressions_from_events`, commented out if the guess is not safe."""
    feedback = [proposed for proposed in fields if proposed.feedback and not proposed.reason_commented_out]
    binary = [proposed for proposed in feedback if proposed.profile.kind == "integer" and _is_binary(proposed)]
    labels = sorted(
        (rank, proposed.name) for proposed in binary if (rank := rank_among(proposed.profile.name, LABEL)) is not None
    )
    ratings = [
        proposed for proposed in feedback if has_word(proposed.profile.name, RATINGS) and len(proposed.profile.numbers)
    ]
    blank, key = YamlLine(0, ""), "impressions_from_events:"
    comment = "without an impression log, every event becomes an impression, labelled by a field"
    if labels:
        return [blank, YamlLine(0, key, comment), *_rule_lines(labels[0][1], 1, is_safe=True)]
    if ratings:
        highest = ratings[0].profile.numbers.max()
        at_least = LOWEST_POSITIVE.get(int(highest), round(0.8 * float(highest), 2))
        is_safe = highest in LOWEST_POSITIVE and len(ratings) == 1
        comment = comment if is_safe else f"{comment}; check this guess"
        return [
            blank,
            YamlLine(0, key, comment, commented_out=not is_safe),
            *_rule_lines(ratings[0].name, at_least, is_safe),
        ]
    numeric = binary or [proposed for proposed in feedback if len(proposed.profile.numbers)]
    if numeric:
        at_least = 1 if binary else round(float(numeric[0].profile.numbers.mean()), 2)
        comment = "a ranker needs impressions; this rule makes an impression of every event, labelled by a field"
        return [
            blank,
            YamlLine(0, key, comment, commented_out=True),
            *_rule_lines(numeric[0].name, at_least, is_safe=False),
        ]
    comment = "a ranker needs impressions; this rule needs a condition field of numbers, such as a rating or 0 and 1"
    return [blank, YamlLine(0, f"{key} {{field: FIELD, at_least: 1}}", comment, commented_out=True)]


def holdout_lines(fields: Sequence[ProposedField]) -> list[YamlLine]:
    """Return the lines of `holdout`, commented out: the action that retrieval predicts."""
    for proposed in fields:
        if proposed.feedback and not proposed.reason_commented_out and proposed.profile.kind == "text":
            frequent = proposed.profile.frequent
            value = next((value for goal in GOALS for value in frequent if value.lower() == goal), frequent[0])
            comment = (
                f"retrieval holds out the last event with one of these values of {proposed.name}; by default, any event"
            )
            return [
                YamlLine(0, ""),
                YamlLine(0, "holdout:", comment, commented_out=True),
                YamlLine(0, f"  field: {format_scalar(proposed.name)}", commented_out=True),
                YamlLine(0, f"  values: {format_scalar([value])}", commented_out=True),
            ]
    return []


def _rule_lines(field: str, at_least: float, is_safe: bool) -> list[YamlLine]:
    return [
        YamlLine(0, f"  field: {format_scalar(field)}", "a condition field", commented_out=not is_safe),
        YamlLine(0, f"  at_least: {at_least:g}", "the label is 1 from this value on", commented_out=not is_safe),
    ]


def _is_binary(proposed: ProposedField) -> bool:
    """Return whether a field has the values 0 and 1 and no others."""
    return proposed.profile.distinct == 2 and set(proposed.profile.numbers) <= {0.0, 1.0}
