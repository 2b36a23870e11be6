"""Many trainings of rankers, several at a time, each kept on disk: an interrupted benchmark goes on where it stopped.

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

from openlum.artefact.directory import fingerprint, named_failures
from openlum.artefact.keys import step_key
from openlum.bench.workers import run_all
from openlum.errors import InputError
from openlum.rank.settings import Architecture, RankSettings

if TYPE_CHECKING:
    from openlum.rank.batches import RankingData


@dataclass(frozen=True, eq=False)
class Trial:
    """One training of one ranker."""

    name: str
    """Of the method in tables, such as `din+knowledge`."""
    architecture: Architecture
    """Which ranker."""
    settings: RankSettings
    """Of this training."""
    seed: int
    """Of this training."""
    knowledge: Path | None
    """From `lum query`; none for a plain ranker."""

    @property
    def plain(self) -> "Trial | None":
        """The training without knowledge that this one begins with, where knowledge joins late."""
        late = self.knowledge is not None and self.settings.knowledge.late
        return replace(self, name=self.architecture, knowledge=None) if late else None

    def key(self, dataset: Path) -> str:
        """Changes with everything that the result depends on."""
        inputs = {"dataset": dataset} | ({"knowledge": self.knowledge} if self.knowledge else {})
        unused = {"rankers", "seeds"} | (set() if self.knowledge else {"knowledge"})
        settings = self.settings.model_dump(exclude=unused)
        return fingerprint(step_key("bench ranking", [self.architecture, settings, self.seed], inputs))

    def file(self, dataset: Path, store: Path) -> Path:
        """Where its outcome is kept."""
        return store / f"{self.key(dataset)}.npz"


@dataclass(frozen=True)
class Outcome:
    """What a training came to."""

    valid: np.ndarray
    """(I,) predictions of the validation rows."""
    test: np.ndarray
    """(I,) predictions of the test rows."""
    valid_auc: float
    """On the validation rows."""
    best_epoch: int
    """Which the weights are of."""
    seconds: float
    """How long it took, with the plain ranker that it begins with."""


def run_trials(trials: Sequence[Trial], dataset: Path, store: Path, processes: int) -> Iterator[tuple[Trial, Outcome]]:
    """Train what `store` does not hold yet, and yield every trial with its outcome as it becomes known.

    Args:
        trials: the trainings.
        dataset: from `lum prepare`.
        store: directory of outcomes, one file a trial.
        processes: how many trainings at a time; each has the data in memory.
    """
    store.mkdir(parents=True, exist_ok=True)
    late = [trial for trial in trials if trial.plain]
    begins = [plain for trial in late if (plain := trial.plain) and not _kept(trial.file(dataset, store))]
    for wave in ([*(trial for trial in trials if not trial.plain), *begins], late):
        for trial, outcome in _run_wave(wave, dataset, store, processes):
            if trial in trials:
                yield trial, outcome


def _run_wave(trials: Sequence[Trial], dataset: Path, store: Path, processes: int) -> Iterator[tuple[Trial, Outcome]]:
    """The same for trials none of which begins with another."""
    files = {trial: trial.file(dataset, store) for trial in trials}
    kept = {file: _kept(file) for file in set(files.values())}
    missing = {files[trial]: trial for trial in trials if kept[files[trial]] is None}  # equal trainings share a file
    for trial in trials:
        if outcome := kept[files[trial]]:
            yield trial, outcome
    # Trials of the same knowledge next to each other: a process keeps the data of its last trial.
    ordered = sorted(missing.values(), key=lambda trial: (str(trial.knowledge), trial.architecture))
    for done, _ in run_all(partial(_train, dataset=dataset, store=store), ordered, processes):
        for trial in trials:
            if files[trial] == files[done]:
                yield trial, _read(files[trial])


_loaded: dict[str, object] = {}
"""The data of this process's last trial."""


def _train(trial: Trial, dataset: Path, store: Path) -> None:
    from openlum.evaluation.metrics import auc

    data, began, file = _data(trial, dataset), time.perf_counter(), trial.file(dataset, store)
    valid, test, best_epoch, seconds = _late(trial, data, dataset, store) if trial.plain else _fit(trial, data)
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
    from openlum.rank.knowledge import load_knowledge

    answers = trial.settings.knowledge.answers
    key = f"{dataset} {trial.knowledge} {answers} {trial.settings.history_where}"
    if _loaded.get("key") != key:
        _loaded.clear()
        prepared = Dataset(dataset)
        known = None if trial.knowledge is None else load_knowledge(trial.knowledge, prepared, answers)
        _loaded.update(key=key, data=RankingData(prepared, trial.settings, known))
    data = _loaded["data"]
    assert isinstance(data, RankingData)
    return data


def _fit(trial: Trial, data: "RankingData") -> tuple[np.ndarray, np.ndarray, int, float]:
    """Validation and test predictions, (I,) each, the best epoch, and the seconds spent before."""
    from openlum.rank.train import fit

    try:
        fitted = fit(data.config(trial.architecture, trial.knowledge is not None, trial.settings), data, trial.seed)
    except InputError as error:
        changes = trial.settings.model_dump(exclude_defaults=True)
        raise InputError(f"{trial.name}, seed {trial.seed}, {changes}: {error}") from None
    return fitted.valid, fitted.ranker.predict(data, data.rows["test"]), fitted.best_epoch, 0.0


def _late(trial: Trial, data: "RankingData", dataset: Path, store: Path) -> tuple[np.ndarray, np.ndarray, int, float]:
    """The same where knowledge joins the predictions of a plain ranker."""
    from openlum.rank.fusion import cross_fit
    from openlum.rank.rankers.late import late_inputs

    assert trial.plain is not None
    plain = _read(trial.plain.file(dataset, store))
    config, rows = data.config(trial.architecture, True, trial.settings), data.rows["valid"]
    valid = late_inputs(plain.valid, data, rows, config)
    test = late_inputs(plain.test, data, data.rows["test"], config)
    fusion, crossed = cross_fit(valid, rows.label.numpy(), rows.user.numpy())
    return crossed, fusion(test), plain.best_epoch, plain.seconds


def _read(file: Path) -> Outcome:
    outcome = _kept(file)
    if outcome is None:
        raise InputError(f"{file}: is missing or damaged; run 'lum bench' again, which makes it anew")
    return outcome


def _kept(file: Path) -> Outcome | None:
    """What a training came to; None where its file is absent or damaged (its parts have checksums), so that it is made anew."""
    try:
        with np.load(file, allow_pickle=False) as found:
            return Outcome(
                found["valid"],
                found["test"],
                float(found["valid_auc"]),
                int(found["best_epoch"]),
                float(found["seconds"]),
            )
    except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile, zlib.error):
        return None
