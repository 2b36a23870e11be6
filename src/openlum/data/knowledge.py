"""`knowledge/` for any tool: answers of a Large User Model per impression or per user, as a table of Arrow, pandas or Polars."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ConfigDict, Field

from openlum.arguments.frames import like, to_arrow, to_pandas, to_polars
from openlum.arguments.values import as_path
from openlum.artefact.directory import check_parts
from openlum.artefact.json_file import read_json
from openlum.artefact.parts import (
    TypeCheck,
    damaged,
    is_integer,
    is_list_of,
    is_number,
    is_text,
    part_files,
    read_parts,
)
from openlum.config import Question, Settings, parse_settings
from openlum.errors import InputError
from openlum.notebook import html_table

MADE_BY = "lum query"
ROW = "row"
"""The column with the row id of the impression."""
Form = Literal["impression", "user"]
FOLDERS: dict[Form, str] = {"impression": "impressions", "user": "users"}
"""Form of knowledge to the folder of its parts."""
KEYS: dict[Form, str] = {"impression": ROW, "user": "user"}
"""Form of knowledge to the column that differs in every row."""
TYPES: dict[str, TypeCheck] = {
    "id": is_integer,
    ROW: is_integer,
    "user": is_text,
    "item": is_text,
    "embedding": is_list_of(is_number),
    "answer": is_list_of(is_number),
    "similarity": is_number,
    "feedback": is_number,
    "fresh": is_number,
    "nightly": is_number,
    "content": is_number,
    "as_of": pa.types.is_timestamp,
    "last_event": pa.types.is_timestamp,
    "events": is_integer,
    "vectors": is_list_of(is_number),
    "recent_items": is_list_of(is_text),
}
"""The type of each column, by the part of its name before the first dot. Columns of other names may have any type."""


class KnowledgeInfo(Settings):
    """The keys of `knowledge.json` that readers need. Other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    form: Form
    """What a row is about. Rankers read knowledge per impression only."""
    questions: list[str]
    """Names of the questions."""
    fixed_questions: list[str] = []
    """Names of the questions that take no value from the impression."""
    feedback_names: list[str]
    """Names of the feedback predictions, FIELD=VALUE."""
    matched_names: list[str] = []
    """Names of the predictions of the matching head: TIER.FIELD=VALUE and TIER.SIMILARITY."""
    content_names: list[str] = []
    """Names of the comparisons by content vectors: content.FIELD.COMPARISON, and nightly.content.FIELD.COMPARISON."""
    vector_names: list[str] = []
    """Names of the M user vectors of knowledge per user."""
    width: int = Field(ge=1)
    """E."""
    rows: int = Field(ge=0)
    """Number of rows in all parts."""
    dataset: str
    """Fingerprint of the dataset that was queried."""
    model: str = ""
    """Fingerprint of the model that answered."""
    dtype: Literal["float16", "int8"] = "float16"
    """Data type of the vectors."""
    as_of: str = ""
    """Which events the answers use, in words."""
    asked: dict[str, Question] = {}
    """Name to condition fields and raw values of each question."""


def knowledge_files(path: Path, form: Form = "impression") -> list[Path]:
    """Return the Parquet files with the answers, in the directory that `lum query` wrote."""
    return part_files(path / FOLDERS[form])


