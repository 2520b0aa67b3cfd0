"""Erasing by time: the key is destroyed with what it encrypted, the proofs stay, and nothing held or early goes (R4.3)."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from faults.world import World
from qcos.base.clock import now
from qcos.base.errors import Integrity
from qcos.base.limits import ERASURE_GRACE_DAYS, TENANT_KEY_DAYS
from qcos.db.engine import scope
from qcos.db.queue import Task
from qcos.evidence import store as evidence
from qcos.evidence.bundle import attach
from qcos.evidence.erased import erased_bundle
from qcos.evidence.verify import verify
from qcos.identity import store as identity
from qcos.jobs import store
from qcos.jobs.conceal import BUNDLE, RESULT, SPEC
from qcos.jobs.erase import KEEPER, erase_due
from qcos.jobs.renew import renew_keys
from qcos.keys.file import FileKeyring
from qcos.keys.wrap import MemoryWrapper
from qcos.ledger.prove import proofs_of
from qcos.ledger.sequence import Sequencer
from qcos.ledger.sign import LedgerSigners
from qcos.retention import store as retention
from qcos.retention.model import Hold
from qcos.secrecy.unlock import TenantKeys

Work = Callable[..., None]
ORIGIN = "qcos.test/ledger"
DAY = dt.timedelta(days=1)
DUE = dt.timedelta(days=10 + ERASURE_GRACE_DAYS, hours=1)


def watched(world: World, until: dt.datetime) -> None:
    """Let the installation have been running until an instant, so that its clock is believed."""
    with scope(world.engine, world.tenant) as connection:
        retention.set_known_time(connection, world.tenant, until)


def after(world: World, time: dt.timedelta) -> Any:
    """Erase what is due some time from now, on an installation that was running all the while."""
    return at(world, now() + time)


def at(world: World, instant: dt.datetime) -> Any:
    """As `after`, at an instant."""
    watched(world, instant - DAY)
    return erase_due(world.engine, at=instant)


@pytest.fixture
def ran(world: World, work: Work) -> Task:
    """A job that is to be kept for ten days."""
    task = world.submit(retention_days=10)
    work(task)
    return task


def payloads(world: World, task: Task) -> list[Any]:
    """Return what there is of a job's payloads: key, spec, result, document."""
    with scope(world.engine, world.tenant) as connection:
        job = store.get(connection, world.tenant, task.job)
        bundle = evidence.of_job(connection, world.tenant, task.job)
        result = store.get_results(connection, world.tenant, [task.job]).get(task.job)
    return [job.payload_key, job.spec or None, result, bundle.document if bundle else None]


def erased(world: World, task: Task) -> bool:
    """Tell whether everything is gone; everything or nothing is."""
    there = [part is not None for part in payloads(world, task)]
    assert len(set(there)) == 1, there
    return not there[0]


def erasings(world: World) -> list[Any]:
    return [
        row[0]
        for row in world.rows(
            "select convert_from(record, 'utf8')::json from qcos.ledger_record where act = 'payload.erased' order by seq"
        )
    ]


def hold(world: World, kind: str, subject: str) -> str:
    made = Hold(f"hold-{kind}-{subject}", kind, subject, "a dispute", "user:carol", now())
    with scope(world.engine, world.tenant) as connection:
        retention.lock(connection, world.tenant)
        retention.place(connection, world.tenant, made)
    return made.id


