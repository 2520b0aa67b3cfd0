"""Counting sampled bits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np


def tally(samples: Any, columns: list[int]) -> dict[str, int]:  # Any: numpy.ndarray
    """Return how often each bit string came up.

    Args:
        samples: Integers 0 and 1, one row a shot.
        columns: For each digit of the bit string, first digit first, the column it is read from; -1 for a
            zero.
    """
    digits = np.full((samples.shape[0], len(columns)), ord("0"), dtype=np.uint8)
    for place, column in enumerate(columns):
        if column >= 0:
            digits[:, place] += samples[:, column].astype(np.uint8)
    strings = digits.view(f"S{len(columns)}").ravel().tolist()
    return {key.decode(): count for key, count in sorted(Counter(strings).items())}
