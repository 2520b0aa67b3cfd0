"""The process is killed before and after every write of every stage, one point after the other, until it survives.

Afterwards a second worker does what is left; nothing else repairs anything. Points are counted, not timed: see `faults.dying`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qcos.db.queue import Task
from qcos.jobs.submit import submission_key

from .dying import Dying, Ended
from .vendor import Vendor
from .world import World

MOST_POINTS = 60


@pytest.fixture
def dying() -> Iterator[Dying]:
    with Dying() as made:
        yield made


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return Vendor(tmp_path / "vendor")


class Stages:
    """Kills the worker of one job after another, each at the next point."""

    def __init__(self, world: World, dying: Dying, vendor: Vendor, url: str, tmp_path: Path) -> None:
        self.world, self.dying, self.vendor = world, dying, vendor
        self._where = {"url": url, "tenant": world.tenant, "keys": world.keys, "vendor": tmp_path / "vendor"}

    def execute(self, task: Task, k: int = 0) -> Ended:
        return self.dying.run("execute", k, job=task.job, **self._where)

    def each(self, prepare: Callable[[Task], None] = lambda task: None) -> Iterator[tuple[Task, Ended]]:
        """Yield jobs whose worker was killed at point 1, 2, 3, ...; the last one's worker survived."""
        for k in range(1, MOST_POINTS):
            task = self.world.submit()
            prepare(task)
            ended = self.execute(task, k)
            yield task, ended
            if not ended.killed:
                assert k > 6, "a job is not executed in so few steps"
                print("\n".join(f"{n:>3} {point}" for n, point in enumerate(ended.points, 1)))
                return
        pytest.fail(f"more than {MOST_POINTS} points")


@pytest.fixture
def stages(world: World, dying: Dying, vendor: Vendor, database, tmp_path: Path) -> Stages:
    return Stages(world, dying, vendor, database.app_url, tmp_path)


def executions(stages: Stages, task: Task) -> int:
    return stages.vendor.executions()[submission_key(stages.world.job(task))]


def test_a_paid_job_is_run_sealed_and_charged_once_wherever_its_worker_is_killed(stages: Stages) -> None:
    """R8.5, R12.2, laws 3 and 6: the vendor of this test executes whatever it is given, each time it is given it."""
    killed = 0
    for task, ended in stages.each():
        killed += ended.killed
        stages.execute(task)
        stages.world.assert_completed_once(task)
        assert executions(stages, task) == 1, ended.points
    assert killed >= 10
    assert stages.world.nothing_reserved()


def test_a_second_worker_killed_at_the_same_point_changes_nothing(stages: Stages) -> None:
    """Two workers in a row die at the same point of what is left; the third finishes."""
    for k in range(1, MOST_POINTS):
        task = stages.world.submit()
        first = stages.execute(task, k)
        stages.execute(task, k)
        stages.execute(task)
        stages.world.assert_completed_once(task)
        assert executions(stages, task) == 1, first.points
        if not first.killed:
            return
    pytest.fail(f"more than {MOST_POINTS} points")


def test_a_task_too_many_changes_nothing(stages: Stages) -> None:
    """Delivery is at least once: a finished job's task may come again."""
    task = stages.world.submit()
    for _ in range(3):
        stages.execute(task)
    stages.world.assert_completed_once(task)
    assert executions(stages, task) == 1


def test_a_failed_job_is_released_once_wherever_its_worker_is_killed(stages: Stages) -> None:
    """R3.2: what was reserved for it is free again, once."""
    stages.vendor.mood = "failed"
    for task, _ in stages.each():
        stages.execute(task)
        stages.world.assert_ended_once(task, "failed")
        error = stages.world.job(task).error
        assert error is not None and "the cryostat is warm" in error["message"]
        assert executions(stages, task) == 1
    assert stages.world.nothing_reserved()


def test_a_cancelled_job_is_cancelled_at_the_vendor_wherever_its_worker_is_killed(stages: Stages) -> None:
    """A job the vendor has is never dropped on our side only: it would be executed, and billed, without a record."""

    def lost_at_the_vendor(task: Task) -> None:
        assert stages.execute(task, k=7).points[-1] in ("after the vendor took it", "before a commit")
        assert executions(stages, task) == 1
        stages.world.cancel(task)

    stages.vendor.mood = "running"
    for task, _ in stages.each(lost_at_the_vendor):
        stages.execute(task)
        stages.world.assert_ended_once(task, "cancelled")
        assert executions(stages, task) == 1
        [line] = stages.vendor.lines_of(submission_key(stages.world.job(task)))
        assert stages.vendor.is_cancelled(str(line["id"]))
    assert stages.world.nothing_reserved()


def test_a_job_cancelled_before_the_vendor_has_it_is_never_submitted(stages: Stages) -> None:
    """Its worker died between the intent and the submission; the next one asks the vendor and then lets it be."""
    task = stages.world.submit()
    assert stages.execute(task, k=5).points[-1] == "before the vendor takes it"
    stages.world.cancel(task)
    stages.execute(task)
    stages.world.assert_ended_once(task, "cancelled")
    assert executions(stages, task) == 0


def test_an_admission_is_whole_or_not_at_all(stages: Stages, database) -> None:
    """Law 1: job, decision, reservation, records and task exist together or not; the same key finishes what was lost."""
    world = stages.world
    survived = False
    for k in range(1, MOST_POINTS):
        key = f"key-{k}"
        before = _counts(world)
        order = {"url": database.app_url, "tenant": world.tenant, "token": world.token_hash.hex(), "key": key}
        order["keys"] = world.keys
        ended = stages.dying.run("admit", k, **order)
        after = _counts(world)
        assert after in (before, tuple(n + more for n, more in zip(before, (1, 1, 1, 2, 1), strict=True))), (
            ended.points
        )
        admitted = world.admit(key)
        assert admitted.replayed == (after != before)
        assert _counts(world) == tuple(n + more for n, more in zip(before, (1, 1, 1, 2, 1), strict=True))
        assert world.books() == []
        if not ended.killed:
            survived = True
            break
    assert survived and k > 2


def test_recovery_killed_anywhere_enqueues_each_lost_job_once(stages: Stages, database) -> None:
    world = stages.world
    for k in range(1, MOST_POINTS):
        task = world.submit()
        world.rows("delete from queue.pgqueuer")
        world.rows("update qcos.job set updated = updated - interval '1 minute'")
        ended = stages.dying.run("recover", k, url=database.app_url)
        stages.dying.run("recover", url=database.app_url)
        keys = [row[0] for row in world.rows("select dedupe_key from queue.pgqueuer")]
        assert task.key in keys and len(keys) == len(set(keys)) == k
        if not ended.killed:
            return
    pytest.fail(f"more than {MOST_POINTS} points")


def _counts(world: World) -> tuple[int, ...]:
    tables = ("qcos.job", "qcos.policy_decision", "qcos.reservation", "qcos.ledger_record", "queue.pgqueuer")
    return tuple(world.rows(f"select count(*) from {table}")[0][0] for table in tables)
