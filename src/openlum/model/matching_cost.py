"""What the matching head costs: bytes of a user and operations of a candidate."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from openlum.model.network import Network


def bytes_per_user(network: Network) -> int:
    """Return the size of a user's vectors in half precision."""
    return 2 * len(network.user_vector_names) * network.config.settings.embedding_width


@torch.no_grad()
def flops_per_candidate(network: Network) -> int:
    """Return the floating-point operations of the head's matrix products for one more candidate of a request.

    A multiplication and an addition are two operations. What the head computes once for a user or a request does not count.
    """
    few, more = 2, 3
    return _flops(network, more) - _flops(network, few)


def _flops(network: Network, candidates: int) -> int:
    settings, device = network.config.settings, network.device
    vectors = torch.zeros(1, len(network.user_vector_names), settings.embedding_width, device=device)
    item = torch.zeros(candidates, settings.embedding_width, device=device)
    with FlopCounterMode(display=False) as counter:
        network.matching_head(vectors, item, torch.zeros(1, settings.width, device=device))
    return counter.get_total_flops()
