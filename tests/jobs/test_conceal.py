"""Payloads are encrypted at rest (R10.7): no program or result is readable in the database, and rows that somebody moved do not open."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from faults.world import BELL, PROJECT, World, spec
from qcos.base.errors import Conflict, Integrity, Unavailable
from qcos.base.limits import MAX_ATTEMPTS
from qcos.db.engine import scope
from qcos.db.queue import Task
from qcos.evidence import store as evidence
from qcos.evidence.verify import verify
from qcos.jobs import store
from qcos.jobs.admit import Request, admit
from qcos.jobs.conceal import BUNDLE, RESULT, SPEC, conceal_old, open_payload, reveal
from qcos.jobs.model import Job
from qcos.jobs.submit import claim
from qcos.secrecy.unlock import TenantKeys

Work = Callable[..., None]
MARK = "a_name_nobody_else_uses"
SOURCE = (
    BELL.replace("qubit[2] q", f"qubit[2] {MARK}")
    .replace("q[", f"{MARK}[")
    .replace("measure q", f"measure {MARK}")
)


def every_value(admin_url: str) -> str:
    """Return every value of every row of every table, as text and, where bytes are text, as that too."""
    engine = sa.create_engine(admin_url, poolclass=sa.NullPool)
    found = []
    with engine.connect() as connection:
        tables = connection.exec_driver_sql(
            "select format('%%I.%%I', schemaname, tablename) from pg_tables where schemaname in ('qcos', 'queue', 'public')"
        ).scalars()
        for table in list(tables):
            for row in connection.exec_driver_sql(f"select * from {table}"):
                for value in row:
                    if isinstance(value, bytes | memoryview):
                        found.append(bytes(value).decode("latin-1"))
                    elif value is not None:
                        found.append(
                            json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
                        )
    return "\n".join(found)


def signs_of(source: str, result: bytes) -> dict[str, str]:
    """Return what would give a program or a result away."""
    encoded = [base64.b64encode(source.encode()[shift:]).decode()[8:60] for shift in range(3)]
    counts = json.loads(result)["circuits"][0]["counts"]
    return {
        "the name of its register": MARK,
        "a line of it": f"measure {MARK}",
        "a line of every program": "OPENQASM",
        **{f"its base64, shifted by {n}": text for n, text in enumerate(encoded)},
        "its counts": json.dumps(counts, separators=(",", ":")),
        "the head of its counts": '"counts":{"',
    }


def test_nothing_of_a_program_or_its_result_is_readable_in_the_database(
    world: World, work: Work, database: Any
) -> None:
    """R10.7: after a job, and after one that was denied; what the search finds in one plain row shows that it would find it."""
    body = spec(SOURCE, shots=100)
    task = Task(world.tenant, admit_one(world, body).id)
    work(task)
    world.assert_completed_once(task)
    denied = admit_one(world, spec(SOURCE, shots=100, classification="secret", providers=["nobody"]))
    assert denied.state == "denied"
    result = opened(world, task.job, RESULT)
    signs, dump = signs_of(SOURCE, result), every_value(database.admin_url)
    assert task.job in dump and PROJECT in dump, "governance stays readable"
    assert {what for what, sign in signs.items() if sign in dump} == set()

    with scope(world.engine, world.tenant) as connection:
        control = {"plain": result, "program": SOURCE.encode(), "spec": body}
        store.insert_results(connection, world.tenant, [(job, data, "") for job, data in control.items()])
    dump = every_value(database.admin_url)
    missed = {what for what, sign in signs.items() if sign not in dump}
    assert {what for what in missed if "base64" not in what} == set(), "the search has teeth"
    assert len(missed) == 2, "of the three ways to shift base64 a spec shows one"


def admit_one(world: World, body: bytes) -> Job:
    world.admit()  # touches the backends
    return admit(world.admission, Request(world.tenant, world.token_hash, body)).job


def stored(world: World, job_id: str) -> dict[str, bytes]:
    """Return a job's payloads as they lie in the database."""
    with scope(world.engine, world.tenant) as connection:
        bundle = evidence.of_job(connection, world.tenant, job_id)
        assert bundle is not None and bundle.document is not None
        return {
            SPEC: store.get(connection, world.tenant, job_id).spec,
            RESULT: store.get_results(connection, world.tenant, [job_id])[job_id],
            BUNDLE: bundle.document,
        }


