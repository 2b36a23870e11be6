"""Step 3, knowledge utilization: train every ranker without and with knowledge, and evaluate it on the test rows.

Shapes: I rows of a split.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

from openlum.arguments.values import as_path, as_path_or_none, check_kind
from openlum.artefact.directory import whole_directory
from openlum.artefact.json_file import write_json
from openlum.console import new_console, new_progress
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.evaluation.comparison import compare_auc
from openlum.evaluation.methods import WITH_KNOWLEDGE
from openlum.evaluation.metrics import auc, metrics, seed_statistics
from openlum.rank.batches import RankingData, Rows
from openlum.rank.calibration_curve import calibration_curve
from openlum.rank.checks import check_ranking
from openlum.rank.controls import Scores, control_scores, joined_comparisons, joined_predictions, other_tier_scores
from openlum.rank.earlier_trainings import EarlierTrainings
from openlum.rank.fusion import Calibration, calibration
from openlum.rank.fusion_summary import fusion_summary
from openlum.rank.knowledge import StoredKnowledge
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.plan import plan_in_words, plan_ranking_for
from openlum.rank.rankers import AnyRanker, Ranker, save_ranker
from openlum.rank.rankers.late_fusion import LateFusionRanker
from openlum.rank.registry import RANKERS
from openlum.rank.segments import segment_gains
from openlum.rank.settings import RankerConfig, RankSettings
from openlum.rank.train import TrainedRanker, fit


def rank(
    dataset: str | Path,
    knowledge: str | Path | None,
    out: str | Path,
    settings: RankSettings,
    truth: str | Path | None = None,
) -> dict[str, Any]:
    """Train the rankers, write `ranker/`, and return the evaluation.

    `out` gets `metrics.json` (the returned dictionary), `curves.json` (the figures of every epoch, by ranker and seed), the
    weights `NAME-seedK.safetensors`, and the test predictions `predictions/NAME-seedK.parquet` (row, user, label, prediction).
    If `out` has rankers without knowledge of the same data, settings and code, they are not trained again (`trainings.json`).

    Args:
        dataset: from `lum prepare`.
        knowledge: from `lum query`; without it only plain rankers are trained.
        out: the ranker directory.
        settings: settings of the rankers.
        truth: Parquet file (row, probability) with the true label probabilities of the test rows, if they are known.

    Returns:
        The `ranking`, `comparisons`, `calibration`, `segments`, `knowledge`, `fusion`, `controls`, `tiers` and `oracle` parts of
        `summary.json`, with `validation` (like `ranking`, on the validation rows) and `epochs` (the best epoch, by ranker and
        seed).

    Raises:
        InputError: dataset, knowledge and settings do not fit together.
    """
    dataset, knowledge_path = as_path("dataset", dataset), as_path_or_none("knowledge", knowledge)
    out, truth = as_path("out", out), as_path_or_none("truth", truth)
    check_kind("settings", settings, RankSettings)
    prepared = Dataset(dataset)
    check_ranking(prepared, settings)
    loaded = None
    if knowledge_path is not None:
        loaded = StoredKnowledge(knowledge_path, prepared, settings.knowledge.answers, settings.knowledge.tier)
    settings = plan_ranking_for(prepared, settings)
    new_console().print(plan_in_words(prepared.info.impressions["train"], settings), soft_wrap=True)
    data = RankingData(prepared, settings, loaded)
    configs: dict[str, RankerConfig] = {}
    for architecture in settings.rankers:
        configs[architecture] = data.config(architecture, with_knowledge=False)
        if loaded is not None and settings.accepts_knowledge(architecture):
            configs[f"{architecture}{WITH_KNOWLEDGE}"] = data.config(architecture, with_knowledge=True)
    probe = {} if loaded is None else {"knowledge": knowledge_probe(data)}
    oracle = {"oracle": _oracle(data.rows["test"], truth)} if truth else {}
    with whole_directory(out, "ranker") as directory:
        results = _train_all(configs, data, settings, directory, EarlierTrainings(out, data))
        rankers = {name: [trained.ranker for trained in by_seed] for name, by_seed in results.trained.items()}
        summary = _evaluate(results, data) | oracle | probe | fusion_summary(rankers, results.valid, data)
        if loaded is not None and settings.controls:
            summary |= {"controls": _joined(results, data, control_scores(data))}
        if loaded is not None and settings.knowledge.late_fusion:
            summary |= {"tiers": _joined(results, data, other_tier_scores(data))}
        write_json(directory / "metrics.json", summary)
    return summary


class Results:
    """Predictions and trainings of every ranker and seed.

    Args:
        names: names of the rankers.
    """

    def __init__(self, names: list[str]) -> None:
        self.valid: dict[str, list[np.ndarray]] = {name: [] for name in names}
        self.test: dict[str, list[np.ndarray]] = {name: [] for name in names}
        self.trained: dict[str, list[TrainedRanker]] = {name: [] for name in names}


def _train_all(
    configs: dict[str, RankerConfig],
    data: RankingData,
    settings: RankSettings,
    directory: Path,
    earlier: EarlierTrainings,
) -> Results:
    """Train every ranker with every seed, unless it is an earlier training, and write weights, predictions and curves."""
    results = Results(list(configs))
    (directory / "predictions").mkdir()
    steps = settings.max_epochs * -(-len(data.rows["train"]) // settings.batch_size)
    with _progress_bar() as bar:
        for name, config in configs.items():
            for index, seed in enumerate(settings.seeds):
                reads_rows = issubclass(RANKERS.load(config.architecture), Ranker)
                total = steps if reads_rows and not config.late_fusion else None
                task = bar.add_task(f"{name}, seed {seed}", total=total, note="")
                step_done = partial(_advance, bar, task)
                plain = results.trained[config.architecture][index] if config.late_fusion else None
                file = f"{name}-seed{seed}.safetensors"
                reused = earlier.load(config, seed, file)
                trained = reused or fit(config, data, seed, step_done, plain)
                earlier.record(trained, config, seed, file)
                bar.remove_task(task)
                valid_auc = auc(data.rows["valid"].label.numpy(), trained.valid)
                note = " (trained before)" if reused else ""
                if _passes_through(trained.ranker):
                    note = ": knowledge adds nothing and is not used"
                bar.console.print(f"{name}, seed {seed}: validation AUC {valid_auc:.4f}{note}", soft_wrap=True)
                results.trained[name].append(trained)
                results.valid[name].append(trained.valid)
                results.test[name].append(trained.ranker.predict(data, data.rows["test"]))
                save_ranker(trained.ranker, directory / file)
                _write_predictions(
                    directory / "predictions" / f"{name}-seed{seed}.parquet", data.rows["test"], results.test[name][-1]
                )
    curves = {
        name: [[asdict(epoch) for epoch in trained.epochs] for trained in by_seed]
        for name, by_seed in results.trained.items()
    }
    write_json(directory / "curves.json", curves)
    earlier.save(directory)
    return results


def _passes_through(ranker: AnyRanker) -> bool:
    return isinstance(ranker, LateFusionRanker) and not ranker.late.decision.kept


def _advance(bar: Progress, task: TaskID, note: str) -> None:
    bar.update(task, advance=1, note=note)


def _evaluate(results: Results, data: RankingData) -> dict[str, Any]:
    ranking, validation = evaluate(data, results.valid, results.test)
    highlighted, pair = rankers_to_highlight(validation)
    return {
        "ranking": ranking,
        "comparisons": _comparisons(results, data.rows["test"]),
        "calibration": _calibration_curves(results, data, highlighted),
        "validation": validation,
        "epochs": {name: [trained.best_epoch for trained in by_seed] for name, by_seed in results.trained.items()},
    } | ({"segments": _segments(results, data, *pair)} if pair else {})


Predictions = dict[str, list[np.ndarray]]
"""Ranker to its predictions of a split, (I,), one array per seed."""
Figures = dict[str, dict[str, dict[str, Any]]]
"""Ranker to metric to `mean`, `std` and the `seeds`' own values."""


