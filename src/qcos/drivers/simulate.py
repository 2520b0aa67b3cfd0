"""The inside of a simulating process: read a request, bind its programs, run them, measure what that took.

Each local driver has a child module that calls `answering` with its simulator and serves. A process runs one
work at a time, so its processor time and its memory are that work's (R6.1).
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from qcos.base.errors import DriverError, QcosError
from qcos.drivers.program import COMPILER, Program, read
from qcos.drivers.record import Recorder

_GRACE_S = 30  # an orphan ends itself so long after its deadline


@dataclass(frozen=True, slots=True)
class Ran:
    """What a simulator made of one circuit.

    Attributes:
        counts: Bit strings in the contract's order.
        depth: Depth of what ran.
        notes: What to keep as evidence: method, mapping, rewriting.
        executed: Gives the program as it was executed, as text; called only when the full record is asked for.
        response: Gives the vendor's answer as JSON text; called only then.
    """

    counts: dict[str, int]
    depth: int
    notes: dict[str, Any] = field(default_factory=dict)
    executed: Callable[[], str] | None = None
    response: Callable[[], str] | None = None


class Simulator(Protocol):
    """What a local driver's child module gives.

    For the full record it may also have what `qcos.drivers.record` asks for.

    Attributes:
        runtime: The vendor's software, e.g. ``qiskit-aer-0.18.2``.
        seeded: It repeats with the same seed.
    """

    runtime: str
    seeded: bool

    def load(self, backend: str) -> None:
        """Load what a backend needs; seconds the first time, nothing after."""
        ...

    def run(
        self,
        backend: str,
        program: Program,
        parameters: dict[str, float],
        shots: int,
        seed: int,
        options: dict[str, Any],
    ) -> Ran:
        """Run one program."""
        ...


def answering(
    make: Callable[[], Simulator], reader: Callable[[str, str], Program] = read
) -> Callable[[bytes], bytes]:
    """Return the handler of requests for `qcos.base.process.serve`.

    A request is JSON: ``do`` (``load`` or ``run``), ``backend``, ``deadline_s`` and for ``run`` ``work``. The
    answer is JSON with ``error`` (the members of a `DriverError`) or what `_run` returns.
    """
    loaded: list[Simulator] = []
    lifeline = _Lifeline()

    def answer(request: bytes) -> bytes:
        message = json.loads(request)
        signal.alarm(int(message["deadline_s"]) + _GRACE_S)  # the server of requests has set a shorter one
        lifeline.hold()
        try:
            if not loaded:
                loaded.append(make())
            loaded[0].load(message["backend"])
            given = _run(loaded[0], reader, message) if message["do"] == "run" else {}
        except Exception as error:
            given = {"error": _members(error)}
        lifeline.let_go()
        return json.dumps(given).encode()

    return answer


def _members(error: Exception) -> dict[str, str]:
    """Return the members of the `DriverError` that tells of an error."""
    if isinstance(error, QcosError):
        told = error.as_dict()
        return {k: told[k] for k in ("code", "message", "subject", "hint", "expected", "got") if k in told}
    if isinstance(error, MemoryError):
        return {"code": "driver.memory", "message": "the work needs more memory than a local run may have"}
    said = " ".join(str(error).split())[:500] or type(error).__name__
    if isinstance(error, ImportError):
        return {"code": "driver.not_installed", "message": f"the vendor's software cannot be loaded: {said}"}
    return {
        "code": "driver.vendor",
        "message": f"the vendor's software failed: {said}",
        "got": type(error).__name__,
    }


class _Lifeline:
    """Ends this process when its parent's end of standard input closes, whatever it is doing (Linux).

    While a request is worked on nothing may come through that pipe but its end, for which the kernel sends
    SIGIO, whose default action is to end the process. (A signal at the parent's death would come when the
    *thread* that started this process ends.)
    """

    def __init__(self) -> None:
        self._pipe = os.dup(0)  # the server of requests puts /dev/null in its place
        fcntl.fcntl(self._pipe, fcntl.F_SETOWN, os.getpid())
        self._flags = fcntl.fcntl(self._pipe, fcntl.F_GETFL)

    def hold(self) -> None:
        fcntl.fcntl(self._pipe, fcntl.F_SETFL, self._flags | os.O_ASYNC)
        poll = select.poll()
        poll.register(self._pipe, 0)  # an end that came before is reported here
        if poll.poll(0):
            os._exit(1)

    def let_go(self) -> None:
        fcntl.fcntl(self._pipe, fcntl.F_SETFL, self._flags)


def _run(
    simulator: Simulator, reader: Callable[[str, str], Program], message: dict[str, Any]
) -> dict[str, Any]:
    work, backend = message["work"], message["backend"]
    record = Recorder(simulator, backend, message["seed"], work) if work.get("provenance") else None
    _forget_peak()
    ran, stopwatch = [], _Stopwatch()
    for index, circuit in enumerate(work["circuits"]):
        one = _run_one(simulator, reader, backend, circuit, work, message["seed"], index)
        with stopwatch.apart():
            if record is not None:
                record.add(one)
            ran.append(replace(one, executed=None, response=None))  # they hold on to what they are made from
    answer = {
        "counts": [one.counts for one in ran],
        "depth": max((one.depth for one in ran), default=0),
        "notes": _merged([one.notes for one in ran]),
        "compiler": COMPILER,
        "runtime": simulator.runtime,
        "seeded": simulator.seeded,
        **stopwatch.read(),
        "memory_peak_bytes": _peak_bytes(),
    }
    if record is not None:
        with stopwatch.apart():
            answer["provenance"] = record.as_dict()
    return answer | {"apart_us": stopwatch.apart_us}


class _Stopwatch:
    """Measures a run, without what is done apart from it."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time_ns(), time.perf_counter_ns()
        self._cpu_apart = self._wall_apart = 0

    @property
    def apart_us(self) -> int:
        return self._wall_apart // 1000

    @contextmanager
    def apart(self) -> Iterator[None]:
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        yield
        self._cpu_apart += time.process_time_ns() - cpu
        self._wall_apart += time.perf_counter_ns() - wall

    def read(self) -> dict[str, int]:
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        return {
            "elapsed_us": (wall - self._wall - self._wall_apart) // 1000,
            "cpu_time_us": (cpu - self._cpu - self._cpu_apart) // 1000,
        }


