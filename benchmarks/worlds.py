"""The defaults on simulated logs that nobody tuned for: rankers without and with knowledge, and retrieval beside its baselines.

    python benchmarks/worlds.py --json OUT
    python benchmarks/worlds.py --worlds news --seeds 11 --users 200 --runs DIR --json OUT    # a small run

For each world of `lum market --world` and each seed, the log is simulated and `lum run` gets an experiment that names the log and
no setting of a method: only the seed, the rankers (the default ones, `din` and `lightgbm`) and the cut-offs of the metrics.
Another seed is another log and another training of everything. An end-to-end `sasrec` with its default settings ranks the same
held-out items.

The result has one row for each world and seed in `worlds`. A row that the file has already is not run again. `summary` has the
means over the seeds. The best ranker is chosen by the validation AUC of each row. A difference has the test of `compare_auc` or
`compare_means` within a row, and of `mean_comparison` over the rows of a world.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from openlum.artefact.json_file import read_json, write_json
from openlum.console import new_console
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.evaluation.comparison import Comparison, compare_auc, compare_means, mean_comparison
from openlum.evaluation.methods import WITH_KNOWLEDGE
from openlum.evaluation.retrieval_metrics import retrieval_metrics, user_metrics
from openlum.pipeline.experiment import Experiment
from openlum.pipeline.run import run
from openlum.pipeline.summary import environment
from openlum.rank.settings import RankSettings
from openlum.report.rendering import format_number, p_value, signed, terminal_table
from openlum.report.run_report import SIGNIFICANT
from openlum.results import Ranking
from openlum.retrieve.baselines import baseline_ranks
from openlum.retrieve.evaluate import question_ranks
from openlum.retrieve.held_out import all_held_out
from openlum.retrieve.sequential import check_sequential, fit_sequential, sequential_ranks
from openlum.retrieve.settings import BASELINES, RetrieveSettings, SequentialSettings, chosen_baselines
from openlum.sources.market.settings import WorldName, world_of_size
from openlum.sources.market.write import write_market

WORLDS: list[WorldName] = ["shop", "news", "travel"]
SEEDS = [11, 12, 13]
RANKERS = list(dict.fromkeys([*RankSettings().rankers, "din", "lightgbm"]))
ANY, SASREC = "any", "sasrec"
CUT_OFFS = [1, 10]
SHOWN = ["hr@1", "hr@10", "ndcg@10"]
"""The metrics of retrieval in the tables, each with a test."""

Row = dict[str, Any]
"""The figures of one world and seed."""


def main() -> None:
    """Run the rows that the result file does not have, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", choices=get_args(WorldName), default=WORLDS, help="kinds of logs")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="of the simulation and of every training")
    parser.add_argument("--users", type=int, help="number of users (default: that of 'lum market')")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="directory of the logs and artefacts")
    parser.add_argument("--json", type=Path, required=True, help="result file; its rows are kept")
    options = parser.parse_args()
    console, rows = new_console(), []
    try:
        stored: list[Row] = (
            read_json(options.json, "benchmarks/worlds.py", ["worlds"])["worlds"] if options.json.exists() else []
        )
        for world in options.worlds:
            users = world_of_size(world, options.users).users
            for seed in options.seeds:
                key = {"world": world, "seed": seed, "users": users}
                row = next((row for row in stored if key.items() <= row.items()), None)
                if row is None:
                    row = key | run_world(world, seed, users, options.runs, console)
                    stored.append(row)
                rows.append(row)
                summary = summarise(rows)
                write_json(options.json, {"summary": summary, "worlds": stored, "environment": environment()})
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    for table in (ranking_table, retrieval_table, verdict_table):
        console.print(table(summary))
    if len({row["environment"]["commit"] for row in rows}) > 1:
        console.print("the rows come from several commits", style="italic")


def run_world(world: WorldName, seed: int, users: int, runs: Path, console: Console) -> Row:
    """Simulate a log, run an experiment of defaults on it, and return its figures.

    If an earlier run was interrupted, its finished steps are skipped, and `seconds` does not count them.
    """
    began, name = time.perf_counter(), f"worlds-{world}-{users}-seed{seed}"
    # `lum run` finds truth.parquet beside its artefacts, and reports the AUC of the true probabilities.
    schema = write_market(world_of_size(world, users, seed=seed), runs / name / "log")
    experiment = Experiment.model_validate(
        {
            "name": name,
            "data": {"schema_file": str(schema)},
            "pretrain": {"seed": seed},
            "rank": {"rankers": RANKERS, "seeds": [seed]},
            "retrieve": {"at": CUT_OFFS},
        }
    )
    summary, _ = run(experiment, runs, console)
    dataset = Dataset(runs / name / "dataset")
    assert experiment.retrieve is not None
    ranks, exclude_seen = held_out_ranks(dataset, runs / name / "model", experiment.retrieve)
    ranks[SASREC] = sasrec_ranks(dataset, seed, exclude_seen, console)
    return {
        "events": dataset.info.counts["events"],
        **ranking_figures(Ranking(runs / name / "ranker"), schema.with_name("impressions.parquet"), seed),
        "oracle": summary["oracle"]["auc"],
        "retrieval": summary["retrieval"] | {SASREC: retrieval_metrics(ranks[SASREC], CUT_OFFS)},
        "retrieval_comparisons": retrieval_comparisons(dataset, ranks, exclude_seen),
        "retrieval_protocol": summary["retrieval_protocol"],
        "pretrain": summary["pretrain"],
        "environment": environment() | {"seed": seed},
        "seconds": round(time.perf_counter() - began, 1),
    }