def evaluate(data: RankingData, valid: Predictions, test: Predictions) -> tuple[Figures, Figures]:
    """Return metrics on the test rows and on the validation rows. Every ranker is calibrated on the validation rows."""
    label = data.rows["valid"].label.numpy()
    calibrations = {
        name: [calibration(prediction, label) for prediction in predictions] for name, predictions in valid.items()
    }
    test_figures, valid_figures = (
        {name: _figures(rows, arrays, calibrations[name]) for name, arrays in predictions.items()}
        for rows, predictions in ((data.rows["test"], test), (data.rows["valid"], valid))
    )
    return test_figures, valid_figures


def _figures(rows: Rows, predictions: list[np.ndarray], calibrations: list[Calibration]) -> dict[str, dict[str, Any]]:
    label, user = rows.label.numpy(), rows.user.numpy()
    request = None if rows.request is None else rows.request.numpy()
    by_seed = [
        metrics(label, prediction, user, calibrate(prediction), request)
        for prediction, calibrate in zip(predictions, calibrations, strict=True)
    ]
    figures = {}
    for metric in by_seed[0]:
        values = [seed_metrics[metric] for seed_metrics in by_seed]
        # GAUC is undefined if no user (or request) has both labels.
        undefined = {"mean": None, "std": None, "seeds": [None] * len(values)}
        figures[metric] = seed_statistics(values) if np.isfinite(values).all() else undefined
    return figures