def _run_one(
    simulator: Simulator,
    reader: Callable[[str, str], Program],
    backend: str,
    circuit: dict[str, Any],
    work: dict[str, Any],
    seed: int,
    index: int,
) -> Ran:
    try:
        program = reader(circuit["source"], circuit["format"])
        if not program.measures:
            raise DriverError(
                "driver.unsupported",
                "the program measures nothing",
                hint="measure into classical bits: c = measure q;",
            )
        return simulator.run(
            backend,
            program,
            circuit["parameters"],
            work["shots"],
            (seed + index) % 2**31,
            work["options"],
        )
    except DriverError as error:
        if len(work["circuits"]) > 1 and not error.subject.startswith("circuit "):
            error.subject = f"circuit {index}" + (f": {error.subject}" if error.subject else "")
        raise


def _merged(notes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one set of notes: values that all circuits share once, others as a list by circuit."""
    keys = sorted({key for one in notes for key in one})
    columns = {key: [one.get(key) for one in notes] for key in keys}
    return {
        key: values[0] if all(v == values[0] for v in values) else values for key, values in columns.items()
    }


def _forget_peak() -> None:
    """Let the kernel count this process's peak memory from now (Linux: writing 5 to clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # then the peak is that since the process started, which is never too little


def _peak_bytes() -> int:
    try:
        status = Path(f"/proc/{os.getpid()}/status").read_bytes()
        return int(status[status.index(b"VmHWM:") :].split(None, 2)[1]) * 1024
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
