"""A bundle out of its WORM copies, as the API gives it: opened, with its later time stamps and its ledger proof (R5.6, R4.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from qcos.base.errors import Integrity, Invalid, NotFound
from qcos.db.engine import scope
from qcos.evidence import store as evidence
from qcos.evidence.bundle import attach, decision_record_of
from qcos.jobs import store as jobs
from qcos.jobs.conceal import BUNDLE, gone, open_payload
from qcos.ledger import prove
from qcos.secrecy.unlock import TenantKeys
from qcos.timestamp.archive import read_stamp
from qcos.worm import store as noted
from qcos.worm.model import WormStore
from qcos.worm.restore import restore_bundle

_NAME: Final = re.compile(r"evidence/([0-9a-f-]{36})/([A-Za-z0-9_-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Restored:
    """A bundle, and how many later time stamps it has. Any: JSON."""

    bundle: dict[str, Any]
    renewals: int


def restored_bundle(engine: sa.Engine, keys: TenantKeys, store: WormStore, name: str) -> Restored:
    """Return a bundle from the store: nothing of it but its key and its ledger proofs comes from the database.

    Args:
        engine: As the application's role.
        keys: Open it.
        store: Where the copies are.
        name: ``evidence/<tenant>/<bundle>``, as the store lists it.

    Raises:
        Invalid: ``worm.name``.
        NotFound: ``worm.missing``, also when a time stamp that was copied is gone: without it the later ones are worth
            nothing; ``evidence.unknown``, or ``payload.erased``: the copy cannot be read any more.
        Integrity: ``payload.sealed``, ``timestamp.record``: the copy was altered.
        Unavailable: The store, the database or the wrapping key is away.
    """
    tenant, bundle_id = _parts(name)
    with scope(engine, tenant) as connection:
        stored = evidence.get(connection, tenant, bundle_id)
        job = jobs.look(connection, tenant, stored.job)
        kept = noted.with_parts(connection, store.address, [name])
    if job.erased is not None:
        raise gone(job.id, job.erased)
    copy = restore_bundle(store, name)
    later = f"{name}.renewals/{len(copy.renewals) + 1}"
    if sum(one.name.startswith(f"{name}.renewals/") for one in kept) > len(copy.renewals):
        raise NotFound("worm.missing", "there is no such copy", subject=store.address + later)
    document = open_payload(keys, tenant, job.id, job.payload_key, BUNDLE, copy.document)
    stamps = []
    for number, data in enumerate(copy.renewals, 1):
        try:
            stamps.append(read_stamp(data))
        except Integrity as error:
            error.subject = f"{name}.renewals/{number}"
            raise
    records = [stored.record_id, *filter(None, [decision_record_of(document)])]
    with scope(engine, tenant) as connection:
        proofs = prove.proofs_of(connection, tenant, records)
    found = [proofs[record].as_dict() if record in proofs else None for record in records]
    bundle = attach(document, found[0], found[1] if len(found) > 1 else None, stamps)
    return Restored(bundle, len(stamps))


def _parts(name: str) -> tuple[UUID, str]:
    match = _NAME.fullmatch(name)
    try:
        if match is not None:
            return UUID(match[1]), match[2]
    except ValueError:
        pass
    raise Invalid(
        "worm.name",
        "not the name of a bundle's copy",
        subject=name[:120],
        expected="evidence/<tenant>/<bundle>",
    )
