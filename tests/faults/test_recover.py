"""Tasks are lost: somebody deleted rows of the queue, or a handler gave up. Recovery makes new ones, and only where one is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from qcos.base.errors import Unavailable
from qcos.db.engine import make_engine
from qcos.jobs.recover import recover

from .test_workers import run
from .vendor import PaidDriver
from .world import World, make_execution


def age(world: World) -> None:
    """Let the jobs' last change be a minute ago."""
    world.rows("update qcos.job set updated = updated - interval '1 minute'")


def keys(world: World) -> list[str]:
    return sorted(row[0] for row in world.rows("select dedupe_key from queue.pgqueuer"))


def test_unfinished_jobs_without_a_task_get_one_each(world: World, engine: sa.Engine, tmp_path: Path) -> None:
    finished, *lost = [world.submit() for _ in range(4)]
    execution = make_execution(engine, [PaidDriver(tmp_path / "vendor")], world.keys)
    run(execution, finished)
    world.rows("delete from queue.pgqueuer")
    kept = world.submit()
    age(world)
    assert recover(engine).enqueued == len(lost)
    assert keys(world) == sorted(task.key for task in (*lost, kept))
    entrypoints = {row[0] for row in world.rows("select entrypoint from queue.pgqueuer")}
    assert entrypoints == {"run:paid"}
    assert recover(engine).enqueued == 0
    run(execution, *lost, kept)
    execution.close()
    for task in (finished, *lost, kept):
        world.assert_completed_once(task)
    age(world)
    world.rows("delete from queue.pgqueuer")
    assert recover(engine).enqueued == 0


def test_a_job_that_changed_just_now_is_left_to_whoever_changes_it(world: World, engine: sa.Engine) -> None:
    world.submit()
    world.rows("delete from queue.pgqueuer")
    world.rows("update qcos.job set updated = now() + interval '1 hour'")  # just now, however long this takes
    assert recover(engine).enqueued == 0


def test_a_lost_job_is_found_behind_any_number_of_waiting_ones(world: World, engine: sa.Engine) -> None:
    """A queue of days hides nothing."""
    lost = world.submit()
    world.rows("delete from queue.pgqueuer")
    age(world)
    _copies(world, lost.job, 25_000)
    assert recover(engine).enqueued == 1
    assert lost.key in keys(world)


def _copies(world: World, job: str, count: int) -> None:
    """Make many waiting jobs, each with its task, all older than the one given."""
    columns = [
        row[0]
        for row in world.rows(
            "select column_name from information_schema.columns where table_schema = 'qcos' and table_name = 'job'"
        )
    ]
    changed = {"id": "'copy-' || n", "updated": "updated - interval '1 hour'", "idempotency_key": "null"}
    values = ", ".join(changed.get(name, name) for name in columns)
    world.rows(
        f"insert into qcos.job ({', '.join(columns)}) select {values} from qcos.job, generate_series(1, {count}) n"
        f" where id = '{job}'"
    )
    world.rows(
        "insert into queue.pgqueuer (priority, status, entrypoint, dedupe_key, payload)"
        " select 0, 'queued', 'run:paid', tenant || '/' || id, '' from qcos.job where id like 'copy-%%'"
    )


def test_recovery_says_when_the_database_is_away() -> None:
    gone = make_engine("postgresql+psycopg://qcos_app:x@127.0.0.1:9/postgres")
    with pytest.raises(Unavailable):
        recover(gone)
    gone.dispose()
