"""The weights of the item activity in answers, from validation events after the training.

An answer o and an item of embedding e and activity a, as of the moment, have the score `o e + w a`. So with the vectors
`[o, w]` and `[e, a]`, the score is an inner product, and an index serves it. Embeddings change with a training; the activity is
refreshed as often as one likes.

The weights are those of a conditional logit (McFadden 1974) of the item that was met among a sample of items. They are kept only
if they predict the validation events of users whose events they were not fitted to.

Shapes: n events, C candidates, A activity features, E embedding width.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import Dataset
from openlum.data.item_activity import ACTIVITY, ItemActivity, refreshed
from openlum.model import LargeUserModel
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.validation import ValidationScores, ValidationSet, score_candidates

CANDIDATES = 500
"""Number of items that are compared with the item of an event."""
EVENTS = 4000
"""Number of events after which no more are used."""
FEWEST_USERS = 20
"""With fewer users of validation events, nothing is fitted."""
RIDGE = 1e-3
"""Weight of the squared weights of standardised features, per event."""


@dataclass(frozen=True)
class ActivityFit:
    """The weights, and what they gain."""

    weights: np.ndarray
    """(A,) weights; 0 if they are not kept."""
    gain: float
    """Cross-fitted gain in log-likelihood of an event, in nats, over the answers alone."""
    error: float
    """Standard error of the gain, over users."""


def set_activity_weights(
    model: LargeUserModel, dataset: Dataset, validation: ValidationSet, settings: PretrainSettings
) -> dict[str, float]:
    """Fit the weights of the item activity, set them in the model, and return what they gain, for `summary.json`."""
    generator = torch.Generator().manual_seed(settings.seed)
    candidates = 1 + torch.randperm(model.config.items - 1, generator=generator)[:CANDIDATES]
    scored = score_candidates(model, validation, settings.batch_events, candidates, EVENTS)
    fit = fit_activity(scored, candidates.numpy(), dataset.item_activity, settings.seed)
    model.network.activity_weights.copy_(torch.from_numpy(fit.weights))
    weights = {name: float(weight) for name, weight in zip(ACTIVITY, fit.weights, strict=True)}
    return {"gain": fit.gain, "error": fit.error} | (weights if fit.weights.any() else {})


def fit_activity(scored: ValidationScores, candidates: np.ndarray, activity: ItemActivity, seed: int) -> ActivityFit:
    """Return the weights of the item activity.

    Args:
        scored: validation events.
        candidates: (C,) item ids.
        activity: of the dataset.
        seed: of the two halves of the users.
    """
    items, times, users = scored.items, refreshed(scored.times), scored.users
    if len(np.unique(users)) < FEWEST_USERS:
        return ActivityFit(np.zeros(len(ACTIVITY), np.float32), 0.0, 0.0)
    ids = np.concatenate([items[:, None], np.broadcast_to(candidates, (len(items), len(candidates)))], 1)  # (n, 1 + C)
    features = torch.from_numpy(activity.features(ids.ravel(), np.repeat(times, ids.shape[1])))
    x = torch.cat([scored.scores.reshape(-1, 1).float(), features], 1)
    scale = x.std(0).clamp(min=1e-6)
    x = (x / scale).view(*ids.shape, -1)  # (n, 1 + C, 1 + A)
    is_target = torch.from_numpy(ids == items[:, None])
    is_target[:, 0] = False
    both = torch.ones(x.shape[-1], dtype=torch.bool)
    alone = torch.arange(x.shape[-1]) == 0
    fold = torch.from_numpy(np.random.default_rng(seed).permutation(users.max() + 1)[users] % 2)
    gain = torch.zeros(len(items))
    for half in (0, 1):
        rest, own = fold != half, fold == half
        joined, plain = (_fit(x[rest], is_target[rest], used) for used in (both, alone))
        gain[own] = _log_likelihood(x[own], is_target[own], joined) - _log_likelihood(x[own], is_target[own], plain)
    mean = float(gain.mean())
    by_user = torch.zeros(int(users.max()) + 1).index_add_(0, torch.from_numpy(users.astype(np.int64)), gain - mean)
    error = float((by_user**2).sum().sqrt() / len(gain))
    weights = _fit(x, is_target, both) / scale
    kept = mean > 2 * error and weights[0] > 0
    return ActivityFit((weights[1:] / weights[0] * kept).numpy().astype(np.float32), mean, error)


def _log_likelihood(x: Tensor, is_target: Tensor, weights: Tensor) -> Tensor:
    """Return the log-likelihood, (n,), of the first of the candidates x, (n, 1 + C, 1 + A)."""
    return (x @ weights).masked_fill(is_target, -torch.inf).log_softmax(1)[:, 0]


def _fit(x: Tensor, is_target: Tensor, used: Tensor) -> Tensor:
    """Return the weights, (1 + A,), of the conditional logit; 0 for the features that are not used, (1 + A,) bool."""
    weights = torch.zeros(x.shape[-1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = RIDGE * (weights**2).sum() - _log_likelihood(x, is_target, weights * used).mean()
        value.backward()
        return value

    optimizer.step(loss)
    return (weights * used).detach()