def ranking_figures(ranking: Ranking, impressions: Path, seed: int) -> Row:
    """Return the metrics of every ranker, the names of the best ones, and their comparisons.

    Args:
        ranking: the rankers of one seed.
        impressions: the impression log, which has the item of every row.
        seed: of the rankers.
    """
    validation = {name: metrics["auc"]["mean"] for name, metrics in ranking.metrics["validation"].items()}
    with_knowledge = [name for name in validation if name.endswith(WITH_KNOWLEDGE)]
    best_without = max(validation.keys() - set(with_knowledge), key=validation.__getitem__)
    best_with = max(with_knowledge, key=validation.__getitem__)
    predictions = [ranking.predictions(name, seed) for name in (best_with, best_without)]
    user, label, row = (predictions[0][column].to_numpy() for column in ("user", "label", "row"))
    log = pq.read_table(impressions, columns=["row", "item_id"]).sort_by("row")
    item = log["item_id"].to_numpy()[np.searchsorted(log["row"].to_numpy(), row)]
    a, b = (table["prediction"].to_numpy() for table in predictions)
    return {
        "ranking": {
            name: {metric: values["mean"] for metric, values in metrics.items()}
            for name, metrics in ranking.metrics["ranking"].items()
        },
        "validation_auc": validation,
        "comparisons": ranking.metrics["comparisons"],
        "best": compare_auc(label, user, item, [a], [b]).to_dict(best_with, best_without),
    }


def held_out_ranks(dataset: Dataset, model: Path, settings: RetrieveSettings) -> tuple[dict[str, np.ndarray], bool]:
    """Return the ranks of the held-out items, (n,) by user id, by each method of `lum retrieve`, and whether items of the history
    are excluded."""
    found = question_ranks(dataset, model, settings)
    exclude_seen, items = found.protocol["seen_items"] == "left out", found.protocol["candidates"] + 1
    baselines = chosen_baselines(settings, items)
    others = baseline_ranks(dataset, items, exclude_seen, settings.batch_users, baselines, found.model_protocol)
    return found.ranks | others, exclude_seen


def sasrec_ranks(dataset: Dataset, seed: int, exclude_seen: bool, console: Console) -> np.ndarray:
    """Train an end-to-end `sasrec` and return the ranks of the held-out items, (n,) by user id."""
    settings = SequentialSettings()
    check_sequential(dataset, SASREC, settings)

    def epoch_done(epoch: int, ndcg: float) -> None:
        console.print(f"{SASREC}, epoch {epoch}: validation NDCG@10 {ndcg:.4f}", style="dim")

    model = fit_sequential(dataset, settings, seed, epoch_done)
    return sequential_ranks(model, dataset, "test", exclude_seen)


def retrieval_comparisons(dataset: Dataset, ranks: dict[str, np.ndarray], exclude_seen: bool) -> list[dict[str, Any]]:
    """Return the paired comparisons of the question for the held-out events with every other method, on the same users."""
    asked = asked_question(dataset)
    held_out = all_held_out(dataset, "test", len(dataset.vocabulary("items")), exclude_seen)
    metrics = {name: user_metrics(rank, CUT_OFFS) for name, rank in ranks.items()}
    return [
        compare_means(held_out.user, held_out.target, [metrics[asked][metric]], [metrics[name][metric]]).to_dict(
            asked, name, metric
        )
        for name in metrics
        if name != asked
        for metric in SHOWN
    ]


def asked_question(dataset: Dataset) -> str:
    """Return the default question for the held-out events: the first of their values, or *any* if any event can be held out."""
    holdout = dataset.info.data_schema.holdout
    return ANY if holdout is None else str(holdout.values[0])


