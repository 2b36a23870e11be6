"""The table of the tiers of knowledge: what each adds to every ranker, and what it costs when a request arrives."""

from typing import Any

from rich.table import Table
from rich.text import Text

from openlum.evaluation.methods import WITH_KNOWLEDGE, WITH_TIER
from openlum.report.rendering import p_value, signed, spread, terminal_table

ONLINE = {
    "nightly": "the matching head, on the vectors of the night before",
    "fresh": "the matching head, on vectors renewed after every event",
    "live": "the user encoder, for every candidate",
}
"""Tier to what must run when a request arrives."""


def tier_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each ranker and tier: `ranker`, `tier`, `auc` and `gain`, the comparison with the plain ranker.

    Args:
        summary: the content of `summary.json`.
    """
    tiers = summary.get("tiers", {})
    rankings = summary.get("ranking", {}) | tiers.get("ranking", {})
    gains = {
        comparison["a"]: comparison
        for comparison in [*summary.get("comparisons", []), *tiers.get("comparisons", [])]
        if comparison["b"] == comparison["a"].partition("+")[0] and comparison["metric"] == "auc"
    }
    others = {name.partition(WITH_TIER)[2] for name in tiers.get("ranking", {})}
    if not others:
        return []
    own = next(tier for tier in ("fresh", "live", "nightly") if tier not in others)
    rows = []
    for ranker in [name for name in summary.get("ranking", {}) if "+" not in name]:
        for tier in ONLINE:
            name = f"{ranker}{WITH_KNOWLEDGE}" if tier == own else f"{ranker}{WITH_TIER}{tier}"
            if name in rankings:
                rows.append({"ranker": ranker, "tier": tier, "auc": rankings[name]["auc"], "gain": gains.get(name)})
    return rows


def tier_costs(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each tier `tier`, `online` in words, and, if they were measured, the costs of `summary.json`."""
    costs = summary.get("query", {}).get("costs", {})
    tiers = dict.fromkeys(row["tier"] for row in tier_rows(summary))
    return [{"tier": tier, "online": ONLINE[tier], **costs.get(tier, {})} for tier in tiers]


def tier_table(summary: dict[str, Any]) -> Table | None:
    """Return the table for a terminal of 80 columns; None if the knowledge has one tier."""
    rows = tier_rows(summary)
    if not rows:
        return None
    table = terminal_table("Tiers of knowledge", "Ranker", "Tier", "AUC", "Gain in AUC")
    for row in rows:
        gain = row["gain"]
        in_words = f"{signed(gain['difference'])}, {p_value(gain['p_value'])}" if gain else ""
        table.add_row(row["ranker"], row["tier"], spread(row["auc"]), in_words)
    notes = [f"{cost['tier']}: {cost_in_words(cost)}" for cost in tier_costs(summary)]
    table.caption, table.caption_justify = Text("\n".join(notes)), "left"
    return table


def cost_in_words(cost: dict[str, Any]) -> str:
    """Return what must run when a request arrives, and what it costs."""
    words = str(cost["online"])
    if "bytes_per_user" in cost:
        words += f"; {cost['bytes_per_user']:,} bytes a user, {cost['microseconds_per_candidate']:.1f} µs a candidate"
    return words
