"""Sentences on what knowledge does to each ranker, from `fusion` of `summary.json`: for the terminal and the page."""

from typing import Any, NamedTuple

from openlum.evaluation.methods import WITH_KNOWLEDGE

MANY_NEW_ITEMS = 0.5
"""Share of rows with new items from which they are named as a reason."""
SHORT_HISTORY = 3
"""Median number of earlier events up to which short histories are named as a reason."""
NEAR_CHANCE = 0.53
"""AUC of the answers alone up to which they are named as a reason."""


class Note(NamedTuple):
    """A sentence, and whether it is a warning."""

    text: str
    warns: bool


def knowledge_notes(summary: dict[str, Any]) -> list[Note]:
    """Return one sentence for each ranker whose knowledge is not used by every seed or harms it, and then the known reasons.

    Args:
        summary: the content of `summary.json`, or of the ranker's `metrics.json`.
    """
    fusion = summary.get("fusion", {"rankers": {}})
    notes = [note for name, figures in fusion["rankers"].items() if (note := _note(name, figures))]
    if notes and (reasons := _reasons(summary)):
        notes.append(Note(f"Why: {'; '.join(reasons)}.", False))
    return notes


def _note(name: str, figures: dict[str, Any]) -> Note | None:
    plain = name.removesuffix(WITH_KNOWLEDGE)
    if figures["how"] == "early":
        if not figures["gain"][0] < 0:
            return None
        measured = f"validation AUC {figures['gain'][0]:+.4f}, p = {figures['p_value'][0]:.2g}"
        return Note(
            f"KNOWLEDGE HARMS {plain}: as an input (early fusion) it makes the ranker worse ({measured}). "
            "Set rank.knowledge.fusion to late.",
            True,
        )
    used, seeds = sum(figures["kept"]), len(figures["kept"])
    if used == seeds:
        return None
    metric = {"auc": "AUC", "logloss": "log loss"}[figures["metric"]]
    gains_by_seed = [
        f"{gain:+.4f} (p = {p:.2g})"
        for gain, p in zip(figures["gain"], figures["p_value"], strict=True)
        if gain is not None
    ]
    gains = (
        f"; validation gain in {metric}: {', '.join(gains_by_seed)}"
        if gains_by_seed
        else "; too few users to measure a gain"
    )
    if used:
        return Note(f"{plain}: knowledge is used by {used} of {seeds} seeds{gains}.", False)
    return Note(f"{plain}: knowledge adds nothing here, so the predictions are those without it{gains}.", True)


def _reasons(summary: dict[str, Any]) -> list[str]:
    """Return the known reasons why knowledge does not help."""
    rows = summary["fusion"]["rows"]
    reasons: list[str] = []
    if rows["new_items"] >= MANY_NEW_ITEMS:
        reasons.append(f"{100 * rows['new_items']:.0f} % of the validation rows' items were not in the training period")
    if rows["median_history"] <= SHORT_HISTORY:
        reasons.append(
            f"half of the validation rows have at most {rows['median_history']:.0f} earlier events of their user"
        )
    probe = summary.get("knowledge", {}).get("all", {}).get("valid")
    if probe is not None and probe <= NEAR_CHANCE:
        reasons.append(f"the answers alone rank the validation rows hardly better than chance (AUC {probe:.2f})")
    if warning := summary.get("pretrain", {}).get("warning"):
        reasons.append(str(warning).rstrip("."))
    return reasons
