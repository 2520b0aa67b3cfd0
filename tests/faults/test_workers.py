"""What one worker may do to the jobs of others: hold the same task, meet a broken driver, die of a job."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from qcos.base.errors import DriverError, Unavailable
from qcos.base.limits import CROWD_ATTEMPTS, MAX_ATTEMPTS
from qcos.db.queue import Task
from qcos.drivers.contract import Handle, Observation, Outcome, Work
from qcos.jobs.execute import Execution
from qcos.jobs.submit import submission_key

from .dying import Dying
from .vendor import PaidDriver
from .world import World, make_execution, until


class FreeDriver(PaidDriver):
    """The same, running on this machine: nothing is owed for what it started."""

    local = True


def run(execution: Execution, *tasks: Task) -> None:
    """Take tasks to their jobs' ends, as a worker does: what one raises is no concern of the others."""

    async def all_of_them() -> None:
        await asyncio.gather(*(execution.handle(task) for task in tasks), return_exceptions=True)

    asyncio.run(all_of_them())


def error_of(world: World, task: Task) -> dict[str, Any]:
    error = world.job(task).error
    assert error is not None
    return error


# --- two workers hold the same task


@pytest.mark.parametrize("driver", [PaidDriver, FreeDriver])
def test_only_one_of_two_workers_that_hold_a_task_settles_it(
    world: World, engine: sa.Engine, tmp_path: Path, driver: type[PaidDriver]
) -> None:
    """The first stands still with the result in hand (its heartbeat is late); the second takes the job, and finishes."""
    holding, go_on = threading.Event(), threading.Event()

    def stand_still(point: str) -> None:
        if point == "fetched":
            holding.set()
            assert go_on.wait(120)

    first = make_execution(engine, [driver(tmp_path / "vendor", stand_still)], world.keys, "first")
    second = make_execution(engine, [driver(tmp_path / "vendor")], world.keys, "second")
    task = world.submit()
    thread = threading.Thread(target=run, args=(first, task))
    thread.start()
    assert holding.wait(120)
    run(second, task)
    world.assert_completed_once(task)
    bundle = world.job(task).bundle
    go_on.set()
    thread.join()
    world.assert_completed_once(task)
    assert world.job(task).bundle == bundle
    assert world.job(task).attempt == 2
    assert second.drivers["paid"].vendor.executions()[submission_key(world.job(task))] == 1  # type: ignore[attr-defined]
    first.close()
    second.close()