def summarise(rows: Sequence[Row]) -> dict[str, Row]:
    """Return the means of the figures of every world over its rows, with tests of the mean differences.

    `made_worse` names the rankers that knowledge makes significantly worse, `best_other` the method without the
    Large User Model with the highest mean NDCG@10.
    """
    summary: dict[str, Row] = {}
    for world in dict.fromkeys(row["world"] for row in rows):
        of_world = [row for row in rows if row["world"] == world]
        retrieval = _means([row["retrieval"] for row in of_world])
        comparisons = _mean_comparisons([row["comparisons"] for row in of_world])
        best = mean_comparison([_comparison(row["best"]) for row in of_world])
        summary[world] = {
            "seeds": [row["seed"] for row in of_world],
            "users": of_world[0]["users"],
            **{name: float(np.mean([row[name] for row in of_world])) for name in ("events", "oracle", "seconds")},
            "ranking": _means([row["ranking"] for row in of_world]),
            "comparisons": comparisons,
            "best": best.to_dict(f"best{WITH_KNOWLEDGE}", "best"),
            "made_worse": [one["a"] for one in comparisons if one["difference"] < 0 and one["p_value"] < SIGNIFICANT],
            "retrieval": retrieval,
            "retrieval_comparisons": _mean_comparisons([row["retrieval_comparisons"] for row in of_world]),
            "best_other": max(retrieval.keys() & {SASREC, *BASELINES}, key=lambda name: retrieval[name]["ndcg@10"]),
        }
    return summary


def _means(by_row: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return method to metric to the mean over rows; None for a metric that is undefined in a row. A method that a row does not
    have, such as repeating the last item where seen items are excluded, is left out."""
    means: dict[str, dict[str, Any]] = {}
    for method, metrics in by_row[0].items():
        if all(method in row for row in by_row):
            values = {metric: [row[method][metric] for row in by_row] for metric in metrics}
            means[method] = {name: None if None in one else float(np.mean(one)) for name, one in values.items()}
    return means


def _mean_comparisons(by_row: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the mean comparisons of the methods and metrics that every row compares."""
    entries = [{(one["a"], one["b"], one["metric"]): one for one in row} for row in by_row]
    return [
        mean_comparison([_comparison(row[key]) for row in entries]).to_dict(*key)
        for key in entries[0]
        if all(key in row for row in entries)
    ]


def _comparison(entry: dict[str, Any]) -> Comparison:
    """Return the comparison of an entry from `Comparison.to_dict`."""
    low, high = entry["ci95"]
    return Comparison(entry["difference"], (low, high), entry["p_value"])


def ranking_table(summary: dict[str, Row]) -> Table:
    """Return a table of every ranker's metrics on the test rows of every world, and of what knowledge adds to its AUC."""
    rankings = [metrics for figures in summary.values() for metrics in figures["ranking"].values()]
    shown = list(dict.fromkeys(metric for metrics in rankings for metric in metrics))
    table = terminal_table("Test rows, means over seeds", "World", "Ranker", *shown, "Knowledge adds to AUC")
    for world, figures in summary.items():
        gains = {one["a"]: _in_words(one) for one in figures["comparisons"]}
        for ranker, metrics in figures["ranking"].items():
            cells = (format_number(metrics.get(metric)) for metric in shown)
            table.add_row(world, ranker, *cells, gains.get(ranker, ""))
    return table


def retrieval_table(summary: dict[str, Row]) -> Table:
    """Return a table of every method's retrieval metrics in every world, and of the lead of the asked question over it."""
    lead = [f"Lead over it, {metric}" for metric in SHOWN]
    table = terminal_table("All items ranked, means over seeds", "World", "Method", *SHOWN, *lead)
    for world, figures in summary.items():
        leads = {(one["b"], one["metric"]): _in_words(one) for one in figures["retrieval_comparisons"]}
        for method, metrics in figures["retrieval"].items():
            cells = [format_number(metrics[metric]) for metric in SHOWN]
            table.add_row(world, method, *cells, *(leads.get((method, metric), "") for metric in SHOWN))
    return table


def verdict_table(summary: dict[str, Row]) -> Table:
    """Return a table with a row for each world: what knowledge adds to the best ranker, the rankers that it makes significantly
    worse, and the lead of the question for the held-out events over the best method without the Large User Model."""
    columns = "Best ranker with less best without", "Made worse", "Lead of the question over the best other, ndcg@10"
    table = terminal_table("Defaults", "World", *columns, "Minutes a seed")
    for world, figures in summary.items():
        other, worse = figures["best_other"], ", ".join(figures["made_worse"]) or "none"
        leads = {(one["b"], one["metric"]): f"{_in_words(one)}, " for one in figures["retrieval_comparisons"]}
        lead = f"{leads.get((other, 'ndcg@10'), '')}{other}"
        table.add_row(world, _in_words(figures["best"]), worse, lead, f"{figures['seconds'] / 60:.1f}")
    return table


def _in_words(entry: dict[str, Any]) -> str:
    """Return the difference and the p-value of a comparison."""
    return f"{signed(entry['difference'])}, {p_value(entry['p_value'])}"


if __name__ == "__main__":
    main()
