"""The reader of `knowledge/`, in the form *per impression*: answers as of each impression row's own time.

Shapes: n rows, Q questions, E width of an answer, V items.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, Field

from openlum.artefact.directory import check_parts, read_json
from openlum.artefact.parts import TypeCheck, damaged, is_integer, is_list_of, is_number, read_parts
from openlum.config import Settings, parse_settings
from openlum.data.dataset import Dataset
from openlum.errors import InputError

MADE_BY = "lum query"


class KnowledgeInfo(Settings):
    """What `knowledge.json` must tell a reader; what else it has is for people."""

    model_config = ConfigDict(extra="ignore")

    form: str
    """`impression`, or another that no ranker reads."""
    questions: list[str]
    """Names of the questions."""
    feedback_names: list[str]
    """FIELD=VALUE of what items were judged by."""
    width: int = Field(ge=1)
    """E."""
    rows: int = Field(ge=0)
    """In all parts."""
    dataset: str
    """Fingerprint of the dataset whose impressions were answered."""


@dataclass(frozen=True)
class Knowledge:
    """Answers and similarities, aligned with impression rows."""

    path: Path
    """Where it was read."""
    questions: list[str]
    """Names of the questions that have similarities, then of the feedback predictions, FIELD=VALUE."""
    answered: list[str]
    """Names of the questions whose answers were read."""
    row: np.ndarray
    """(n,) int64 impression row ids, ascending."""
    place: np.ndarray
    """(n,) where each of `row` lies in `answers` and `similarity`."""
    answers: np.ndarray
    """(n, Q, E) float16, unit length."""
    similarity: np.ndarray
    """(n, Q) float32: cosine of the answer and the row's item; for a feedback prediction the log-odds of the feedback to that item."""
    items: np.ndarray
    """(V, E) float16 item embeddings, unit length."""

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where impression rows, (m,), lie in `answers` and `similarity`.

        Raises:
            InputError: a row is not there.
        """
        found = np.searchsorted(self.row, rows)
        missing = np.flatnonzero(~np.isin(rows, self.row))
        if len(missing):
            raise InputError(
                f"{self.path}: has no answers for {len(missing):,} of {len(rows):,} impression rows, the first is row "
                f"{rows[missing[0]]}; run 'lum query' again"
            )
        return self.place[found]


def load_knowledge(path: Path, dataset: Dataset, answered: list[str] | None = None) -> Knowledge:
    """Read knowledge that was made for `dataset`.

    Args:
        path: the directory.
        dataset: whose impressions it answers.
        answered: the questions whose answers are read; by default all. Similarities and feedback predictions are always read.

    Raises:
        InputError: it is not knowledge per impression of this very dataset, or parts of it are missing.
    """
    path = Path(path)
    check_parts(path, "knowledge")
    file = path / "knowledge.json"
    info = parse_settings(read_json(file, MADE_BY), KnowledgeInfo, where=str(file))
    if info.form != "impression":
        raise InputError(f"{path}: holds knowledge per {info.form}; a ranker needs it per impression")
    if info.dataset != dataset.info.fingerprint:
        raise InputError(
            f"{path}: was made for another dataset ({info.dataset}) than {dataset.path} ({dataset.info.fingerprint}); "
            "run 'lum query' on this one"
        )
    questions, feedback_names, width = info.questions, info.feedback_names, info.width
    answered = questions if answered is None else answered
    unknown = sorted(set(answered) - set(questions))
    if unknown:
        raise InputError(f"{path}: has no question '{unknown[0]}'; it has {', '.join(questions)}")
    matched = [f"similarity.{name}" for name in questions] + [f"feedback.{name}" for name in feedback_names]
    file = path / "items.parquet"
    # Before memory is taken for answers of this width; copied, for Arrow's memory is read-only.
    items = _vectors(_table(file, {"embedding": is_list_of(is_number)})["embedding"], width, file).copy()
    if len(items) != len(dataset.vocabulary("items")):
        raise InputError(f"{file}: has not the dataset's items; run 'lum query' again")
    row, answers, similarity = _read_parts(path, info.rows, matched, answered, width)
    place = np.argsort(row, kind="stable")
    row = row[place]
    if (np.diff(row) == 0).any():
        raise InputError(f"{path}: row {row[:-1][np.diff(row) == 0][0]} is there twice; run 'lum query' again")
    return Knowledge(path, questions + feedback_names, answered, row, place, answers, similarity, items)


def _read_parts(
    path: Path, rows: int, matched: list[str], answered: list[str], width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row ids (n,), answers (n, Q, E) and the columns `matched`, (n, Q); one part at a time is in memory twice."""
    columns = (
        {"row": is_integer}
        | {f"answer.{name}": is_list_of(is_number) for name in answered}
        | dict.fromkeys(matched, is_number)
    )
    parts = sorted(path.glob("part-*.parquet"))
    if sum(_rows(part) for part in parts) != rows:  # before memory is taken for them
        raise InputError(f"{path}: its parts do not hold the {rows} rows of knowledge.json; run '{MADE_BY}' again")
    row = np.empty(rows, np.int64)
    answers = np.empty((rows, len(answered), width), np.float16)
    similarity = np.empty((rows, len(matched)), np.float32)
    done = 0
    for part in parts:
        table = _table(part, columns)
        stop = done + len(table)
        row[done:stop] = table["row"].to_numpy()
        for index, name in enumerate(answered):
            answers[done:stop, index] = _vectors(table[f"answer.{name}"], width, part)
            wrong = np.flatnonzero(~np.isfinite(answers[done:stop, index]).all(1))
            if len(wrong):
                where = row[done + wrong[0]]
                raise InputError(f"{part}: column 'answer.{name}' is not finite in row {where}; run 'lum query' again")
        for index, name in enumerate(matched):
            similarity[done:stop, index] = table[name].to_numpy()
            wrong = np.flatnonzero(~np.isfinite(similarity[done:stop, index]))
            if len(wrong):
                found, where = similarity[done + wrong[0], index], row[done + wrong[0]]
                raise InputError(f"{part}: column '{name}' is {found} in row {where}; run 'lum query' again")
        done = stop
    return row, answers, similarity


def _rows(part: Path) -> int:
    try:
        return int(pq.read_metadata(part).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise damaged(part, f"cannot be read ({' '.join(str(error).split())})", MADE_BY) from None


def _table(file: Path, columns: dict[str, TypeCheck]) -> pa.Table:
    return read_parts(file, columns, MADE_BY).combine_chunks()


def _vectors(column: pa.ChunkedArray, width: int, file: Path) -> np.ndarray:
    """(n, E) of unit length; int8 is divided by its length."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if len(flat) != len(column) * width:
        raise InputError(f"{file}: has no vectors of width {width}, as knowledge.json says; run 'lum query' again")
    values = flat.reshape(-1, width)
    if values.dtype == np.int8:
        values = values.astype(np.float32)
        values = (values / np.linalg.norm(values, axis=1, keepdims=True).clip(min=1)).astype(np.float16)
    return values
