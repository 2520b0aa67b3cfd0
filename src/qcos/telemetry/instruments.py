"""The instruments: queue depth, outcomes, stage latencies (R7.2)."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from qcos.base.clock import now

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
_clock: dict[str, float] = {}


def _observe_clock(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(_clock[name])] if name in _clock else []


_meter.create_observable_gauge(
    "qcos.clock.drift",
    [_observe_clock("drift")],
    unit="s",
    description="True time minus this clock, as sources say.",
)
_meter.create_observable_gauge(
    "qcos.clock.sources",
    [_observe_clock("reached")],
    unit="{source}",
    description="Time sources that answered.",
)
_clock_refusals = _meter.create_counter(
    "qcos.clock.refusals", unit="{token}", description="Tokens not made because of the clock, by reason."
)
_authority_failures = _meter.create_counter(
    "qcos.tsa.failures",
    unit="{request}",
    description="Requests an authority gave no token for, by authority.",
)
_witness_answers = _meter.create_counter(
    "qcos.ledger.witness.answers",
    unit="{answer}",
    description="Answers of witnesses, by witness and outcome.",
)
_withheld: list[float] = [0.0]
_meter.create_observable_gauge(
    "qcos.ledger.withheld",
    [lambda _: [Observation(_withheld[0])]],
    unit="s",
    description="How long no checkpoint could be published for want of witnesses; 0 when all is well.",
)
_archive_failing: list[dt.datetime | None] = []  # empty where nothing is copied


def _observe_archive(_: CallbackOptions) -> Iterable[Observation]:
    return [
        Observation(0.0 if since is None else max(0.0, (now() - since).total_seconds()))
        for since in _archive_failing
    ]


_meter.create_observable_gauge(
    "qcos.worm.failing",
    [_observe_archive],
    unit="s",
    description="How long no round of copying to the WORM store succeeded; 0 when the last one did.",
)


def set_archive_failing(since: dt.datetime | None) -> None:
    """State since when no round of copying to the WORM store succeeded; None when the last one did."""
    _archive_failing[:] = [since]


def witness_answer(name: str, outcome: str) -> None:
    """Count a witness's answer."""
    _witness_answers.add(1, {"witness": name, "outcome": outcome})


def set_withheld(seconds: float) -> None:
    """State how long checkpoints have been withheld for want of witnesses."""
    _withheld[0] = seconds


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


def set_clock(drift_s: float | None, reached: int) -> None:
    """State how far the clock is off, when that is known, and how many time sources answered."""
    _clock["reached"] = reached
    if drift_s is None:
        _clock.pop("drift", None)
    else:
        _clock["drift"] = drift_s


def clock_refused(code: str) -> None:
    """Count a token that was not made because of the clock."""
    _clock_refusals.add(1, {"reason": code})


def authority_failed(authority: str) -> None:
    """Count a request for which an authority gave no token that verifies."""
    _authority_failures.add(1, {"authority": authority})


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Record how long the block takes as a stage."""
    began = time.perf_counter()
    try:
        yield
    finally:
        stage(name, time.perf_counter() - began)