def test_many_workers_with_the_same_tasks_settle_each_job_once(
    world: World, engine: sa.Engine, tmp_path: Path
) -> None:
    """Eight workers hold all twelve tasks at the same time; jobs are claimed from under each other."""
    tasks = [world.submit() for _ in range(12)]
    workers = [
        make_execution(engine, [FreeDriver(tmp_path / f"vendor{n}")], world.keys, f"w{n}") for n in range(8)
    ]
    threads = [threading.Thread(target=run, args=(worker, *tasks)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = workers[0]
    run(last, *tasks)  # jobs that were taken from one worker by another that then let go of them
    for task in tasks:
        if world.job(task).state == "failed":  # each of many claims counts as a lost worker
            assert error_of(world, task)["code"] == "driver.workers_lost"
            world.assert_ended_once(task, "failed")
        else:
            world.assert_completed_once(task)
    assert world.nothing_reserved()
    for worker in workers:
        worker.close()


# --- broken drivers


class Raises(FreeDriver):
    def submit(self, backend: str, work: Work, key: str) -> Handle:
        raise ZeroDivisionError("the SDK has a bug")


class Refuses(FreeDriver):
    def submit(self, backend: str, work: Work, key: str) -> Handle:
        raise DriverError("driver.unsupported", "no such gate", subject="cx")


class GivesNoHandle(FreeDriver):
    def submit(self, backend: str, work: Work, key: str) -> Handle:
        return {"id": 1}  # type: ignore[return-value]


class GivesAHandleThatCannotBeKept(FreeDriver):
    def submit(self, backend: str, work: Work, key: str) -> Handle:
        return Handle(backend, "id", {"nul": "\0"})


class ObservesNothingKnown(FreeDriver):
    def result(self, handle: Handle, wait_s: float | None = None) -> Outcome:
        raise Unavailable("driver.not_done", "not yet")

    def observe(self, handle: Handle) -> Observation:
        return Observation("perhaps")  # type: ignore[arg-type]


class Hangs(FreeDriver):
    never = threading.Event()

    def submit(self, backend: str, work: Work, key: str) -> Handle:
        self.never.wait()
        raise AssertionError


class GivesGarbage(FreeDriver):
    """Changes one member of the outcome into what the contract does not allow."""

    def __init__(self, directory: Path, change: Callable[[Outcome], object]) -> None:
        super().__init__(directory)
        self._change = change

    def result(self, handle: Handle, wait_s: float | None = None) -> Outcome:
        return self._change(super().result(handle, wait_s))  # type: ignore[return-value]


def _with(**members: object) -> Callable[[Outcome], object]:
    def change(outcome: Outcome) -> object:
        given = {name: getattr(outcome, name) for name in outcome.__slots__}
        return Outcome(**(given | members))

    return change


GARBAGE: dict[str, Callable[[Outcome], object]] = {
    "nothing": lambda outcome: None,
    "text": lambda outcome: "00",
    "no counts": _with(counts=()),
    "counts of another job": _with(counts=({"00": 1}, {"00": 1})),
    "counts that are a list": _with(counts=(["00"],)),
    "bits that are none": _with(counts=({"up": 1},)),
    "a negative count": _with(counts=({"00": -1},)),
    "a broken count": _with(counts=({"00": 0.5},)),
    "a count beyond all": _with(counts=({"00": 2**60},)),
    "shots without a number": _with(shots_executed=None),
    "negative shots": _with(shots_executed=-5),
    "no time": _with(started=None),
    "a time of no zone": _with(ended=dt.datetime(2030, 1, 1)),
    "an end before the start": _with(ended=dt.datetime(2001, 1, 1, tzinfo=dt.UTC)),
    "not a number": _with(metadata={"fidelity": math.nan}),
    "a NUL": _with(metadata={"note": "\0"}),
    "an object": _with(metadata={"note": object()}),
    "no compiler": _with(compiler=None),
    "a meter of nothing": _with(meters={"qpu_time_us": "many"}),
    "a negative meter": _with(meters={"qpu_time_us": -1}),
}

BROKEN: dict[str, tuple[Callable[[Path], PaidDriver], str]] = {
    "raises": (Raises, "driver.raised"),
    "refuses": (Refuses, "driver.unsupported"),
    "no handle": (GivesNoHandle, "driver.answer"),
    "a handle that cannot be kept": (GivesAHandleThatCannotBeKept, "driver.answer"),
    "observes nothing known": (ObservesNothingKnown, "driver.answer"),
    **{
        f"garbage: {name}": (lambda path, change=change: GivesGarbage(path, change), "driver.answer")  # type: ignore[misc]
        for name, change in GARBAGE.items()
    },
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_driver_fails_its_job_with_a_reason(
    world: World, engine: sa.Engine, tmp_path: Path, name: str
) -> None:
    """R8.5: the reservation is released, the reason can be read, and the worker goes on."""
    make, code = BROKEN[name]
    execution = make_execution(engine, [make(tmp_path / "vendor")], world.keys)
    task = world.submit()
    run(execution, task)
    execution.close()
    world.assert_ended_once(task, "failed")
    assert error_of(world, task)["code"] == code
    assert world.nothing_reserved()


def test_jobs_go_on_beside_calls_that_never_return(world: World, engine: sa.Engine, tmp_path: Path) -> None:
    """More calls hang than there are threads; each fails its job after the limit, and the worker still runs others."""
    hangs = Hangs(tmp_path / "hangs")
    execution = make_execution(engine, [hangs], world.keys, call_s=0.5)
    hanging = [world.submit() for _ in range(12)]
    run(execution, *hanging)
    for task in hanging:
        world.assert_ended_once(task, "failed")
        assert error_of(world, task)["code"] == "driver.silent"
    object.__setattr__(execution, "drivers", {"paid": FreeDriver(tmp_path / "vendor")})
    object.__setattr__(execution, "call_s", 120.0)  # this one answers, if only after a slow disk did
    fine = world.submit()
    run(execution, fine)
    world.assert_completed_once(fine)
    assert execution.abandoned == len(hanging)
    Hangs.never.set()
    execution.close()


# --- a vendor that was paid


class RaisesAfterTaking(PaidDriver):
    """The answer to a submission is lost, and the driver does not know how to say so."""

    def submit(self, backend: str, work: Work, key: str) -> Handle:
        super().submit(backend, work, key)
        raise ConnectionResetError("by peer")


class AwayAfterTaking(PaidDriver):
    def submit(self, backend: str, work: Work, key: str) -> Handle:
        super().submit(backend, work, key)
        raise Unavailable("driver.away", "no answer")


class Stumbles(PaidDriver):
    """Raises what it should not at every second look."""

    looks = 0

    def observe(self, handle: Handle) -> Observation:
        self.looks += 1
        if self.looks % 2:
            raise OSError("network is unreachable")
        return super().observe(handle) if self.looks > 5 else Observation("running")


@pytest.mark.parametrize("driver", [RaisesAfterTaking, AwayAfterTaking, Stumbles])
def test_a_job_the_vendor_took_is_found_there_when_its_answer_was_lost(
    world: World, engine: sa.Engine, tmp_path: Path, driver: type[PaidDriver]
) -> None:
    """R12.2, law 6: no failure in between makes it be executed twice, or be executed and not collected."""
    made = driver(tmp_path / "vendor")
    execution = make_execution(engine, [made], world.keys)
    task = world.submit()
    run(execution, task)
    execution.close()
    world.assert_completed_once(task)
    assert made.vendor.executions() == {submission_key(world.job(task)): 1}


def test_a_paid_job_outlives_more_workers_than_a_local_one_may(
    world: World, engine: sa.Engine, tmp_path: Path
) -> None:
    """A vendor's queue takes days, workers are restarted: what the vendor has is followed, whatever the attempt."""
    driver = PaidDriver(tmp_path / "vendor")
    driver.vendor.mood = "running"
    task = world.submit()
    for attempt in range(1, MAX_ATTEMPTS + 3):
        execution = make_execution(engine, [driver], world.keys)

        async def be_killed(held: Execution = execution, attempt: int = attempt) -> None:
            following = asyncio.create_task(held.handle(task))
            while (job := world.job(task)).state != "running" or job.attempt < attempt:
                assert not following.done()
                await asyncio.sleep(0.01)
            following.cancel()
            await asyncio.wait([following])

        asyncio.run(be_killed())
        execution.close()
    assert world.job(task).attempt > MAX_ATTEMPTS
    driver.vendor.mood = "done"
    execution = make_execution(engine, [driver], world.keys)
    run(execution, task)
    execution.close()
    world.assert_completed_once(task)
    assert driver.vendor.executions() == {submission_key(world.job(task)): 1}


def test_a_vendor_that_is_away_is_waited_for(world: World, engine: sa.Engine, tmp_path: Path) -> None:
    driver = PaidDriver(tmp_path / "vendor")
    driver.vendor.mood = "away"
    execution = make_execution(engine, [driver], world.keys)
    task = world.submit()
    thread = threading.Thread(target=run, args=(execution, task))
    thread.start()
    until(lambda: world.job(task).state == "submitting", "the intent is written")
    driver.vendor.mood = "running"
    until(lambda: world.job(task).state == "running", "the vendor has it")
    driver.vendor.mood = "away"
    world.cancel(task)
    driver.vendor.mood = "running"
    thread.join()
    execution.close()
    world.assert_ended_once(task, "cancelled")
    [line] = driver.vendor.lines_of(submission_key(world.job(task)))
    assert driver.vendor.is_cancelled(str(line["id"]))


# --- a job that kills its worker


@pytest.fixture
def dying() -> Iterator[Dying]:
    with Dying() as made:
        yield made


def test_a_job_that_kills_each_of_its_workers_is_failed_and_takes_no_other_along(
    world: World, dying: Dying, database: Any, tmp_path: Path
) -> None:
    """All jobs are in hand whenever a worker dies of one of them; only that one may fail of it."""
    poison, others = world.submit(shots=13), [world.submit() for _ in range(9)]
    names = [task.job for task in (*others[:5], poison, *others[5:])]
    order = {
        "url": database.app_url,
        "tenant": world.tenant,
        "keys": world.keys,
        "vendor": tmp_path / "vendor",
    }
    deaths = 0
    while dying.run("poisoned", jobs=json.dumps(names), poison=poison.job, **order).killed:
        deaths += 1
        assert deaths <= MAX_ATTEMPTS
    assert deaths == MAX_ATTEMPTS
    world.assert_ended_once(poison, "failed")
    error = error_of(world, poison)
    assert error["code"] == "driver.workers_lost" and str(MAX_ATTEMPTS) in error["expected"]
    for task in others:
        world.assert_completed_once(task)
        assert world.job(task).attempt <= CROWD_ATTEMPTS + 1
    assert world.nothing_reserved()
