"""A tenant with a project, money and people, on a database of its own; what admits and runs its jobs; and its auditor."""

from __future__ import annotations

import atexit
import datetime as dt
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from qcos.administration import installation
from qcos.backends import store as backends
from qcos.backends.catalogue import Catalogue
from qcos.backends.model import Backend
from qcos.base.clock import now
from qcos.circuits.reader import CircuitReader
from qcos.client.spec import Options, from_sources
from qcos.db.engine import scope
from qcos.db.queue import Task
from qcos.drivers.contract import Driver
from qcos.evidence.verify import verify
from qcos.identity import store as identity
from qcos.identity import tokens
from qcos.jobs import store as jobs
from qcos.jobs.admit import Admission, Admitted, Request, admit
from qcos.jobs.cancel import cancel
from qcos.jobs.conceal import BUNDLE, open_payload
from qcos.jobs.execute import Execution
from qcos.jobs.model import Job
from qcos.jobs.seal import Sealer
from qcos.keys.file import FileKeyring
from qcos.keys.trust import trust_document
from qcos.keys.wrap import open_file_wrapper
from qcos.metering import store as metering
from qcos.metering.audit import check_books
from qcos.metering.price import shipped_book
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.store import ActiveBundles
from qcos.secrecy.unlock import TenantKeys
from qcos.timestamp.authority import LocalAuthority

PROJECT = "p1"
ALICE = "user:alice@company.com"
BELL = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n'
_MICRO = 1_000_000


def spec(source: str = BELL, **options: Any) -> bytes:
    """Return a Job Spec, of a Bell circuit unless told otherwise; options are those of `qcos.client.spec.Options`."""
    given: dict[str, Any] = {"project": PROJECT, "shots": 100, "seed": 7} | options
    return json.dumps(from_sources([source], Options(**given))).encode()


def sealer_of(keys: Path) -> Sealer:
    keyring = FileKeyring(keys).open_or_create()
    return Sealer(keyring.evidence, LocalAuthority(keyring.tsa_key, keyring.tsa_chain))


def keys_of(engine: sa.Engine, keys: Path) -> TenantKeys:
    return TenantKeys(engine, open_file_wrapper(keys))


def make_execution(
    engine: sa.Engine,
    drivers: Sequence[Driver],
    keys: Path,
    worker: str = "test",
    *,
    call_s: float = 300.0,
    sealer: Sealer | None = None,
) -> Execution:
    """Return a worker's part of the spine, as `qcos.app` wires it."""
    return Execution(
        engine,
        {d.name: d for d in drivers},
        sealer or sealer_of(keys),
        shipped_book(),
        worker,
        keys_of(engine, keys),
        call_s,
    )


@cache
def _killable() -> tuple[CircuitReader, PolicyEngine]:
    """The processes that read circuits and ask policies: one of each for all tests of a process, since neither knows whom it works for."""
    reader, engine = CircuitReader(1), PolicyEngine(1, 10.0)
    atexit.register(reader.close)
    atexit.register(engine.close)
    return reader, engine


