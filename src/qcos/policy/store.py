"""Tables of policy: decisions, bundles and activations. Rows are only added.

Losing them loses why each job was admitted or refused (the ledger still proves that it was, and the digests
of input and policies) and which policies hold: without an active bundle everything is refused. Somebody who
can write to them could activate other policies or add a decision that never was; the ledger has no entry of
it. A recorded input that was altered does not match its digest when the decision is replayed; a bundle whose
files were altered does not match its version and is refused when it is loaded.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.exc import IntegrityError

from qcos.base.errors import Conflict, Integrity, NotFound
from qcos.base.limits import PAGE_DEFAULT, PAGE_MAX
from qcos.db.engine import metadata
from qcos.policy import bundle as bundles
from qcos.policy.model import Decision, PolicyBundle, Reason

KEPT_BUNDLES = 256  # bundles kept in memory, at most MAX_POLICY_BYTES each and mostly 20 kB

policy_decision = sa.Table(
    "policy_decision",
    metadata,
    sa.Column("tenant", pg.UUID(as_uuid=True), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("entrypoint", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("allow", sa.Boolean, nullable=False),
    sa.Column("reasons", pg.JSONB, nullable=False),
    sa.Column("excluded", pg.JSONB, nullable=False),
    sa.Column("policies", pg.JSONB, nullable=False),
    sa.Column("bundle_version", sa.Text, nullable=False),
    sa.Column("input", pg.JSONB, nullable=False),
    sa.Column("input_digest", sa.Text, nullable=False),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("duration_us", sa.BigInteger, nullable=False),
)

policy_bundle = sa.Table(
    "policy_bundle",
    metadata,
    sa.Column("tenant", pg.UUID(as_uuid=True), primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("files", pg.JSONB, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("uploaded_by", sa.Text, nullable=False),
    sa.Column("uploaded_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("tests", pg.JSONB, nullable=False),
)

policy_activation = sa.Table(
    "policy_activation",
    metadata,
    sa.Column("tenant", pg.UUID(as_uuid=True), primary_key=True),
    sa.Column("n", sa.BigInteger, primary_key=True),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False),
)


_ACTIVE = """select n, version, actor, time from qcos.policy_activation where tenant = %(tenant)s order by n desc limit 1"""
_INSERT_DECISION = policy_decision.insert()


@dataclass(frozen=True, slots=True)
class Upload:
    """A bundle as it was uploaded, without its files.

    Attributes:
        tests: `TestReport.as_dict` of the moment of the upload.
    """

    version: str
    note: str
    uploaded_by: str
    uploaded_at: dt.datetime
    tests: Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class Activation:
    """The n-th time (from 1) that a tenant's policies were chosen; the one of the largest ``n`` holds."""

    n: int
    version: str
    actor: str
    time: dt.datetime


def insert_decisions(connection: sa.Connection, tenant: UUID, decisions: Sequence[Decision]) -> None:
    """Record decisions; one round trip for all."""
    if decisions:
        connection.execute(_INSERT_DECISION, [_row(tenant, decision) for decision in decisions])


def get_decision(connection: sa.Connection, tenant: UUID, decision: str) -> Decision:
    """Return a decision; raises NotFound ``decision.unknown``."""
    table = policy_decision
    query = sa.select(table).where(table.c.tenant == tenant, table.c.id == decision)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("decision.unknown", "there is no such decision", subject=decision)
    return _decision(row)


def decisions_of(connection: sa.Connection, tenant: UUID, subjects: Sequence[str]) -> dict[str, Decision]:
    """Return the latest decision about each of these jobs (or objects); those without one are left out."""
    table = policy_decision
    query = (
        sa.select(table)
        .ext(pg.distinct_on(table.c.subject))
        .where(
            table.c.tenant == tenant, table.c.subject == sa.any_(sa.cast(list(subjects), pg.ARRAY(sa.Text)))
        )
        .order_by(table.c.subject, table.c.time.desc(), table.c.id.desc())
    )
    return {row.subject: _decision(row) for row in connection.execute(query)}