def test_after_its_time_a_payload_is_erased_and_its_proofs_stay(
    world: World, ran: Task, tmp_path: Path
) -> None:
    """R4.3: not before; then key, spec, result and document go, and what remains proves the sealing and the erasing."""
    before = world.job(ran)
    copy = world.opened(before, BUNDLE, payloads(world, ran)[3])
    [(until,)] = world.rows("select retain_until from qcos.evidence_bundle")
    due = until + ERASURE_GRACE_DAYS * DAY
    for early in (now(), until - DAY, until, due - dt.timedelta(minutes=1)):
        assert at(world, early).erased == 0
    assert not erased(world, ran)

    assert after(world, DUE).erased == 1
    assert erased(world, ran)
    job = world.job(ran)
    assert (job.state, job.facts, job.charge, job.bundle) == (
        before.state,
        before.facts,
        before.charge,
        before.bundle,
    )
    [record] = erasings(world)
    assert job.erased == {
        "at": record["time"],
        "rule": "retention 10 days",
        "by": KEEPER,
        "record": record["id"],
    }
    assert record["object"] == job.bundle and record["details"]["job"] == job.id
    assert record["details"]["rule"] == record["reason"] == "retention 10 days"
    assert world.books() == []

    keyring = FileKeyring(world.keys).open_or_create()
    signers = LedgerSigners(*keyring.ledger, name=ORIGIN)
    Sequencer(world.engine, tmp_path / "log", signers, ORIGIN).step()
    trust = {**world.trust, "ledger": [{"vkey": vkey} for vkey in signers.vkeys]}
    with scope(world.engine, world.tenant) as connection:
        bundle = evidence.of_job(connection, world.tenant, job.id)
        assert bundle is not None
        found = proofs_of(connection, world.tenant, [bundle.record_id, record["id"]])
    proofs = [found[one].as_dict() for one in (bundle.record_id, record["id"])]
    report = verify(erased_bundle(bundle.id, job.id, job.erased, *proofs), trust)
    assert report.erased, report.lines()
    assert "under retention 10 days" in report.lines()[-1]
    kept = verify(attach(copy, proofs[0]), trust)
    assert kept.ok, "a copy that was fetched before stays verifiable"
    assert kept.facts["statement"] == report.facts["statement"]


def test_what_was_erased_cannot_be_had_back_from_the_database(world: World, ran: Task) -> None:
    """With every key of the installation, and every row there was before but the payload key's."""
    job, stored = world.job(ran), payloads(world, ran)
    assert after(world, DUE).erased == 1
    gone = world.job(ran)
    assert gone.payload_key is None
    for name, data in zip((SPEC, RESULT, BUNDLE), stored[1:], strict=True):
        assert world.opened(job, name, data), "with its key, as it lay there, it would open"
        with pytest.raises(Integrity):
            world.opened(gone, name, data)
        with pytest.raises(Integrity):
            world.opened(gone, name, b"")


def test_jobs_without_evidence_are_erased_too(world: World, work: Work) -> None:
    """Denied and cancelled jobs have specs; they count from their admission."""
    denied = world.admit(retention_days=10, classification="secret", providers=["nobody"]).job
    cancelled = world.submit(retention_days=10)
    world.cancel(cancelled)
    waiting = world.submit(retention_days=10)
    assert after(world, DUE).erased == 2
    for task in (Task(world.tenant, denied.id), cancelled):
        assert world.job(task).erased is not None and world.job(task).spec == b""
    assert {record["object"] for record in erasings(world)} == {denied.id, cancelled.job}
    work(waiting)
    world.assert_completed_once(waiting)


def test_evidence_counts_from_its_sealing(world: World, ran: Task, database: Any) -> None:
    """A job that waited long is not erased for it."""
    engine = sa.create_engine(database.admin_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "update qcos.evidence_bundle set retain_until = retain_until + interval '5 days'"
        )
    assert after(world, DUE).erased == 0
    assert after(world, DUE + 5 * DAY).erased == 1


@pytest.mark.parametrize("kind", ["job", "project", "tenant"])
def test_what_is_held_stays_however_long(world: World, ran: Task, kind: str) -> None:
    """R4.3: and goes once it is held no more."""
    placed = hold(world, kind, {"job": ran.job, "project": "p1", "tenant": "*"}[kind])
    for years in (1, 50):
        assert after(world, years * 365 * DAY).erased == 0
    assert not erased(world, ran)
    with scope(world.engine, world.tenant) as connection:
        assert retention.release(connection, world.tenant, placed, "user:carol", now(), "settled")
        assert not retention.release(connection, world.tenant, placed, "user:carol", now(), "settled")
    assert after(world, DUE).erased == 1


def test_a_hold_on_another_job_holds_nothing_here(world: World, ran: Task) -> None:
    hold(world, "job", "another")
    hold(world, "project", "another")
    assert after(world, DUE).erased == 1


