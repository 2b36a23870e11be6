"""The reader of `knowledge/` in the form *per impression*: answers as of each impression row's own time.

Shapes: n rows, Q questions or scores, E width of an answer, V items.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openlum.artefact.parts import TypeCheck, damaged, is_integer, is_list_of, is_number, read_parts
from openlum.data.dataset import Dataset
from openlum.data.knowledge import MADE_BY, Knowledge, knowledge_files
from openlum.errors import InputError


@dataclass(frozen=True)
class KnowledgeArrays:
    """Answers and knowledge scores of impression rows, in memory."""

    path: Path
    """The directory."""
    score_names: list[str]
    """Names of the Q scores: the questions (similarities), then the feedback predictions, FIELD=VALUE (feedback logits)."""
    answer_names: list[str]
    """Names of the questions whose answers were read."""
    row: np.ndarray
    """(n,) int64 impression row ids, ascending."""
    index: np.ndarray
    """(n,) index into `answers` and `scores` of each of `row`."""
    answers: np.ndarray
    """(n, Q, E) float16, unit length."""
    scores: np.ndarray
    """(n, Q) float32: the cosine of the answer and the row's item, or the log-odds of the feedback to this item."""
    items: np.ndarray
    """(V, E) float16 item embeddings, unit length."""

    def index_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the index into `answers` and `scores` of impression rows (m,).

        Raises:
            InputError: the knowledge lacks a row.
        """
        sorted_index = np.searchsorted(self.row, rows)
        missing = np.flatnonzero(~np.isin(rows, self.row))
        if len(missing):
            raise InputError(
                f"{self.path}: has no answers for {len(missing):,} of {len(rows):,} impression rows, the first is row "
                f"{rows[missing[0]]}; run 'lum query' again"
            )
        return self.index[sorted_index]


def load_knowledge(path: Path, dataset: Dataset, answer_names: list[str] | None = None) -> KnowledgeArrays:
    """Read knowledge about the impressions of `dataset`.

    Args:
        path: the directory.
        dataset: the dataset whose impressions were answered.
        answer_names: the questions whose answers are read; by default all. Scores are always read.

    Raises:
        InputError: the directory does not hold knowledge per impression of this dataset, or parts are missing or damaged.
    """
    knowledge = Knowledge(path)
    path, info = knowledge.path, knowledge.info
    if info.form != "impression":
        raise InputError(f"{path}: holds knowledge per {info.form}; a ranker needs it per impression")
    if info.dataset != dataset.info.fingerprint:
        raise InputError(
            f"{path}: was made for another dataset ({info.dataset}) than {dataset.path} ({dataset.info.fingerprint}); "
            "run 'lum query' on this one"
        )
    questions, feedback_names, width = info.questions, info.feedback_names, info.width
    answer_names = questions if answer_names is None else answer_names
    unknown = sorted(set(answer_names) - set(questions))
    if unknown:
        raise InputError(f"{path}: has no question '{unknown[0]}'; choose from {', '.join(questions)}")
    file = path / "items"
    # Read before memory is allocated for answers of this width. Copied, because Arrow's memory is read-only.
    item_table = _read_table(file, {"id": is_integer, "embedding": is_list_of(is_number)})
    items = _vectors(item_table["embedding"], width, file).copy()
    if not np.array_equal(item_table["id"].to_numpy(), np.arange(len(dataset.vocabulary("items")))):
        raise InputError(
            f"{file}: must have the {len(dataset.vocabulary('items')):,} items of the dataset by id, has {len(items):,}; "
            "run 'lum query' again"
        )
    row, answers, scores = _read_parts(path, info.rows, knowledge.score_columns, answer_names, width)
    index = np.argsort(row, kind="stable")
    row = row[index]
    if (np.diff(row) == 0).any():
        raise InputError(f"{path}: row {row[:-1][np.diff(row) == 0][0]} occurs twice; run 'lum query' again")
    return KnowledgeArrays(path, questions + feedback_names, answer_names, row, index, answers, scores, items)


def _read_parts(
    path: Path, rows: int, score_columns: list[str], answer_names: list[str], width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row ids (n,), answers (n, Q, E) and scores (n, Q). Only one part at a time is in memory twice."""
    columns = (
        {"row": is_integer}
        | {f"answer.{name}": is_list_of(is_number) for name in answer_names}
        | dict.fromkeys(score_columns, is_number)
    )
    parts = knowledge_files(path)
    if sum(_row_count(part) for part in parts) != rows:  # checked before memory is allocated
        raise InputError(
            f"{path / 'impressions'}: its parts do not hold the {rows} rows of knowledge.json; run '{MADE_BY}' again"
        )
    row = np.empty(rows, np.int64)
    answers = np.empty((rows, len(answer_names), width), np.float16)
    scores = np.empty((rows, len(score_columns)), np.float32)
    start = 0
    for part in parts:
        table = _read_table(part, columns)
        stop = start + len(table)
        row[start:stop] = table["row"].to_numpy()
        for index, name in enumerate(answer_names):
            answers[start:stop, index] = _vectors(table[f"answer.{name}"], width, part)
            wrong = np.flatnonzero(~np.isfinite(answers[start:stop, index]).all(1))
            if len(wrong):
                row_id = row[start + wrong[0]]
                raise InputError(f"{part}: column 'answer.{name}' is not finite in row {row_id}; run 'lum query' again")
        for index, name in enumerate(score_columns):
            scores[start:stop, index] = table[name].to_numpy()
            wrong = np.flatnonzero(~np.isfinite(scores[start:stop, index]))
            if len(wrong):
                value, row_id = scores[start + wrong[0], index], row[start + wrong[0]]
                raise InputError(f"{part}: column '{name}' is {value} in row {row_id}; run 'lum query' again")
        start = stop
    return row, answers, scores


def _row_count(part: Path) -> int:
    try:
        return int(pq.read_metadata(part).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise damaged(part, f"cannot be read ({' '.join(str(error).split())})", MADE_BY) from None


def _read_table(file: Path, columns: dict[str, TypeCheck]) -> pa.Table:
    return read_parts(file, columns, MADE_BY).combine_chunks()


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
