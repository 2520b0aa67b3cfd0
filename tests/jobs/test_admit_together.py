"""Requests that arrive together share a scope, and come out as if one had come after the other (laws 1 and 3, R12.2)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from faults.world import World, spec
from qcos.base.clock import now
from qcos.base.errors import Conflict, Denied, NotFound, Unavailable
from qcos.db.engine import scope
from qcos.identity import tokens
from qcos.jobs.admit import Admitted, Request, admit
from qcos.metering import store as metering
from qcos.policy.explain import replay

PRICE = 300_000 + 100 * 1_450  # of one job of 100 shots on the paid backend


@contextmanager
def _held(world: World, admin_url: str) -> Iterator[None]:
    """Let admissions wait in their scope for as long as the context lasts."""
    owner = sa.create_engine(admin_url, poolclass=sa.NullPool)
    with owner.begin() as connection:
        connection.exec_driver_sql("lock table qcos.policy_decision in access exclusive mode")
        yield


Outcome = Admitted | BaseException


@pytest.fixture
def together(world: World, database) -> Callable[[Sequence[Request]], list[Outcome]]:
    """Admit requests in one scope; the order is kept. One that comes before them holds the line."""

    def run(requests: Sequence[Request]) -> list[Outcome]:
        line = world.admission.line
        with ThreadPoolExecutor(len(requests) + 1) as threads:
            with _held(world, database.admin_url):
                began = threading.Event()
                first = threads.submit(lambda: (began.set(), _outcome(world, _request(world, shots=1))))
                assert began.wait(120)
                _until(lambda: _waits(world, "policy_decision"))
                futures = []
                for number, request in enumerate(requests, 1):
                    futures.append(threads.submit(_outcome, world, request))
                    _until(lambda number=number: line.waiting(world.tenant) == number)
            first.result()
            return [future.result() for future in futures]

    return run


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.002)


def _waits(world: World, table: str) -> bool:
    with scope(world.engine, None) as connection:
        asked = "select count(*) from pg_locks where not granted and relation = %s::regclass"
        return bool(connection.exec_driver_sql(asked, (f"qcos.{table}",)).scalar())


def _request(world: World, key: str | None = None, token: bytes | None = None, **options: object) -> Request:
    return Request(world.tenant, token or world.token_hash, spec(**options), key)  # type: ignore[arg-type]


def _outcome(world: World, request: Request) -> Outcome:
    try:
        return admit(world.admission, request)
    except Exception as error:
        return error


def _scopes(world: World, jobs: Sequence[Outcome]) -> int:
    """Return how many transactions wrote these jobs."""
    ids = [job.job.id for job in jobs if isinstance(job, Admitted)]
    return len(
        {row[0] for row in world.rows("select xmin::text from qcos.job where id = any(%(ids)s)", ids=ids)}
    )


def test_they_are_written_in_one_scope_and_each_is_whole(world: World, together) -> None:
    world.admit(shots=1)
    outcomes = together([_request(world, f"k{n}") for n in range(8)])
    assert [o.job.state for o in outcomes] == ["queued"] * 8
    assert _scopes(world, outcomes) == 1
    for o in outcomes:
        [row] = world.rows("select amount, shots from qcos.reservation where job = %(id)s", id=o.job.id)
        assert tuple(row) == (PRICE, 100)
        acts = world.rows(
            "select act, object from qcos.ledger_record where object = any(%(of)s) order by seq",
            of=[o.job.id, o.decision.id],
        )
        assert [tuple(row) for row in acts] == [
            ("job.submitted", o.job.id),
            ("policy.decided", o.decision.id),
        ]
        assert (
            world.rows(
                "select count(*) from queue.pgqueuer where dedupe_key = %(k)s", k=f"{world.tenant}/{o.job.id}"
            )[0][0]
            == 1
        )
    assert world.books() == []


def test_each_is_decided_on_what_those_before_left_and_the_rest_is_denied(world: World, together) -> None:
    """Law 3, R3.2: money for three of five; the recorded inputs say what each had, and give the same answers again (law 8)."""
    world.admit(shots=1)
    with scope(world.engine, world.tenant) as connection:
        free = metering.list_budgets(connection, world.tenant, now())[0]
        hold = 300_000 + 1_450  # the request that comes before them
        metering.set_budget(connection, world.tenant, "p1", free.reserved + hold + 3 * PRICE + 7, "USD")
    outcomes = together([_request(world) for _ in range(5)])
    assert [o.job.state for o in outcomes] == ["queued"] * 3 + ["denied"] * 2
    assert [o.decision.input["budget"]["available"] for o in outcomes] == [
        3 * PRICE + 7,
        2 * PRICE + 7,
        PRICE + 7,
        7,
        7,
    ]
    assert _scopes(world, outcomes) == 1
    bundle = world.admission.bundles
    with scope(world.engine, world.tenant) as connection:
        active = bundle.get(connection, world.tenant)
    for o in outcomes:
        assert replay(world.admission.policy, active, o.decision).same
    assert world.books() == []


def test_a_quota_is_shared_by_them(world: World, together) -> None:
    """R3.5."""
    world.admit(shots=1)
    with scope(world.engine, world.tenant) as connection:
        metering.set_quota(connection, world.tenant, "t1", 2 + 250)
    outcomes = together([_request(world) for _ in range(4)])
    assert [o.job.state for o in outcomes] == ["queued", "queued", "denied", "denied"]
    assert {r.code for r in outcomes[2].decision.reasons} == {"quota.exceeded"}


def test_one_that_cannot_be_a_job_leaves_the_others_alone(world: World, together) -> None:
    world.admit(shots=1)
    outcomes = together(
        [
            _request(world),
            _request(world, token=tokens.mint(world.tenant).hash),
            _request(world, project="nowhere"),
            _request(world),
        ]
    )
    assert [type(o) for o in outcomes] == [Admitted, Denied, NotFound, Admitted]
    assert _scopes(world, outcomes) == 1


def test_the_same_request_twice_among_them_is_one_job(world: World, together) -> None:
    """R12.2, law 3: they cannot be written together, so each is admitted alone: one job, one replay, the others untouched."""
    known = world.admit("known", shots=1)
    outcomes = together(
        [
            _request(world, "k"),
            _request(world),
            _request(world, "k"),
            _request(world, "known", shots=1),
            _request(world, "k", shots=9),
        ]
    )
    assert [o.replayed for o in outcomes[:4]] == [False, False, True, True]
    assert outcomes[0].job.id == outcomes[2].job.id and outcomes[3].job.id == known.job.id
    assert isinstance(outcomes[4], Conflict) and outcomes[4].code == "idempotency.reused"
    assert world.rows("select count(*) from qcos.job")[0][0] == 4, "known, the one before, and two"
    assert world.books() == []


def test_a_denied_id_is_taken_over_among_others(world: World, together) -> None:
    """R2.1: ids of denied jobs are free again, whoever comes along with them."""
    with scope(world.engine, world.tenant) as connection:
        metering.set_quota(connection, world.tenant, "t1", 1)
    assert world.admit(job_id="mine").job.state == "denied"
    with scope(world.engine, world.tenant) as connection:
        metering.set_quota(connection, world.tenant, "t1", 10_000)
    outcomes = together([_request(world), _request(world, job_id="mine"), _request(world)])
    assert [o.job.state for o in outcomes] == ["queued"] * 3
    assert outcomes[1].job.id == "mine"


def test_without_the_ledger_none_of_them_happens(world: World, together, database) -> None:
    """Law 1: everybody is told to come again, and nothing of any of them is kept."""
    world.admit(shots=1)
    owner = sa.create_engine(database.admin_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with owner.connect() as connection:
        connection.exec_driver_sql("revoke insert on qcos.ledger_record from qcos_app")
        before = world.rows("select count(*) from qcos.job")[0][0]
        outcomes = together([_request(world, f"k{n}") for n in range(3)])
        connection.exec_driver_sql("grant insert on qcos.ledger_record to qcos_app")
    assert [type(o) for o in outcomes] == [Unavailable] * 3
    assert world.rows("select count(*) from qcos.job")[0][0] == before
    assert [world.admit(f"k{n}").replayed for n in range(3)] == [False] * 3
