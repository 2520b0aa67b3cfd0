"""What of a job is kept encrypted (R10.7): its spec with the programs, its result, its evidence; under a key of its own.

The key stands, wrapped, in the job's row; erasing a payload (`qcos.jobs.erase`) begins with destroying it there. What governs a job stays
readable: who asked for what, where and when, sizes, prices, digests. See docs/reference/retention.md.

Rows of before encryption have no key and are plain until `conceal_old` has sealed them. Once a job has a key nothing plain is taken for
its payload: whoever can write to the database cannot slip in another.
"""

from __future__ import annotations

import dataclasses
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from qcos.base.errors import Integrity, NotFound
from qcos.db.engine import scope
from qcos.jobs import payloads
from qcos.jobs.model import Job
from qcos.secrecy.envelope import is_sealed
from qcos.secrecy.unlock import TenantKeys

SPEC: Final = "spec"
RESULT: Final = "result"
BUNDLE: Final = "bundle"


def material_name(name: str) -> str:
    """Return the name under which a material of the evidence is sealed."""
    return f"material/{name}"


def owner_of(job_id: str) -> str:
    """Return what a job's payloads are bound to: the id it was asked for under.

    A denied job that made way for another one (`qcos.jobs.store.replace_denied`) has ``~`` and its decision behind that.
    """
    return job_id.partition("~")[0]


def seal_payload(keys: TenantKeys, job: Job, name: str, payload: bytes) -> bytes:
    """Return a payload as it is kept; never inside a scope (`qcos.secrecy.unlock`).

    A job that was admitted before there was encryption has no key: what comes of it stays plain until it has ended and `conceal_old`
    seals all of it.

    Raises:
        Integrity: ``payload.key``.
        Unavailable: Database or wrapping key away.
    """
    if job.payload_key is None:
        return payload
    return keys.open(job.tenant, job.payload_key, owner_of(job.id)).seal(name, payload)


def reveal(keys: TenantKeys, job: Job) -> Job:
    """Return a job with its spec opened; raises as `open_payload`."""
    spec = open_payload(keys, job.tenant, job.id, job.payload_key, SPEC, job.spec)
    return dataclasses.replace(job, spec=spec)


def open_payload(
    keys: TenantKeys, tenant: UUID, job_id: str, payload_key: bytes | None, name: str, stored: bytes
) -> bytes:
    """Return a payload as it was before it was kept; never inside a scope (`qcos.secrecy.unlock`).

    Raises:
        Integrity: ``payload.key``, ``payload.sealed``.
        Unavailable: Database or wrapping key away.
    """
    if payload_key is not None:
        return keys.open(tenant, payload_key, owner_of(job_id)).open(name, stored)
    if not stored or is_sealed(stored):
        raise Integrity(
            "payload.key", f"the key of the payload {name} is gone", subject=job_id, expected="a wrapped key"
        )
    return stored


def gone(job_id: str, erased: dict[str, str]) -> NotFound:
    """Return the error for a payload that was erased."""
    return NotFound(
        "payload.erased",
        f"payload erased on {erased['at'][:10]} under {erased['rule']}",
        subject=job_id,
        hint="GET /v1/jobs/{id}/evidence proves that it was there, and that it was erased",
        details={"erased": erased},
    )


def conceal_old(engine: sa.Engine, keys: TenantKeys, tenant: UUID, limit: int) -> int:
    """Seal payloads of jobs that have ended and were kept before there was encryption; returns how many jobs."""
    with scope(engine, tenant) as connection:
        found = payloads.plain(connection, tenant, limit)
    if not found:
        return 0
    tenant_key = keys.newest(tenant)
    done = 0
    for job_id in found:
        with scope(engine, tenant) as connection:
            kept = payloads.lock_plain(connection, tenant, job_id)
            if kept is None:
                continue
            key, wrapped = tenant_key.new_payload_key(owner_of(job_id))
            named = {SPEC: kept.spec, RESULT: kept.result, BUNDLE: kept.bundle}
            sealed = {name: key.seal(name, data) for name, data in named.items() if data is not None}
            payloads.put_sealed(connection, tenant, job_id, wrapped, sealed)
            for name, data in payloads.materials(connection, tenant, job_id).items():
                payloads.put_material(connection, tenant, job_id, name, key.seal(material_name(name), data))
            done += 1
    return done
