"""The writer of `knowledge/`: answers as columns that any system can read.

`part-*.parquet` has the columns `row`, and for each question `answer.NAME` (fixed_size_list<float16>[E], unit length) and
`similarity.NAME` (float32, cosine of the answer and the impression's item). `items.parquet` has `item` and `embedding`.

Shapes: n rows, G questions, E width, V items.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor


def vectors(values: np.ndarray) -> pa.FixedSizeListArray:
    """(n, E) to a column of n half-precision vectors."""
    flat = pa.array(np.ascontiguousarray(values, np.float16).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


class KnowledgeWriter:
    """Collects answers and writes them in parts of a fixed number of rows."""

    def __init__(self, directory: Path, questions: list[str], rows_per_part: int) -> None:
        self.directory, self.questions, self.rows_per_part = directory, questions, rows_per_part
        self.parts = 0
        self.rows: list[np.ndarray] = []
        self.answers: list[np.ndarray] = []
        self.similarities: list[np.ndarray] = []

    def items(self, embeddings: Tensor) -> None:
        """Write the item embeddings, (V, E)."""
        ids = np.arange(len(embeddings), dtype=np.int32)
        table = pa.table({"item": ids, "embedding": vectors(embeddings.numpy())})
        pq.write_table(table, self.directory / "items.parquet")

    def add(self, rows: np.ndarray, answers: Tensor, similarities: Tensor) -> None:
        """Take row ids (n,), answers (n, G, E) and similarities (n, G)."""
        self.rows.append(rows)
        self.answers.append(answers.numpy().astype(np.float16))
        self.similarities.append(similarities.numpy())
        if sum(map(len, self.rows)) >= self.rows_per_part:
            self.close()

    def close(self) -> None:
        """Write what is left."""
        if not self.rows:
            return
        rows, answers, similarities = map(np.concatenate, (self.rows, self.answers, self.similarities))
        columns: dict[str, pa.Array] = {"row": pa.array(rows)}
        for index, name in enumerate(self.questions):
            columns[f"answer.{name}"] = vectors(answers[:, index])
            columns[f"similarity.{name}"] = pa.array(similarities[:, index])
        # Vectors hardly compress; plain pages are written and read several times faster.
        path = self.directory / f"part-{self.parts:05d}.parquet"
        pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False, write_statistics=False)
        self.parts += 1
        self.rows, self.answers, self.similarities = [], [], []
