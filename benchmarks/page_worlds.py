"""The tables of the simulated worlds, for `pages.py`."""

from page_figures import code, number, p_value, read_result, table, with_interval

WORLDS = "worlds_epyc-2cores_2026-12-01.json"


def worlds() -> str:
    """The defaults in every simulated world: the gain of the best ranker, and the lead of the asked question."""
    rows = []
    for world, one in read_result(WORLDS)["summary"].items():
        lead = next(
            entry
            for entry in one["retrieval_comparisons"]
            if (entry["b"], entry["metric"]) == (one["best_other"], "ndcg@10")
        )
        gain = [f"{with_interval(entry)}, {p_value(entry)}" for entry in (one["best"], lead)]
        worse = ", ".join(code(name) for name in one["made_worse"]) or "none"
        counts = [str(len(one["seeds"])), f"{one['events']:,.0f}"]
        rows.append([world, *counts, gain[0], worse, one["best_other"], gain[1], f"{one['seconds'] / 60:.0f}"])
    header = [
        "world",
        "logs",
        "events",
        "best ranker with knowledge less best without, AUC (95 % interval)",
        "significantly worse with knowledge",
        "best other method of retrieval",
        "the question less it, NDCG@10 (95 % interval)",
        "minutes per log",
    ]
    return table(header, rows, WORLDS)


def worlds_rankers() -> str:
    """Every ranker in every simulated world, means over the logs."""
    summary, rows = read_result(WORLDS)["summary"], []
    rankings = [metrics for one in summary.values() for metrics in one["ranking"].values()]
    shown = [name for name in ("request_gauc", "request_ndcg", "auc", "gauc") if any(name in one for one in rankings)]
    for world, one in summary.items():
        gains = {entry["a"]: f"{with_interval(entry)}, {p_value(entry)}" for entry in one["comparisons"]}
        for ranker, metrics in one["ranking"].items():
            cells = [number(metrics[name]) if metrics.get(name) is not None else "" for name in shown]
            rows.append([world, f"`{ranker}`", *cells, gains.get(ranker, "")])
        rows.append([world, "*oracle*", *(number(one["oracle"]) if name == "auc" else "" for name in shown), ""])
    names = {
        "request_gauc": "AUC in request",
        "request_ndcg": "NDCG@10 in request",
        "auc": "AUC",
        "gauc": "GAUC",
    }
    header = ["world", "ranker", *(names[name] for name in shown), "knowledge adds to AUC (95 % interval)"]
    return table(header, rows, WORLDS)


def worlds_retrieval() -> str:
    """Every method of retrieval in every simulated world, means over the logs."""
    rows, metrics = [], ("hr@1", "hr@10", "ndcg@10")
    for world, one in read_result(WORLDS)["summary"].items():
        leads = {(entry["b"], entry["metric"]): entry for entry in one["retrieval_comparisons"]}
        for method, values in one["retrieval"].items():
            entries = [leads.get((method, metric)) for metric in ("hr@1", "ndcg@10")]
            cells = [f"{with_interval(entry)}, {p_value(entry)}" if entry else "" for entry in entries]
            asked = one["retrieval_comparisons"][0]["a"]
            name = f"question *{method}* (asked)" if method == asked else method
            rows.append([world, name, *(number(values[metric]) for metric in metrics), *cells])
    lead = [f"the question less it, {metric} (95 % interval)" for metric in ("HR@1", "NDCG@10")]
    return table(["world", "method", *(metric.upper() for metric in metrics), *lead], rows, WORLDS)