def opened(world: World, job_id: str, name: str) -> bytes:
    return world.opened(world.job(Task(world.tenant, job_id)), name, stored(world, job_id)[name])


@pytest.fixture
def two(world: World, work: Work) -> tuple[Job, Job]:
    """Two jobs that ran."""
    tasks = [world.submit(), world.submit()]
    work(*tasks)
    return world.job(tasks[0]), world.job(tasks[1])


def test_what_comes_out_is_what_went_in(world: World, two: tuple[Job, Job]) -> None:
    one = two[0]
    assert reveal(world.admission.tenant_keys, one).spec_digest == one.spec_digest
    assert json.loads(opened(world, one.id, SPEC))["execution"]["shots"] == 100
    assert one.outcome is not None
    assert json.loads(opened(world, one.id, RESULT))["job_id"] == one.id
    assert verify(opened(world, one.id, BUNDLE), world.trust, allow_pending=True).ok


def test_payloads_swapped_between_jobs_or_columns_do_not_open(world: World, two: tuple[Job, Job]) -> None:
    one, other = two
    mine, theirs = stored(world, one.id), stored(world, other.id)
    for name in mine:
        with pytest.raises(Integrity):
            world.opened(one, name, theirs[name])
        for elsewhere in mine.keys() - {name}:
            with pytest.raises(Integrity):
                world.opened(one, name, mine[elsewhere])
    moved = dataclasses.replace(one, payload_key=other.payload_key, spec=other.spec)
    with pytest.raises(Integrity) as refused:  # the whole of the other row, under this id
        reveal(world.admission.tenant_keys, moved)
    assert refused.value.code == "payload.key"


def test_another_tenants_rows_do_not_open(world: World, two: tuple[Job, Job], engine: sa.Engine) -> None:
    """R10.1: even with the whole row, and the tenant's wrapped key, in the other's place."""
    with scope(engine, None) as connection:
        other = connection.exec_driver_sql(
            "insert into qcos.tenant values (gen_random_uuid(), 'other', now()) returning id"
        ).scalar_one()
    keys, one = world.admission.tenant_keys, two[0]
    keys.newest(other)
    with pytest.raises(Integrity):
        open_payload(keys, other, one.id, one.payload_key, SPEC, one.spec)


def test_nothing_plain_is_taken_for_a_payload_that_has_a_key(world: World, two: tuple[Job, Job]) -> None:
    """Somebody who can write to the database cannot slip another program in without a key."""
    with pytest.raises(Integrity):
        world.opened(two[0], SPEC, b'{"circuit":{}}')


def test_a_job_whose_key_was_changed_fails_alone(world: World, work: Work) -> None:
    """The others of its batch go on; it is not taken up for ever."""
    good, bad = world.submit(), world.submit()
    world.rows(
        "update qcos.job set payload_key = set_byte(payload_key, 40, get_byte(payload_key, 40) # 1) where id = %(id)s",
        id=bad.job,
    )
    work(good, bad)
    world.assert_completed_once(good)
    world.assert_ended_once(bad, "failed")
    error = world.job(bad).error
    assert error is not None and error["code"] == "payload.key"


def test_the_application_takes_payloads_away_or_seals_them_and_never_replaces_one(
    world: World, two: tuple[Job, Job]
) -> None:
    for change in (
        "update qcos.job_result set payload = '\\x01ff'",
        "update qcos.job_result set payload = convert_to('{}', 'utf8')",
        "update qcos.evidence_bundle set document = '\\x01ff'",
    ):
        with pytest.raises(sa.exc.ProgrammingError, match="never replaced"):
            world.rows(change)
    world.rows("update qcos.evidence_bundle set document = null")
    with pytest.raises(sa.exc.ProgrammingError, match="never replaced"):
        world.rows("update qcos.evidence_bundle set document = '\\x01ff'")


