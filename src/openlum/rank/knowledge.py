"""The reader of `knowledge/` in the form *per impression*: answers as of each impression row's own time.

Shapes: n rows, Q questions or scores, E width of an answer, V items.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from openlum.data.dataset import Dataset
from openlum.data.knowledge import ROW, Knowledge
from openlum.errors import InputError
from openlum.rank.inputs import select_questions
from openlum.rank.settings import Tier


class RowKnowledge(Protocol):
    """Knowledge about impression rows, wherever it is."""

    path: Path
    """The directory."""
    score_names: list[str]
    """Names of the Q scores: the questions (similarities), the feedback predictions, FIELD=VALUE (feedback logits), and those of
    the matching head, TIER.FIELD=VALUE."""
    answer_names: list[str]
    """Names of the questions whose answers are read."""
    items: np.ndarray
    """(V, E) float16 item embeddings, unit length."""

    def index_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the index into the knowledge, (n,) int64, of impression rows (n,).

        Raises:
            InputError: the knowledge lacks a row.
        """

    def read(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return answers (n, Q, E) float16 of unit length, and scores (n, Q) float32, at indices (n,) of `index_of`.

        A score is the cosine of the answer and the row's item, or the log-odds of the feedback to this item.

        Raises:
            InputError: a part is damaged, or has a value that is not finite.
        """


@dataclass(frozen=True)
class KnowledgeArrays:
    """Knowledge about impression rows in memory; a `RowKnowledge`, whose docstring describes the attributes."""

    path: Path
    score_names: list[str]
    answer_names: list[str]
    row: np.ndarray
    """(n,) int64 impression row ids, ascending."""
    index: np.ndarray
    """(n,) index into `answers` and `scores` of each of `row`."""
    answers: np.ndarray
    """(n, Q, E) float16, unit length."""
    scores: np.ndarray
    """(n, Q) float32."""
    items: np.ndarray

    def index_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the index of impression rows, as `RowKnowledge` describes it."""
        return _index_of(self.path, self.row, self.index, rows)

    def read(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return answers and scores, as `RowKnowledge` describes them."""
        return self.answers[index], self.scores[index]


class StoredKnowledge:
    """Knowledge about impression rows that stays on disk; a `RowKnowledge`. Only the item embeddings are in memory.

    Args:
        path: the directory.
        dataset: the dataset whose impressions were answered.
        answer_names: the questions whose answers are read; by default all of the tier. Scores are always read.
        tier: `live` has all answers, `fresh` those of the questions that take no value from the row, `nightly` none.

    Raises:
        InputError: the directory does not hold knowledge per impression of this dataset, or parts are missing or damaged.
    """

    def __init__(
        self, path: Path, dataset: Dataset, answer_names: list[str] | None = None, tier: Tier = "live"
    ) -> None:
        self._knowledge = Knowledge(path)
        self.path, info = self._knowledge.path, self._knowledge.info
        if info.form != "impression":
            raise InputError(f"{self.path}: holds knowledge per {info.form}; a ranker needs it per impression")
        if info.dataset != dataset.info.fingerprint:
            raise InputError(
                f"{self.path}: was made for another dataset ({info.dataset}) than {dataset.path} "
                f"({dataset.info.fingerprint}); run 'lum query' on this one"
            )
        self.score_names = self._knowledge.score_names
        of_tier = {"live": info.questions, "fresh": info.fixed_questions, "nightly": []}[tier]
        self.answer_names = of_tier if answer_names is None else select_questions(info.questions, answer_names)
        self.items = self._read_items(len(dataset.vocabulary("items")))
        self._files = self._knowledge.part_rows()
        row = self.rows()[0]
        if (np.diff(row) == 0).any():
            raise InputError(f"{self.path}: row {row[:-1][np.diff(row) == 0][0]} occurs twice; run 'lum query' again")

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all impression row ids (n,), ascending, and the index of each, (n,)."""
        parts = [self._knowledge.read_part(file, [ROW])[ROW].to_numpy() for file in self._files]
        row = np.concatenate([np.empty(0, np.int64), *parts])
        index = np.argsort(row, kind="stable")
        return row[index], index

    def index_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the index of impression rows, as `RowKnowledge` describes it. The row ids of all parts are read for it."""
        return _index_of(self.path, *self.rows(), rows)

    def read(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return answers and scores, as `RowKnowledge` describes them. Each part that has any of them is read once."""
        columns = self._knowledge.score_columns
        answers = np.empty((len(index), len(self.answer_names), self._knowledge.info.width), np.float16)
        scores = np.empty((len(index), len(columns)), np.float32)
        order = np.argsort(index, kind="stable")
        ends = np.cumsum(list(self._files.values()))
        bounds = np.searchsorted(index[order], np.concatenate([[0], ends]))
        for number, (file, rows) in enumerate(self._files.items()):
            targets = order[bounds[number] : bounds[number + 1]]
            if not len(targets):
                continue
            table = self._knowledge.read_part(file, [ROW, *(f"answer.{name}" for name in self.answer_names), *columns])
            within = index[targets] - (ends[number] - rows)
            for question, name in enumerate(self.answer_names):
                answers[targets, question] = self._answers(table, f"answer.{name}", file)[within]
            for score, name in enumerate(columns):
                scores[targets, score] = _finite_scores(table, name, file)[within]
        return answers, scores

    def _read_items(self, items: int) -> np.ndarray:
        """Return the item embeddings (V, E), which are copied, because Arrow's memory is read-only."""
        folder = self.path / "items"
        table = self._knowledge.items(["id", "embedding"])
        embeddings = _vectors(table["embedding"], self._knowledge.info.width, folder).copy()
        if not np.array_equal(table["id"].to_numpy(), np.arange(items)):
            raise InputError(
                f"{folder}: must have the {items:,} items of the dataset by id, has {len(embeddings):,}; run 'lum query' again"
            )
        return embeddings

    def _answers(self, table: pa.Table, column: str, file: Path) -> np.ndarray:
        """Return the answers to one question of all rows of a part, (n, E)."""
        answers = _vectors(table[column], self._knowledge.info.width, file)
        wrong = np.flatnonzero(~np.isfinite(answers).all(1))
        if len(wrong):
            row = table[ROW][int(wrong[0])]
            raise InputError(f"{file}: column '{column}' is not finite in row {row}; run 'lum query' again")
        return answers


def load_knowledge(path: Path, dataset: Dataset, answer_names: list[str] | None = None) -> KnowledgeArrays:
    """Read all knowledge about the impressions of `dataset` into memory. Arguments and errors are those of `StoredKnowledge`."""
    stored = StoredKnowledge(path, dataset, answer_names)
    row, index = stored.rows()
    answers, scores = stored.read(np.arange(len(row)))
    names = stored.score_names, stored.answer_names
    return KnowledgeArrays(stored.path, *names, row, index, answers, scores, stored.items)


def _index_of(path: Path, row: np.ndarray, index: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the index of impression rows (m,) from all row ids, ascending, and their indices, (n,) each."""
    sorted_index = np.searchsorted(row, rows)
    missing = np.flatnonzero(~np.isin(rows, row))
    if len(missing):
        raise InputError(
            f"{path}: has no answers for {len(missing):,} of {len(rows):,} impression rows, the first is row "
            f"{rows[missing[0]]}; run 'lum query' again"
        )
    return index[sorted_index]


def _finite_scores(table: pa.Table, column: str, file: Path) -> np.ndarray:
    """Return one score of all rows of a part, (n,)."""
    scores = table[column].to_numpy().astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        value, row = scores[wrong[0]], table[ROW][int(wrong[0])]
        raise InputError(f"{file}: column '{column}' is {value} in row {row}; run 'lum query' again")
    return scores


def _vectors(column: pa.ChunkedArray, width: int, file: Path) -> np.ndarray:
    """Return vectors (n, E) of unit length; int8 vectors are divided by their length."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if len(flat) != len(column) * width:
        raise InputError(f"{file}: has no vectors of width {width}, as knowledge.json says; run 'lum query' again")
    values = flat.reshape(-1, width)
    if values.dtype == np.int8:
        values = values.astype(np.float32)
        values = (values / np.linalg.norm(values, axis=1, keepdims=True).clip(min=1)).astype(np.float16)
    return values
