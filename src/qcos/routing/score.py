"""Scores: cost, queue and history of each candidate, in parts per million (R8.4).

Each part is a ratio that depends on the backend (and, for cost, on the cheapest one) alone, so that offering
one more backend never turns round the order of two others unless it is cheaper than both.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcos.routing.model import PPM, Option, Score, Weights

_PRICE_GRAIN = 1_000  # micro-units: prices a thousandth of a currency unit apart are nearly the same
_WAIT_GRAIN_US = 10_000_000  # a wait of 10 s halves the score
_UNKNOWN_JOB_US = 1_000_000  # a job on a backend without history is taken to last 1 s
_PRIOR_JOBS, _PRIOR_SUCCEEDED = 10, 9  # a backend without history counts as nine of ten


def score(options: Sequence[Option], weights: Weights) -> tuple[Score, ...]:
    """Score candidates, best first; equal totals are ordered by name."""
    cheapest = min((option.price for option in options), default=0)
    scores = [_score(option, cheapest, weights) for option in options]
    return tuple(sorted(scores, key=lambda s: (-s.total, s.backend)))


def _score(option: Option, cheapest: int, weights: Weights) -> Score:
    status = option.status
    cost = PPM * (cheapest + _PRICE_GRAIN) // (option.price + _PRICE_GRAIN)
    mean_us = round(status.mean_seconds * PPM) if status.jobs else _UNKNOWN_JOB_US
    queue = PPM * _WAIT_GRAIN_US // (_WAIT_GRAIN_US + status.queue_depth * mean_us)
    succeeded = round(status.success_rate * status.jobs)
    history = PPM * (succeeded + _PRIOR_SUCCEEDED) // (status.jobs + _PRIOR_JOBS)
    total = (weights.cost * cost + weights.queue * queue + weights.history * history) // PPM
    return Score(option.name, total, cost, queue, history)
