"""Checks before a query run, so that a mistake is reported before the work starts."""

from pathlib import Path

from openlum.capacity import check_space
from openlum.data.shard import ShardedDataset
from openlum.query.settings import QuerySettings

BYTES = {"float16": 2, "int8": 1}
"""Bytes per number of a vector, by data type."""

ID_BYTES = 8
"""Approximate bytes of the user and the item of a row, which are stored as indices of the distinct ids of a part."""

USER_BYTES = 40
"""Approximate bytes of a user's id, times and number of events."""


def check_knowledge_fits(dataset: ShardedDataset, settings: QuerySettings, width: int, scores: int, out: Path) -> None:
    """Raise an error if the disk has no room for the answers to the questions of all impressions.

    Args:
        dataset: with the impressions.
        settings: with the questions.
        width: E of the model.
        scores: number of columns with similarities and predictions.
        out: the knowledge directory.

    Raises:
        InputError: if the free disk space is too small.
    """
    rows, vector = dataset.impression_count, width * BYTES[settings.dtype]
    row = 8 + ID_BYTES + len(settings.questions) * vector + scores * 4
    check_space(out, rows * row + _items(dataset) * vector, f"knowledge of {rows:,} impressions")


def check_user_knowledge_fits(
    dataset: ShardedDataset, settings: QuerySettings, width: int, vectors: int, users: int, out: Path
) -> None:
    """Raise an error if the disk has no room for the vectors of users.

    Args:
        dataset: with the users.
        settings: with the data type.
        width: E of the model.
        vectors: number of vectors of a user, with the answers.
        users: number of users.
        out: the knowledge directory.

    Raises:
        InputError: if the free disk space is too small.
    """
    vector = width * BYTES[settings.dtype]
    row = USER_BYTES + vectors * vector
    check_space(out, users * row + _items(dataset) * vector, f"knowledge of {users:,} users")


def _items(dataset: ShardedDataset) -> int:
    return dataset.info.counts.get("items", 0)
