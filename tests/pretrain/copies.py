"""The events of a dataset that a validation set has copied."""

import numpy as np

from openlum.data.sequences import Sequences


def original_events(sequences: Sequences, copy: Sequences) -> np.ndarray:
    """Return the index in `sequences` of each event of a copy of spans."""
    originals = []
    for index, user in enumerate(copy.user):
        own = np.arange(*copy.offsets[index : index + 2])
        (begin, end) = sequences.offsets[sequences.user_index(np.array([user]))[0] + np.arange(2)]
        matches = [
            first
            for first in range(begin, end - len(own) + 1)
            if all(
                np.array_equal(getattr(sequences, name)[first : first + len(own)], getattr(copy, name)[own])
                for name in ("time", "item")
            )
        ]
        originals.append(matches[0] + np.arange(len(own)))
    return np.concatenate(originals)
