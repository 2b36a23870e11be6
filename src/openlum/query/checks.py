"""Checks before a query run, so that a mistake is reported before the work starts."""

from pathlib import Path

from openlum.capacity import check_space
from openlum.data.dataset import Dataset
from openlum.query.settings import QuerySettings

BYTES = {"float16": 2, "int8": 1}
"""Bytes per number of a vector, by data type."""

ID_BYTES = 8
"""Approximate bytes of the user and the item of a row, which are stored as indices of the distinct ids of a part."""


def check_knowledge_fits(dataset: Dataset, settings: QuerySettings, width: int, scores: int, out: Path) -> None:
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
    vector = width * BYTES[settings.dtype]
    row = 8 + ID_BYTES + len(settings.questions) * vector + scores * 4
    rows = dataset.impression_count
    check_space(out, rows * row + dataset.info.counts.get("items", 0) * vector, f"knowledge of {rows:,} impressions")
