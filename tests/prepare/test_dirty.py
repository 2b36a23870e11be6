"""Any log is either prepared with every row accounted for, or refused with a one-line message that names the file."""

import random
from pathlib import Path

import pytest

from openlum.data.dataset import DatasetInfo
from openlum.errors import InputError
from openlum.prepare.run import check
from tests.prepare.dirty import write_dirty_log


def check_dirty_log(directory: Path, seed: int) -> DatasetInfo | str:
    """Check one log; return its counts, or the error message."""
    log = write_dirty_log(directory, seed)
    try:
        info = check(log.schema)
    except InputError as error:
        message = str(error)
        assert str(directory) in message, message
        assert "\n" not in message, message
        return message
    counts = info.counts
    assert counts["events_in"] == counts["events"] + counts["events_rejected"]
    assert counts["events_rejected"] == sum(n for reason, n in info.rejected.items() if reason.startswith("events: "))
    if log.rows is not None:
        assert counts["events_in"] == log.rows
    return info


@pytest.mark.parametrize("seed", range(12))
def test_a_dirty_log_is_accounted_for_or_refused(seed: int, tmp_path: Path) -> None:
    check_dirty_log(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", random.Random(0).sample(range(1000, 10**6), 300))
def test_many_dirty_logs_are_accounted_for_or_refused(seed: int, tmp_path: Path) -> None:
    check_dirty_log(tmp_path, seed)
