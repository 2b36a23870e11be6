"""The inputs that rankers have by the settings and by the fields of a dataset."""

from typing import Any

import numpy as np

from openlum.data.dataset import Dataset
from openlum.data.item_activity import ACTIVITY
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.rank.plan import plan_ranking_for
from openlum.rank.settings import KnowledgeSettings, RankerConfig, RankSettings, Tier

ITEM_ACTIVITY = FieldSpec(name="activity.item", type="vector", width=len(ACTIVITY))
"""The activity of the target item as of the row's time, a field of network rankers."""
MATCHED = ("nightly.", "fresh.")
"""What the names of the matching head's predictions begin with: the tier."""
CONTENT = "content."
"""What the names of comparisons by content begin with, which need the user's last items only."""
ACTIVITY_SCALE = 10.0
"""Network rankers read the activity divided by this number: logarithms of counts and seconds are at most about 20."""


def behaviour_specs(dataset: Dataset) -> list[FieldSpec]:
    """Return the condition fields of a behaviour, without time fields.

    Time fields make end-to-end models worse (docs/experiments/several-sets.md), so they are left out for every ranker.
    """
    times = dataset.info.data_schema.time_fields
    return [spec for spec in dataset.specs("condition") if spec.name not in times]


def plain_config(dataset: Dataset, architecture: str, settings: RankSettings) -> RankerConfig:
    """Return the configuration of a ranker without knowledge. Its settings have a number for every key."""
    info = dataset.info
    row_condition = [spec for spec in info.condition if not spec.feedback]  # an impression has no feedback yet
    kinds = (("user", info.user), ("condition", row_condition), ("context", info.context))
    fields = [s.model_copy(update={"name": f"{kind}.{s.name}"}) for kind, specs in kinds for s in specs]
    return RankerConfig(
        architecture=architecture,
        settings=plan_ranking_for(dataset, settings),
        features=[*fields, ITEM_ACTIVITY] if settings.item_activity else fields,
        item=info.item,
        behaviour=behaviour_specs(dataset),
        items=len(dataset.vocabulary("items")),
        users=len(dataset.vocabulary("users")),
    )


def select_questions(questions: list[str], names: list[str] | None) -> list[str]:
    """Return the questions whose names are in `names`, in the order of `questions`; all questions if `names` is None.

    A question of the experiment file that stands for several questions, NAME.VALUE, may be named NAME.

    Raises:
        InputError: the knowledge has no question of a name.
    """
    unknown = sorted(set(names or []) - set(questions) - {_asked_name(question) for question in questions})
    if unknown:
        raise InputError(
            f"rank.knowledge: the knowledge has no question '{unknown[0]}'; choose from {', '.join(questions)}"
        )
    return [name for name in questions if names is None or name in names or _asked_name(name) in names]


def _asked_name(name: str) -> str:
    """Return the name in the experiment file of a question; predictions, FIELD=VALUE, have their own names."""
    return name if "=" in name else name.partition(".")[0]


def names_of_tier(names: list[str], tier: Tier) -> list[str]:
    """Return the names of the scores of a tier, among the names of all scores of the knowledge.

    Comparisons by content belong to `fresh` and `live`; alone, they are no tier.
    """
    own = [name for name in names if tier == (name.partition(".")[0] if name.startswith(MATCHED) else "live")]
    if tier == "live":
        return own
    compared = [name for name in names if tier == "fresh" and name.startswith(CONTENT)]
    return own + compared if own else []


def tier_scores(names: list[str], tier: Tier, chosen: list[str] | None) -> list[str]:
    """Return the names of the scores that a ranker reads: the chosen ones, by default those of the tier.

    Args:
        names: of all scores of the knowledge.
        tier: of the settings.
        chosen: names in the settings; None for all of the tier.

    Raises:
        InputError: the knowledge has no score of a name, or none of the tier.
    """
    if chosen is not None:
        return select_questions(names, chosen)
    found = names_of_tier(names, tier)
    if not found:
        raise InputError(
            f"rank.knowledge.tier: the knowledge has no predictions of the matching head for the tier '{tier}'; name the tier in "
            "query.matching_head, with a model that was trained to predict feedback, or set rank.knowledge.tier to 'live'"
        )
    return found


def check_questions(settings: KnowledgeSettings, questions: list[str], score_names: list[str]) -> None:
    """Check that knowledge with these questions and scores has everything that the settings need.

    Raises:
        InputError: a named question or score is missing, or all scores of the tier are.
    """
    if settings.matching:
        tier_scores(score_names, settings.tier, settings.matching_questions)
    select_questions(questions, settings.direct_questions)


def history_where_ids(dataset: Dataset, where: dict[str, list[Any]] | None) -> dict[str, np.ndarray]:
    """Return the condition fields of `rank.history_where` and the ids of their values.

    Raises:
        InputError: `where` names a field or a value that the dataset does not have.
    """
    vocabularies = dataset.vocabularies("condition") if where else {}
    ids: dict[str, np.ndarray] = {}
    for name, values in (where or {}).items():
        if name not in vocabularies:
            fields = ", ".join(vocabularies) or "none"
            raise InputError(
                f"rank.history_where: '{name}' is not a categorical condition field of the dataset; its fields: {fields}"
            )
        ids[name] = vocabularies[name].encode(values)
        if (ids[name] == 0).any():
            value, examples = values[int(np.argmin(ids[name]))], ", ".join(vocabularies[name].values[:8])
            raise InputError(f"rank.history_where.{name}: the dataset has no value '{value}'; it has {examples} ...")
    return ids
