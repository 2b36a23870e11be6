"""Finished trainings of plain rankers, which `lum rank` reuses when it writes to the same directory again.

A plain ranker reads no knowledge. If only the knowledge has changed, for instance by a new question, the training of a plain
ranker would give the same weights again.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from openlum.artefact.checksums import sha256_of
from openlum.artefact.json_file import fingerprint, read_json, write_json
from openlum.artefact.keys import step_key
from openlum.artefact.manifest import read_manifest
from openlum.artefact.tensors import read_tensors
from openlum.errors import InputError
from openlum.model import default_device
from openlum.rank.batches import RankingData
from openlum.rank.rankers import new_ranker
from openlum.rank.settings import RankerConfig
from openlum.rank.train import Epoch, TrainedRanker

FILE = "trainings.json"
"""The key, the best epoch and the figures of every training of a plain ranker, by the name of its weights file."""


class EarlierTrainings:
    """The trainings of plain rankers in a directory, and those of the directory that replaces it.

    Args:
        directory: from an earlier `lum rank`; it may be missing.
        data: the data of the trainings.
    """

    def __init__(self, directory: Path, data: RankingData) -> None:
        self.directory, self.data = directory, data
        self.checksums: dict[str, str] = {}
        self.stored: dict[str, Any] = {}
        self.current: dict[str, Any] = {}
        try:
            manifest = read_manifest(directory)
            if manifest is not None:
                self.checksums = manifest.data
                self.stored = read_json(self._intact(FILE), "lum rank")
        except (InputError, OSError):
            self.stored = {}  # every ranker is trained

    def load(self, config: RankerConfig, seed: int, name: str) -> TrainedRanker | None:
        """Return the stored training of a plain ranker; None if there is none with the same data, settings and code.

        Args:
            config: of the ranker.
            seed: of the training.
            name: of the file with its weights.
        """
        training = self.stored.get(name)
        if config.knowledge is not None or not training or training["key"] != self._key(config, seed):
            return None
        try:
            tensors = read_tensors(self._intact(name), "run 'lum rank' again")
        except (InputError, OSError):
            return None
        ranker = new_ranker(config)
        ranker.load_tensors(tensors)
        if isinstance(ranker, nn.Module):
            ranker.to(default_device())
        valid = ranker.predict(self.data, self.data.rows["valid"])
        return TrainedRanker(ranker, training["best_epoch"], valid, [Epoch(**epoch) for epoch in training["epochs"]])

    def record(self, trained: TrainedRanker, config: RankerConfig, seed: int, name: str) -> None:
        """Record a training of a plain ranker for the file that `save` writes. Arguments as in `load`."""
        if config.knowledge is None:
            self.current[name] = {
                "key": self._key(config, seed),
                "best_epoch": trained.best_epoch,
                "epochs": [asdict(epoch) for epoch in trained.epochs],
            }

    def save(self, directory: Path) -> None:
        """Write the recorded trainings into the directory that replaces the earlier one."""
        write_json(directory / FILE, self.current)

    def _key(self, config: RankerConfig, seed: int) -> str:
        settings = config.settings.of_training(config.architecture, with_knowledge=False)
        return fingerprint(step_key("rank", [config.architecture, settings, seed], {"dataset": self.data.dataset.path}))

    def _intact(self, name: str) -> Path:
        """Return a file of the earlier directory.

        Raises:
            InputError: the file is not as it was written.
        """
        file = self.directory / name
        if name not in self.checksums or sha256_of(file) != self.checksums[name]:
            raise InputError(f"{file}: is not as 'lum rank' wrote it")
        return file