def test_a_denied_job_that_made_way_for_another_still_opens(world: World) -> None:
    """Its row moves to another id; its payload does not notice."""
    body = spec(job_id="job-1", classification="secret", providers=["nobody"])
    denied = admit_one(world, body)
    assert denied.state == "denied"
    again = admit_one(world, spec(job_id="job-1"))
    assert again.id == "job-1" and again.state == "queued"
    moved = world.job(Task(world.tenant, f"job-1~{denied.decision}"))
    keys = world.admission.tenant_keys
    assert json.loads(reveal(keys, moved).spec) == json.loads(body)
    assert json.loads(reveal(keys, world.job(Task(world.tenant, "job-1"))).spec) == json.loads(
        spec(job_id="job-1")
    )


def make_plain(world: World, admin_url: str, job_id: str) -> dict[str, bytes]:
    """Make a job look as one of a release before encryption."""
    plain = {name: opened(world, job_id, name) for name in (SPEC, RESULT, BUNDLE)}
    engine = sa.create_engine(admin_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")  # no triggers
        of_job = {"tenant": world.tenant, "job": job_id}
        for table, column, key, name in (
            ("job", "spec", "id", SPEC),
            ("job_result", "payload", "job", RESULT),
            ("evidence_bundle", "document", "job", BUNDLE),
        ):
            connection.exec_driver_sql(
                f"update qcos.{table} set {column} = %(data)s where tenant = %(tenant)s and {key} = %(job)s",
                of_job | {"data": plain[name]},
            )
        connection.exec_driver_sql(
            "update qcos.job set payload_key = null where tenant = %(tenant)s and id = %(job)s", of_job
        )
    return plain


def test_what_was_kept_before_encryption_is_read_and_then_sealed(
    world: World, two: tuple[Job, Job], database: Any
) -> None:
    """An upgraded installation: rows are plain, are read as they are, and are sealed by the duties process."""
    one, _ = two
    plain = make_plain(world, database.admin_url, one.id)
    for name, data in plain.items():
        assert opened(world, one.id, name) == data == stored(world, one.id)[name]
    keys = world.admission.tenant_keys
    assert conceal_old(world.engine, keys, world.tenant, 100) == 1
    assert conceal_old(world.engine, keys, world.tenant, 100) == 0
    for name, data in plain.items():
        assert opened(world, one.id, name) == data != stored(world, one.id)[name]
    world.assert_completed_once(Task(world.tenant, one.id))


def test_a_job_admitted_before_encryption_is_finished_and_sealed_then(
    world: World, work: Work, database: Any
) -> None:
    task = world.submit()
    body = reveal(world.admission.tenant_keys, world.job(task)).spec
    world.rows("update qcos.job set spec = %(spec)s, payload_key = null", spec=body)
    assert conceal_old(world.engine, world.admission.tenant_keys, world.tenant, 100) == 0, (
        "a worker may have it"
    )
    work(task)
    world.assert_completed_once(task)
    assert conceal_old(world.engine, world.admission.tenant_keys, world.tenant, 100) == 1
    world.assert_completed_once(task)


class Away:
    """A key store that is away."""

    key_id = "away"

    def wrap(self, key: bytes, context: bytes) -> bytes:
        raise Unavailable("keys.away", "the key store is away")

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        raise Unavailable("keys.away", "the key store is away")


def test_jobs_wait_for_the_wrapping_key_however_long(world: World, work: Work) -> None:
    """R12.2: no worker was lost, so no attempt is counted, and none is failed for it when the key store is back."""
    task, locked = world.submit(), TenantKeys(world.engine, Away())
    for _ in range(MAX_ATTEMPTS + 1):
        with pytest.raises(Unavailable):
            claim(world.engine, locked, "test", [(task, True)])
    assert (world.job(task).state, world.job(task).attempt) == ("queued", 0)
    work(task)
    world.assert_completed_once(task)


def test_the_same_key_is_answered_with_the_same_job(world: World) -> None:
    """Idempotency rests on digests, which stay readable."""
    assert world.admit("k").job.id == world.admit("k").job.id
    with pytest.raises(Conflict):
        world.admit("k", shots=7)


def test_tenants_have_keys_of_their_own(world: World, engine: sa.Engine) -> None:
    world.admit()
    with scope(engine, UUID(int=9)) as connection:
        assert connection.exec_driver_sql("select count(*) from qcos.tenant_key").scalar() == 0
    assert world.rows("select generation from qcos.tenant_key") == [(1,)]
