"""Knowledge that a query run adds rows to: which impressions it answers, and its parts, which stay as they are."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openlum.artefact.json_file import read_json
from openlum.data.knowledge import MADE_BY, ROW, Knowledge
from openlum.data.sequences import Impressions
from openlum.data.shard import ShardedDataset
from openlum.errors import InputError

SAME = {
    "model": "model",
    "asked": "questions",
    "feedback_names": "feedback predictions",
    "matched_names": "predictions of the matching head",
    "content_names": "comparisons by content",
    "as_of": "rule for events",
    "dtype": "data type",
}
"""Keys of `knowledge.json` that must be the same for all rows, in words."""
ANSWER_ALL = "answer all impressions again, without --only-new"


class EarlierKnowledge:
    """Knowledge per impression of an earlier run.

    Args:
        path: the directory.

    Raises:
        InputError: the directory cannot be read, or holds knowledge per user.
    """

    def __init__(self, path: Path) -> None:
        self.knowledge = Knowledge(path)
        if self.knowledge.info.form != "impression":
            raise InputError(
                f"{path}: holds knowledge per user, and --only-new adds impressions; name another directory"
            )
        table = self.knowledge.to_arrow(["user", "item"])
        self.row = table[ROW].to_numpy()
        """(n,) ids of the answered rows, ascending."""
        self._ids = {name: table[name].combine_chunks() for name in ("user", "item")}

    @property
    def next_shard(self) -> int:
        """The number of the first shard of new parts. Those of the earlier parts are smaller."""
        numbers = [re.search(r"\d+", file.name) for file in self.knowledge.part_rows()]
        return 1 + max((int(number[0]) for number in numbers if number), default=-1)

    def check_same(self, description: dict[str, Any]) -> None:
        """Raise an `InputError` if new rows would not mean the same as the earlier ones.

        Args:
            description: of the new run, for `knowledge.json`.
        """
        stored = read_json(self.knowledge.path / "knowledge.json", MADE_BY)
        for key, name in SAME.items():
            if stored.get(key, []) != json.loads(json.dumps(description[key])):
                raise InputError(f"{self.knowledge.path}: was answered with another {name}; {ANSWER_ALL}")

    def without_answered(self, impressions: Impressions, dataset: ShardedDataset) -> Impressions:
        """Return the impressions that have no answers yet.

        Raises:
            InputError: an answered row has another user or item.
        """
        place = np.searchsorted(self.row, impressions.row)
        answered = np.isin(impressions.row, self.row)
        for name, ids in (("user", impressions.user), ("item", impressions.item)):
            raw = dataset.raw_ids("users" if name == "user" else "items").take(pa.array(ids[answered]))
            stored = self._ids[name].take(pa.array(place[answered]))
            if not raw.equals(stored):
                differs = np.asarray(pc.not_equal(raw, stored).fill_null(True))
                row = impressions.row[answered][np.flatnonzero(differs)[0]]
                raise InputError(f"{self.knowledge.path}: row {row} has another {name} in the dataset; {ANSWER_ALL}")
        return impressions.take(np.flatnonzero(~answered))

    def link_into(self, target: Path) -> None:
        """Let the earlier parts appear in the directory `target` too, unchanged."""
        for file in self.knowledge.part_rows():
            try:
                os.link(file, target / file.name)
            except OSError:  # a file system without hard links
                shutil.copy2(file, target / file.name)
