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
class Cell:
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
    def plain(self) -> "Cell | None":
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


def run_cells(cells: Sequence[Cell], dataset: Path, store: Path, processes: int) -> Iterator[tuple[Cell, Outcome]]:
    """Train what `store` does not hold yet, and yield every cell with its outcome as it becomes known.

    Args:
        cells: the trainings.
        dataset: from `lum prepare`.
        store: directory of outcomes, one file a cell.
        processes: how many trainings at a time; each has the data in memory.
    """
    store.mkdir(parents=True, exist_ok=True)
    late = [cell for cell in cells if cell.plain]
    begins = [plain for cell in late if (plain := cell.plain) and not _kept(cell.file(dataset, store))]
    for wave in ([*(cell for cell in cells if not cell.plain), *begins], late):
        for cell, outcome in _run_wave(wave, dataset, store, processes):
            if cell in cells:
                yield cell, outcome


def _run_wave(cells: Sequence[Cell], dataset: Path, store: Path, processes: int) -> Iterator[tuple[Cell, Outcome]]:
    """The same for cells none of which begins with another."""
    files = {cell: cell.file(dataset, store) for cell in cells}
    kept = {file: _kept(file) for file in set(files.values())}
    missing = {files[cell]: cell for cell in cells if kept[files[cell]] is None}  # equal trainings share a file
    for cell in cells:
        if outcome := kept[files[cell]]:
            yield cell, outcome
    # Cells of the same knowledge next to each other: a process keeps the data of its last cell.
    ordered = sorted(missing.values(), key=lambda cell: (str(cell.knowledge), cell.architecture))
    for done, _ in run_all(partial(_train, dataset=dataset, store=store), ordered, processes):
        for cell in cells:
            if files[cell] == files[done]:
                yield cell, _read(files[cell])


_loaded: dict[str, object] = {}
"""The data of this process's last cell."""


def _train(cell: Cell, dataset: Path, store: Path) -> None:
    from openlum.evaluation.metrics import auc

    data, began, file = _data(cell, dataset), time.perf_counter(), cell.file(dataset, store)
    valid, test, best_epoch, seconds = _late(cell, data, dataset, store) if cell.plain else _fit(cell, data)
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


def _data(cell: Cell, dataset: Path) -> "RankingData":
    from openlum.data.dataset import Dataset
    from openlum.rank.batches import RankingData
    from openlum.rank.knowledge import load_knowledge

    answers = cell.settings.knowledge.answers
    key = f"{dataset} {cell.knowledge} {answers} {cell.settings.history_where}"
    if _loaded.get("key") != key:
        _loaded.clear()
        prepared = Dataset(dataset)
        known = None if cell.knowledge is None else load_knowledge(cell.knowledge, prepared, answers)
        _loaded.update(key=key, data=RankingData(prepared, cell.settings, known))
    data = _loaded["data"]
    assert isinstance(data, RankingData)
    return data


def _fit(cell: Cell, data: "RankingData") -> tuple[np.ndarray, np.ndarray, int, float]:
    """Validation and test predictions, (I,) each, the best epoch, and the seconds spent before."""
    from openlum.rank.train import fit

    try:
        fitted = fit(data.config(cell.architecture, cell.knowledge is not None, cell.settings), data, cell.seed)
    except InputError as error:
        changes = cell.settings.model_dump(exclude_defaults=True)
        raise InputError(f"{cell.name}, seed {cell.seed}, {changes}: {error}") from None
    return fitted.valid, fitted.ranker.predict(data, data.rows["test"]), fitted.best_epoch, 0.0


def _late(cell: Cell, data: "RankingData", dataset: Path, store: Path) -> tuple[np.ndarray, np.ndarray, int, float]:
    """The same where knowledge joins the predictions of a plain ranker."""
    from openlum.rank.fusion import cross_fit
    from openlum.rank.rankers.late import late_inputs

    assert cell.plain is not None
    plain = _read(cell.plain.file(dataset, store))
    config, rows = data.config(cell.architecture, True, cell.settings), data.rows["valid"]
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
