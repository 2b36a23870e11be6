"""Step 3, knowledge utilization: train every ranker without and with knowledge, and judge them on the test rows.

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
from openlum.artefact.directory import whole_directory, write_json
from openlum.console import new_progress
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.evaluation.comparison import compare_auc
from openlum.evaluation.methods import WITH_KNOWLEDGE
from openlum.evaluation.metrics import auc, metrics, over_seeds
from openlum.rank.batches import RankingData, Rows
from openlum.rank.checks import check_ranking
from openlum.rank.fusion import Calibration, calibration
from openlum.rank.knowledge import load_knowledge
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.rankers import GRADIENT, save_ranker
from openlum.rank.reliability import reliability
from openlum.rank.segments import segment_gains
from openlum.rank.settings import RankerConfig, RankSettings
from openlum.rank.train import Fit, fit


def rank(
    dataset: str | Path,
    knowledge: str | Path | None,
    out: str | Path,
    settings: RankSettings,
    truth: str | Path | None = None,
) -> dict[str, Any]:
    """Train the rankers and write `ranker/`.

    `out` gets `metrics.json` (what is returned), `curves.json` (figures of every epoch, by ranker and seed), the weights
    `NAME-seedK.safetensors`, and the test predictions `predictions/NAME-seedK.parquet` (row, user, label, prediction).

    Args:
        dataset: from `lum prepare`.
        knowledge: from `lum query`; without it only plain rankers are trained.
        out: the ranker directory.
        settings: of the rankers.
        truth: Parquet file (row, probability) with the true probability of the label of the test rows, where it is known.

    Returns:
        The `ranking`, `comparisons`, `calibration`, `segments`, `knowledge` and `oracle` parts of `summary.json`, with
        `validation` (as `ranking`, on the validation rows) and `epochs` (the best epoch, by ranker and seed).

    Raises:
        InputError: dataset, knowledge and settings do not fit together.
    """
    dataset, knowledge = as_path("dataset", dataset), as_path_or_none("knowledge", knowledge)
    out, truth = as_path("out", out), as_path_or_none("truth", truth)
    check_kind("settings", settings, RankSettings)
    prepared = Dataset(dataset)
    check_ranking(prepared, settings)
    known = None if knowledge is None else load_knowledge(knowledge, prepared, settings.knowledge.answers)
    data = RankingData(prepared, settings, known)
    configs: dict[str, RankerConfig] = {}
    for architecture in settings.rankers:
        configs[architecture] = data.config(architecture, with_knowledge=False)
        if known is not None and settings.informs(architecture):
            configs[f"{architecture}{WITH_KNOWLEDGE}"] = data.config(architecture, with_knowledge=True)
    alone = {} if known is None else {"knowledge": knowledge_probe(data)}
    oracle = {"oracle": _oracle(data.rows["test"], truth)} if truth else {}
    with whole_directory(out, "ranker") as directory:
        results = _train_all(configs, data, settings, directory)
        summary = _evaluate(results, data) | oracle | alone
        write_json(directory / "metrics.json", summary)
    return summary


class Results:
    """Predictions of every ranker and seed, and how the training went.

    Args:
        names: of the rankers.
    """

    def __init__(self, names: list[str]) -> None:
        self.valid: dict[str, list[np.ndarray]] = {name: [] for name in names}
        self.test: dict[str, list[np.ndarray]] = {name: [] for name in names}
        self.fits: dict[str, list[Fit]] = {name: [] for name in names}


def _train_all(configs: dict[str, RankerConfig], data: RankingData, settings: RankSettings, directory: Path) -> Results:
    """Train every ranker with every seed; write weights, predictions and curves."""
    results = Results(list(configs))
    (directory / "predictions").mkdir()
    steps = settings.max_epochs * -(-len(data.rows["train"]) // settings.batch_size)
    with _progress_bar() as bar:
        for name, config in configs.items():
            for index, seed in enumerate(settings.seeds):
                total = steps if config.architecture in GRADIENT and not config.late else None
                task = bar.add_task(f"{name}, seed {seed}", total=total, note="")
                step_done = partial(_advance, bar, task)
                plain = results.fits[config.architecture][index] if config.late else None
                fitted = fit(config, data, seed, step_done, plain)
                bar.remove_task(task)
                reached = auc(data.rows["valid"].label.numpy(), fitted.valid)
                bar.console.print(f"{name}, seed {seed}: validation AUC {reached:.4f}", soft_wrap=True)
                results.fits[name].append(fitted)
                results.valid[name].append(fitted.valid)
                results.test[name].append(fitted.ranker.predict(data, data.rows["test"]))
                save_ranker(fitted.ranker, directory / f"{name}-seed{seed}.safetensors")
                _write_predictions(
                    directory / "predictions" / f"{name}-seed{seed}.parquet", data.rows["test"], results.test[name][-1]
                )
    curves = {
        name: [[asdict(epoch) for epoch in fitted.epochs] for fitted in fits] for name, fits in results.fits.items()
    }
    write_json(directory / "curves.json", curves)
    return results


def _advance(bar: Progress, task: TaskID, note: str) -> None:
    bar.update(task, advance=1, note=note)


def _evaluate(results: Results, data: RankingData) -> dict[str, Any]:
    ranking, validation = evaluate(data, results.valid, results.test)
    shown, pair = chosen_rankers(validation)
    return {
        "ranking": ranking,
        "comparisons": _comparisons(results, data.rows["test"]),
        "calibration": _reliability(results, data, shown),
        "validation": validation,
        "epochs": {name: [fitted.best_epoch for fitted in fits] for name, fits in results.fits.items()},
    } | ({"segments": _segments(results, data, *pair)} if pair else {})


Predictions = dict[str, list[np.ndarray]]
"""Ranker to the predictions of a split, (I,), one a seed."""
Figures = dict[str, dict[str, dict[str, Any]]]
"""Ranker to metric to its `mean` and `std` over seeds, and the `seeds`' own figures."""


