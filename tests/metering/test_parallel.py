"""Real parallel connections cannot overspend, lose or double anything (R3.2, R3.5; law 3)."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from qcos.base.errors import Conflict
from qcos.db.engine import make_engine, scope
from qcos.metering import audit, store
from qcos.metering.model import Settlement

from .asks import AT, ask, money_of, shots_of

THREADS = 10
TENANT = uuid.uuid4()


@pytest.fixture
def engine(database: Any) -> Iterator[sa.Engine]:
    """One connection for each thread and one for the observer."""
    made = make_engine(database.app_url, pool_size=THREADS + 2)
    yield made
    made.dispose()


def _together(work: Callable[[int], object]) -> list[object]:
    """Run work(0..THREADS-1) at the same time; the first error is raised."""
    gate = threading.Barrier(THREADS)

    def one(n: int) -> object:
        gate.wait()
        return work(n)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def _limits(engine: sa.Engine, budget: int, quota: int, *projects: str) -> None:
    with scope(engine, TENANT) as connection:
        for project in projects or ("alpha",):
            store.set_budget(connection, TENANT, project, budget, "USD", AT)
        store.set_quota(connection, TENANT, "physics", quota, AT)


def _unfit(engine: sa.Engine) -> list[object]:
    with scope(engine, TENANT) as connection:
        return [d for d in audit.check_books(connection, TENANT) if "charges" not in d.what]


def test_of_many_who_want_the_last_money_exactly_those_get_it_that_fit(engine: sa.Engine) -> None:
    """R3.2: 10 connections, 200 asks of 7 µ, 500 µ: 71 fit, and not one more."""
    _limits(engine, 500, 10**9)

    def work(n: int) -> int:
        won = 0
        for k in range(20):
            with scope(engine, TENANT) as connection:
                won += store.reserve(connection, TENANT, ask(f"{n}-{k}", 7, 1))
        return won

    won = _together(work)
    assert sum(won) == 500 // 7
    with scope(engine, TENANT) as connection:
        assert money_of(connection, TENANT) == (500 // 7 * 7, 0)
    assert _unfit(engine) == []


def test_the_last_shots_of_a_team_go_to_several_projects_without_overlap(engine: sa.Engine) -> None:
    """R3.5: the budgets differ, the quota is shared, and it is the quota that runs out."""
    projects = [f"p{n}" for n in range(THREADS)]
    _limits(engine, 10**6, 1_000, *projects)

    def work(n: int) -> int:
        won = 0
        for k in range(20):
            with scope(engine, TENANT) as connection:
                won += store.reserve(connection, TENANT, ask(f"{n}-{k}", 3, 30, project=projects[n]))
        return won

    won = _together(work)
    assert sum(won) == 1_000 // 30
    with scope(engine, TENANT) as connection:
        assert shots_of(connection, TENANT) == (1_000 // 30 * 30, 0)
        spent = {b.project: b.reserved for b in store.list_budgets(connection, TENANT, AT)}
    assert spent == {project: 3 * n for project, n in zip(projects, won, strict=True)}
    assert _unfit(engine) == []


def test_the_first_jobs_of_a_month_make_one_period_between_them(engine: sa.Engine) -> None:
    """All find no row for the new month; the limit set meanwhile holds."""
    december = AT.replace(month=12, day=1)
    _limits(engine, 10**6, 10**9)

    def work(n: int) -> bool:
        with scope(engine, TENANT) as connection:
            if n == 0:
                store.set_budget(connection, TENANT, "alpha", 25, "USD", AT)
                return False
            return store.reserve(connection, TENANT, ask(f"{n}", 1, 1, at=december))

    assert sum(_together(work)) == THREADS - 1
    with scope(engine, TENANT) as connection:
        (budget,) = store.list_budgets(connection, TENANT, december)
        (quota,) = store.list_quotas(connection, TENANT, december)
    assert (budget.limit, budget.reserved) == (25, THREADS - 1)
    assert quota.reserved == THREADS - 1
    assert _unfit(engine) == []


def test_a_limit_that_is_being_lowered_is_waited_for(engine: sa.Engine, database: Any) -> None:
    """The first job of a month comes while a scope that sets the limit has not ended: the new limit holds."""
    december = AT.replace(month=12, day=1)
    _limits(engine, 100, 10**9)

    def reserve() -> bool:
        with scope(engine, TENANT) as connection:
            return store.reserve(connection, TENANT, ask("a", 10, 1, at=december))

    with ThreadPoolExecutor(1) as pool:
        with scope(engine, TENANT) as connection:
            store.set_budget(connection, TENANT, "alpha", 5, "USD", AT)
            other = pool.submit(reserve)
            _until_somebody_waits(database.admin_url, other)
        assert other.result() is False


def _until_somebody_waits(admin_url: str, other: Future[bool]) -> None:
    waiting = sa.text(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and usename = 'qcos_app'"
    )
    watcher = sa.create_engine(admin_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with watcher.connect() as connection:
        while not other.done() and not connection.execute(waiting).scalar_one():
            time.sleep(0.005)


def test_one_job_reserved_by_all_at_once_is_reserved_once(engine: sa.Engine) -> None:
    _limits(engine, 1_000, 10**9)

    def work(n: int) -> list[bool]:
        won = []
        for k in range(10):
            with scope(engine, TENANT) as connection:
                won.append(store.reserve(connection, TENANT, ask(f"job-{k}", 7, 3)))
        return won

    assert all(all(won) for won in _together(work))
    with scope(engine, TENANT) as connection:
        assert money_of(connection, TENANT) == (70, 0)
        assert shots_of(connection, TENANT) == (30, 0)
    assert _unfit(engine) == []


def test_one_job_ended_by_all_at_once_ends_once(engine: sa.Engine) -> None:
    """Workers settle the same jobs in different orders while others release them: each ends once."""
    _limits(engine, 10**6, 10**9)
    jobs = [f"job-{k}" for k in range(60)]
    with scope(engine, TENANT) as connection:
        assert all(store.reserve_all(connection, TENANT, [ask(job, 10, 10) for job in jobs]))

    def work(n: int) -> list[tuple[str, str]]:
        mine = random.Random(n).sample(jobs, len(jobs))
        ended: list[tuple[str, str]] = []
        for start in range(0, len(mine), 15):
            batch = mine[start : start + 15]
            with scope(engine, TENANT) as connection:
                if n % 3 == 0:
                    ended += [(job, "released") for job in store.release(connection, TENANT, batch, AT)]
                else:
                    settlements = [Settlement(job, 4, 2) for job in batch]
                    ended += [(job, "settled") for job in store.settle(connection, TENANT, settlements, AT)]
        return ended

    ended = [pair for pairs in _together(work) for pair in pairs]
    assert sorted(job for job, _ in ended) == sorted(jobs)
    settled = Counter(how for _, how in ended)["settled"]
    with scope(engine, TENANT) as connection:
        assert money_of(connection, TENANT) == (0, 4 * settled)
        assert shots_of(connection, TENANT) == (0, 2 * settled)
    assert _unfit(engine) == []


@pytest.mark.parametrize("seed", range(3))
def test_any_mixture_conserves_money_and_shots_at_every_moment(engine: sa.Engine, seed: int) -> None:
    """R3.2, R3.5, law 3: asks alone and in batches, retries, doubles, endings of all kinds, dying scopes and
    limits that are set again, all at once over three projects and one team, while an observer looks on.
    """
    projects, budget, quota = ["alpha", "beta", "gamma"], 400, 3_000
    _limits(engine, budget, quota, *projects)
    done = threading.Event()
    passed: list[str] = []

    def observe() -> int:
        looks = 0
        while not done.is_set() or looks == 0:
            with scope(engine, TENANT) as connection:
                for state in store.list_budgets(connection, TENANT, AT):
                    if state.reserved + state.settled > budget:
                        passed.append(f"{state}")
                for day in store.list_quotas(connection, TENANT, AT):
                    if day.reserved + day.used > quota:
                        passed.append(f"{day}")
            looks += 1
        return looks

    def work(n: int) -> None:
        chance = random.Random(seed * 1_000 + n)
        for _ in range(40):
            jobs = [f"job-{chance.randrange(60)}" for _ in range(chance.randrange(1, 6))]
            try:
                with scope(engine, TENANT) as connection:
                    _one_act(connection, chance, jobs, projects, budget)
                    if chance.random() < 0.15:
                        raise _Crash
            except _Crash:
                continue

    with ThreadPoolExecutor(1) as pool:
        looks = pool.submit(observe)
        try:
            _together(work)
        finally:
            done.set()
        assert looks.result() > 0
    assert passed == []
    assert _unfit(engine) == []
    with scope(engine, TENANT) as connection:
        states = Counter(connection.execute(sa.select(store.RESERVATION.c.state)).scalars())
    assert states["settled"] > 0 and states["released"] + states["expired"] > 0


class _Crash(Exception):
    """The process dies before its scope commits."""


def _one_act(
    connection: sa.Connection, chance: random.Random, jobs: list[str], projects: list[str], budget: int
) -> None:
    act = chance.choice(
        ["reserve", "reserve", "reserve_all", "settle", "settle", "release", "expire", "limit"]
    )
    # A job always asks for the same, as its retries would.
    asks = [
        ask(job, 1 + number_of(job) % 30, number_of(job) % 200, project=projects[number_of(job) % 3])
        for job in jobs
    ]
    ended = set(
        connection.execute(
            sa.select(store.RESERVATION.c.job).where(
                store.RESERVATION.c.tenant == TENANT, store.RESERVATION.c.state != "reserved"
            )
        ).scalars()
    )
    asks = [one for one in asks if one.job not in ended]
    try:
        if act == "reserve" and asks:
            store.reserve(connection, TENANT, asks[0])
        elif act == "reserve_all":
            store.reserve_all(connection, TENANT, asks)
        elif act == "settle":
            settlements = {
                job: Settlement(job, number_of(job) % 31 // 2, number_of(job) % 200 // 2) for job in jobs
            }
            store.settle(connection, TENANT, list(settlements.values()), AT)
        elif act == "release":
            store.release(connection, TENANT, jobs, AT)
        elif act == "expire":
            store.expire(connection, TENANT, jobs, AT)
        elif act == "limit":
            store.set_budget(connection, TENANT, chance.choice(projects), budget, "USD", AT)
    except Conflict as error:  # the job ended between our look and our ask
        assert error.code == "reservation.exists"
        raise _Crash from error


def number_of(job: str) -> int:
    """A number that belongs to a job, the same in every run."""
    return int(uuid.uuid5(uuid.NAMESPACE_OID, job).hex[:8], 16)
