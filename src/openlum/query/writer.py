"""The writer of `knowledge/`: answers as Parquet columns that any system can read.

`part-*.parquet` has one row per impression with the columns

- `row`: id of the impression;
- `answer.NAME` for each question: fixed_size_list<float16>[E] of unit length, or int8, to be divided by the vector's length;
- `similarity.NAME` for each question: float32, cosine of the answer and the embedding of the impression's item;
- `feedback.FIELD=VALUE` for each value of a feedback field: float32, log-odds that the user gives this feedback to the
  impression's item. If the log has no feedback fields, `feedback.taken=yes` is the log-odds that the user takes the item, rather
  than an item that other users took in the same days.

`items.parquet` has the columns `item` and `embedding`.

Shapes: n rows, G questions, J feedback predictions, E width, V items.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor


def vectors(values: np.ndarray, dtype: str) -> pa.FixedSizeListArray:
    """Return vectors (n, E) of unit length as a column of the type `float16` or `int8`.

    With `int8`, the largest entry of each vector becomes 127 or -127. The scale is not stored, because the vector is known to
    have length 1.
    """
    if dtype == "int8":
        values = np.rint(values * (127 / np.abs(values).max(1, keepdims=True).clip(min=1e-9)))
    flat = pa.array(np.ascontiguousarray(values, dtype).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


class KnowledgeWriter:
    """A writer that collects answers and writes parts of at least `rows_per_part` rows.

    Args:
        directory: the knowledge directory.
        questions: names of the G questions.
        feedback_names: FIELD=VALUE of the J feedback predictions.
        rows_per_part: rows to collect before a part is written.
        dtype: of the vectors, `float16` or `int8`.
    """

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
        """Add row ids (n,), answers (n, G, E), similarities (n, G) and feedback predictions (n, J)."""
        self.rows.append(rows)
        self.answers.append(answers.numpy())
        self.similarities.append(similarities.numpy())
        self.feedback.append(feedback.numpy())
        if sum(map(len, self.rows)) >= self.rows_per_part:
            self.write_part()

    def write_part(self) -> None:
        """Write the collected rows as a part, if there are any."""
        if not self.rows:
            return
        batches = self.rows, self.answers, self.similarities, self.feedback
        rows, answers, similarities, feedback = map(np.concatenate, batches)
        columns: dict[str, pa.Array] = {"row": pa.array(rows)}
        for index, name in enumerate(self.questions):
            columns[f"answer.{name}"] = vectors(answers[:, index], self.dtype)
            columns[f"similarity.{name}"] = pa.array(similarities[:, index])
        for index, name in enumerate(self.feedback_names):
            columns[f"feedback.{name}"] = pa.array(feedback[:, index])
        # Vectors hardly compress. Uncompressed pages are written and read several times faster.
        path = self.directory / f"part-{self.parts:05d}.parquet"
        pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False, write_statistics=False)
        self.parts += 1
        self.rows, self.answers, self.similarities, self.feedback = [], [], [], []
