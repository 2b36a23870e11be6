"""The peak memory of the process."""

import resource
import sys


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process in bytes; with a GPU, the peak memory that torch allocated on it."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
