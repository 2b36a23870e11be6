"""Shapes of learning-rate schedules: the learning rate as a fraction of its peak. `LambdaLR` of torch calls them."""

import math

FINAL_RATE = 0.1
"""Final learning rate, as a fraction of the peak."""


def cosine_rate(progress: float) -> float:
    """Return a cosine that falls from 1 to `FINAL_RATE` as `progress` goes from 0 to 1."""
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_cosine_rate(step: int, warmup: float, steps: int) -> float:
    """Return a linear rise to 1 in the first `warmup` of all `steps`, then `cosine_rate` over the other steps.

    If `warmup` is not a whole number, the last step of the rise is above 1, by less than 1 / `warmup`.
    """
    warmup = max(warmup, 1)
    if step < warmup:
        return (step + 1) / warmup
    return cosine_rate(min((step - warmup) / max(steps - warmup, 1), 1))
