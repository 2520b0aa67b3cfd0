"""The instruments: queue depth, outcomes, stage latencies (R7.2)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

_meter = metrics.get_meter("qcos")  # a proxy until `configure` sets a provider
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)  # seconds
_depths: dict[str, int] = {}


def _observe_depths(_: CallbackOptions) -> Iterable[Observation]:
    return [Observation(depth, {"queue": name}) for name, depth in list(_depths.items())]


_queue_depth = _meter.create_observable_gauge(
    "qcos.queue.depth", [_observe_depths], unit="{job}", description="Jobs waiting for a worker."
)
_outcomes = _meter.create_counter(
    "qcos.job.outcomes", unit="{job}", description="Jobs that ended, by outcome and provider."
)
_stages = _meter.create_histogram(
    "qcos.stage.duration",
    unit="s",
    description="Time a stage took.",
    explicit_bucket_boundaries_advisory=_BUCKETS,
)
_time_stamps = _meter.create_counter(
    "qcos.tsa.replies", unit="{reply}", description="Answers of the time-stamping service, by outcome."
)


def set_queue_depths(depths: Mapping[str, int]) -> None:
    """State how many jobs wait, by queue; queues that are not named are empty."""
    for name in _depths:
        _depths[name] = 0
    _depths.update(depths)


def outcome(state: str, provider: str) -> None:
    """Count a job that ended."""
    _outcomes.add(1, {"outcome": state, "provider": provider})


def stage(name: str, seconds: float) -> None:
    """Record how long a stage took."""
    _stages.record(seconds, {"stage": name})


def time_stamp(outcome: str) -> None:
    """Count an answer of the time-stamping service: ``granted`` or ``rejected``."""
    _time_stamps.add(1, {"outcome": outcome})


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Record how long the block takes as a stage."""
    began = time.perf_counter()
    try:
        yield
    finally:
        stage(name, time.perf_counter() - began)
