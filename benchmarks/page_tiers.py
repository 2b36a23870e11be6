"""The tables of the tiers of knowledge, for `pages.py`."""

from page_figures import RANKINGS, code, number, p_value, read_result, signed, table

TIERS = {
    "kuairand-pure": "tiers_kuairand-pure_epyc-2cores_2026-12-01.json",
    "market": "tiers_market_epyc-2cores_2026-12-01.json",
}
"""Data set to its result file."""
COLUMNS = {
    "none": "alone",
    "nightly": "nightly",
    "fresh": "fresh",
    "live": "live",
    "counters": "control: counters",
    "no user": "control: no user",
}
"""What joins a ranker, in the result files and in the tables."""


def tiers() -> str:
    """Every ranker alone, with each tier of knowledge, and with the controls, on every data set."""
    return _metric("auc", [*COLUMNS], with_shares=True)


def tiers_gauc() -> str:
    """The same within users, without the controls."""
    return _metric("gauc", ["none", "nightly", "fresh", "live"], with_shares=False)


def tiers_controls() -> str:
    """By how much each tier of cached vectors is ahead of each control."""
    rows = []
    for key, file in TIERS.items():
        for entry in read_result(file)["comparisons"]:
            tier = "nightly" if entry["a"].endswith(":nightly") else "fresh"
            is_cached = not entry["a"].endswith(":live") and "+knowledge" in entry["a"]
            if is_cached and "+control:" in entry["b"]:
                ranker, control = entry["b"].split("+control:")
                lead = f"{signed(entry['difference'])}, {p_value(entry)}"
                rows.append([RANKINGS[key].name, code(ranker), tier, control, lead])
    return table(["data set", "ranker", "tier", "control", "AUC ahead of the control"], rows, *TIERS.values())


def tiers_cost() -> str:
    """What each tier costs when a request arrives."""
    rows = []
    for key, file in TIERS.items():
        costs = read_result(file)["query"]["costs"]
        for name, tier in (("nightly and fresh", "fresh"), ("live", "live")):
            cost = costs[tier]
            microseconds = f"{cost['microseconds_per_candidate']:.1f}"
            rows.append([RANKINGS[key].name, name, f"{cost['bytes_per_user']:,}", microseconds])
    return table(["data set", "tier", "bytes a user", "microseconds a candidate"], rows, *TIERS.values())


def _metric(metric: str, joined: list[str], with_shares: bool) -> str:
    """Return the table of a metric; with shares, also how much of the gain of `live` the other tiers keep."""
    rows = []
    for key, file in TIERS.items():
        for ranker, figures in read_result(file)["tiers"].items():
            mean = {name: figures[name][metric]["mean"] for name in joined}
            cells = [number(mean[name]) for name in joined]
            if with_shares:
                gain = mean["live"] - mean["none"]
                shares = [(mean[tier] - mean["none"]) / gain for tier in ("fresh", "nightly")]
                cells.append(" / ".join(f"{share:.0%}" for share in shares))
            rows.append([RANKINGS[key].name, code(ranker), *cells])
    header = ["data set", "ranker", *(COLUMNS[name] for name in joined)]
    return table([*header, *["fresh / nightly keep of live's gain"] * with_shares], rows, *TIERS.values())