def _comparisons(results: Results, test: Rows) -> list[dict[str, Any]]:
    """Return the comparison of each ranker with and without knowledge, on the test rows."""
    comparisons = []
    for plain in results.test:
        with_knowledge = f"{plain}{WITH_KNOWLEDGE}"
        if with_knowledge in results.test:
            rows = test.label.numpy(), test.user.numpy(), test.item.numpy()
            comparison = compare_auc(*rows, results.test[with_knowledge], results.test[plain])
            comparisons.append(comparison.to_dict(with_knowledge, plain))
    return comparisons


def rankers_to_highlight(validation: Figures) -> tuple[list[str], tuple[str, str] | None]:
    """Return the rankers that the report shows in detail, chosen by validation AUC and never by the test rows.

    Args:
        validation: figures of all rankers on the validation rows.

    Returns:
        A list without duplicates of the best ranker without knowledge, the same ranker with knowledge, and the best ranker with
        knowledge. Also a pair (name without, name with knowledge) of the first ranker of this list that has both; None if
        there is none.
    """
    falling = sorted(validation, key=lambda name: -validation[name]["auc"]["mean"])
    plain = next(name for name in falling if not name.endswith(WITH_KNOWLEDGE))
    candidates = [plain, plain + WITH_KNOWLEDGE, *[name for name in falling if name.endswith(WITH_KNOWLEDGE)][:1]]
    highlighted = [name for name in dict.fromkeys(candidates) if name in validation]
    architectures = [name.removesuffix(WITH_KNOWLEDGE) for name in highlighted]
    pairs = [(name, name + WITH_KNOWLEDGE) for name in architectures if name + WITH_KNOWLEDGE in validation]
    return highlighted, (pairs[0] if pairs else None)


def _joined(results: Results, data: RankingData, scores: Scores) -> dict[str, Any]:
    """Return the metrics of rankers joined with scores, whether each fusion was kept, and comparisons on the test rows."""
    valid, test, kept = joined_predictions(data, results.valid, results.test, scores)
    ranking, validation = evaluate(data, valid, test)
    comparisons = joined_comparisons(data, results.test, test)
    return {"ranking": ranking, "validation": validation, "kept": kept, "comparisons": comparisons}


def _calibration_curves(results: Results, data: RankingData, names: list[str]) -> dict[str, Any]:
    """Return the calibration curves of rankers on the test rows, calibrated as for the log loss."""
    label, test = data.rows["valid"].label.numpy(), data.rows["test"]
    return {
        name: calibration_curve(
            test,
            [
                calibration(valid, label)(prediction)
                for valid, prediction in zip(results.valid[name], results.test[name], strict=True)
            ],
        )
        for name in names
    }


def _segments(results: Results, data: RankingData, plain: str, with_knowledge: str) -> dict[str, Any]:
    gains = segment_gains(data, results.test[plain], results.test[with_knowledge])
    return {"without": plain, "with": with_knowledge, "groups": gains}


def _write_predictions(file: Path, rows: Rows, prediction: np.ndarray) -> None:
    columns = {
        "row": rows.row.numpy(),
        "user": rows.user.numpy(),
        "label": rows.label.numpy(),
        "prediction": prediction,
    }
    pq.write_table(pa.table(columns), file)


def _oracle(test: Rows, truth: Path) -> dict[str, float]:
    """Return the test AUC of the true probabilities: the highest AUC that a ranker can expect."""
    try:
        table = pq.read_table(truth, columns=["row", "probability"]).sort_by("row")
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{truth}: cannot be read ({error}); expected Parquet with the columns row and probability"
        ) from None
    row, probability = table["row"].to_numpy(), table["probability"].to_numpy()
    if not (np.issubdtype(row.dtype, np.integer) and np.issubdtype(probability.dtype, np.floating)):
        raise InputError(
            f"{truth}: column row is {row.dtype} and column probability is {probability.dtype}; "
            "expected whole numbers and fractions, without missing values"
        )
    test_row = test.row.numpy()
    index = np.minimum(np.searchsorted(row, test_row), len(row) - 1) if len(row) else np.empty(0, np.int64)
    if not len(row) or (row[index] != test_row).any():
        raise InputError(
            f"{truth}: has no probability for some test rows of this dataset; was it written with another log?"
        )
    wrong = np.flatnonzero(~((probability >= 0) & (probability <= 1)))
    if len(wrong):
        raise InputError(f"{truth}: the probability of row {row[wrong[0]]} is {probability[wrong[0]]}; expected 0 to 1")
    return {"auc": auc(test.label.numpy(), probability[index])}


def _progress_bar() -> Progress:
    columns = "{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[note]}"
    return new_progress(*columns, TimeRemainingColumn(), refresh_per_second=2, transient=True)
