"""Every job is metered by all meters of the paper's Table 3 (R6.1)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest

from qcos.base.errors import DriverError
from qcos.metering.measure import METERS, measure
from qcos.metering.model import Usage
from qcos.metering.period import day_of, month_of

START = dt.datetime(2026, 11, 2, 10, tzinfo=dt.UTC)
END = START + dt.timedelta(microseconds=12_345)


def _measure(reported: Mapping[str, int], **changes: Any) -> dict[str, int]:
    given: dict[str, Any] = {
        "kind": "simulator",
        "tasks": 2,
        "shots": 2_000,
        "started": START,
        "ended": END,
        "queue_us": 7,
        "depth": 3,
        "egress_bytes": 91,
    }
    usages = measure(**{**given, **changes}, reported=reported)
    assert [(usage.meter, usage.unit) for usage in usages] == list(METERS.items())
    assert all(isinstance(usage, Usage) and type(usage.quantity) is int for usage in usages)
    return {usage.meter: usage.quantity for usage in usages}


def test_a_simulated_job_is_metered_by_what_its_driver_measured() -> None:
    """R6.1: shots, QPU time, queue time, depth, egress, simulator CPU and memory."""
    assert _measure({"cpu_us": 9_000, "memory_peak_bytes": 4_096, "something_else": 5}) == {
        "tasks": 2,
        "shots": 2_000,
        "qpu_time_us": 0,
        "queue_time_us": 7,
        "circuit_depth": 3,
        "egress_bytes": 91,
        "cpu_time_us": 9_000,
        "memory_peak_bytes": 4_096,
    }


def test_the_time_between_stands_in_for_what_was_not_reported() -> None:
    assert _measure({})["cpu_time_us"] == 12_345
    on_qpu = _measure({}, kind="qpu")
    assert (on_qpu["qpu_time_us"], on_qpu["cpu_time_us"]) == (12_345, 0)
    assert _measure({"qpu_us": 11}, kind="qpu")["qpu_time_us"] == 11


@pytest.mark.parametrize(
    "change", [{"shots": -1}, {"queue_us": 2**53}, {"ended": START - dt.timedelta(seconds=1)}]
)
def test_what_cannot_be_is_the_drivers_fault(change: dict[str, Any]) -> None:
    with pytest.raises(DriverError) as caught:
        _measure({}, **change)
    assert caught.value.code == "usage.quantity"


def test_months_and_days_are_utc() -> None:
    east = dt.timezone(dt.timedelta(hours=9))
    at = dt.datetime(2026, 12, 1, 8, 59, tzinfo=east)
    assert (month_of(at), day_of(at)) == ("2026-11", "2026-11-30")
