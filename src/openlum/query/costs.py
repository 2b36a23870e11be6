"""What each tier of knowledge costs when a request arrives, measured on this machine.

A request has 500 candidates of one user with a full history. Times are those of the process, the best of several repetitions.
"""

import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import torch

from openlum.model import LargeUserModel, Questions
from openlum.model.batch import Moments, blank
from openlum.model.content import RECENT, RECENT_BYTES, compare_content
from openlum.model.matching_cost import bytes_per_user

CANDIDATES, REPETITIONS = 500, 10


@torch.inference_mode()
def tier_costs(model: LargeUserModel) -> dict[str, dict[str, float]]:
    """Return `bytes_per_user` and `microseconds_per_candidate` by tier; nothing if the model does not predict feedback.

    `nightly` and `fresh` are the same when a request arrives: the matching head reads kept user vectors. `live` has the kept
    state of a user's history, and the user encoder predicts the feedback to each candidate. If items are compared by content, the
    time includes it, and `nightly` and `fresh` also keep the ids of the user's last items; the state of `live` has them.
    """
    raw_items = model.processor.items.values
    if not model.config.trained_feedback_targets or not raw_items:
        return {}
    model.eval()
    events = model.config.settings.max_events
    state = model.user_state([{"item": item} for item in islice(cycle(raw_items), events)])
    vectors = model.network.user_vectors(state.history, Moments(torch.tensor([0]), torch.tensor([events])))
    none = torch.zeros(CANDIDATES, dtype=torch.int64)
    candidates = 1 + torch.arange(CANDIDATES) % len(raw_items)
    questions = Questions(blank(model.config.condition, CANDIDATES), none, none + events, candidates).to(model.device)
    items = model.items(questions.item)
    content, ids = model.config.content_fields, candidates.to(model.device)

    def compare() -> Any:
        return compare_content(model.network.item_encoder, content, ids, ids[:RECENT]) if content else None

    matched = {
        "bytes_per_user": bytes_per_user(model.network) + (RECENT_BYTES if content else 0),
        "microseconds_per_candidate": _microseconds(
            lambda: (model.network.match(vectors, questions, items), compare())
        ),
    }
    live = {
        "bytes_per_user": len(state.to_bytes()),
        "microseconds_per_candidate": _microseconds(
            lambda: (model.predict_feedback_logits(state.history, questions, items), compare())
        ),
    }
    return {"nightly": matched, "fresh": matched, "live": live}


def _microseconds(predict: Callable[[], Any]) -> float:
    """Return the microseconds of a candidate in the fastest of several calls, after a first call."""
    predict()
    best = float("inf")
    for _ in range(REPETITIONS):
        began = time.process_time()
        predict()
        best = min(best, time.process_time() - began)
    return round(1e6 * best / CANDIDATES, 2)