def list_decisions(
    connection: sa.Connection,
    tenant: UUID,
    *,
    allow: bool | None = None,
    after: tuple[dt.datetime, str] | None = None,
    limit: int = PAGE_DEFAULT,
) -> list[Decision]:
    """Return decisions, latest first.

    Args:
        allow: Only those that allow, or only those that deny.
        after: Time and id of the last decision of the page before.
        limit: Rows; at most `PAGE_MAX`.
    """
    table = policy_decision
    query = sa.select(table).where(table.c.tenant == tenant)
    if allow is not None:
        query = query.where(table.c.allow == allow)
    if after is not None:
        query = query.where(sa.tuple_(table.c.time, table.c.id) < sa.tuple_(*after))
    query = query.order_by(table.c.time.desc(), table.c.id.desc()).limit(min(limit, PAGE_MAX))
    return [_decision(row) for row in connection.execute(query)]


def insert_bundle(
    connection: sa.Connection,
    tenant: UUID,
    bundle: PolicyBundle,
    *,
    note: str,
    uploaded_by: str,
    uploaded_at: dt.datetime,
    tests: Mapping[str, Any],  # Any: JSON
) -> bool:
    """Keep a bundle that `check.validate` accepted; False when this version is kept already."""
    row = {
        "tenant": tenant,
        "version": bundle.version,
        "files": dict(bundle.files),
        "note": note,
        "uploaded_by": uploaded_by,
        "uploaded_at": uploaded_at,
        "tests": dict(tests),
    }
    statement = (
        pg.insert(policy_bundle).values(row).on_conflict_do_nothing().returning(policy_bundle.c.version)
    )
    return connection.execute(statement).first() is not None


def get_bundle(connection: sa.Connection, tenant: UUID, version: str) -> PolicyBundle:
    """Return a bundle with its files.

    Raises:
        NotFound: ``policy.unknown``.
        Integrity: ``policy.altered`` when the files are not those of the version.
    """
    table = policy_bundle
    query = sa.select(table.c.files).where(table.c.tenant == tenant, table.c.version == version)
    files = connection.execute(query).scalar_one_or_none()
    if files is None:
        raise NotFound("policy.unknown", "there is no such policy bundle", subject=version)
    bundle = bundles.of(files)
    if bundle.version != version:
        raise Integrity(
            "policy.altered",
            "the files of a policy bundle were changed in the database",
            subject=version,
            got=bundle.version,
            hint="activate another bundle, and find out who writes to the database",
        )
    return bundle


def list_bundles(
    connection: sa.Connection,
    tenant: UUID,
    *,
    after: tuple[dt.datetime, str] | None = None,
    limit: int = PAGE_MAX,
) -> list[Upload]:
    """Return the uploaded bundles, latest first, after the one of this time and version."""
    table = policy_bundle.c
    columns = [column for column in policy_bundle.c if column.name not in ("tenant", "files")]
    query = sa.select(*columns).where(policy_bundle.c.tenant == tenant)
    if after is not None:
        query = query.where(sa.tuple_(table.uploaded_at, table.version) < sa.tuple_(*map(sa.literal, after)))
    query = query.order_by(table.uploaded_at.desc(), table.version.desc()).limit(limit)
    return [Upload(**row) for row in connection.execute(query).mappings()]


