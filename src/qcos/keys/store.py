"""The registry of signing keys: the public side of every key of every generation, and when each counts; and the trust documents
that told so.

It belongs to the installation, not to a tenant. Losing it stops all signing until it is restored (private keys in files stay, but
nobody says which are in force); what verifiers pinned, and so old evidence, is not touched. Somebody who can write to it as the
application could put a key of his own in it, or name the time from which a good key does not count: no trust document would be
signed for that, so verifiers would not hear of it, and the ledger would have no record of it. He could not remove a key, nor change
what a key is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sqlalchemy.dialects import postgresql as pg

from qcos.base.errors import Conflict
from qcos.db.engine import metadata
from qcos.keys.certify import to_pem
from qcos.keys.model import NEEDED, OPTIONAL, KeyEntry

KEY = sa.Table(
    "signing_key",
    metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("algorithm", sa.Text, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("spki", sa.LargeBinary, nullable=False),
    sa.Column("store", sa.Text, nullable=False),
    sa.Column("locator", sa.Text, nullable=False),
    sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
    sa.Column("not_after", sa.DateTime(timezone=True)),
    sa.Column("revoked_at", sa.DateTime(timezone=True)),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("chain", sa.Text, nullable=False),
    sa.Column("former", pg.JSONB, nullable=False),
    sa.Column("announced_at", sa.DateTime(timezone=True)),
    sa.UniqueConstraint("role", "algorithm", "generation"),
    sa.Index(
        "signing_key_in_force",
        "role",
        "algorithm",
        unique=True,
        postgresql_where=sa.text("not_after is null and revoked_at is null"),
    ),
)
STATE = sa.Table(
    "signing_key_state",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("version", sa.BigInteger, nullable=False),
)
DOCUMENT = sa.Table(
    "trust_document",
    metadata,
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("step", pg.JSONB, nullable=False),
)

_ORDER = {
    (role, algorithm): number
    for number, (role, algorithm) in enumerate(
        (role, algorithm) for role in NEEDED for algorithm in (*NEEDED[role], *OPTIONAL.get(role, ()))
    )
}


@dataclass(frozen=True, slots=True)
class Registry:
    """All keys, in the order of `qcos.keys.model.NEEDED` and the oldest first; and the version that tells a change."""

    version: int
    entries: tuple[KeyEntry, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """A trust document that was published.

    Attributes:
        version: Its number in the succession, from 1.
        at: When it was made, UTC.
        digest: ``sha256:<hex>`` of its canonical JSON.
        step: The signed step to it (`qcos.evidence.succession`), JSON.
    """

    version: int
    at: dt.datetime
    digest: str
    step: dict[str, Any]  # Any: JSON


def version(connection: sa.Connection) -> int:
    """Return the version; it grows with each change."""
    return int(connection.execute(sa.select(STATE.c.version)).scalar_one())


def load(connection: sa.Connection) -> Registry:
    """Return the registry. The version is read first: a change between the two is noticed the next time."""
    seen = version(connection)
    return Registry(seen, ordered([_entry(row) for row in connection.execute(sa.select(KEY))]))


def ordered(entries: Sequence[KeyEntry]) -> tuple[KeyEntry, ...]:
    """Return entries in the order of the registry."""
    return tuple(sorted(entries, key=lambda entry: (_ORDER[entry.role, entry.algorithm], entry.generation)))


def lock(connection: sa.Connection) -> Registry:
    """Return the registry, and let nobody else change it until the scope ends."""
    connection.execute(sa.select(STATE.c.version).with_for_update())
    return load(connection)


def add(connection: sa.Connection, entries: Sequence[KeyEntry]) -> None:
    """Register keys. Call `replace` before for those they take the place of.

    Raises:
        Conflict: ``keys.changed_meanwhile`` when a role would have two keys in force.
    """
    try:
        connection.execute(KEY.insert(), [_row(entry) for entry in entries])
    except sa.exc.IntegrityError as error:
        raise _meanwhile(entries[0].slot) from error
    _changed(connection)


def replace(connection: sa.Connection, key_ids: Sequence[str], not_after: dt.datetime) -> None:
    """Take keys out of force: what they sign counts until then.

    Raises:
        Conflict: ``keys.changed_meanwhile`` when one of them is not in force.
    """
    done = connection.execute(
        KEY.update()
        .where(KEY.c.key_id.in_(key_ids), KEY.c.not_after.is_(None), KEY.c.revoked_at.is_(None))
        .values(not_after=not_after)
    )
    if done.rowcount != len(set(key_ids)):
        raise _meanwhile(", ".join(key_ids))
    _changed(connection)


def revoke(connection: sa.Connection, key_id: str, at: dt.datetime, reason: str) -> bool:
    """Let a key's signatures not count from an instant on; False when it was revoked from then or earlier already."""
    done = connection.execute(
        KEY.update()
        .where(KEY.c.key_id == key_id, sa.or_(KEY.c.revoked_at.is_(None), KEY.c.revoked_at > at))
        .values(revoked_at=at, reason=reason)
    )
    if done.rowcount:
        _changed(connection)
    return bool(done.rowcount)


