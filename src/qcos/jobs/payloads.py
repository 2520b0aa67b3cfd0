"""Statements over the payloads of jobs, wherever they are kept: which are due, which are plain still, how they go.

The tables are those of `qcos.jobs.store` and of `qcos.evidence.store`; what losing them costs is said there.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from qcos.retention.model import Due

_ENDED = "j.state in ('denied', 'completed', 'failed', 'cancelled')"  # as in the index job_retained
_DUE_COLUMNS = """
    j.id, j.project, j.bundle, j.payload_key, coalesce(b.retain_until, j.retain_until),
    (j.context->>'retention_days')::int, b.statement_digest, b.record_id"""
_FROM = "qcos.job j left join qcos.evidence_bundle b on b.tenant = j.tenant and b.job = j.id"

_DUE = f"""
    select {_DUE_COLUMNS} from {_FROM}
     where j.tenant = %(tenant)s::uuid and j.payload_key is not null and {_ENDED}
       and j.retain_until <= %(before)s and coalesce(b.retain_until, j.retain_until) <= %(before)s
       and not exists (select from qcos.legal_hold h
            where h.tenant = j.tenant and h.released_at is null and (h.kind, h.subject) in
                  (('job', split_part(j.id, '~', 1)), ('project', j.project), ('tenant', '*')))
     order by j.retain_until, j.id limit %(limit)s"""  # noqa: S608 - names of our own columns
_ONE = f"""
    select {_DUE_COLUMNS}, j.state, j.erased from {_FROM} where j.tenant = %(tenant)s::uuid and j.id = %(job)s"""  # noqa: S608

_HELD = """
    select b.id, b.job from qcos.evidence_bundle b left join qcos.job j on j.tenant = b.tenant and j.id = b.job
     where b.tenant = %(tenant)s::uuid and b.document is not null
       and exists (select from qcos.legal_hold h
            where h.tenant = b.tenant and h.released_at is null and (h.kind, h.subject) in
                  (('job', split_part(b.job, '~', 1)), ('project', j.project), ('tenant', '*')))"""
_HELD_OF = _HELD + " and b.id = any(%(bundles)s)"
_HELD_AFTER = _HELD + " and b.id > %(after)s order by b.id limit %(limit)s"

# One statement: key, spec, result, materials and bundle go together or not at all.
_WIPE = f"""
    with gone as (
        update qcos.job j set spec = ''::bytea, payload_key = null, erased = e.erased
          from jsonb_to_recordset(%(erased)s::jsonb) as e(id text, erased jsonb)
         where j.tenant = %(tenant)s::uuid and j.id = any(%(jobs)s) and j.id = e.id and j.payload_key is not null and {_ENDED}
        returning j.id),
    results as (
        delete from qcos.job_result r where r.tenant = %(tenant)s::uuid and r.job = any(%(jobs)s) and r.job in (select id from gone)),
    materials as (
        delete from qcos.evidence_material m
         where m.tenant = %(tenant)s::uuid and m.job = any(%(jobs)s) and m.job in (select id from gone)),
    bundles as (
        update qcos.evidence_bundle b set document = null
         where b.tenant = %(tenant)s::uuid and b.job = any(%(jobs)s) and b.job in (select id from gone))
    select id from gone"""  # noqa: S608 - names of our own columns

_PLAIN = f"""
    select j.id from qcos.job j
     where j.tenant = %(tenant)s::uuid and j.payload_key is null and j.erased is null and {_ENDED} order by j.id limit %(limit)s"""  # noqa: S608
_LOCK_PLAIN = """
    select j.spec, r.payload, b.document
      from qcos.job j
      left join qcos.job_result r on r.tenant = j.tenant and r.job = j.id
      left join qcos.evidence_bundle b on b.tenant = j.tenant and b.job = j.id
     where j.tenant = %(tenant)s::uuid and j.id = %(job)s and j.payload_key is null and j.erased is null for update of j"""
_PUT_SEALED = """
    with job as (
        update qcos.job set spec = %(spec)s, payload_key = %(key)s where tenant = %(tenant)s::uuid and id = %(job)s),
    result as (
        update qcos.job_result set payload = %(result)s::bytea
         where tenant = %(tenant)s::uuid and job = %(job)s and %(result)s::bytea is not null)
    update qcos.evidence_bundle set document = %(bundle)s::bytea
     where tenant = %(tenant)s::uuid and job = %(job)s and %(bundle)s::bytea is not null"""

_MATERIALS = (
    "select name, payload from qcos.evidence_material where tenant = %(tenant)s::uuid and job = %(job)s"
)
_PUT_MATERIAL = """
    update qcos.evidence_material set payload = %(sealed)s where tenant = %(tenant)s::uuid and job = %(job)s and name = %(name)s"""


@dataclass(frozen=True, slots=True)
class Plain:
    """Payloads as they were kept before there was encryption."""

    spec: bytes
    result: bytes | None
    bundle: bytes | None


@dataclass(frozen=True, slots=True)
class Kept:
    """The payloads of one job: what erasing them would go by (None: there is nothing to erase), its state, and what was erased."""

    due: Due | None
    retain_until: dt.datetime
    retention_days: int
    state: str
    erased: dict[str, Any] | None


def due(connection: sa.Connection, tenant: UUID, before: dt.datetime, limit: int) -> list[Due]:
    """Return payloads of ended jobs that had to be kept until ``before`` at most and that no hold covers, longest due first."""
    values = {"tenant": str(tenant), "before": before, "limit": limit}
    return [Due(*row) for row in connection.exec_driver_sql(_DUE, values)]


def held(connection: sa.Connection, tenant: UUID, bundles: Sequence[str]) -> set[str]:
    """Return those of the bundles that a hold covers now; an erased one is none."""
    if not bundles:
        return set()
    values = {"tenant": str(tenant), "bundles": list(bundles)}
    return {row[0] for row in connection.exec_driver_sql(_HELD_OF, values)}


def held_after(connection: sa.Connection, tenant: UUID, after: str, limit: int) -> dict[str, str]:
    """Return bundles with greater ids than one that a hold covers now, with their jobs, in the order of their ids."""
    values = {"tenant": str(tenant), "after": after, "limit": limit}
    return {row[0]: row[1] for row in connection.exec_driver_sql(_HELD_AFTER, values)}


def kept(connection: sa.Connection, tenant: UUID, job_id: str) -> Kept | None:
    """Return how the payloads of a job stand; None when there is no such job."""
    row = connection.exec_driver_sql(_ONE, {"tenant": str(tenant), "job": job_id}).one_or_none()
    if row is None:
        return None
    found = Due(*row[:-2]) if row[3] is not None else None
    return Kept(found, row[4], row[5], row[-2], row[-1])


def wipe(
    connection: sa.Connection, tenant: UUID, erased: Mapping[str, Mapping[str, Any]]
) -> set[str]:  # Any: JSON
    """Destroy the payload keys of jobs, with everything they encrypted; returns the jobs whose keys were there."""
    values = {
        "tenant": str(tenant),
        "jobs": list(erased),
        "erased": json.dumps([{"id": job, "erased": dict(what)} for job, what in erased.items()]),
    }
    return {row[0] for row in connection.exec_driver_sql(_WIPE, values)}


def plain(connection: sa.Connection, tenant: UUID, limit: int) -> Sequence[str]:
    """Return ended jobs whose payloads are plain still."""
    rows = connection.exec_driver_sql(_PLAIN, {"tenant": str(tenant), "limit": limit})
    return [row[0] for row in rows]


def lock_plain(connection: sa.Connection, tenant: UUID, job_id: str) -> Plain | None:
    """Return the plain payloads of a job and keep others from it until the scope ends; None when they are sealed by now."""
    row = connection.exec_driver_sql(_LOCK_PLAIN, {"tenant": str(tenant), "job": job_id}).one_or_none()
    return Plain(*row) if row is not None else None


def materials(connection: sa.Connection, tenant: UUID, job_id: str) -> dict[str, bytes]:
    """Return the materials of a job's evidence as they are kept, by name."""
    rows = connection.exec_driver_sql(_MATERIALS, {"tenant": str(tenant), "job": job_id})
    return {row[0]: row[1] for row in rows}


def put_material(connection: sa.Connection, tenant: UUID, job_id: str, name: str, sealed: bytes) -> None:
    """Put a sealed material in the place of the plain one."""
    values = {"tenant": str(tenant), "job": job_id, "name": name, "sealed": sealed}
    connection.exec_driver_sql(_PUT_MATERIAL, values)


def put_sealed(
    connection: sa.Connection, tenant: UUID, job_id: str, payload_key: bytes, sealed: Mapping[str, bytes]
) -> None:
    """Put sealed payloads (``spec``, ``result``, ``bundle``) in the place of plain ones."""
    values: dict[str, str | bytes | None] = {"tenant": str(tenant), "job": job_id, "key": payload_key}
    values |= {name: sealed.get(name) for name in ("spec", "result", "bundle")}
    connection.exec_driver_sql(_PUT_SEALED, values)
