"""Every process of a real installation is killed, again and again, while hundreds of jobs are submitted and run."""

from __future__ import annotations

import json
import random
import secrets
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from qcos.base.errors import Unavailable
from qcos.client import Client
from qcos.db.engine import scope
from qcos.evidence.trust import Trust
from qcos.evidence.verify import verify
from qcos.identity import store as identity
from qcos.ledger import store
from qcos.ledger.fsck import fsck
from qcos.metering.audit import check_books

from .house import House, descendants, processes, settle_in
from .world import spec, until

JOBS = 500
CLIENTS = 6
KILLS = ("worker", "api", "duties", "postgres") * 4


class Load:
    """Clients that submit as many jobs as they are allowed to, each job under a key of its own until it is taken."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self._allowed = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._left = list(range(JOBS))
        self.taken: dict[str, str] = {}  # job id by key
        self.errors: list[BaseException] = []
        self.resent = 0
        self._threads = [threading.Thread(target=self._submit, name=f"client-{n}") for n in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def allow(self, jobs: int) -> None:
        self._allowed.release(jobs)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _submit(self) -> None:
        try:
            with Client(self._url, self._token) as client:
                while True:
                    self._allowed.acquire()
                    with self._lock:
                        if not self._left:
                            self._allowed.release()  # the others are to end too
                            return
                        number = self._left.pop()
                    self._submit_one(client, number)
        except BaseException as error:
            self.errors.append(error)
            self._allowed.release(JOBS)

    def _submit_one(self, client: Client, number: int) -> None:
        key = f"load-{number}"
        document = json.loads(spec(shots=20 + number % 50, seed=number))
        while True:
            try:
                job = client.jobs.submit(document, key=key)
            except Unavailable:  # away for longer than the client is patient: the same key again
                self.resent += 1
                time.sleep(0.2)
                continue
            with self._lock:
                self.taken[key] = job["job_id"]
            return


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_500_jobs_are_run_sealed_and_charged_once_whatever_is_killed(tmp_path: Path) -> None:
    """R4.1, R5.5, R8.5, laws 1, 3 and 6: ``kill -9`` of worker, API, duties and PostgreSQL at random moments under load."""
    seed = secrets.randbits(32)
    rng = random.Random(seed)
    print(f"seed {seed}")
    started = time.monotonic()
    with House(tmp_path / "data") as house:
        alice, token = settle_in(house)
        tenant = _tenant(house)
        print(f"ready after {time.monotonic() - started:.1f} s")
        load = Load(house.ready["url"], token)
        began = time.monotonic()
        load.start()
        killed, met = _kill_at_random(house, load, rng, tenant)
        load.join()
        assert load.errors == []
        until(lambda: _states(house, tenant) == {"completed": JOBS}, "all jobs completed", 480)
        print(
            f"{JOBS} jobs in {time.monotonic() - began:.1f} s, {load.resent} sent again; killed {dict(killed)}"
        )
        print(f"unfinished jobs at each kill: {met}")
        assert sum(met) > 0
        attempts = _rows(house, tenant, "select attempt, count(*) from qcos.job group by 1 order by 1")
        print("attempts: " + ", ".join(f"{attempt}: {count}" for attempt, count in attempts))

        assert len(load.taken) == len(set(load.taken.values())) == JOBS
        _each_job_is_charged_once(house, tenant)
        until(
            lambda: _answers(alice), "the API answers"
        )  # it may have been killed last, and every job have been taken before
        began = time.monotonic()
        _evidence_verifies(house, tenant, alice, sorted(load.taken.values()))
        print(f"{JOBS} bundles fetched and verified in {time.monotonic() - began:.1f} s")
        alice.close()
        _ledger_is_whole(house, tenant)
        _nothing_is_left_open(house)

        below = descendants(house.up.pid) | {house.running("postgres")}
        assert house.stop() == 0
    until(lambda: not below & set(processes()), f"processes end: {below}")


def _kill_at_random(
    house: House, load: Load, rng: random.Random, tenant: UUID
) -> tuple[Counter[str], list[int]]:
    """Let some jobs in, and kill something while they are on their way; returns how many were at each kill."""
    targets = list(KILLS)
    rng.shuffle(targets)
    killed: Counter[str] = Counter()
    met = []
    for n, target in enumerate(targets):
        house.running(target)
        before = len(load.taken)
        load.allow(JOBS * (n + 1) // len(targets) - JOBS * n // len(targets))
        until(lambda seen=before: len(load.taken) > seen or load.errors, "a job is taken")  # type: ignore[misc]
        time.sleep(rng.uniform(0.0, 0.3))
        states = _states(house, tenant)
        house.kill(target)
        killed[target] += 1
        met.append(sum(count for state, count in states.items() if state != "completed"))
    load.allow(1)  # nothing is left: the clients end
    return killed, met


def _tenant(house: House) -> UUID:
    with scope(house.engine, None) as connection:
        return identity.tenants(connection)[0][0]


def _rows(house: House, tenant: UUID, sql: str) -> list[Any]:
    with scope(house.engine, tenant) as connection:
        return list(connection.exec_driver_sql(sql))


def _states(house: House, tenant: UUID) -> dict[str, int]:
    try:
        return {
            row[0]: row[1] for row in _rows(house, tenant, "select state, count(*) from qcos.job group by 1")
        }
    except Unavailable:
        return {}


def _answers(client: Client) -> bool:
    try:
        next(client.jobs.each(), None)
    except Unavailable:
        return False
    return True


def _each_job_is_charged_once(house: House, tenant: UUID) -> None:
    rows = _rows(
        house,
        tenant,
        """select j.id, j.charge, r.state, r.settled_amount, c.amount, c.items, c.n
             from qcos.job j
             left join qcos.reservation r on r.job = j.id
             left join (select job, sum(amount) as amount, count(distinct item) as items, count(*) as n
                          from qcos.charge group by job) c on c.job = j.id""",
    )
    assert len(rows) == JOBS
    assert [
        row for row in rows if not (row.state == "settled" and row.charge == row.settled_amount == row.amount)
    ] == []
    assert [row for row in rows if row.items != row.n] == []
    [charged] = _rows(house, tenant, "select sum(amount) as amount from qcos.charge")
    [period] = _rows(
        house, tenant, "select sum(settled) as settled, sum(reserved) as reserved from qcos.budget_period"
    )
    assert charged.amount == period.settled > 0
    assert period.reserved == 0
    [quota] = _rows(
        house, tenant, "select sum(used) as used, sum(reserved) as reserved from qcos.quota_period"
    )
    assert (quota.used, quota.reserved) == (sum(20 + n % 50 for n in range(JOBS)), 0)
    with scope(house.engine, tenant) as connection:
        assert check_books(connection, tenant) == []


def _evidence_verifies(house: House, tenant: UUID, alice: Client, jobs: list[str]) -> None:
    [bundles] = _rows(
        house, tenant, "select count(*), count(distinct id), count(distinct job) from qcos.evidence_bundle"
    )
    assert tuple(bundles) == (JOBS, JOBS, JOBS)
    sealed = _rows(house, tenant, "select object from qcos.ledger_record where act = 'evidence.sealed'")
    assert len(sealed) == len({row.object for row in sealed}) == JOBS
    trust = Trust.load(Path(house.ready["trust_file"]).read_bytes())
    seen = set()
    for job in jobs:
        document = alice.jobs.evidence(job, wait_s=60)
        report = verify(document, trust)
        assert report.ok, report
        bundle = json.loads(document)
        assert bundle["job_id"] == job
        seen.add(bundle["bundle_id"])
    assert seen == {row.object for row in sealed}


def _ledger_is_whole(house: House, tenant: UUID) -> None:
    trust = Trust.load(Path(house.ready["trust_file"]).read_bytes())

    def covered() -> bool:
        with scope(house.engine, None) as connection:
            return not store.glance(connection).waiting

    until(covered, "all entries are in the log")
    report = fsck(house.data / "ledger", trust.vkeys, house.engine, tenants=[tenant])
    assert report.ok, report.problems
    acts = Counter(row.act for row in _rows(house, tenant, "select act from qcos.ledger_record"))
    assert {acts[act] for act in ("job.submitted", "policy.decided", "evidence.sealed", "cost.charged")} == {
        JOBS
    }
    assert acts["job.failed"] == acts["job.cancelled"] == 0


def _nothing_is_left_open(house: House) -> None:
    engine = sa.create_engine(house.server.admin_url, poolclass=sa.NullPool)

    def idle_in_transaction() -> int:
        with engine.begin() as connection:
            return int(
                connection.exec_driver_sql(
                    "select count(*) from pg_stat_activity where state like 'idle in transaction%%'"
                    " and now() - state_change > interval '1 second'"
                ).scalar_one()
            )

    until(lambda: idle_in_transaction() == 0, "no connection idles in a transaction")
    tasks = "select count(*) from queue.pgqueuer"

    def none_queued() -> bool:
        with scope(house.engine, None) as connection:
            return connection.exec_driver_sql(tasks).scalar() == 0

    until(none_queued, "no task is left")
