"""Many trainings of rankers, several at a time, each kept on disk: an interrupted benchmark goes on where it stopped.

Shapes: I rows of a split.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openlum import __version__
from openlum.artefact import fingerprint, read_json
from openlum.rank.settings import Architecture, RankSettings


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

    def key(self, dataset: Path) -> str:
        """Changes with everything that the result depends on."""
        made = read_json(dataset / "dataset.json", "lum prepare")["fingerprint"]
        known = self.knowledge and read_json(self.knowledge / "knowledge.json", "lum query")["fingerprint"]
        settings = self.settings.model_dump(exclude={"rankers", "seeds"})
        return fingerprint(__version__, made, known, self.architecture, settings, self.seed)


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
    """How long it took."""


def run_cells(cells: Sequence[Cell], dataset: Path, store: Path, processes: int) -> Iterator[tuple[Cell, Outcome]]:
    """Train what `store` does not hold yet, and yield every cell with its outcome as it becomes known.

    Args:
        cells: the trainings.
        dataset: from `lum prepare`.
        store: directory of outcomes, one file a cell.
        processes: how many trainings at a time; each has the data in memory.
    """
    store.mkdir(parents=True, exist_ok=True)
    files = {cell: store / f"{cell.key(dataset)}.npz" for cell in cells}
    missing = {files[cell]: cell for cell in cells if not files[cell].exists()}  # equal trainings share a file
    for cell in cells:
        if files[cell] not in missing:
            yield cell, _read(files[cell])
    if not missing:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(missing)), context, begin_worker, (processes,)) as pool:
        # Cells of the same knowledge next to each other: a process keeps the data of its last cell.
        ordered = sorted(missing.items(), key=lambda pair: (str(pair[1].knowledge), pair[1].architecture))
        waiting = {pool.submit(_train, cell, dataset, file): file for file, cell in ordered}
        for done in as_completed(waiting):
            done.result()
            for cell in cells:
                if files[cell] == waiting[done]:
                    yield cell, _read(files[cell])


def begin_worker(processes: int) -> None:
    """Take a share of the cores, and end when the benchmark does, also where it was killed."""
    import torch

    torch.set_num_threads(max(torch.get_num_threads() // processes, 1))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


_loaded: dict[str, object] = {}
"""The data of this process's last cell."""


def _train(cell: Cell, dataset: Path, file: Path) -> None:
    import time

    from openlum.data.dataset import Dataset
    from openlum.rank.batches import RankingData
    from openlum.rank.knowledge import load_knowledge
    from openlum.rank.metrics import auc
    from openlum.rank.train import fit

    key = f"{dataset} {cell.knowledge} {cell.settings.history_where}"
    if _loaded.get("key") != key:
        _loaded.clear()
        prepared = Dataset(dataset)
        known = None if cell.knowledge is None else load_knowledge(cell.knowledge, prepared)
        _loaded.update(key=key, data=RankingData(prepared, cell.settings, known))
    data = _loaded["data"]
    assert isinstance(data, RankingData)
    began = time.perf_counter()
    config = data.config(cell.architecture, cell.knowledge is not None, cell.settings)
    fitted = fit(config, data, cell.seed)
    valid, test = (fitted.ranker.predict(data, data.rows[split]) for split in ("valid", "test"))
    temporary = file.with_suffix(".part.npz")
    np.savez(
        temporary,
        valid=valid,
        test=test,
        valid_auc=auc(data.rows["valid"].label.numpy(), valid),
        best_epoch=fitted.best_epoch,
        seconds=time.perf_counter() - began,
    )
    temporary.rename(file)


def _read(file: Path) -> Outcome:
    with np.load(file, allow_pickle=False) as found:
        return Outcome(
            found["valid"],
            found["test"],
            float(found["valid_auc"]),
            int(found["best_epoch"]),
            float(found["seconds"]),
        )
