"""Random draws that several simulated worlds share.

Shapes: n users, m users who have a session in a step, C candidates, S slots of a slate.
"""

import numpy as np

START = 1_735_689_600  # 2025-01-01, UTC
DAY = 86_400


def session_times(
    mean_sessions: float, days: int, count: int, rng: np.random.Generator, spread: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of each user's sessions (n, largest number of sessions) and the numbers of sessions (n,).

    The times of a user ascend and are all different. Sessions are spread over the days; most are around noon and in the
    evening. The numbers of sessions follow a Poisson distribution with a gamma-distributed mean.

    Args:
        mean_sessions: average number of sessions per user, at least 1; each user has at least one.
        days: length of the log in days.
        count: number of users.
        rng: the random generator.
        spread: shape of the gamma distribution; a smaller number makes users differ more.
    """
    extra = mean_sessions - 1
    sessions = 1 + rng.poisson(rng.gamma(spread, extra / spread, count))
    shape = (count, int(sessions.max()))
    hour = np.where(rng.random(shape) < 0.4, rng.normal(12.0, 2.5, shape), rng.normal(20.0, 2.0, shape)) % 24
    second = (hour * 3600).astype(np.int64) + DAY * rng.integers(days, size=shape)
    second[np.arange(shape[1]) >= sessions[:, None]] = 2 * days * DAY  # no session: these times are not used
    second.sort(axis=1)
    return START + strictly_ascending(second), sessions


def strictly_ascending(time: np.ndarray) -> np.ndarray:
    """Return ascending times (n, T) in whole seconds, moved to later seconds so that all times of a row differ."""
    rank = np.arange(time.shape[1])
    return np.maximum.accumulate(time - rank, axis=1) + rank


def different_items(item: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of a slate from candidates (m, C), and whether each slot is used; both (m, slots).

    Repeated candidates are moved to the end. If there are fewer different candidates than slots, the last slots are unused.
    The order of the slots is the order of the item indices, so it does not depend on how the candidates were drawn.
    """
    order = np.argsort(item, axis=1, kind="stable")
    ascending = np.take_along_axis(item, order, axis=1)
    repeated = np.zeros(item.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], ascending[:, 1:] == ascending[:, :-1], axis=1)
    first = np.argsort(repeated, axis=1, kind="stable")[:, :slots]
    return np.take_along_axis(item, first, axis=1), ~np.take_along_axis(repeated, first, axis=1)


def softmax(utility: np.ndarray) -> np.ndarray:
    """Return the choice probabilities (m, S) of a multinomial logit model; a utility of -inf is never chosen."""
    weight = np.exp(utility - utility.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)
