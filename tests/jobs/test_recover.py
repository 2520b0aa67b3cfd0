"""Mending: exactly the unfinished jobs without a task get one (law 6)."""

from __future__ import annotations

from faults.world import World
from qcos.db.engine import scope
from qcos.jobs import store
from qcos.jobs.recover import _QUIET_S, recover


def _lose_tasks(world: World) -> None:
    with scope(world.engine, None) as connection:
        connection.exec_driver_sql("delete from queue.pgqueuer")


def _lost(world: World, change: str, **values: object) -> list[str]:
    """Change jobs and return those whose task is lost, in one scope: the database's clock stands still in there."""
    with scope(world.engine, world.tenant) as connection:
        connection.exec_driver_sql(change, values)
        return [job for job, _ in store.without_task(connection, world.tenant, _QUIET_S)]


def _age(world: World) -> None:
    """Let all jobs look as if nobody had touched them for a minute."""
    world.rows("update qcos.job set updated = updated - interval '1 minute'")


def test_lost_tasks_are_enqueued_once(world: World) -> None:
    tasks = [world.submit() for _ in range(3)]
    world.cancel(tasks[2])
    _lose_tasks(world)
    now = "update qcos.job set updated = now()"
    assert _lost(world, now) == [], "what changed just now is being worked on"
    _age(world)
    assert recover(world.engine).enqueued == 2, "not the cancelled one"
    _age(world)
    again = recover(world.engine)
    assert again.enqueued == 0
    assert again.depths == {"run:paid": 2}


def test_a_job_with_its_task_is_left_alone(world: World) -> None:
    world.submit()
    _age(world)
    assert recover(world.engine).enqueued == 0


def test_an_empty_queue_is_told_as_empty(world: World) -> None:
    """R7.2: a depth of zero is a measurement."""
    assert recover(world.engine).depths == {"run:paid": 0}


def test_a_result_that_cannot_be_sealed_is_tried_again_less_and_less_often(world: World) -> None:
    """Its price book may be away for days: after each attempt it rests twice as long, at most five minutes."""
    task = world.submit()
    _lose_tasks(world)
    for attempt, rests_s in ((1, 3), (2, 6), (5, 48), (8, 300), (1000, 300)):
        for age_s, tried in ((rests_s - 1, 0), (rests_s + 1, 1)):
            found = _lost(
                world,
                "update qcos.job set state = 'collected', attempt = %(n)s, updated = now() - make_interval(secs => %(age)s)",
                n=attempt,
                age=age_s,
            )
            assert found == [task.job] * tried, (attempt, age_s)
    assert recover(world.engine).enqueued == 1
    _lose_tasks(world)
    world.rows("update qcos.job set state = 'submitting', updated = now() - interval '4 seconds'")
    assert recover(world.engine).enqueued == 1, (
        "work that lost its task does not rest, whatever it went through"
    )
    assert world.job(task).attempt == 1000
