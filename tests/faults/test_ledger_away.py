"""Law 1, no act without its record: the ledger takes no entry, and nothing happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from qcos.administration import funds, people
from qcos.administration.act import Act, Authority, acting
from qcos.api.errors import problem
from qcos.base.errors import Unavailable
from qcos.db.engine import make_engine
from qcos.jobs.execute import Execution
from qcos.jobs.recover import recover

from .test_workers import run
from .vendor import PaidDriver
from .world import ALICE, PROJECT, World, make_execution

REVOKED = (
    "revoke insert on qcos.ledger_record from qcos_app",
    "grant insert on qcos.ledger_record to qcos_app",
)
RAISING = (
    """create function qcos.refuse() returns trigger language plpgsql as
       $$ begin raise exception 'no space left on device'; end $$;
       create trigger refuse before insert on qcos.ledger_entry for each row execute function qcos.refuse()""",
    "drop trigger refuse on qcos.ledger_entry; drop function qcos.refuse()",
)
FULL_DISK = (
    RAISING[0].replace("device';", "device' using errcode = 'disk_full';"),
    RAISING[1],
)
# The sequencer stands still: what waits has waited for an hour; and, without that, there is far too much of it.
WAITED = (
    """insert into qcos.ledger_entry (digest) values (sha256('waits'));
       update qcos.ledger_entry set at = at - interval '1 hour';
       update qcos.ledger_state set moved = moved - interval '1 hour'""",
    "update qcos.ledger_entry set at = now(); update qcos.ledger_state set moved = now()",
)
PILED_UP = (
    "update qcos.ledger_state set seen = seen - 200000",
    "update qcos.ledger_state set seen = seen + 200000",
)
TABLES = (
    "job",
    "policy_decision",
    "reservation",
    "budget_period",
    "quota_period",
    "charge",
    "usage",
    "evidence_bundle",
    "budget",
    "quota",
    "project",
    "principal",
    "role_grant",
    "api_token",
    "policy_activation",
    "ledger_record",
    "ledger_entry",
)


@pytest.fixture(
    params=[REVOKED, RAISING, FULL_DISK, WAITED, PILED_UP],
    ids=["revoked", "raising", "full disk", "waited too long", "too many wait"],
)
def broken_ledger(request: pytest.FixtureRequest, database: Any) -> Callable[[], Any]:
    """Break the ledger for as long as a context lasts."""
    away, back = request.param

    @contextmanager
    def broken() -> Iterator[None]:
        owner = sa.create_engine(database.admin_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with owner.connect() as connection:
            connection.exec_driver_sql(away)
            yield
            connection.exec_driver_sql(back)

    return broken


def everything(world: World) -> dict[str, list[Any]]:
    """Return every row of every governed table, and the queue's."""
    kept = {name: sorted(map(str, world.rows(f"select * from qcos.{name}"))) for name in TABLES}
    return kept | {"queue": sorted(map(str, world.rows("select entrypoint, dedupe_key from queue.pgqueuer")))}


def assert_clear(error: Unavailable) -> None:
    """The caller learns that nothing was done, and that it may be tried again."""
    assert error.code in ("ledger.unavailable", "ledger.backlog", "database.unavailable")
    answer = problem(error)
    assert answer.status_code == 503 and "Retry-After" in answer.headers
    assert b"nothing was" in answer.body


def test_a_job_is_not_submitted(world: World, broken_ledger: Callable[[], Any]) -> None:
    """R5.1: no job, no decision, no reservation, no task; the same request goes through once the ledger is back."""
    world.admit("warm")
    with broken_ledger():
        before = everything(world)
        with pytest.raises(Unavailable) as refused:
            world.admit("key")
        assert_clear(refused.value)
        assert everything(world) == before
    admitted = world.admit("key")
    assert (admitted.job.state, admitted.replayed) == ("queued", False)
    assert world.books() == []


def test_a_denial_needs_its_record_too(world: World, broken_ledger: Callable[[], Any]) -> None:
    with broken_ledger():
        before = everything(world)
        with pytest.raises(Unavailable):
            world.admit(shots=100_000, providers=("nobody",))
        assert everything(world) == before


ACTS: dict[str, Callable[[Act], object]] = {
    "budget": lambda act: funds.set_budget(act, PROJECT, "7.00", "USD"),
    "quota": lambda act: funds.set_quota(act, "t1", 7),
    "project": lambda act: people.create_project(act, "p2", "t1", "CC-2"),
    "principal": lambda act: people.create_principal(act, "user:eve@company.com", "t1", {}),
    "role": lambda act: people.grant_role(act, ALICE, "auditor", None),
    "role revoked": lambda act: people.revoke_role(act, ALICE, "quantum-engineer", None),
    "token": lambda act: people.create_token(act, ALICE, 1),
}


@pytest.mark.parametrize("name", ACTS)
def test_an_administrator_changes_nothing(world: World, broken_ledger: Callable[[], Any], name: str) -> None:
    authority = Authority(world.engine, world.admission.policy, world.admission.bundles)
    with broken_ledger():
        before = everything(world)
        with (
            pytest.raises(Unavailable) as refused,
            acting(authority, world.tenant, world.admin_hash) as act,
        ):
            ACTS[name](act)
        assert_clear(refused.value)
        assert everything(world) == before
    with acting(authority, world.tenant, world.admin_hash) as act:
        ACTS[name](act)
    assert everything(world) != before


def test_a_result_is_not_charged_until_it_can_be_recorded(
    world: World, database: Any, tmp_path: Path, broken_ledger: Callable[[], Any]
) -> None:
    """The result is kept, so nothing is lost; bundle, charge and settlement wait with their records."""
    engine = make_engine(database.app_url)
    driver = PaidDriver(tmp_path / "vendor")
    execution = make_execution(engine, [driver], world.keys)
    task = world.submit()
    with broken_ledger():
        run(execution, task)
        assert world.job(task).state == "collected"
        [reservation] = world.reservation(task)
        assert reservation.state == "reserved"
        for table in ("charge", "usage", "evidence_bundle"):
            assert world.rows(f"select 1 from qcos.{table}") == []
    _finish(world, execution, task)
    world.assert_completed_once(task)
    assert list(driver.vendor.executions().values()) == [1]
    engine.dispose()


def test_a_failure_is_not_released_until_it_can_be_recorded(
    world: World, database: Any, tmp_path: Path, broken_ledger: Callable[[], Any]
) -> None:
    engine = make_engine(database.app_url)
    driver = PaidDriver(tmp_path / "vendor")
    driver.vendor.mood = "failed"
    execution = make_execution(engine, [driver], world.keys)
    task = world.submit()
    with broken_ledger():
        run(execution, task)
        assert world.job(task).state == "running"
        assert [r.state for r in world.reservation(task)] == ["reserved"]
    _finish(world, execution, task)
    world.assert_ended_once(task, "failed")
    engine.dispose()


def _finish(world: World, execution: Execution, *tasks: Any) -> None:
    """Do what duties and queue do: enqueue what has no task, and run it."""
    world.rows("delete from queue.pgqueuer")  # the worker's failed task
    world.rows("update qcos.job set updated = updated - interval '1 minute'")
    assert recover(world.engine).enqueued == len(tasks)
    run(execution, *tasks)
    execution.close()
