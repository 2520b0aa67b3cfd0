"""A job's way through a worker: claimed, submitted, observed, collected, sealed and settled; or ended.

Each stage's writes are grouped over the jobs that are at that stage at the same moment (`qcos.base.batcher`), so that a loaded worker
commits once for many jobs. Vendors are called in threads; between looks the job costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ParamSpec, TypeVar

import sqlalchemy as sa

from qcos.base.batcher import Batcher
from qcos.base.errors import DriverError, QcosError, Unavailable
from qcos.base.limits import DRIVER_CALL_S, STAGE_BATCH
from qcos.db.engine import scope
from qcos.db.queue import Task
from qcos.drivers.contract import Driver, Handle, Outcome
from qcos.jobs import store
from qcos.jobs.cancel import end
from qcos.jobs.lifecycle import CANCELLED, COLLECTED, FAILED, SUBMITTING
from qcos.jobs.model import Ended, Job
from qcos.jobs.observe import Collected, collected, fetch, keep, load
from qcos.jobs.seal import Sealing
from qcos.jobs.settle import Settler
from qcos.jobs.submit import Claimed, begin, claim, mark_running
from qcos.metering.price import PriceBook
from qcos.secrecy.unlock import TenantKeys
from qcos.telemetry import instruments, tracing
from qcos.timestamp.authority import NoTime

Params = ParamSpec("Params")
Value = TypeVar("Value")

_log = logging.getLogger("qcos.worker")
_FIRST_LOOK_S = 0.001
_SLOWEST_LOOK_S = 1.0
_FIRST_RETRY_S = 0.2
_SLOWEST_RETRY_S = 30.0
_STRIKES = 10  # times in a row that looking at a paid job may raise what a driver should not; with the pauses about a minute
_UNCLEAR = frozenset({"driver.raised", "driver.silent"})  # nothing that a vendor said
_CANCEL_LOOK_S = 0.25  # how often a running job's row is asked whether somebody wants it cancelled
_SHORT_RUN_S = 0.2
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Execution:
    """A worker's part of the spine.

    Attributes:
        drivers: By name; the jobs of other drivers are not this worker's.
        worker: Name of this worker, for the record.
        keys: What payloads are sealed with.
        call_s: Seconds one call of a driver may take.
        abandoned: Calls of drivers that did not return; their threads keep the process from ending.
    """

    engine: sa.Engine
    drivers: Mapping[str, Driver]
    sealer: Sealing
    book: PriceBook
    worker: str
    keys: TenantKeys
    call_s: float = DRIVER_CALL_S
    abandoned: int = field(default=0, init=False)
    _in_hand: set[Task] = field(default_factory=set, init=False)
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_THREADS, "driver"), init=False
    )
    _claims: Batcher[tuple[Task, bool], Claimed | None] = field(init=False)
    _running: Batcher[tuple[Job, Handle], bool] = field(init=False)
    _results: Batcher[Collected, bool] = field(init=False)
    _endings: Batcher[Ended, bool] = field(init=False)
    _finished: Batcher[Collected, bool] = field(init=False)

    def __post_init__(self) -> None:
        engine, keys = self.engine, self.keys
        settler = Settler(engine, self.sealer, self.book, keys)
        made = {
            "_claims": Batcher(
                lambda tasks: claim(engine, keys, self.worker, tasks), limit=STAGE_BATCH, name="claim"
            ),
            "_running": Batcher(lambda pairs: mark_running(engine, pairs), limit=STAGE_BATCH, name="running"),
            "_results": Batcher(
                lambda results: keep(engine, keys, results), limit=STAGE_BATCH, name="collect"
            ),
            "_endings": Batcher(lambda endings: end(engine, endings), limit=STAGE_BATCH, name="end"),
            "_finished": Batcher(settler.seal_and_settle, limit=STAGE_BATCH, name="settle"),
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    async def handle(self, task: Task) -> None:
        """Take one task to its job's end. Returning early leaves the job to the worker that has it now.

        Raises:
            Unavailable: The database is gone; the task stays in the queue for a later worker.
        """
        if task in self._in_hand:  # delivered again while this worker is at it
            return
        self._in_hand.add(task)
        try:
            await self._handle(task)
        finally:
            self._in_hand.discard(task)

    async def _handle(self, task: Task) -> None:
        claimed = await asyncio.wrap_future(self._claims.submit((task, False)))
        if claimed is not None:
            await self._execute(claimed, AsyncExitStack())
            return
        async with (
            AsyncExitStack() as apart
        ):  # it has ended; or it was in hand when workers were lost, and may be what they died of
            await apart.enter_async_context(self._alone)
            claimed = await asyncio.wrap_future(self._claims.submit((task, True)))
            if claimed is not None:
                await self._execute(claimed, apart)

    async def _execute(self, claimed: Claimed, apart: AsyncExitStack) -> None:
        job = claimed.job
        with tracing.continued(
            job.trace, "job.execute", {"qcos.job": job.id, "qcos.backend": job.backend or ""}
        ):
            began = time.monotonic()
            try:
                if claimed.unreadable is not None:
                    raise claimed.unreadable
                result = await self._collect(claimed, apart)
            except Unavailable:  # of the database: what a driver has not answered is asked again
                raise
            except QcosError as error:
                await self._end(Ended(job, FAILED, error.as_dict()))
                return
            if result is None:
                return
            instruments.stage("run", time.monotonic() - began)
            began = time.monotonic()
            try:
                finished = await self._finish(result)
            except Unavailable:
                raise
            except QcosError as error:  # this result can never be sealed: say so, and let its reservation go
                _log.exception("a result cannot be sealed", extra={"job": job.id, "code": error.code})
                await self._end(Ended(job, FAILED, error.as_dict(), result.facts))
                return
            if finished:
                instruments.stage("seal_and_settle", time.monotonic() - began)
                instruments.outcome("completed", job.provider or "")
                _log.info("job completed", extra={"job": job.id, "backend": job.backend})

    async def _finish(self, result: Collected) -> bool:
        """Seal and settle a result. Without a time stamp it cannot be sealed: it is kept, and its job waits for one."""
        pause = _FIRST_RETRY_S
        while True:
            try:
                return await asyncio.wrap_future(self._finished.submit(result))
            except QcosError as error:
                if not result.kept:  # what cannot be kept together with its evidence is kept without
                    if not await asyncio.wrap_future(self._results.submit(result)):
                        return False
                    result = replace(result, kept=True)
                if not isinstance(error, NoTime):
                    raise
                _log.warning("the evidence waits for a time stamp: %s", error, extra={"job": result.job.id})
            await asyncio.sleep(pause)
            pause = min(2 * pause, _SLOWEST_RETRY_S)

    async def _collect(self, claimed: Claimed, apart: AsyncExitStack) -> Collected | None:
        """Return the job's result, kept; None when the job is not ours any more or was cancelled."""
        job = claimed.job
        if claimed.before == COLLECTED:
            return await self._in_thread(load, self.engine, self.keys, job)
        driver = self.drivers[job.driver or ""]
        handle, outcome = await self._submit(driver, claimed)
        if handle is None:
            await self._end(Ended(job, CANCELLED, {}))
            return None
        if outcome is not None:
            return collected(job, outcome, handle.remote_id, kept=False)
        if not await asyncio.wrap_future(self._running.submit((job, handle))):
            return None
        if not driver.local:  # what runs at the vendor does not end this process, and may take days
            await apart.aclose()
        outcome = await self._follow(driver, job, handle)
        if outcome is None:
            await self._end(Ended(job, CANCELLED, {}))
            return None
        result = collected(job, outcome, handle.remote_id)
        return result if await asyncio.wrap_future(self._results.submit(result)) else None

    async def _submit(self, driver: Driver, claimed: Claimed) -> tuple[Handle | None, Outcome | None]:
        """Bring the job to the vendor, however long that does not answer; no handle when it was cancelled and the vendor has none of it.

        A short run on this machine has its outcome at once, and needs no note of where it is: its handle ends with this process.
        """
        pause, unclear = _FIRST_RETRY_S, None
        while True:
            try:
                handle, outcome = await self._call(driver, "submit", begin, driver, claimed, _SHORT_RUN_S)
                if handle is None and unclear is not None:
                    raise unclear
                return handle, outcome
            except Unavailable as error:  # the vendor may have it: it is looked for before it is given again
                self._say_again(driver, claimed.job, error)
            except DriverError as error:  # no refusal of the vendor's, so it may have it: it is looked for before the job fails
                if driver.local or unclear is not None or error.code not in _UNCLEAR:
                    raise
                unclear = error
            await asyncio.sleep(pause)
            pause = min(2 * pause, _SLOWEST_RETRY_S)
            only_look = unclear is not None or await self._in_thread(self._cancel_wanted, claimed.job)
            claimed = Claimed(replace(claimed.job, cancel_requested=only_look), SUBMITTING)

    async def _follow(self, driver: Driver, job: Job, handle: Handle) -> Outcome | None:
        """Look at the job at the vendor until it ends; None when it was cancelled. A vendor that does not answer is asked again."""
        pause, asked, cancel, strikes = _FIRST_LOOK_S, time.monotonic(), False, 0
        while True:
            try:
                outcome, over = await self._look(driver, handle, cancel)
                if over:
                    return outcome
                strikes, pause = 0, min(pause * 1.5, _SLOWEST_LOOK_S)
            except (Unavailable, DriverError) as error:
                if isinstance(
                    error, DriverError
                ):  # a bug of the driver may pass; what was paid for would not come back
                    strikes += 1
                    if driver.local or error.code not in _UNCLEAR or strikes >= _STRIKES:
                        raise
                pause = min(max(pause * 2, _FIRST_RETRY_S), _SLOWEST_RETRY_S)
                self._say_again(driver, job, error)
            await asyncio.sleep(pause)
            if time.monotonic() - asked >= _CANCEL_LOOK_S:
                asked, cancel = time.monotonic(), await self._in_thread(self._cancel_wanted, job)

    async def _look(self, driver: Driver, handle: Handle, cancel: bool) -> tuple[Outcome | None, bool]:
        """Look at a job once, cancelling it first when that is wanted; returns the outcome, if any, and whether it is over."""
        if cancel:
            await self._call(driver, "cancel", driver.cancel, handle)  # the look says what came of it
        seen = await self._call(driver, "observe", driver.observe, handle)
        match getattr(seen, "state", None):
            case "queued" | "running":
                return None, False
            case "done":
                return await self._call(driver, "result", fetch, driver, handle, 0.0), True
            case "cancelled":
                return None, True
            case "failed":
                await self._call(
                    driver, "result", fetch, driver, handle, 0.0
                )  # raises why, with the driver's own code
                message = f"the vendor reports: {seen.message or 'failed'}"
                raise DriverError("driver.job_failed", message, subject=handle.remote_id)
        what = "the driver observed nothing known"
        raise DriverError("driver.answer", what, subject=driver.name, got=repr(seen)[:200])

    def _say_again(self, driver: Driver, job: Job, error: QcosError) -> None:
        _log.warning("the driver %s is asked again: %s", driver.name, error, extra={"job": job.id})

    def _cancel_wanted(self, job: Job) -> bool:
        with scope(self.engine, job.tenant) as connection:
            return store.cancel_wanted(connection, job.tenant, job.id)

    async def _end(self, ended: Ended) -> None:
        if await asyncio.wrap_future(self._endings.submit(ended)):
            instruments.outcome(ended.state, ended.job.provider or "")
            if ended.state == FAILED:
                _log.warning("job failed", extra={"job": ended.job.id, "code": ended.error.get("code")})

    async def _call(
        self,
        driver: Driver,
        what: str,
        function: Callable[Params, Value],
        *args: Params.args,
        **named: Params.kwargs,
    ) -> Value:
        """Call a driver in a thread; what it raises that is no error of ours becomes one, and so does a call that does not return."""
        try:
            # Not wait_for: until Python 3.12 it may swallow that the task is cancelled.
            async with asyncio.timeout(self.call_s):
                return await self._in_thread(function, *args, **named)
        except QcosError:
            raise
        except TimeoutError as error:
            self._abandon()
            raise DriverError(
                "driver.silent",
                f"the driver {driver.name} did not return from {what}",
                subject=driver.name,
                expected=f"an answer within {self.call_s:g} s",
            ) from error
        except Exception as error:
            _log.exception("driver %s raised in %s", driver.name, what)
            raise DriverError(
                "driver.raised",
                f"the driver {driver.name} failed in {what}: {error}"[:500],
                subject=driver.name,
            ) from error

    def _in_thread(
        self, function: Callable[Params, Value], *args: Params.args, **named: Params.kwargs
    ) -> asyncio.Future[Value]:
        return asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **named))

    def _abandon(self) -> None:
        """Leave the thread of a call that does not return alone; the others get new ones."""
        self._threads.shutdown(wait=False)
        object.__setattr__(self, "_threads", ThreadPoolExecutor(_THREADS, "driver"))
        object.__setattr__(self, "abandoned", self.abandoned + 1)

    def close(self) -> None:
        """Write what is in hand and end the threads."""
        for batcher in (self._claims, self._running, self._results, self._endings, self._finished):
            batcher.close()
        self._threads.shutdown()
