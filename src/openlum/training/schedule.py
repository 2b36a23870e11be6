"""The learning-rate schedule that all training loops share."""

import math

FINAL_RATE = 0.1
"""Final learning rate, as a fraction of the peak."""


def cosine_rate(progress: float) -> float:
    """Return the learning rate as a fraction of the peak: a cosine from 1 to `FINAL_RATE` as `progress` goes from 0 to 1."""
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
