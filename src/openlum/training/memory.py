"""How much memory the process has used at most."""

import resource
import sys


def peak_memory_bytes() -> int:
    """Peak resident memory of this process so far, in bytes; on a GPU, the peak that torch allocated there."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
