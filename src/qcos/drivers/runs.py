"""Runs on this machine: a queue, a few killable processes, and one execution a key (R8.5).

Simulators hold Python's global lock while they compute (Aer for the whole run), may crash and cannot be
interrupted. So each runs in a process of its own: the worker stays responsive, cancelling is killing, and
what a run consumed is what its process consumed.

A run starts when a process is free. Whoever waits for a run that has not started runs it himself, which saves
the way through another thread.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import signal
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qcos.base.clock import now
from qcos.base.errors import Conflict, DriverError, Limit, NotFound, QcosError, Unavailable
from qcos.base.limits import (
    LOCAL_FETCHED_KEPT,
    LOCAL_QUEUE_MAX,
    LOCAL_RUN_BYTES,
    LOCAL_RUN_SECONDS,
    LOCAL_RUNS_KEPT,
    LOCAL_STRINGS_KEPT,
)
from qcos.base.process import ChildFailed, DeadlineExceeded, KillableProcess
from qcos.drivers.contract import FINAL, Document, Handle, Observation, Outcome, Provenance, State, Work

_LOAD_SECONDS = 180.0  # the slowest SDK takes 8 s on an idle core
_DEADLINE_S = LOCAL_RUN_SECONDS + _LOAD_SECONDS


@dataclass(slots=True)
class _Run:
    """One work: what it is, how it stands, who runs it. Changed only under the lock of `Runs`."""

    handle: Handle
    key: str
    fingerprint: bytes
    request: bytes  # let go of when the run ends: sources may be large
    seed: int
    shots: int
    queued_at: float
    state: State = "queued"
    child: KillableProcess | None = None
    outcome: Outcome | None = None
    error: QcosError | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def size(self) -> int:
        """Return how many bit strings its outcome holds, or would in the room that it takes."""
        if self.outcome is None:
            return 0
        return sum(len(counts) for counts in self.outcome.counts) + _room(self.outcome.provenance) // 100


class Runs:
    """The runs of one driver; safe for many threads.

    Args:
        driver: The driver's name.
        module: Its child module, run as ``python -m``.
        processes: Most processes at once; each is started when first needed.
        draw_seed: Gives the seed of work that has none.
        keep: Fetched runs that can still be asked for; older ones are forgotten, their keys too.
    """

    def __init__(
        self,
        driver: str,
        module: str,
        *,
        processes: int,
        draw_seed: Callable[[], int],
        keep: int = LOCAL_FETCHED_KEPT,
    ) -> None:
        self._driver, self._module, self._limit = driver, module, processes
        self._draw_seed, self._keep = draw_seed, keep
        self._lock = threading.Condition()
        self._waiting: deque[_Run] = deque()
        self._by_id: dict[str, _Run] = {}
        self._by_key: dict[tuple[str, str], _Run] = {}
        self._ended: OrderedDict[str, _Run] = OrderedDict()  # and not fetched yet
        self._fetched: OrderedDict[str, _Run] = OrderedDict()
        self._strings = 0
        self._free: list[KillableProcess] = []
        self._started = 0
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._prefix = f"{driver}-{os.getpid():x}-{time.time_ns():x}"
        self._count = 0

    def submit(self, backend: str, work: Work, key: str) -> Handle:
        """Queue work; the same backend and key give the same handle."""
        text = _text(work)
        fingerprint = hashlib.sha256(text).digest()
        with self._lock:
            if (known := self._by_key.get((backend, key))) is not None:
                if known.fingerprint != fingerprint:
                    raise Conflict("driver.key", "the key was used for other work", subject=key)
                return known.handle
            if self._closed:
                raise Unavailable("driver.closed", "the driver is closed", subject=self._driver)
            if len(self._waiting) >= LOCAL_QUEUE_MAX:
                raise Limit("driver.queue", "too many runs wait", subject=self._driver, retry_after_s=1.0)
            self._count += 1
            handle = Handle(backend, f"{self._prefix}-{self._count}", {"key": key})
            seed = self._draw_seed() if work.seed is None else work.seed
            request = _request("run", backend, seed, text)
            run = _Run(handle, key, fingerprint, request, seed, work.shots, time.monotonic())
            self._by_key[backend, key] = self._by_id[handle.remote_id] = run
            self._waiting.append(run)
            if len(self._threads) < min(self._limit, len(self._waiting)):
                self._start_thread()
            self._lock.notify()
            return handle

    def observe(self, handle: Handle) -> Observation:
        """Return how a run stands."""
        with self._lock:
            run = self._known(handle)
            position = None
            if run.state == "queued":
                position = next((i for i, waiting in enumerate(self._waiting) if waiting is run), None)
            return Observation(run.state, position, str(run.error) if run.error else "")

    def result(self, handle: Handle, wait_s: float | None) -> Outcome:
        """Wait for a run and return its outcome."""
        with self._lock:
            run = self._known(handle)
            process = self._take(run) if wait_s is None else None
        if process is not None:
            self._execute(run, process)
        if not run.ended.wait(wait_s):
            raise Unavailable(
                "driver.not_done", "the run has not ended", subject=handle.remote_id, got=run.state
            )
        with self._lock:
            self._fetched_now(run)
        if run.error is not None:
            raise run.error.with_traceback(None)  # one object for all who ask
        assert run.outcome is not None  # noqa: S101 - an ended run has one or the other
        return run.outcome

    def cancel(self, handle: Handle) -> bool:
        """End a run; what computes for it is killed."""
        with self._lock:
            run = self._known(handle)
            if run.state in FINAL:
                return run.state == "cancelled"
            if run.child is not None and run.child.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(run.child.pid, signal.SIGKILL)
            with contextlib.suppress(ValueError):
                self._waiting.remove(run)
            error = DriverError("driver.cancelled", "the run was cancelled", subject=handle.remote_id)
            self._finish(run, "cancelled", error=error)
            return True

    def find(self, backend: str, key: str) -> Handle | None:
        """Return the handle of a key."""
        with self._lock:
            run = self._by_key.get((backend, key))
            return run.handle if run else None

    def queue_depth(self, backend: str) -> int:
        """Return how many runs wait for a backend."""
        with self._lock:
            return sum(run.handle.backend == backend for run in self._waiting)

    def prepare(self, backends: list[str]) -> None:
        """Start all processes and let each load what the backends need; those at work have loaded.

        Raises:
            QcosError: What kept one from loading.
        """
        with self._lock:
            idle: list[KillableProcess] = []
            while not self._closed and (process := self._process()) is not None:
                idle.append(process)  # they start side by side
        try:
            for process in idle:
                for backend in backends:
                    _ask(process, _request("load", backend))
        finally:
            for process in idle:
                self._give_back(process)

    def close(self) -> None:
        """Cancel everything and end the processes."""
        with self._lock:
            self._closed = True
            handles = [run.handle for run in self._by_id.values() if run.state not in FINAL]
            self._lock.notify_all()
        for handle in handles:
            self.cancel(handle)
        for thread in self._threads:
            thread.join()
        with self._lock:
            while self._free:
                self._free.pop().close()

    def _known(self, handle: Handle) -> _Run:
        if (run := self._by_id.get(handle.remote_id)) is None:
            raise NotFound(
                "driver.handle",
                "the driver knows no such run",
                subject=handle.remote_id,
                hint="local runs end with their process, and old ones are forgotten; submit again",
            )
        return run

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=self._work, name=f"qcos-{self._driver}-{len(self._threads)}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                process, run = None, None
                while process is None:
                    if self._closed:
                        return
                    run = self._waiting[0] if self._waiting else None
                    process = self._take(run) if run else None
                    if process is None:
                        self._lock.wait()
            assert run is not None  # noqa: S101 - there is a process only for a run
            self._execute(run, process)

    def _take(self, run: _Run) -> KillableProcess | None:
        """Claim a queued run and a process for it; None when either is not to be had."""
        if run.state != "queued" or (process := self._process()) is None:
            return None
        run.state, run.child = "running", process
        with contextlib.suppress(ValueError):
            self._waiting.remove(run)
        return process

    def _process(self) -> KillableProcess | None:
        if self._free:
            return self._free.pop()
        if self._started >= self._limit:
            return None
        self._started += 1
        return KillableProcess(self._module, memory_bytes=LOCAL_RUN_BYTES)

    def _give_back(self, process: KillableProcess) -> None:
        with self._lock:
            self._free.append(process)
            if self._waiting:
                self._lock.notify()

    def _execute(self, run: _Run, process: KillableProcess) -> None:
        answer: dict[str, Any] = {}
        error: QcosError | None = None
        try:
            answer = _ask(process, run.request)
        except QcosError as raised:
            error = raised
        except BaseException as raised:  # nobody may wait for ever, whatever happens here
            error = DriverError("driver.internal", f"the run was interrupted: {type(raised).__name__}")
            raise
        finally:
            with self._lock:
                run.child = None
                if run.state == "running":
                    outcome = None if error else _outcome(self._driver, run, answer)
                    self._finish(run, "failed" if error else "done", outcome=outcome, error=error)
            self._give_back(process)

    def _finish(
        self, run: _Run, state: State, *, outcome: Outcome | None = None, error: QcosError | None = None
    ) -> None:
        run.state, run.outcome, run.error = state, outcome, error
        run.request = b""
        run.ended.set()
        self._ended[run.handle.remote_id] = run
        if error is not None:
            self._fetched_now(run)  # there is nothing to fetch
        while len(self._ended) > LOCAL_RUNS_KEPT:
            self._forget(self._ended.popitem(last=False)[1])

    def _fetched_now(self, run: _Run) -> None:
        """Let a run be forgotten: what nobody has fetched is kept longer."""
        if self._ended.pop(run.handle.remote_id, None) is None:
            return
        self._fetched[run.handle.remote_id] = run
        self._strings += run.size
        while len(self._fetched) > self._keep or (
            self._strings > LOCAL_STRINGS_KEPT and len(self._fetched) > 1
        ):
            _, oldest = self._fetched.popitem(last=False)
            self._strings -= oldest.size
            self._forget(oldest)

    def _forget(self, run: _Run) -> None:
        del self._by_id[run.handle.remote_id]
        del self._by_key[run.handle.backend, run.key]


def _text(work: Work) -> bytes:
    """Return work as JSON: what a process is told and what two works with one key are compared by."""
    circuits = [
        {"source": c.source, "format": c.format, "parameters": dict(c.parameters)} for c in work.circuits
    ]
    members = {"circuits": circuits, "shots": work.shots, "seed": work.seed, "options": dict(work.options)}
    if work.provenance:
        members["provenance"] = True
    return json.dumps(members, sort_keys=True).encode()


def _request(do: str, backend: str, seed: int = 0, work: bytes = b"{}") -> bytes:
    head = {"do": do, "backend": backend, "seed": seed, "deadline_s": _DEADLINE_S}
    return json.dumps(head).encode()[:-1] + b', "work": ' + work + b"}"


def _ask(process: KillableProcess, request: bytes) -> dict[str, Any]:
    """Send a request to a simulating process and return its answer.

    Raises:
        DriverError: What the process reports; ``driver.deadline``; ``driver.crashed``.
    """
    try:
        answer: dict[str, Any] = json.loads(process.call(request, _DEADLINE_S))
    except DeadlineExceeded as error:
        raise DriverError(
            "driver.deadline",
            "the run was stopped at the time limit of local runs",
            expected=f"an end within {LOCAL_RUN_SECONDS} s",
            hint="fewer qubits, gates or shots; or a backend meant for heavy work",
        ) from error
    except ChildFailed as error:
        raise DriverError(
            "driver.crashed", "the simulating process died", hint="most likely it needed too much memory"
        ) from error
    if "error" in answer:
        raise DriverError(**answer["error"])
    return answer


def _outcome(driver: str, run: _Run, answer: dict[str, Any]) -> Outcome:
    """Return the outcome of a run from its process's answer; loading the SDK counts as waiting."""
    elapsed_us, apart_us = int(answer["elapsed_us"]), int(answer["apart_us"])
    ended = now() - dt.timedelta(microseconds=apart_us)
    waited_ms = int((time.monotonic() - run.queued_at) * 1000) - (elapsed_us + apart_us) // 1000
    counts = tuple(answer["counts"])
    shots = run.shots * len(counts)
    return Outcome(
        counts=counts,
        shots_executed=shots,
        started=ended - dt.timedelta(microseconds=elapsed_us),
        ended=ended,
        queue_ms=max(0, waited_ms),
        seed=run.seed if answer["seeded"] else None,
        compiler=answer["compiler"],
        compiled_depth=answer["depth"],
        metadata={"runtime": answer["runtime"], "seed_honoured": answer["seeded"], **answer["notes"]},
        meters={name: answer[name] for name in ("cpu_time_us", "memory_peak_bytes")} | {"shots": shots},
        provenance=_provenance(driver, answer["provenance"]) if "provenance" in answer else None,
    )


def _provenance(driver: str, told: dict[str, Any]) -> Provenance:
    response, calibration = told["response"], told["calibration"]
    return Provenance(
        toolchain={"driver": driver, **told["toolchain"]},
        executed=tuple(_document(one) for one in told["executed"]),
        calibration=_document(calibration) if calibration else None,
        response=_document(response) if response else None,
        absent=told["absent"],
    )


def _document(told: dict[str, Any]) -> Document:
    data = None if told["text"] is None else told["text"].encode()
    return Document(told["digest"], told["size"], told["media_type"], data)


def _room(provenance: Provenance | None) -> int:
    """Return how many bytes the documents of a provenance take."""
    if provenance is None:
        return 0
    documents = (*provenance.executed, provenance.calibration, provenance.response)
    return sum(len(one.data) for one in documents if one is not None and one.data is not None)
