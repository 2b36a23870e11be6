"""The boundaries of the global time split."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from openlum.data.dataset import SPLITS, Dataset
from openlum.prepare.run import prepare
from tests.prepare.logs import random_events, write_log


@pytest.mark.parametrize(("valid", "test"), [(0.8, 0.9), (0.29, 0.5)])
def test_boundaries_are_the_seconds_at_the_fractions(tmp_path: Path, valid: float, test: float) -> None:
    events = random_events(13, seconds=1000)
    schema = write_log(
        tmp_path,
        {"events": events},
        splits={"valid": valid, "test": test},
        impressions_from_events={"field": "rating", "at_least": 4},
    )
    info = prepare(schema, tmp_path / "dataset")
    time = np.sort(events["time"])
    assert info.valid_time == time[int(Fraction(str(valid)) * len(time))]
    assert info.test_time == time[int(Fraction(str(test)) * len(time))]
    dataset = Dataset(tmp_path / "dataset")
    bounds = {
        "train": (0, info.valid_time),
        "valid": (info.valid_time, info.test_time),
        "test": (info.test_time, 2**40),
    }
    for split in SPLITS:
        start, end = bounds[split]
        rows = dataset.impressions(split)
        assert ((rows.time >= start) & (rows.time < end)).all()
        assert len(rows.row) == info.impressions[split] == ((time >= start) & (time < end)).sum() > 0
