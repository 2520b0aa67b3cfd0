"""Renewing the time stamps of evidence before their authority's certificate expires (RFC 4998, R4.3).

One hash tree over the newest time stamps of many bundles, one token over its root. A time stamp that does not
count any more cannot be renewed: nobody can tell then what it was worth. That of an authority whose key was revoked
is one, and a renewal would take from its bundle what the ledger's order still proves. When a hash gets weak, the tree is over
the evidence itself and all its time stamps, hashed anew (hash-tree renewal); a tenant that has begun with a stronger hash goes on with it.
Reading and stamping come first and touch nothing; then one scope writes the token, each bundle's way, and the ledger's record.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from qcos.base.canonical import digest, loads_strict
from qcos.base.clock import now, rfc3339
from qcos.base.errors import Conflict, QcosError
from qcos.base.ids import new_id
from qcos.base.limits import RENEWAL_BUNDLES, RENEWAL_READ
from qcos.db.engine import scope
from qcos.evidence import store as evidence
from qcos.evidence.bundle import record_of
from qcos.evidence.envelope import from_base64
from qcos.evidence.store import Archived, Renewal, insert_renewal
from qcos.identity import store as identity
from qcos.jobs.conceal import BUNDLE, open_payload
from qcos.keys import store as keys
from qcos.keys.model import KeyEntry
from qcos.ledger.append import append
from qcos.ledger.record import Record, change
from qcos.secrecy.unlock import TenantKeys
from qcos.timestamp.archive import RENEWAL_HASHES, ArchiveStamp, hash_to_rehash, hash_to_renew, spelled
from qcos.timestamp.chain import verify_record
from qcos.timestamp.fallback import Authority
from qcos.timestamp.pinned import read_pins
from qcos.timestamp.tree import grow, pack, unpack
from qcos.timestamp.verify import TimeInfo, signer_of, verify_root

RENEWER: Final = "service:qcos-renewal"
EVERYTHING: Final = dt.datetime.max.replace(tzinfo=dt.UTC)
_NEVER: Final = dt.datetime.min.replace(tzinfo=dt.UTC)
_log = logging.getLogger("qcos.renewal")
_DUE: Final = sa.text(
    """
    select b.id, b.job, j.payload_key, a.position, r.token, r.expires, r.made_at, coalesce(r.hash, 'sha512') as hash,
           case when r.token is null or r.hash <> :hash then b.document end as document
      from qcos.evidence_bundle b join qcos.job j on j.tenant = b.tenant and j.id = b.job
      left join lateral (select x.position, x.renewal from qcos.evidence_archive x where x.tenant = b.tenant and x.bundle = b.id
                          order by x.position desc limit 1) a on true
      left join qcos.evidence_renewal r on r.tenant = b.tenant and r.id = a.renewal
     where b.tenant = :tenant and b.id > :after and b.document is not null
       and (r.expires is null or r.expires <= :before or (:anew and r.hash <> :hash))
     order by b.id limit :number
    """
)


@dataclass(slots=True)
class Plan:
    """What a renewal will cover.

    Attributes:
        hash_name: The hash of the tree and of its leaves.
        leaves: What is covered of each bundle: the hash of its newest token; where that rests on another hash, of the
            evidence and all its time stamps.
        bundles: Their ids and the positions of the new time stamps.
        late: Bundles whose time stamp counts no more.
        broken: Bundles whose time stamp does not verify.
        after: The last bundle that was looked at.
        complete: Whether there are no more.
        latest: When the last of them ceases to count, UTC.
        newest: When the last of them was made, UTC.
        rehashed: How many of them begin a new chain.
    """

    hash_name: str = RENEWAL_HASHES[0]
    leaves: list[bytes] = field(default_factory=list)
    bundles: list[tuple[str, int]] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    after: str = ""
    complete: bool = False
    latest: dt.datetime = _NEVER
    newest: dt.datetime = _NEVER
    rehashed: int = 0


@dataclass(frozen=True, slots=True)
class _Search:
    """What a plan looks for.

    Attributes:
        before: Time stamps that cease to count until then, UTC.
        anew: All that rest on another hash, too.
        at: What time it is, UTC.
        revoked: Certificates of revoked authorities, DER.
        known: Tokens that were verified, with their roots.
    """

    before: dt.datetime
    anew: bool
    at: dt.datetime
    revoked: AbstractSet[bytes]
    known: dict[tuple[bytes, bytes], TimeInfo] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stamped:
    """A plan with its token."""

    plan: Plan
    renewal: Renewal
    archived: tuple[Archived, ...]
    root: bytes
    authority: str


@dataclass(frozen=True, slots=True)
class Restamper:
    """Renews.

    Attributes:
        keys: Open the bundles.
        authority: Who stamps now.
        trusted: Pinned certificates of all authorities there were, and of their issuers, PEM or DER.
    """

    engine: sa.Engine
    keys: TenantKeys
    authority: Authority
    trusted: tuple[str | bytes, ...]

    def plan(
        self,
        tenant: UUID,
        before: dt.datetime,
        *,
        after: str = "",
        at: dt.datetime | None = None,
        hash_name: str | None = None,
    ) -> Plan:
        """Find the bundles whose time stamps cease to count until an instant, or rest on a hash that is to be left.

        Args:
            tenant: Whose.
            before: Those whose authority's certificate expires until then (`EVERYTHING`: all).
            after: Only bundles with greater ids.
            at: What time it is; now by default.
            hash_name: One of `RENEWAL_HASHES`: also those that rest on an older one, whenever they expire.
        """
        with scope(self.engine, tenant) as connection:
            used = evidence.hashes_used(connection, tenant)
        newest_hash = max(
            {RENEWAL_HASHES[0], hash_name or RENEWAL_HASHES[0], *used}, key=RENEWAL_HASHES.index
        )
        search = _Search(
            before, hash_name is not None, at or now(), self._own(lambda entry: entry.revoked_at is not None)
        )
        made = Plan(newest_hash, after=after)
        while not made.complete and len(made.leaves) < RENEWAL_BUNDLES:
            values = {"tenant": tenant, "after": made.after, "before": before, "number": RENEWAL_READ}
            values |= {"hash": newest_hash, "anew": search.anew}
            with scope(self.engine, tenant) as connection:
                rows = connection.execute(_DUE, values).all()
                moving = [row.id for row in rows if row.token is not None and row.document is not None]
                former = evidence.renewals_of_all(connection, tenant, moving)
            for row in rows:
                self._look(tenant, row, former.get(row.id, []), search, made)
            made.complete = len(rows) < RENEWAL_READ
        return made

    def _look(
        self,
        tenant: UUID,
        row: sa.Row[Any],  # Any: see _DUE
        former: Sequence[tuple[bytes, bytes]],
        search: _Search,
        made: Plan,
    ) -> None:
        made.after = row.id
        try:
            if row.document is None:
                leaf = hashlib.new(row.hash, row.token).digest()
                expires, named, signer = row.expires, row.made_at, signer_of(row.token, self.trusted)
            else:
                leaf, info = self._read(tenant, row, former, made.hash_name, search.known)
                expires, named, signer = info.expires, info.time, info.certificate
        except QcosError as error:
            _log.error("a time stamp does not verify: %s", error, extra={"bundle": row.id})
            made.broken.append(row.id)
            return
        moves = row.hash != made.hash_name
        if expires > search.before and not (search.anew and moves):
            return
        if expires <= search.at or signer in search.revoked:
            made.late.append(row.id)
            return
        made.leaves.append(leaf)
        made.bundles.append((row.id, (row.position or 0) + 1))
        made.latest, made.newest = max(made.latest, expires), max(made.newest, named)
        made.rehashed += moves

    def _own(self, are: Callable[[KeyEntry], bool]) -> AbstractSet[bytes]:
        """Return the certificates of those of the installation's authorities that are as asked, DER."""
        with scope(self.engine, None) as connection:
            entries = keys.load(connection).entries
        found = [entry for entry in entries if entry.role == "tsa" and are(entry)]
        return {chain[0] for entry in found for chain in (entry.chain, *entry.former)}

    def _read(
        self,
        tenant: UUID,
        row: sa.Row[Any],
        former: Sequence[tuple[bytes, bytes]],
        hash_name: str,
        known: dict[tuple[bytes, bytes], TimeInfo],
    ) -> tuple[bytes, TimeInfo]:
        """Return what a new time stamp of a bundle has to cover, and what its newest one says; all of them are verified."""
        document = open_payload(self.keys, tenant, row.job, row.payload_key, BUNDLE, row.document)
        bundle = loads_strict(document, subject="evidence bundle")
        record = record_of(bundle)
        for token, tree in former:
            record = record.continued(ArchiveStamp(token, unpack(tree)))
        signature = from_base64(bundle["proof"]["envelope"]["signatures"][0]["sig"], "/proof/envelope")
        infos = verify_record(record, signature, self.trusted, {}, known)
        if record.hashes[-1] == hash_name:
            return hash_to_renew(record), infos[-1]
        return hash_to_rehash(record.chains, signature, hash_name), infos[-1]

    def stamp(self, plan: Plan) -> Stamped:
        """Stamp what a plan covers; it must cover something.

        Raises:
            Conflict: ``evidence.renewal_authority`` when the new time stamp would not outlast the old ones, or
                the authority's key is not in force any more: a renewal that does not count spoils what it renews;
                ``evidence.renewal_order`` when it would be older than one of them.
            NoTime: No authority gives a token now.
        """
        root, trees = grow(plan.leaves, plan.hash_name)
        token = self.authority.stamp_digest(root, plan.hash_name)
        info = verify_root(token, root, self.trusted)
        if info.certificate in self._own(lambda entry: not entry.in_force):  # reading a plan takes a while
            raise Conflict(
                "evidence.renewal_authority",
                "the authority's key was replaced or revoked meanwhile",
                subject=info.authority,
                expected="the key in force",
                hint="run it again: the new key stamps then",
            )
        if info.expires < plan.latest:
            raise Conflict(
                "evidence.renewal_authority",
                "the present authority's certificate expires before those it would renew",
                subject=info.authority,
                expected=f"a certificate valid after {rfc3339(plan.latest)}",
                got=rfc3339(info.expires),
                hint="give the authority a new key first, or name another one in QCOS_TSA_URLS",
            )
        if info.time < plan.newest:  # clocks of two authorities, a moment after sealing
            raise Conflict(
                "evidence.renewal_order",
                "the present authority names a time before that of what it would renew",
                subject=info.authority,
                expected=f"after {rfc3339(plan.newest)}",
                got=rfc3339(info.time),
                hint="run it again in a moment; if it stays, look at the authority's clock",
            )
        archived = [
            Archived(bundle, position, pack(tree))
            for (bundle, position), tree in zip(plan.bundles, trees, strict=True)
        ]
        renewal = Renewal(new_id("renewal"), token, info.expires, info.time, plan.hash_name)
        return Stamped(plan, renewal, tuple(archived), root, info.authority)

    def renew_due(self, before: dt.datetime, *, at: dt.datetime | None = None) -> int:
        """Renew what is due in all tenants, as the installation itself; returns how many bundles. Several at once are harmless.

        Raises:
            Conflict, NoTime: As `stamp`; what was renewed before stays.
        """
        with scope(self.engine, None) as connection:
            tenants = [tenant for tenant, _ in identity.tenants(connection)]
        return sum(self._renew_tenant(tenant, before, at) for tenant in tenants)

    def _renew_tenant(self, tenant: UUID, before: dt.datetime, at: dt.datetime | None) -> int:
        renewed, plan = 0, Plan()
        while not plan.complete:
            plan = self.plan(tenant, before, after=plan.after, at=at)
            if plan.late or plan.broken:
                _log.error(
                    "time stamps that cannot be renewed",
                    extra={"tenant": str(tenant), "late": len(plan.late), "broken": len(plan.broken)},
                )
            if plan.leaves:
                stamped = self.stamp(plan)
                with scope(self.engine, tenant) as connection:
                    keep(connection, tenant, stamped)
                    told = details_of(stamped)
                    told |= {"change": change(None, told)}
                    record = Record("evidence.renewed", RENEWER, stamped.renewal.id, details=told)
                    append(connection, tenant, [record])
                renewed += len(plan.leaves)
        return renewed


def keep(connection: sa.Connection, tenant: UUID, stamped: Stamped) -> None:
    """Write a renewal in the caller's scope; raises Conflict ``evidence.renewed``."""
    insert_renewal(connection, tenant, stamped.renewal, stamped.archived)


def details_of(stamped: Stamped) -> dict[str, Any]:  # Any: JSON
    """Return the details of the ledger record ``evidence.renewed``, whose object is the renewal's id; ``change`` is over them."""
    return {
        "bundles": len(stamped.archived),
        "rehashed": stamped.plan.rehashed,
        "root": f"{spelled(stamped.plan.hash_name)}:{stamped.root.hex()}",
        "token": digest(stamped.renewal.token),
        "authority": stamped.authority,
        "time": rfc3339(stamped.renewal.made_at),
        "expires": rfc3339(stamped.renewal.expires),
    }


def expiring(trusted: Sequence[str | bytes], before: dt.datetime) -> bool:
    """Return whether any pinned certificate expires until an instant: if none does, no time stamp is due."""
    return any(certificate.not_valid_after_utc <= before for certificate in read_pins(trusted).values())
