"""What can stop a run of questions, found before it begins."""

from pathlib import Path

from openlum.capacity import check_space
from openlum.data.dataset import Dataset
from openlum.query.settings import QuerySettings

BYTES = {"float16": 2, "int8": 1}
"""Of a number of a vector, by its type."""


def check_knowledge_fits(dataset: Dataset, settings: QuerySettings, width: int, feedback_names: int, out: Path) -> None:
    """There is room on the disk for the answers to all impressions.

    Args:
        dataset: with the impressions.
        settings: the questions.
        width: E of the model.
        feedback predictions: columns of them.
        out: the directory to write.

    Raises:
        InputError: there is not.
    """
    vector = width * BYTES[settings.dtype]
    row = 8 + len(settings.questions) * (vector + 4) + feedback_names * 4
    rows = sum(dataset.info.impressions.values())
    check_space(out, rows * row + dataset.info.counts.get("items", 0) * vector, f"knowledge of {rows:,} impressions")