def certify(connection: sa.Connection, entry: KeyEntry, chain: Sequence[bytes]) -> None:
    """Give a key another chain of certificates; the one it had is kept, for something may name it.

    Args:
        connection: A scope in which `lock` was called.
        entry: The key, as registered.
        chain: DER certificates, its own first.
    """
    former = [*entry.former, entry.chain] if entry.chain else [*entry.former]
    connection.execute(
        KEY.update()
        .where(KEY.c.key_id == entry.key_id)
        .values(chain=_pem(chain), former=[_pem(one) for one in former])
    )
    _changed(connection)


def announce(connection: sa.Connection, key_ids: Sequence[str], at: dt.datetime) -> list[str]:
    """Mark keys as announced; returns those that nobody had announced."""
    rows = connection.execute(
        KEY.update()
        .where(KEY.c.key_id.in_(key_ids), KEY.c.announced_at.is_(None))
        .values(announced_at=at)
        .returning(KEY.c.key_id)
    )
    return sorted(row.key_id for row in rows)


def publish(connection: sa.Connection, document: Published) -> None:
    """Keep the next trust document; in a scope in which `lock` was called, so that nobody else does."""
    connection.execute(
        DOCUMENT.insert(),
        {name: getattr(document, name) for name in ("version", "at", "digest", "step")},
    )


def newest_document(connection: sa.Connection) -> Published | None:
    """Return the newest trust document; None before the first."""
    row = connection.execute(sa.select(DOCUMENT).order_by(DOCUMENT.c.version.desc()).limit(1)).one_or_none()
    return Published(**row._mapping) if row is not None else None


def documents(connection: sa.Connection, after: int, limit: int) -> list[Published]:
    """Return trust documents after a version, in their order."""
    rows = connection.execute(
        sa.select(DOCUMENT).where(DOCUMENT.c.version > after).order_by(DOCUMENT.c.version).limit(limit)
    )
    return [Published(**row._mapping) for row in rows]


def _changed(connection: sa.Connection) -> None:
    connection.execute(STATE.update().values(version=STATE.c.version + 1))


def _entry(row: sa.Row[tuple[object, ...]]) -> KeyEntry:
    members = dict(row._mapping)
    former = tuple(_der(one) for one in members.pop("former"))
    return KeyEntry(**members | {"chain": _der(members["chain"])}, former=former)


def _row(entry: KeyEntry) -> dict[str, object]:
    members = {column.name: getattr(entry, column.name) for column in KEY.columns}
    return members | {"chain": _pem(entry.chain), "former": [_pem(one) for one in entry.former]}


def _pem(chain: Sequence[bytes]) -> str:
    return "".join(to_pem(der) for der in chain)


def _der(pem: str) -> tuple[bytes, ...]:
    chain = x509.load_pem_x509_certificates(pem.encode()) if pem else []
    return tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in chain)


def _meanwhile(subject: str) -> Conflict:
    return Conflict(
        "keys.changed_meanwhile",
        "the keys were changed by somebody else in between",
        subject=subject,
        hint="look at `qcos key list`, and decide again",
    )
