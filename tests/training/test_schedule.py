"""Shapes of learning-rate schedules."""

import pytest

from openlum.training.schedule import FINAL_RATE, cosine_rate, warmup_cosine_rate


def test_the_cosine_falls_from_one_to_the_final_rate() -> None:
    rates = [cosine_rate(step / 20) for step in range(21)]
    assert rates[0] == 1
    assert rates[-1] == pytest.approx(FINAL_RATE)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_the_rate_rises_to_the_peak_and_then_falls(warmup: int) -> None:
    """The last steps may come after the expected number of steps."""
    rates = [warmup_cosine_rate(step, warmup, 30) for step in range(35)]
    peak = rates.index(max(rates))
    assert peak == max(warmup, 1) - 1
    assert max(rates) == 1
    assert rates[:peak] == sorted(set(rates[:peak]))
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[30:] == pytest.approx([FINAL_RATE] * 5)
