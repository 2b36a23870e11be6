"""The writer of `knowledge/`: answers as columns that any system can read.

`part-*.parquet` has the columns `row`, and for each question `answer.NAME` (fixed_size_list<float16>[E], unit length; or
int8, to be divided by its length) and
`similarity.NAME` (float32, cosine of the answer and the impression's item). For each value of a feedback field,
`feedback.FIELD=VALUE` (float32) is the log-odds that the user gives it to the impression's item; where a log has no
feedback, `feedback.taken=yes` those of taking it rather than an item that others took in those days. `items.parquet` has
`item` and `embedding`.

Shapes: n rows, G questions, J feedback predictions, E width, V items.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor


def vectors(values: np.ndarray, dtype: str) -> pa.FixedSizeListArray:
    """(n, E) of unit length to a column of n vectors, `float16` or `int8`.

    As `int8` the largest entry of each vector becomes 127 or -127. Its length is known to be one, so no scale is kept.
    """
    if dtype == "int8":
        values = np.rint(values * (127 / np.abs(values).max(1, keepdims=True).clip(min=1e-9)))
    flat = pa.array(np.ascontiguousarray(values, dtype).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


class KnowledgeWriter:
    """Collects answers and writes them in parts of a fixed number of rows."""

    def __init__(
        self, directory: Path, questions: list[str], feedback_names: list[str], rows_per_part: int, dtype: str
    ) -> None:
        self.directory, self.questions, self.feedback_names = directory, questions, feedback_names
        self.rows_per_part, self.dtype = rows_per_part, dtype
        self.parts = 0
        self.rows: list[np.ndarray] = []
        self.answers: list[np.ndarray] = []
        self.similarities: list[np.ndarray] = []
        self.feedback: list[np.ndarray] = []

    def items(self, embeddings: Tensor) -> None:
        """Write the item embeddings, (V, E)."""
        ids = np.arange(len(embeddings), dtype=np.int32)
        table = pa.table({"item": ids, "embedding": vectors(embeddings.numpy(), self.dtype)})
        pq.write_table(table, self.directory / "items.parquet")

    def add(self, rows: np.ndarray, answers: Tensor, similarities: Tensor, feedback: Tensor) -> None:
        """Take row ids (n,), answers (n, G, E), similarities (n, G) and feedback predictions (n, J)."""
        self.rows.append(rows)
        self.answers.append(answers.numpy())
        self.similarities.append(similarities.numpy())
        self.feedback.append(feedback.numpy())
        if sum(map(len, self.rows)) >= self.rows_per_part:
            self.close()

    def close(self) -> None:
        """Write what is left."""
        if not self.rows:
            return
        kept = self.rows, self.answers, self.similarities, self.feedback
        rows, answers, similarities, feedback = map(np.concatenate, kept)
        columns: dict[str, pa.Array] = {"row": pa.array(rows)}
        for index, name in enumerate(self.questions):
            columns[f"answer.{name}"] = vectors(answers[:, index], self.dtype)
            columns[f"similarity.{name}"] = pa.array(similarities[:, index])
        for index, name in enumerate(self.feedback_names):
            columns[f"feedback.{name}"] = pa.array(feedback[:, index])
        # Vectors hardly compress; plain pages are written and read several times faster.
        path = self.directory / f"part-{self.parts:05d}.parquet"
        pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False, write_statistics=False)
        self.parts += 1
        self.rows, self.answers, self.similarities, self.feedback = [], [], [], []