@dataclass(frozen=True)
class World:
    """One tenant, and the admission of its jobs."""

    engine: sa.Engine
    tenant: UUID
    token_hash: bytes
    admin_hash: bytes
    keys: Path
    admission: Admission

    @classmethod
    def make(cls, engine: sa.Engine, keys: Path, offered: Sequence[Backend]) -> World:
        first = installation.create_tenant(engine, "test")
        tenant, admin_hash = tokens.read(first.token)
        assert tenant == first.tenant
        minted = tokens.mint(tenant)
        with scope(engine, tenant) as connection:
            identity.create_project(connection, tenant, PROJECT, team="t1", cost_center="CC-1")
            identity.create_principal(connection, tenant, ALICE, team="t1")
            identity.grant_role(connection, tenant, ALICE, "quantum-engineer")
            identity.create_token(
                connection, tenant, ALICE, minted.hash, minted.id, now() + dt.timedelta(days=1)
            )
            metering.set_budget(connection, tenant, PROJECT, 1000 * _MICRO, "USD")
            metering.set_quota(connection, tenant, "t1", 10_000_000)
            # No worker is here to say that it lives, and no sequencer to come on: neither is missed, however slow the machine is.
            backends.register(connection, offered, now() + dt.timedelta(days=1))
            connection.exec_driver_sql("update qcos.ledger_state set moved = now() + interval '30 minutes'")
        admission = Admission(
            engine,
            *_killable(),
            ActiveBundles(),
            Catalogue(engine),
            shipped_book(),
            keys_of(engine, keys),
        )
        return cls(engine, tenant, minted.hash, admin_hash, keys, admission)

    def admit(self, key: str | None = None, **execution: Any) -> Admitted:
        with scope(self.engine, None) as connection:
            for driver in {status.backend.driver for status in backends.load(connection, now())}:
                backends.touch(connection, driver, now())
        self.admission.catalogue.forget()
        return admit(self.admission, Request(self.tenant, self.token_hash, spec(**execution), key))

    def submit(self, **execution: Any) -> Task:
        """Submit a job; returns its task."""
        return Task(self.tenant, self.admit(**execution).job.id)

    def job(self, task: Task) -> Job:
        with scope(self.engine, self.tenant) as connection:
            return jobs.get(connection, self.tenant, task.job)

    def cancel(self, task: Task) -> Job:
        with scope(self.engine, self.tenant) as connection:
            return cancel(connection, jobs.get(connection, self.tenant, task.job), ALICE)

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """Return what the tenant sees."""
        with scope(self.engine, self.tenant) as connection:
            result = connection.exec_driver_sql(sql, values)
            return list(result) if result.returns_rows else []

    def reservation(self, task: Task) -> Any:
        return self.rows(
            "select state, amount, settled_amount, shots, settled_shots from qcos.reservation where job = %(job)s",
            job=task.job,
        )

    def acts(self, task: Task) -> list[str]:
        """Return the acts recorded of a job, its decision and its evidence, in order."""
        names = [task.job, self.job(task).decision, self.job(task).bundle]
        rows = self.rows(
            "select act from qcos.ledger_record where object = any(%(names)s) order by time, act", names=names
        )
        return sorted(row.act for row in rows)

    def assert_completed_once(self, task: Task) -> None:
        """Laws 1 and 3: one bundle that verifies, one settlement, its charge, and the four records; nothing else."""
        job = self.job(task)
        assert (job.state, job.error) == ("completed", None)
        [reservation] = self.reservation(task)
        assert reservation.state == "settled"
        [charged] = self.rows(
            "select coalesce(sum(amount), 0) as amount, count(*) as n from qcos.charge where job = %(job)s",
            job=task.job,
        )
        assert charged.n > 0 and charged.amount == reservation.settled_amount == job.charge
        lines = [
            row.item for row in self.rows("select item from qcos.charge where job = %(job)s", job=task.job)
        ]
        assert len(lines) == len(set(lines))
        [bundle] = self.rows(
            "select id, document from qcos.evidence_bundle where job = %(job)s", job=task.job
        )
        assert bundle.id == job.bundle
        report = verify(self.opened(job, BUNDLE, bundle.document), self.trust, allow_pending=True)
        assert report.ok, report
        assert self.acts(task) == ["cost.charged", "evidence.sealed", "job.submitted", "policy.decided"]
        assert self.books() == []

    def assert_ended_once(self, task: Task, state: str) -> None:
        """The job ended without a result: its reservation is released once, nothing is charged, the end is recorded once."""
        assert self.job(task).state == state
        [reservation] = self.reservation(task)
        assert (reservation.state, reservation.settled_amount or 0) == ("released", 0)
        assert self.rows("select 1 from qcos.charge where job = %(job)s", job=task.job) == []
        assert self.rows("select 1 from qcos.evidence_bundle where job = %(job)s", job=task.job) == []
        assert self.acts(task) == sorted([f"job.{state}", "job.submitted", "policy.decided"])
        assert self.books() == []

    def opened(self, job: Job, name: str, stored: bytes) -> bytes:
        """Return a payload of a job as it was before it was kept."""
        return open_payload(
            self.admission.tenant_keys, self.tenant, job.id, job.payload_key, name, bytes(stored)
        )

    def books(self) -> Sequence[object]:
        with scope(self.engine, self.tenant) as connection:
            return check_books(connection, self.tenant)

    def nothing_reserved(self) -> bool:
        return (
            self.rows(
                "select 1 from qcos.budget_period where reserved <> 0 union all select 1 from qcos.quota_period where reserved <> 0"
            )
            == []
        )

    @property
    def trust(self) -> dict[str, Any]:
        return trust_document(FileKeyring(self.keys).open_or_create(), "qcos.test/ledger")


def until(true: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Wait until something holds; generous, for a loaded machine."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
