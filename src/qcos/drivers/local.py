"""What drivers of simulators on this machine share: checks before a run, and the runs themselves (R8.5)."""

from __future__ import annotations

import importlib.util
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from qcos.backends.model import Backend
from qcos.base.errors import DriverError
from qcos.base.limits import IDEMPOTENCY_KEY_MAX, LOCAL_RUN_SECONDS
from qcos.drivers.contract import Estimate, Facts, Handle, Observation, Outcome, Work
from qcos.drivers.runs import Runs

LOCAL_SHOTS = 1_000_000  # of one circuit; the local simulators state no limit of their own
SEEDS = 2**31  # seeds are below it: the smallest range of the three


class LocalDriver(ABC):
    """A driver whose backends are simulators in processes of their own.

    A vendor's driver gives the class attributes, `_backends` and `_bound_us`.

    Args:
        processes: Most runs at once; by default one for each core, at most two.
    """

    name: ClassVar[str]
    extra: ClassVar[str]
    requires: ClassVar[tuple[str, ...]]
    repeatable: ClassVar[bool]
    local: ClassVar[bool] = True
    options: ClassVar[frozenset[str]] = frozenset()
    child: ClassVar[str]

    def __init__(self, processes: int | None = None) -> None:
        most = processes or min(2, os.cpu_count() or 1)
        self._runs = Runs(self.name, self.child, processes=most, draw_seed=lambda: secrets.randbelow(SEEDS))
        self._described: dict[str, Backend] | None = None

    @abstractmethod
    def _backends(self) -> Sequence[Backend]:
        """Return the backends this driver would have with its software installed."""

    @abstractmethod
    def _bound_us(self, backend: str, facts: Facts, shots: int) -> int:
        """Return how long a run can take at most, in microseconds."""

    def describe(self) -> tuple[Backend, ...]:
        """Return the backends whose software is installed."""
        return tuple(self._known().values())

    def estimate(self, backend: str, facts: Sequence[Facts], work: Work) -> Estimate:
        """Return a bound on the time of a run, at most the limit of local runs."""
        self._check_backend(backend)
        bound = sum(self._bound_us(backend, one, work.shots) for one in facts)
        basis = (
            f"{len(facts)} circuits, gates x amplitudes and shots on one core, four times the measured rate"
        )
        return Estimate(min(bound, LOCAL_RUN_SECONDS * 1_000_000), basis)

    def prepare(self) -> None:
        """Start the processes and load every backend."""
        self._runs.prepare([backend.name for backend in self.describe()])

    def submit(self, backend: str, work: Work, key: str) -> Handle:
        """Queue work; see `qcos.drivers.contract.Driver.submit`."""
        self._check(self._check_backend(backend), work, key)
        return self._runs.submit(backend, work, key)

    def observe(self, handle: Handle) -> Observation:
        """Return how a run stands."""
        return self._runs.observe(handle)

    def result(self, handle: Handle, wait_s: float | None = None) -> Outcome:
        """Wait for a run, or run it here and now if none has begun it."""
        return self._runs.result(handle, wait_s)

    def cancel(self, handle: Handle) -> bool:
        """End a run, also one that computes: its process is killed."""
        return self._runs.cancel(handle)

    def find(self, backend: str, key: str) -> Handle | None:
        """Return the handle of a key used in this process; runs do not outlive it."""
        return self._runs.find(backend, key)

    def queue_depth(self, backend: str) -> int:
        """Return how many runs wait."""
        return self._runs.queue_depth(backend)

    def close(self) -> None:
        """Cancel everything and end the processes."""
        self._runs.close()

    def _known(self) -> dict[str, Backend]:
        if self._described is None:
            installed = all(importlib.util.find_spec(module) is not None for module in self.requires)
            self._described = {b.name: b for b in self._backends()} if installed else {}
        return self._described

    def _check_backend(self, backend: str) -> Backend:
        if (known := self._known().get(backend)) is None:
            names = ", ".join(self._known()) or f"none: install {self.extra}"
            raise DriverError(
                "driver.backend", "the driver has no such backend", subject=backend, expected=names
            )
        return known

    def _check(self, backend: Backend, work: Work, key: str) -> None:
        if not key or len(key) > IDEMPOTENCY_KEY_MAX:
            limit = f"1 to {IDEMPOTENCY_KEY_MAX} characters"
            raise DriverError("driver.key_length", "not a usable key", subject=self.name, expected=limit)
        if not 1 <= work.shots <= backend.max_shots:
            limit = f"1 to {backend.max_shots}"
            raise DriverError(
                "driver.shots",
                "so many shots cannot be run",
                subject=backend.name,
                expected=limit,
                got=str(work.shots),
            )
        if not 1 <= len(work.circuits) <= backend.max_circuits:
            limit, got = f"1 to {backend.max_circuits}", str(len(work.circuits))
            raise DriverError(
                "driver.circuits",
                "so many circuits cannot be run",
                subject=backend.name,
                expected=limit,
                got=got,
            )
        if foreign := sorted({c.format for c in work.circuits} - set(backend.formats)):
            known = ", ".join(backend.formats)
            raise DriverError(
                "driver.unsupported", "no such language", subject=", ".join(foreign), expected=known
            )
        if unknown := sorted(set(work.options) - self.options):
            known = ", ".join(sorted(self.options)) or "none"
            raise DriverError("driver.option", "no such option", subject=", ".join(unknown), expected=known)
        if work.seed is not None and not 0 <= work.seed < SEEDS:
            raise DriverError(
                "driver.seed",
                "not a usable seed",
                subject=backend.name,
                expected=f"0 to {SEEDS - 1}",
                got=str(work.seed),
            )
