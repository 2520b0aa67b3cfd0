"""Tables of the WORM copies: what was handed to which store, what was found wrong with it, and how the last rounds went.

Losing them: copies are still there, and are found by their names; the next round hands everything in again,
which the store answers with what it holds. That a copy was swapped before is then seen only by its content
(the ledger's root, the bundle's signatures). Somebody who can write to them as the application could pretend
that copies exist, which an examination shows; could note a later date than a copy has, which one shows too; could not
change anything else, make a date earlier (a trigger) or remove a row (grants).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from qcos.db.engine import metadata
from qcos.worm.model import Finding, Kept, Protection, Rounds

copy_table = sa.Table(
    "worm_copy",
    metadata,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("protection", sa.Text, nullable=False),
    sa.Column("retain_until", sa.DateTime(timezone=True), nullable=False),
    sa.Column("kept_at", sa.DateTime(timezone=True), nullable=False),
)
finding_table = sa.Table(
    "worm_finding",
    metadata,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("code", sa.Text, primary_key=True),
    sa.Column("message", sa.Text, primary_key=True),
    sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
)
round_table = sa.Table(
    "worm_round",
    metadata,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("succeeded_at", sa.DateTime(timezone=True)),
    sa.Column("failing_since", sa.DateTime(timezone=True)),
    sa.Column("failed_at", sa.DateTime(timezone=True)),
    sa.Column("failure", sa.Text, nullable=False),
)
_SUCCEEDED = sa.text(
    "insert into qcos.worm_round (store, succeeded_at, failure) values (:store, :at, '') "
    "on conflict (store) do update set succeeded_at = excluded.succeeded_at, failing_since = null"
)
_FAILED = sa.text(
    "insert into qcos.worm_round as r (store, failing_since, failed_at, failure) values (:store, :at, :at, :failure) "
    "on conflict (store) do update set failing_since = coalesce(r.failing_since, excluded.failed_at), "
    "failed_at = excluded.failed_at, failure = excluded.failure"
)


def note_round(connection: sa.Connection, store: str, at: dt.datetime, failure: str | None) -> None:
    """Note how a round went; ``failure`` is None when it succeeded."""
    statement = _SUCCEEDED if failure is None else _FAILED.bindparams(failure=failure)
    connection.execute(statement, {"store": store, "at": at})


def rounds(connection: sa.Connection, store: str) -> Rounds:
    """Return how the rounds went."""
    table = round_table.c
    query = sa.select(table.succeeded_at, table.failing_since, table.failed_at, table.failure)
    row = connection.execute(query.where(table.store == store)).one_or_none()
    return Rounds(*row) if row is not None else Rounds()


def insert_copies(connection: sa.Connection, store: str, kept: Sequence[Kept], at: dt.datetime) -> None:
    """Note copies; those that are noted already stay as they are."""
    if kept:
        statement = sa.text(
            "insert into qcos.worm_copy (store, name, digest, size, version, protection, retain_until, kept_at) "
            "values (:store, :name, :digest, :size, :version, :protection, :retain_until, :at) on conflict do nothing"
        )
        rows = [
            {
                "store": store,
                "name": one.name,
                "digest": one.digest,
                "size": one.size,
                "version": one.version,
                "protection": one.protection,
                "retain_until": one.retain_until,
                "at": at,
            }
            for one in kept
        ]
        connection.execute(statement, rows)


def lengthen(connection: sa.Connection, store: str, kept: Sequence[Kept]) -> None:
    """Note until when copies are protected now; a date that is later already stays."""
    if kept:
        statement = sa.text(
            "update qcos.worm_copy set retain_until = :until "
            "where store = :store and name = :name and version = :version and retain_until < :until"
        )
        rows = [
            {"store": store, "name": one.name, "version": one.version, "until": one.retain_until}
            for one in kept
        ]
        connection.execute(statement, rows)


def find(connection: sa.Connection, store: str, names: Sequence[str]) -> dict[str, Kept]:
    """Return the copies of these names, by name; those that there are."""
    table = copy_table
    query = sa.select(table).where(
        table.c.store == store, table.c.name == sa.any_(sa.literal(list(names), sa.ARRAY(sa.Text)))
    )
    return {row.name: _kept(row) for row in connection.execute(query)}


def with_parts(connection: sa.Connection, store: str, names: Sequence[str]) -> list[Kept]:
    """Return the copies of these names, and those of what belongs to them: ``<name>.<what>/...``."""
    table = copy_table
    query = sa.text(
        """
        select c.* from unnest(cast(:names as text[])) n(name) cross join lateral (
            select * from qcos.worm_copy where store = :store and name = n.name
            union all
            select * from qcos.worm_copy where store = :store and name > n.name || '.' and name < n.name || '/') c
        """
    ).columns(*table.c)
    return [_kept(row) for row in connection.execute(query, {"store": store, "names": list(names)})]


def page(connection: sa.Connection, store: str, after: str, limit: int) -> list[Kept]:
    """Return copies by name, after one of them (empty: from the start)."""
    table = copy_table
    query = sa.select(table).where(table.c.store == store, table.c.name > after)
    return [_kept(row) for row in connection.execute(query.order_by(table.c.name).limit(limit))]


def last_name(connection: sa.Connection, store: str, folder: str) -> str | None:
    """Return the greatest name below ``folder`` (which ends with ``/``), or None."""
    name = copy_table.c.name
    below = (copy_table.c.store == store) & (name > folder) & (name < folder[:-1] + "0")  # '0' follows '/'
    found: str | None = connection.scalar(sa.select(sa.func.max(name)).where(below))
    return found


def missing(connection: sa.Connection, store: str, names: Sequence[str]) -> set[str]:
    """Return those of the names that were not kept yet."""
    table = copy_table
    here = sa.select(table.c.name).where(
        table.c.store == store, table.c.name == sa.any_(sa.literal(list(names), sa.ARRAY(sa.Text)))
    )
    return set(names) - set(connection.scalars(here))


def totals(connection: sa.Connection, store: str) -> dict[Protection, tuple[int, int]]:
    """Return copies and bytes by protection."""
    table = copy_table
    query = (
        sa.select(table.c.protection, sa.func.count(), sa.func.sum(table.c.size))
        .where(table.c.store == store)
        .group_by(table.c.protection)
    )
    return {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(query)}


def insert_findings(
    connection: sa.Connection, store: str, findings: Sequence[Finding], at: dt.datetime
) -> list[Finding]:
    """Note findings; returns those that were not known."""
    statement = sa.text(
        "insert into qcos.worm_finding (store, name, code, message, seen_at) "
        "values (:store, :name, :code, :message, :at) on conflict do nothing"
    )
    return [
        one
        for one in findings
        if connection.execute(
            statement,
            {"store": store, "name": one.name, "code": one.code, "message": one.message, "at": at},
        ).rowcount
    ]


def findings(connection: sa.Connection, store: str, limit: int) -> list[tuple[dt.datetime, Finding]]:
    """Return findings with the time they were first seen, newest first."""
    table = finding_table
    query = sa.select(table).where(table.c.store == store).order_by(table.c.seen_at.desc()).limit(limit)
    return [(row.seen_at, Finding(row.code, row.name, row.message)) for row in connection.execute(query)]


def _kept(row: sa.Row[tuple[object, ...]]) -> Kept:
    return Kept(row.name, bytes(row.digest), row.size, row.version, row.retain_until, row.protection)
