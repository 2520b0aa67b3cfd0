"""The states of a job, and the compare-and-set that is the only way between them (law 6)."""

from __future__ import annotations

import dataclasses

import pytest

from faults.world import World
from qcos.base.clock import now
from qcos.client.model import FINAL_STATES
from qcos.db.engine import scope
from qcos.jobs import store
from qcos.jobs.lifecycle import (
    COLLECTED,
    COMPLETED,
    QUEUED,
    RUNNING,
    STATES,
    STEPS,
    SUBMITTING,
    TERMINAL,
    TRANSITIONS,
    UNFINISHED,
)
from qcos.jobs.model import Step
from qcos.jobs.submit import claim


def test_the_table_of_states() -> None:
    assert set().union(*TRANSITIONS.values()) <= set(STATES)
    assert TERMINAL == FINAL_STATES, "server and client agree on what has ended"
    assert {QUEUED, SUBMITTING, RUNNING, COLLECTED} == UNFINISHED
    reached, grown = {QUEUED}, set[str]()
    while grown != reached:
        grown = set(reached)
        reached |= set().union(*(TRANSITIONS[state] for state in reached))
    assert reached == set(STATES) - {"denied"}


def test_the_ten_steps_are_numbered() -> None:
    """R8.1 to R8.10."""
    assert [n for n in STEPS.values() if n <= 10] == list(range(1, 11))


def test_only_the_expected_state_moves(world: World) -> None:
    """Law 6: a change is made from the states it expects, and from no other."""
    task = world.submit()
    for expected, moves in (((COLLECTED,), False), ((SUBMITTING, RUNNING), False), ((QUEUED,), True)):
        with scope(world.engine, world.tenant) as connection:
            moved = store.advance(connection, world.tenant, [store.Change(task.job, 0, COMPLETED)], expected)
        assert moved == ({task.job} if moves else set())


def test_a_later_worker_fences_an_earlier_one(world: World) -> None:
    """Law 6: each claim raises the attempt; what the earlier worker writes afterwards changes nothing."""
    task = world.submit()
    (first,) = claim(world.engine, world.admission.tenant_keys, "first", [(task, True)])
    (second,) = claim(world.engine, world.admission.tenant_keys, "second", [(task, True)])
    assert first is not None and second is not None
    assert (first.job.attempt, first.before) == (1, QUEUED)
    assert (second.job.attempt, second.before) == (2, SUBMITTING)
    for claimed, moves in ((first, False), (second, True)):
        change = store.Change(task.job, claimed.job.attempt, RUNNING, (Step("collected", now(), {}),))
        with scope(world.engine, world.tenant) as connection:
            assert bool(store.advance(connection, world.tenant, [change], (SUBMITTING,))) is moves
    assert [s["step"] for s in world.job(task).steps].count("collected") == 1
    assert [s["step"] for s in world.job(task).steps].count("executing") == 1


def test_many_jobs_move_in_one_statement(world: World) -> None:
    tasks = [world.submit() for _ in range(5)]
    changes = [store.Change(task.job, 0, SUBMITTING, handle={"n": n}) for n, task in enumerate(tasks)]
    changes[3] = dataclasses.replace(changes[3], attempt=7)
    with scope(world.engine, world.tenant) as connection:
        moved = store.advance(connection, world.tenant, changes, (QUEUED,))
    assert moved == {t.job for n, t in enumerate(tasks) if n != 3}
    assert [world.job(task).handle for task in tasks] == [{"n": 0}, {"n": 1}, {"n": 2}, None, {"n": 4}]


def test_an_id_or_key_is_taken_once(world: World) -> None:
    """R12.2: by id, by key, and by key first."""
    one = world.admit(key="k1", job_id="job-1").job
    two = world.admit(key="k2").job
    with scope(world.engine, world.tenant) as connection:
        assert not store.insert_new(connection, world.tenant, dataclasses.replace(one, id="job-9"), b"")
        assert not store.insert_new(
            connection, world.tenant, dataclasses.replace(one, idempotency_key=None), b""
        )

        def find(key: str | None, job_id: str | None, actor: str = one.actor) -> str | None:
            found = store.find_same(connection, world.tenant, actor, key, job_id)
            return found.id if found else None

        assert find(None, "job-1") == "job-1"
        assert find("k1", None) == "job-1"
        assert find("k2", "job-1") == two.id, "the key counts before the id"
        assert find("none", "job-1") == "job-1"
        assert find("k2", None, "user:else") is None
        assert find(None, None) is None


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_job_that_has_ended_is_not_claimed(world: World, state: str) -> None:
    task = world.submit()
    with scope(world.engine, world.tenant) as connection:
        store.advance(connection, world.tenant, [store.Change(task.job, 0, state)], (QUEUED,))
    assert claim(world.engine, world.admission.tenant_keys, "late", [(task, True)]) == [None]