def evaluate(data: RankingData, valid: Predictions, test: Predictions) -> tuple[Figures, Figures]:
    """Metrics on the test rows and on the validation rows; all rankers are calibrated on the validation rows alike."""
    label = data.rows["valid"].label.numpy()
    calibrations = {name: [calibration(one, label) for one in every] for name, every in valid.items()}
    on_test, on_valid = (
        {name: _figures(rows, every, calibrations[name]) for name, every in predictions.items()}
        for rows, predictions in ((data.rows["test"], test), (data.rows["valid"], valid))
    )
    return on_test, on_valid


def _figures(rows: Rows, predictions: list[np.ndarray], calibrations: list[Calibration]) -> dict[str, dict[str, Any]]:
    label, user = rows.label.numpy(), rows.user.numpy()
    by_seed = [
        metrics(label, prediction, user, calibrated(prediction))
        for prediction, calibrated in zip(predictions, calibrations, strict=True)
    ]
    out = {}
    for metric in by_seed[0]:
        seeds = [one[metric] for one in by_seed]
        # GAUC is undefined where no user has both labels.
        undefined = {"mean": None, "std": None, "seeds": [None] * len(seeds)}
        out[metric] = over_seeds(seeds) if np.isfinite(seeds).all() else undefined
    return out


def _comparisons(results: Results, test: Rows) -> list[dict[str, Any]]:
    """Each ranker with knowledge against itself without, on the test rows."""
    out = []
    for b in results.test:
        a = f"{b}{WITH_KNOWLEDGE}"
        if a in results.test:
            rows = test.label.numpy(), test.user.numpy(), test.item.numpy()
            out.append(compare_auc(*rows, results.test[a], results.test[b]).to_dict(a, b))
    return out


def chosen_rankers(validation: Figures) -> tuple[list[str], tuple[str, str] | None]:
    """The rankers that the report looks at closely, chosen by validation AUC and never by the test rows.

    Args:
        validation: figures of all rankers on the validation rows.

    Returns:
        The best ranker without knowledge, the same with knowledge, and the best with knowledge, each once; and the forms without
        and with knowledge of the first of them that has both, or None.
    """
    falling = sorted(validation, key=lambda name: -validation[name]["auc"]["mean"])
    plain = next(name for name in falling if not name.endswith(WITH_KNOWLEDGE))
    shown = [plain, plain + WITH_KNOWLEDGE, *[name for name in falling if name.endswith(WITH_KNOWLEDGE)][:1]]
    shown = [name for name in dict.fromkeys(shown) if name in validation]
    architectures = [name.removesuffix(WITH_KNOWLEDGE) for name in shown]
    pairs = [(name, name + WITH_KNOWLEDGE) for name in architectures if name + WITH_KNOWLEDGE in validation]
    return shown, (pairs[0] if pairs else None)


def _reliability(results: Results, data: RankingData, names: list[str]) -> dict[str, Any]:
    """Predicted and observed shares of positive test rows, of rankers calibrated as for the log loss."""
    label, test = data.rows["valid"].label.numpy(), data.rows["test"]
    return {
        name: reliability(
            test,
            [
                calibration(valid, label)(prediction)
                for valid, prediction in zip(results.valid[name], results.test[name], strict=True)
            ],
        )
        for name in names
    }


def _segments(results: Results, data: RankingData, without: str, informed: str) -> dict[str, Any]:
    gains = segment_gains(data, results.test[without], results.test[informed])
    return {"without": without, "with": informed, "groups": gains}


def _write_predictions(file: Path, rows: Rows, prediction: np.ndarray) -> None:
    columns = {
        "row": rows.row.numpy(),
        "user": rows.user.numpy(),
        "label": rows.label.numpy(),
        "prediction": prediction,
    }
    pq.write_table(pa.table(columns), file)


def _oracle(test: Rows, truth: Path) -> dict[str, float]:
    """How well the true probabilities rank the test rows: the ceiling."""
    try:
        table = pq.read_table(truth, columns=["row", "probability"]).sort_by("row")
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{truth}: cannot be read ({error}); expected Parquet with the columns row and probability"
        ) from None
    row, probability = table["row"].to_numpy(), table["probability"].to_numpy()
    if not (np.issubdtype(row.dtype, np.integer) and np.issubdtype(probability.dtype, np.floating)):
        raise InputError(
            f"{truth}: row is {row.dtype} and probability {probability.dtype}; expected whole numbers and fractions, none missing"
        )
    wanted = test.row.numpy()
    found = np.minimum(np.searchsorted(row, wanted), len(row) - 1) if len(row) else np.empty(0, np.int64)
    if not len(row) or (row[found] != wanted).any():
        raise InputError(
            f"{truth}: has no probability for some test rows of this dataset; was it written with another log?"
        )
    odd = np.flatnonzero(~((probability >= 0) & (probability <= 1)))
    if len(odd):
        raise InputError(f"{truth}: the probability of row {row[odd[0]]} is {probability[odd[0]]}; expected 0 to 1")
    return {"auc": auc(test.label.numpy(), probability[found])}


def _progress_bar() -> Progress:
    columns = "{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[note]}"
    return new_progress(*columns, TimeRemainingColumn(), refresh_per_second=2, transient=True)