def test_held_jobs_do_not_stand_in_the_way_of_others(world: World, work: Work) -> None:
    """More of them than one scope erases, and longer due."""
    held = [world.submit(retention_days=10) for _ in range(3)]
    free = [world.submit(retention_days=11) for _ in range(3)]
    work(*held, *free)
    for task in held:
        hold(world, "job", task.job)
    watched(world, now() + DUE)
    assert erase_due(world.engine, at=now() + DUE + 2 * DAY, batch=2).erased == 3
    assert [erased(world, task) for task in (*held, *free)] == [False] * 3 + [True] * 3
    assert len(erasings(world)) == 3


def test_two_at_once_erase_each_payload_once(world: World, work: Work) -> None:
    tasks = [world.submit(retention_days=10) for _ in range(6)]
    work(*tasks)
    watched(world, now() + DUE)
    at, rounds = now() + DUE, []

    def erase() -> None:
        rounds.append(erase_due(world.engine, at=at, batch=1).erased)

    threads = [threading.Thread(target=erase) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(rounds) == len(erasings(world)) == len(tasks)


def test_a_clock_far_ahead_erases_nothing(world: World, ran: Task) -> None:
    """Ten years in one step: a person has to say that they passed."""
    watched(world, now())
    for ahead in (8 * DAY, 3650 * DAY):
        done = erase_due(world.engine, at=now() + ahead)
        assert (done.erased, done.stopped) == (0, (world.tenant,))
    assert not erased(world, ran)
    assert erase_due(world.engine, at=now() + 6 * DAY).stopped == (), "the true clock goes on"


def test_the_first_look_believes_the_ledger(world: World, ran: Task, tmp_path: Path) -> None:
    """An installation that was never looked at was last seen when its newest checkpoint was signed."""
    signers = LedgerSigners(*FileKeyring(world.keys).open_or_create().ledger, name=ORIGIN)
    Sequencer(world.engine, tmp_path / "log", signers, ORIGIN).step()
    assert erase_due(world.engine, at=now() + DUE).stopped == (world.tenant,)
    assert erase_due(world.engine, at=now()).stopped == ()


def test_a_clock_set_back_is_what_counts_from_then_on(world: World, ran: Task) -> None:
    watched(world, now() + 400 * DAY)
    assert erase_due(world.engine, at=now()).stopped == ()
    assert erase_due(world.engine, at=now() + 401 * DAY).stopped == (world.tenant,)


def test_tenants_keys_are_renewed_in_time(world: World, ran: Task) -> None:
    """Few enough wrappings under one key, for random nonces; the older ones go on opening."""
    keys = world.admission.tenant_keys
    assert renew_keys(world.engine, keys).keys == 0
    at = now() + dt.timedelta(days=TENANT_KEY_DAYS, hours=1)
    assert renew_keys(world.engine, keys, at=at).keys == 1
    other = world.submit()
    assert keys.newest(world.tenant).generation == 2
    assert world.opened(world.job(ran), SPEC, payloads(world, ran)[1])
    assert world.opened(world.job(other), SPEC, payloads(world, other)[1])


class NotForOne(MemoryWrapper):
    """A wrapping key that wraps nothing of one tenant."""

    def __init__(self, tenant: UUID) -> None:
        super().__init__(b"w" * 32)
        self._tenant = tenant

    def wrap(self, key: bytes, context: bytes) -> bytes:
        if self._tenant.bytes in context:
            raise Integrity("keys.unwrap", "the wrapped key was changed, or belongs to another purpose")
        return super().wrap(key, context)


def test_a_locked_tenant_keeps_no_other_from_being_renewed(world: World) -> None:
    with scope(world.engine, None) as connection:
        tenants = [identity.create_tenant(connection, name) for name in ("two", "three", "four")]
    for tenant in tenants:
        TenantKeys(world.engine, MemoryWrapper(b"w" * 32)).newest(tenant)
    with scope(world.engine, None) as connection:
        locked = next(tenant for tenant, _ in identity.tenants(connection) if tenant in tenants)
    keys = TenantKeys(world.engine, NotForOne(locked))
    at = now() + dt.timedelta(days=TENANT_KEY_DAYS, hours=1)
    done = renew_keys(world.engine, keys, at=at)
    assert (done.keys, done.locked) == (2, (locked,))
    assert [keys.newest(tenant).generation for tenant in tenants if tenant != locked] == [2, 2]
