"""Trainings of rankers, several at the same time, with stored outcomes. An interrupted benchmark continues with the missing
trials.

Shapes: I rows of a split.
"""

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from openlum.artefact.json_file import fingerprint, named_failures
from openlum.artefact.keys import step_key
from openlum.errors import InputError
from openlum.processes import run_all
from openlum.rank.settings import RankSettings

if TYPE_CHECKING:
    from openlum.rank.batches import RankingData


@dataclass(frozen=True, eq=False)
class Trial:
    """One training of one ranker."""

    name: str
    """Name of the method in tables, such as `din+knowledge`."""
    architecture: str
    """Which ranker."""
    settings: RankSettings
    """Settings of this training."""
    seed: int
    """Seed of this training."""
    knowledge: Path | None
    """Directory from `lum query`; None for a plain ranker."""

    @property
    def plain(self) -> "Trial | None":
        """The trial without knowledge that late fusion starts from; None without late fusion."""
        late_fusion = self.knowledge is not None and self.settings.knowledge.late_fusion
        return replace(self, name=self.architecture, knowledge=None) if late_fusion else None

    def key(self, dataset: Path) -> str:
        """Return a key that changes with everything that the outcome depends on."""
        inputs = {"dataset": dataset} | ({"knowledge": self.knowledge} if self.knowledge else {})
        settings = self.settings.of_training(self.architecture, self.knowledge is not None)
        return fingerprint(step_key("bench ranking", [self.architecture, settings, self.seed], inputs))

    def file(self, dataset: Path, store: Path) -> Path:
        """Return the file of the outcome."""
        return store / f"{self.key(dataset)}.npz"


@dataclass(frozen=True)
class Outcome:
    """Predictions and figures of one training."""

    valid: np.ndarray
    """(I,) predictions of the validation rows."""
    test: np.ndarray
    """(I,) predictions of the test rows."""
    valid_auc: float
    """AUC on the validation rows."""
    best_epoch: int
    """The epoch whose weights were kept."""
    seconds: float
    """Duration of the training in seconds. With late fusion, it includes the training of the plain ranker."""


def run_trials(trials: Sequence[Trial], dataset: Path, store: Path, processes: int) -> Iterator[tuple[Trial, Outcome]]:
    """Train the trials without a stored outcome, and yield every trial with its outcome as soon as it has one.

    Args:
        trials: the trials.
        dataset: from `lum prepare`.
        store: directory of outcomes, one file per trial.
        processes: number of trainings at the same time; each process has the data in memory.
    """
    store.mkdir(parents=True, exist_ok=True)
    late = [trial for trial in trials if trial.plain]
    late_starts = [plain for trial in late if (plain := trial.plain) and not _load_outcome(trial.file(dataset, store))]
    for wave in ([*(trial for trial in trials if not trial.plain), *late_starts], late):
        for trial, outcome in _run_wave(wave, dataset, store, processes):
            if trial in trials:
                yield trial, outcome


def missing_trials(trials: Sequence[Trial], dataset: Path, store: Path) -> set[Trial]:
    """Return the trials without a stored outcome. Arguments as in `run_trials`."""
    return {trial for trial in trials if not trial.file(dataset, store).exists()}


def _run_wave(trials: Sequence[Trial], dataset: Path, store: Path, processes: int) -> Iterator[tuple[Trial, Outcome]]:
    """Do the same for trials that do not start from each other."""
    files = {trial: trial.file(dataset, store) for trial in trials}
    stored = {file: _load_outcome(file) for file in set(files.values())}
    missing = {files[trial]: trial for trial in trials if stored[files[trial]] is None}  # equal trials share a file
    for trial in trials:
        if outcome := stored[files[trial]]:
            yield trial, outcome
    # Trials with the same knowledge are neighbours, because a process keeps the data of its last trial.
    ordered = sorted(missing.values(), key=lambda trial: (str(trial.knowledge), trial.architecture))
    for finished, _ in run_all(partial(_train, dataset=dataset, store=store), ordered, processes):
        for trial in trials:
            if files[trial] == files[finished]:
                yield trial, _require_outcome(files[trial])


_loaded: dict[str, object] = {}
"""The data of this process's last trial."""


def _train(trial: Trial, dataset: Path, store: Path) -> None:
    from openlum.evaluation.metrics import auc

    data, began, file = _data(trial, dataset), time.perf_counter(), trial.file(dataset, store)
    valid, test, best_epoch, seconds = _fit_late(trial, data, dataset, store) if trial.plain else _fit(trial, data)
    temporary = file.with_suffix(".part.npz")
    with named_failures(file):
        np.savez(
            temporary,
            valid=valid,
            test=test,
            valid_auc=auc(data.rows["valid"].label.numpy(), valid),
            best_epoch=best_epoch,
            seconds=seconds + time.perf_counter() - began,
        )
    temporary.rename(file)


def _data(trial: Trial, dataset: Path) -> "RankingData":
    from openlum.data.dataset import Dataset
    from openlum.rank.batches import RankingData
    from openlum.rank.knowledge import StoredKnowledge

    chosen = trial.settings.knowledge
    settings = chosen.answers, chosen.tier, trial.settings.history_where, trial.settings.buffer_rows
    key = f"{dataset} {trial.knowledge} {settings}"
    if _loaded.get("key") != key:
        _loaded.clear()
        prepared = Dataset(dataset)
        knowledge = (
            None if trial.knowledge is None else StoredKnowledge(trial.knowledge, prepared, chosen.answers, chosen.tier)
        )
        _loaded.update(key=key, data=RankingData(prepared, trial.settings, knowledge))
    data = _loaded["data"]
    assert isinstance(data, RankingData)
    return data


def _fit(trial: Trial, data: "RankingData") -> tuple[np.ndarray, np.ndarray, int, float]:
    """Train a ranker. Return validation and test predictions, (I,) each, the best epoch, and the seconds of earlier trainings."""
    from openlum.rank.train import fit

    try:
        trained = fit(data.config(trial.architecture, trial.knowledge is not None, trial.settings), data, trial.seed)
    except InputError as error:
        changes = trial.settings.model_dump(exclude_defaults=True)
        raise InputError(f"{trial.name}, seed {trial.seed}, {changes}: {error}") from None
    return trained.valid, trained.ranker.predict(data, data.rows["test"]), trained.best_epoch, 0.0


def _fit_late(
    trial: Trial, data: "RankingData", dataset: Path, store: Path
) -> tuple[np.ndarray, np.ndarray, int, float]:
    """Fit a late fusion on the stored predictions of the plain ranker, and return the same as `_fit`."""
    from openlum.rank.rankers.late_fusion import fit_on_validation_rows, late_fusion_scores

    assert trial.plain is not None
    plain = _require_outcome(trial.plain.file(dataset, store))
    config = data.config(trial.architecture, True, trial.settings)
    late, valid = fit_on_validation_rows(plain.valid, data, config)
    test = late(plain.test, late_fusion_scores(data, data.rows["test"], config))
    return valid, test, plain.best_epoch, plain.seconds


def _require_outcome(file: Path) -> Outcome:
    outcome = _load_outcome(file)
    if outcome is None:
        raise InputError(f"{file}: missing or damaged; run the same 'lum bench' command again, which writes it anew")
    return outcome


def _load_outcome(file: Path) -> Outcome | None:
    """Return the stored outcome; None if its file is missing or damaged (its parts have checksums)."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return Outcome(
                arrays["valid"],
                arrays["test"],
                float(arrays["valid_auc"]),
                int(arrays["best_epoch"]),
                float(arrays["seconds"]),
            )
    except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile, zlib.error):
        return None
