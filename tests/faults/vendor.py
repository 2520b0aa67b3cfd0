"""A vendor that costs money: it keeps what it was given in a file, and runs whatever it is given, as often as it is given it."""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from qcos.backends.model import Backend
from qcos.base.clock import now
from qcos.base.errors import NotFound, Unavailable
from qcos.drivers.contract import Estimate, Facts, Handle, Observation, Outcome, Work

BACKEND = Backend(
    name="paid-qpu",
    provider="acme",
    kind="qpu",
    driver="paid",
    qubits=20,
    max_shots=100_000,
    max_depth=None,
    max_circuits=10,
    formats=("QASM3",),
    gates=("*",),
    region="acme-1",
    zone="cloud",
    on_premise=False,
    price_key="aws/garnet",
)


class Vendor:
    """The vendor's own books: one line for each execution. It knows no idempotency: a second submission is a second execution."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(exist_ok=True)

    def run(self, key: str, work: Work) -> str:
        remote_id = f"acme-{secrets.token_hex(8)}"
        line = {"id": remote_id, "key": key, "shots": work.shots, "circuits": len(work.circuits)}
        self._write("executions", line)
        return remote_id

    def lines_of(self, key: str) -> list[dict[str, object]]:
        return [line for line in self._lines("executions") if line["key"] == key]

    def line(self, remote_id: str) -> dict[str, object]:
        for line in self._lines("executions"):
            if line["id"] == remote_id:
                return line
        raise NotFound("driver.handle", "no such work", subject=remote_id)

    def executions(self) -> Counter[str]:
        """Return how often the work of each key was executed."""
        return Counter(str(line["key"]) for line in self._lines("executions"))

    def cancel(self, remote_id: str) -> None:
        self._write("cancelled", remote_id)

    def is_cancelled(self, remote_id: str) -> bool:
        return remote_id in self._lines("cancelled")

    @property
    def mood(self) -> str:
        """What becomes of work: ``done``, ``failed``, ``running``; ``away`` answers nothing."""
        file = self._directory / "mood"
        return file.read_text() if file.exists() else "done"

    @mood.setter
    def mood(self, mood: str) -> None:
        making = self._directory / "mood.making"
        making.write_text(mood)
        making.rename(self._directory / "mood")

    def _lines(self, name: str) -> list[dict[str, object]]:
        file = self._directory / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def _write(self, name: str, line: object) -> None:
        file = os.open(self._directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, json.dumps(line).encode() + b"\n")
        os.fsync(file)
        os.close(file)


class PaidDriver:
    """The driver of that vendor: keeps the promise of one execution a key by looking before it submits, as far as that goes.

    Args:
        directory: Where the vendor keeps its books.
        at: Told the name of each point before and after the vendor acts.
    """

    name = "paid"
    extra = ""
    requires: tuple[str, ...] = ()
    repeatable = False
    local = False

    def __init__(self, directory: Path, at: Callable[[str], None] = lambda point: None) -> None:
        self.vendor = Vendor(directory)
        self._at = at

    def describe(self) -> Sequence[Backend]:
        return [BACKEND]

    def estimate(self, backend: str, facts: Sequence[Facts], work: Work) -> Estimate:
        return Estimate(1_000_000, "a second")

    def prepare(self) -> None:
        pass

    def submit(self, backend: str, work: Work, key: str) -> Handle:
        self._answers()
        self._at("before the vendor takes it")
        remote_id = self.vendor.run(key, work)
        self._at("after the vendor took it")
        return Handle(backend, remote_id)

    def observe(self, handle: Handle) -> Observation:
        mood = self._answers()
        self._at("observed")
        self.vendor.line(handle.remote_id)
        if self.vendor.is_cancelled(handle.remote_id):
            return Observation("cancelled")
        assert mood in ("done", "failed", "running")
        return Observation(mood, message="the cryostat is warm" if mood == "failed" else "")  # type: ignore[arg-type]

    def result(self, handle: Handle, wait_s: float | None = None) -> Outcome:
        self._answers()
        line = self.vendor.line(handle.remote_id)
        shots, circuits = int(str(line["shots"])), int(str(line["circuits"]))
        self._at("fetched")
        return Outcome(
            counts=tuple({"00": shots - shots // 2, "11": shots // 2} for _ in range(circuits)),
            shots_executed=shots * circuits,
            started=now(),
            ended=now(),
            queue_ms=7,
            seed=None,
            compiler="acme-1.0",
            compiled_depth=3,
            metadata={"calibrated": "today"},
            meters={"qpu_time_us": 1000},
        )

    def cancel(self, handle: Handle) -> bool:
        self._answers()
        self._at("before the vendor cancels it")
        if self.vendor.mood == "running":
            self.vendor.cancel(handle.remote_id)
        self._at("after the vendor cancelled it")
        return self.vendor.is_cancelled(handle.remote_id)

    def find(self, backend: str, key: str) -> Handle | None:
        self._answers()
        lines = self.vendor.lines_of(key)
        return Handle(backend, str(lines[0]["id"])) if lines else None

    def queue_depth(self, backend: str) -> int:
        return 0

    def close(self) -> None:
        pass

    def _answers(self) -> str:
        """Return the vendor's mood, looked at once: a test changes it while a worker asks."""
        mood = self.vendor.mood
        if mood == "away":
            raise Unavailable("driver.away", "the vendor does not answer")
        return mood
