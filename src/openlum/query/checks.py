"""The size of knowledge, and the check before a query run that the disk has room for it."""

from dataclasses import dataclass
from pathlib import Path

from openlum.capacity import check_space, size_in_words
from openlum.data.shard import ShardedDataset
from openlum.query.settings import QuerySettings

BYTES = {"float16": 2, "int8": 1}
"""Bytes per number of a vector, by data type."""

ID_BYTES = 8
"""Approximate bytes of the user and the item of a row, which are stored as indices of the distinct ids of a part."""

USER_BYTES = 40
"""Approximate bytes of a user's id, times and number of events."""


@dataclass(frozen=True)
class KnowledgeSize:
    """The approximate size of knowledge on the disk."""

    rows: int
    """Number of rows."""
    row_bytes: int
    """Bytes of a row."""
    item_bytes: int
    """Bytes of all item embeddings."""
    unit: str
    """What a row is about, in the plural."""

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.rows * self.row_bytes + self.item_bytes

    def __str__(self) -> str:
        return f"{self.rows:,} {self.unit}, about {self.row_bytes:,} bytes each, {size_in_words(self.total)} in all"

    def check(self, out: Path) -> None:
        """Raise an `InputError` if the disk of the knowledge directory has no room for it."""
        check_space(out, self.total, f"knowledge of {self.rows:,} {self.unit}")


def impression_knowledge_size(
    dataset: ShardedDataset, settings: QuerySettings, width: int, questions: int, scores: int
) -> KnowledgeSize:
    """Return the size of knowledge per impression.

    Args:
        dataset: with the impressions.
        settings: with the data type.
        width: E of the model.
        questions: G, number of questions about a row.
        scores: number of columns with similarities and predictions.
    """
    vector = width * BYTES[settings.dtype]
    row = 8 + ID_BYTES + questions * vector + scores * 4
    return KnowledgeSize(dataset.impression_count, row, _items(dataset) * vector, "impressions")


def user_knowledge_size(
    dataset: ShardedDataset, settings: QuerySettings, width: int, vectors: int, users: int, recent: int
) -> KnowledgeSize:
    """Return the size of knowledge per user.

    Args:
        dataset: with the users.
        settings: with the data type.
        width: E of the model.
        vectors: number of vectors of a user, with the answers.
        users: number of users.
        recent: bytes of a user's last items.
    """
    vector = width * BYTES[settings.dtype]
    return KnowledgeSize(users, USER_BYTES + vectors * vector + recent, _items(dataset) * vector, "users")


def _items(dataset: ShardedDataset) -> int:
    return dataset.info.counts.get("items", 0)
