"""What a job consumed: the six meters of the paper's Table 3 (R6.1), and tasks. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final, Literal

from qcos.base.errors import DriverError
from qcos.base.limits import MAX_MICRO
from qcos.metering.model import Usage

METERS: Final[Mapping[str, str]] = {  # meter -> unit
    "tasks": "task",  # circuits executed; what vendors bill "per task"
    "shots": "shot",  # over all circuits
    "qpu_time_us": "us",  # on the quantum processor
    "queue_time_us": "us",  # waiting from admission to the start, with us and at the provider
    "circuit_depth": "layer",  # deepest circuit as compiled
    "egress_bytes": "byte",  # result data that left the backend
    "cpu_time_us": "us",  # of a simulator, over all cores
    "memory_peak_bytes": "byte",  # of a simulator
}
# Added over jobs these mean nothing: the largest counts.
PEAKS: Final = frozenset({"circuit_depth", "memory_peak_bytes"})


def measure(
    *,
    kind: Literal["simulator", "qpu"],
    tasks: int,
    shots: int,
    started: dt.datetime,
    ended: dt.datetime,
    queue_us: int,
    depth: int,
    egress_bytes: int,
    reported: Mapping[str, int],
) -> tuple[Usage, ...]:
    """Return one usage for each meter, in the order of `METERS`.

    Args:
        kind: A simulator uses no QPU time, a QPU no CPU time (unless reported).
        tasks: Circuits executed.
        shots: Shots executed over all circuits.
        started: When execution began.
        ended: When it ended; the time between stands in for processor time that was not reported.
        queue_us: Microseconds of waiting at the provider.
        depth: Depth of the deepest circuit as compiled.
        egress_bytes: Bytes of result data.
        reported: What the driver measured: ``qpu_us``, ``cpu_us``, ``memory_peak_bytes``; no others.

    Raises:
        DriverError: ``usage.quantity`` when a quantity is negative or absurd.
    """
    wall_us = (ended - started) // dt.timedelta(microseconds=1)
    quantities = {
        "tasks": tasks,
        "shots": shots,
        "qpu_time_us": reported.get("qpu_us", wall_us if kind == "qpu" else 0),
        "queue_time_us": queue_us,
        "circuit_depth": depth,
        "egress_bytes": egress_bytes,
        "cpu_time_us": reported.get("cpu_us", wall_us if kind == "simulator" else 0),
        "memory_peak_bytes": reported.get("memory_peak_bytes", 0),
    }
    for meter, quantity in quantities.items():
        if not 0 <= quantity <= MAX_MICRO:
            raise DriverError(
                "usage.quantity",
                "a meter shows what cannot be",
                subject=meter,
                expected="0 or more",
                got=str(quantity),
            )
    return tuple(Usage(meter, quantities[meter], unit) for meter, unit in METERS.items())