def activate(
    connection: sa.Connection,
    tenant: UUID,
    version: str,
    *,
    actor: str,
    at: dt.datetime,
    expected: int | None = None,
) -> Activation:
    """Let a bundle decide from the end of this scope on.

    Args:
        expected: Number of the activation that the caller saw (0 for none); None for whatever.

    Raises:
        NotFound: ``policy.unknown``.
        Conflict: ``policy.activated`` when somebody else activated one meanwhile.
    """
    now = active(connection, tenant)
    number = now.n if now else 0
    if expected is not None and expected != number:
        raise _meanwhile(version, expected, number)
    known = sa.select(
        sa.literal(tenant, pg.UUID(as_uuid=True)),
        sa.literal(number + 1, sa.BigInteger),
        policy_bundle.c.version,
        sa.literal(actor, sa.Text),
        sa.literal(at, sa.DateTime(timezone=True)),
    ).where(policy_bundle.c.tenant == tenant, policy_bundle.c.version == version)
    statement = (
        policy_activation.insert()
        .from_select(["tenant", "n", "version", "actor", "time"], known)
        .returning(policy_activation.c.n)
    )
    try:
        with connection.begin_nested():
            added = connection.execute(statement).first()
    except IntegrityError:
        raise _meanwhile(version, number, number + 1) from None
    if added is None:
        raise NotFound("policy.unknown", "there is no such policy bundle", subject=version)
    return Activation(number + 1, version, actor, at)


def active(connection: sa.Connection, tenant: UUID) -> Activation | None:
    """Return the activation that holds; None before the first. One statement, one index entry."""
    row = connection.exec_driver_sql(_ACTIVE, {"tenant": tenant}).one_or_none()
    return Activation(*row) if row is not None else None


def activations(connection: sa.Connection, tenant: UUID, *, limit: int = PAGE_DEFAULT) -> list[Activation]:
    """Return the activations, latest first."""
    table = policy_activation
    query = sa.select(table.c.n, table.c.version, table.c.actor, table.c.time).where(table.c.tenant == tenant)
    query = query.order_by(table.c.n.desc()).limit(min(limit, PAGE_MAX))
    return [Activation(**row) for row in connection.execute(query).mappings()]


class ActiveBundles:
    """The bundles that hold, kept in memory by version; for many threads.

    Which one holds is asked each time (one small statement), so that a new activation counts at once.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[UUID, str], PolicyBundle] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, connection: sa.Connection, tenant: UUID) -> PolicyBundle:
        """Return the bundle that holds for a tenant.

        Raises:
            NotFound: ``policy.none`` when none was ever activated: nothing is allowed.
            Integrity: ``policy.altered``.
        """
        activation = active(connection, tenant)
        if activation is None:
            raise NotFound(
                "policy.none",
                "no policy bundle is active, so nothing is allowed",
                hint="activate a policy bundle",
            )
        return self.of_version(connection, tenant, activation.version)

    def of_version(self, connection: sa.Connection, tenant: UUID, version: str) -> PolicyBundle:
        """Return a tenant's bundle by its version, from memory when it is there."""
        key = (tenant, version)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        bundle = get_bundle(connection, tenant, version)
        with self._lock:
            self._kept[key] = bundle
            while len(self._kept) > KEPT_BUNDLES:
                self._kept.popitem(last=False)
        return bundle


def _meanwhile(version: str, expected: int, got: int) -> Conflict:
    return Conflict(
        "policy.activated",
        "other policies were activated meanwhile",
        subject=version,
        expected=f"activation {expected}",
        got=f"activation {got}",
        hint="look at the active policies and try again",
    )


def _row(tenant: UUID, decision: Decision) -> dict[str, Any]:  # Any: column values
    row = {name: getattr(decision, name) for name in Decision.__slots__}
    row["tenant"] = tenant
    row["reasons"] = [asdict(reason) for reason in decision.reasons]
    row["excluded"] = [asdict(reason) for reason in decision.excluded]
    row["policies"] = list(decision.policies)
    return row


def _decision(row: sa.Row[Any]) -> Decision:  # Any: column values
    members = {name: getattr(row, name) for name in Decision.__slots__}
    members["reasons"] = tuple(Reason(**reason) for reason in row.reasons)
    members["excluded"] = tuple(Reason(**reason) for reason in row.excluded)
    members["policies"] = tuple(row.policies)
    return Decision(**members)