@contextmanager
def _damage_named(file: Path) -> Iterator[None]:
    """Turn a failure to read a file of the knowledge into an `InputError` that names it."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise damaged(file, f"cannot be read ({' '.join(str(error).split())})", MADE_BY) from None


class Knowledge:
    """The answers of a Large User Model per impression or per user.

    A row per impression has the columns `row` (id of the impression), `user` and `item` (raw ids). For each question NAME it has
    `answer.NAME` (a vector of unit length) and `similarity.NAME` (its cosine with the impression's item). For each feedback
    prediction it has `feedback.FIELD=VALUE` (log-odds), and `fresh.FIELD=VALUE` and `nightly.FIELD=VALUE` by the matching head,
    which also predicts `TIER.similarity.QUESTION` and `TIER.similarity_in_context.QUESTION`. If the items have vectors and the
    log has no feedback, it has `content.FIELD.COMPARISON` and `nightly.content.FIELD.COMPARISON`: the item compared with the
    user's last items.

    A row per user has the columns `user` (raw id), `as_of`, `last_event` and `events` (the last event before that time, and the
    number of events before it), `vectors` (the user vectors end to end, for `LargeUserModel.match`), and `answer.NAME`. Where
    rows per impression have comparisons by content, it also has `recent_items`, the raw ids of the user's last items.

    Args:
        path: the directory from `lum query`.

    Example:
        >>> knowledge = Knowledge("runs/market/knowledge")                                    # doctest: +SKIP
        >>> joined = knowledge.join(impressions, columns=["similarity.click"])                # doctest: +SKIP
    """

    def __init__(self, path: str | Path) -> None:
        self.path = as_path("path", path)
        check_parts(self.path, "knowledge")
        file = self.path / "knowledge.json"
        self.info = parse_settings(read_json(file, MADE_BY), KnowledgeInfo, where=str(file))

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.info.rows

    def __repr__(self) -> str:
        return f"Knowledge({str(self.path)!r})"

    @property
    def key(self) -> str:
        """The column that differs in every row: `row` or `user`."""
        return KEYS[self.info.form]

    @property
    def score_names(self) -> list[str]:
        """The names of the scores, in the order of `score_columns`: questions, feedback predictions, matched predictions, and
        comparisons by content. Knowledge per user has no scores."""
        questions = self.info.questions if self.info.form == "impression" else []
        return questions + self.info.feedback_names + self.info.matched_names + self.info.content_names

    @property
    def score_columns(self) -> list[str]:
        """The columns of the scores, in the order of `score_names`."""
        questions = self.info.questions if self.info.form == "impression" else []
        feedback = [f"feedback.{name}" for name in self.info.feedback_names]
        similarity = [f"similarity.{name}" for name in questions]
        return similarity + feedback + self.info.matched_names + self.info.content_names

    @property
    def answer_columns(self) -> list[str]:
        """The columns of the answers."""
        return [f"answer.{name}" for name in self.info.questions]

    @property
    def columns(self) -> list[str]:
        """All columns of the table."""
        files = self._files
        return list(self._schema(files[0]).names) if files else [self.key, *self.answer_columns, *self.score_columns]

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the table, ordered by row id, or by user.

        Args:
            columns: the columns to read besides `row` or `user`; None for all.

        Raises:
            InputError: there is no such column, or a part is damaged.
        """
        all_columns = self.columns
        for name in columns or []:
            if name not in all_columns:
                raise InputError(f"{self.path}: has no column '{name}'; choose from {', '.join(all_columns)}")
        names = all_columns if columns is None else list(dict.fromkeys([self.key, *columns]))
        tables = [self.read_part(file, names) for file in self.part_rows()]
        if not tables:
            return pa.table({self.key: pa.array([], pa.int64())})
        table = pa.concat_tables(tables)
        return table.take(pc.sort_indices(table[self.key]))

    def read_part(self, file: Path, columns: Sequence[str]) -> pa.Table:
        """Return columns of one file of the knowledge, in the order of the file's rows.

        Args:
            file: of `part_rows`, or the folder of the item embeddings.
            columns: names of the columns.

        Raises:
            InputError: the file is damaged, or lacks a column.
        """
        checks = {name: TYPES.get(name.split(".")[0], lambda kind: True) for name in columns}
        return read_parts(file, checks, MADE_BY).select(list(columns))

    def part_rows(self) -> dict[Path, int]:
        """Return the files with the answers, in order, and their numbers of rows.

        Raises:
            InputError: a file is damaged, or the files together do not have the rows that `knowledge.json` states.
        """
        rows: dict[Path, int] = {}
        for file in self._files:
            with _damage_named(file):
                rows[file] = int(pq.read_metadata(file).num_rows)
        if sum(rows.values()) != self.info.rows:
            folder, found = self.path / FOLDERS[self.info.form], sum(rows.values())
            raise damaged(folder, f"its parts have {found:,} rows, but knowledge.json has {self.info.rows:,}", MADE_BY)
        return rows

    def to_pandas(self, columns: Sequence[str] | None = None) -> Any:
        """Return the table as a pandas frame; an answer is a NumPy array. `columns` as in `to_arrow`."""
        return to_pandas(self.to_arrow(columns))

    def to_polars(self, columns: Sequence[str] | None = None) -> Any:
        """Return the table as a Polars frame; an answer is an array of fixed width. `columns` as in `to_arrow`."""
        return to_polars(self.to_arrow(columns))

    def join(self, impressions: Any, on: str | None = ROW, columns: Sequence[str] | None = None) -> Any:
        """Return impressions with the columns of their knowledge, in the order of the impressions.

        Args:
            impressions: a table of Arrow, pandas or Polars, with one row per impression.
            on: its column with the row ids. None if the log has no row ids: the impressions are then numbered from 0, in their
                order.
            columns: the columns of the knowledge to add; None for all that the impressions do not have.

        Returns:
            A table of the same library.

        Raises:
            InputError: there is no such column, the knowledge lacks an impression, or it is per user.
        """
        if self.info.form != "impression":
            raise InputError(f"{self.path}: holds knowledge per user; join it by the column 'user'")
        table = to_arrow("impressions", impressions)
        if on is not None and on not in table.column_names:
            raise InputError(
                f"impressions: no column '{on}' with row ids; name it with on=, or pass on=None if rows are numbered from 0; the "
                f"columns are {', '.join(table.column_names)}"
            )
        ids = np.arange(len(table)) if on is None else table[on].to_numpy()
        knowledge = self.to_arrow(columns)
        rows = knowledge[ROW].to_numpy()
        index = np.searchsorted(rows, ids)
        missing = np.flatnonzero(~np.isin(ids, rows))
        if len(missing):
            raise InputError(
                f"{self.path}: has no answers for {len(missing):,} of {len(ids):,} impressions, the first is row "
                f"{ids[missing[0]]}; query the dataset of these impressions, and check the column of the row ids"
            )
        matched = knowledge.take(pa.array(index))
        for name in matched.column_names:
            if name != ROW and name not in table.column_names:
                table = table.append_column(matched.schema.field(name), matched[name])
        return like(table, impressions)

    def items(self, columns: Sequence[str] = ("id", "item", "embedding")) -> pa.Table:
        """Return the item embeddings: `id` (id in the dataset), `item` (raw id) and `embedding`."""
        return self.read_part(self.path / "items", columns)

    @property
    def _files(self) -> list[Path]:
        return knowledge_files(self.path, self.info.form)

    def _schema(self, file: Path) -> pa.Schema:
        with _damage_named(file):
            return pq.read_schema(file)

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        figures = {
            FOLDERS[self.info.form]: self.info.rows,
            "questions": ", ".join(self.info.questions),
            "feedback predictions": ", ".join(self.info.feedback_names) or "none",
            "user vectors": ", ".join(self.info.vector_names) or "none",
            "width of an answer": self.info.width,
        }
        return html_table("Knowledge", figures, self.path)
