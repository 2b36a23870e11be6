"""How a learning rate falls; the same in every training that lets it fall."""

import math

FINAL_RATE = 0.1


def cosine_rate(done: float) -> float:
    """Part of the peak learning rate when a part `done` of the training, 0 to 1, is over: a cosine down to `FINAL_RATE`."""
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * done))
