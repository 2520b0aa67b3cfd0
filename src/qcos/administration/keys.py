"""The installation's signing keys: rotated, revoked, certified; each a governed act of the tenant it was set up with (R10.5)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from qcos.administration.act import Act
from qcos.administration.key_changes import (
    Certification,
    Plan,
    Revocation,
    Rotation,
    find,
    is_optional,
)
from qcos.administration.trust import Prepared, keep
from qcos.base.canonical import digest
from qcos.base.clock import now, rfc3339
from qcos.base.errors import Conflict, Denied, NotFound
from qcos.base.limits import KEY_LEASE_S
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.keys import store
from qcos.keys.make import algorithms_of, role_of
from qcos.keys.model import KeyEntry
from qcos.keys.request import demand_fits, read_chain, spki_of
from qcos.ledger.append import append
from qcos.ledger.record import Record

_INSTALLATION: Final = "service:qcos-installation"


def list_keys(act: Act) -> list[KeyEntry]:
    """Return every key of the installation."""
    _permit(act, "key.read")
    return list(store.load(act.connection).entries)


def plan_rotation(act: Act, role: str, algorithm: str | None = None) -> Plan:
    """Decide which keys a rotation makes and which it replaces.

    Raises:
        Invalid: ``keys.role``, ``keys.algorithm``.
    """
    _permit(act, "key.rotate", role)
    entries = store.load(act.connection).entries
    wanted = role_of(role)
    algorithms = algorithms_of(wanted, algorithm, entries)
    roles = (wanted, "tsa") if wanted == "tsa-ca" else (wanted,)
    replaced = [
        entry.key_id
        for entry in entries
        if entry.in_force and entry.role in roles and entry.algorithm in algorithms
    ]
    return Plan(entries, wanted, algorithms, tuple(replaced))


def rotate(act: Act, change: Rotation, successor: Prepared, reason: str = "") -> None:
    """Put the keys that were made in force, and keep the trust document that says so.

    Raises:
        Conflict: ``keys.changed_meanwhile`` when somebody else was faster; ``trust.overtaken``.
    """
    assert change.plan.role is not None  # noqa: S101 - a rotation's plan has one
    _permit(act, "key.rotate", change.plan.role)
    before = store.lock(act.connection).entries
    _write(act, before, change(before), reason)
    _keep(act, successor)


def plan_revocation(act: Act, key_id: str) -> Plan:
    """Decide what a revocation makes: a key in force gets a successor, so that signing goes on."""
    _permit(act, "key.revoke", key_id)
    entries = store.load(act.connection).entries
    entry = find(entries, key_id)
    if not entry.in_force or is_optional(entry):
        return Plan(entries, None)
    roles = (
        {"tsa"} if entry.role == "tsa-ca" else set()
    )  # a new CA has a new authority, whoever certified the old one
    replaced = [
        one.key_id for one in entries if one.in_force and (one.role in roles or one.key_id == entry.key_id)
    ]
    return Plan(entries, entry.role, (entry.algorithm,), tuple(replaced))


def revoke(act: Act, change: Revocation, successor: Prepared) -> list[KeyEntry]:
    """Let what a key signs not count any more, and keep the trust document that says so.

    Returns:
        The keys that this revoked: with a CA those that it certified, and none that were revoked from then already.

    Raises:
        NotFound: ``keys.unknown``.
        Conflict: ``keys.changed_meanwhile``, ``trust.overtaken``; that also when it waited for so long that processes would
            notice only after it took effect: evidence that they sign until then would not count.
    """
    _permit(act, "key.revoke", change.key_id)
    before = store.lock(act.connection).entries
    done = _write(act, before, change(before), change.reason)
    _keep(act, successor)
    noticed = now() + dt.timedelta(seconds=KEY_LEASE_S)
    if change.at < change.effect < noticed:
        raise Conflict(
            "trust.overtaken",
            "the revocation waited too long before it could be kept",
            subject=change.key_id,
            expected=f"effect after {rfc3339(noticed)}",
            got=rfc3339(change.effect),
            hint="try again",
        )
    return done


def request_of(act: Act, role: str) -> list[KeyEntry]:
    """Return the keys in force of a role for which certificates are asked.

    Raises:
        Invalid: ``keys.role``.
    """
    _permit(act, "key.certify", role)
    wanted = role_of(role)
    return [entry for entry in store.load(act.connection).entries if entry.role == wanted and entry.in_force]


def plan_certification(act: Act, text: str) -> Certification:
    """Decide which key a chain of certificates is for: its first one names it.

    Args:
        act: Who does it.
        text: PEM: the key's certificate, its issuer, and so on to the root.

    Raises:
        Invalid: ``keys.chain``.
        NotFound: ``keys.unknown``.
    """
    _permit(act, "key.certify")
    chain = read_chain(text)
    spki = spki_of(chain[0])
    entry = next((one for one in store.load(act.connection).entries if one.spki == spki), None)
    if entry is None:
        raise NotFound("keys.unknown", "the certificate is for no key of this installation", got=digest(spki))
    demand_fits(chain, entry.role, now())
    return Certification(entry.key_id, tuple(one.public_bytes(Encoding.DER) for one in chain))


def certify(act: Act, change: Certification, successor: Prepared) -> KeyEntry:
    """Keep the chain of certificates of a key, and the trust document that shows it.

    Raises:
        NotFound: ``keys.unknown``.
        Conflict: ``trust.overtaken``.
    """
    _permit(act, "key.certify")
    old = store.lock(act.connection).entries
    entry, changed = find(old, change.key_id), find(change(old), change.key_id)
    if changed == entry:
        return entry
    store.certify(act.connection, entry, change.chain)
    before, after = _told(entry), _told(changed)
    issuer = x509.load_der_x509_certificate(change.chain[0]).issuer.rfc4514_string()
    act.record(
        "key.certified", entry.key_id, states=(before, after), before=before, after=after, issuer=issuer
    )
    _keep(act, successor)
    return changed


def announce(engine: sa.Engine, entries: Iterable[KeyEntry]) -> set[str]:
    """Record that keys are in use, each once, when every process has had the time to notice them.

    So the ledger grows after its own keys were changed, and its newest checkpoint is signed by those in force.

    Returns:
        Ids of the keys that are announced now, by whomever.
    """
    ready = now() - dt.timedelta(seconds=KEY_LEASE_S)
    due = [entry for entry in entries if entry.in_force and entry.not_before <= ready]
    fresh = [entry for entry in due if entry.announced_at is None]
    if fresh:
        with scope(engine, None) as connection:
            tenant = identity.first_tenant(connection)
        if tenant is None:
            return set()
        with scope(engine, tenant) as connection:
            mine = store.announce(connection, [entry.key_id for entry in fresh], now())
            records = [
                Record(
                    act="key.in_use", actor=_INSTALLATION, object=entry.key_id, details={"key": _told(entry)}
                )
                for entry in fresh
                if entry.key_id in mine
            ]
            if records:
                append(connection, tenant, records)
    return {entry.key_id for entry in due}


def told(entry: KeyEntry, at: dt.datetime) -> dict[str, Any]:  # Any: JSON
    """Return what a listing says of a key."""
    members = {
        **_told(entry),
        "state": entry.state(at),
        "not_before": rfc3339(entry.not_before),
        "not_after": rfc3339(entry.not_after) if entry.not_after else None,
        "revoked_at": rfc3339(entry.revoked_at) if entry.revoked_at else None,
        "reason": entry.reason,
        "certified": bool(entry.chain),
    }
    return members


def _write(act: Act, before: Sequence[KeyEntry], after: Sequence[KeyEntry], reason: str) -> list[KeyEntry]:
    """Write and record what is different: keys that are replaced, keys in their place, keys that are revoked, which are returned."""
    was = {entry.key_id: entry for entry in before}
    made = [entry for entry in after if entry.key_id not in was]
    changed = [(was[entry.key_id], entry) for entry in after if was.get(entry.key_id, entry) != entry]
    replaced = [new for old, new in changed if old.not_after != new.not_after and new.not_after is not None]
    for not_after in {entry.not_after for entry in replaced}:
        ids = [entry.key_id for entry in replaced if entry.not_after == not_after]
        store.replace(act.connection, ids, cast(dt.datetime, not_after))
    if made:
        store.add(act.connection, made)
    revoked = [(old, new) for old, new in changed if old.revoked_at != new.revoked_at]
    for _, new in revoked:
        store.revoke(act.connection, new.key_id, cast(dt.datetime, new.revoked_at), new.reason)
    _record_made(act, made, replaced, reason)
    for old, new in revoked:
        states = _told(old), _told(replace(old, revoked_at=new.revoked_at))
        act.record(
            "key.revoked",
            old.key_id,
            reason=reason,
            states=states,
            before=states[0],
            after=states[1],
            successor=next((one.key_id for one in made if one.slot == old.slot), None),
        )
    return [old for old, _ in revoked]


def _record_made(act: Act, made: Sequence[KeyEntry], replaced: Sequence[KeyEntry], reason: str) -> None:
    for entry in made:
        old = next((one for one in replaced if one.slot == entry.slot), None)
        told = _told(replace(old, revoked_at=None)) if old is not None else None
        act.record(
            "key.rotated",
            entry.key_id,
            reason=reason,
            states=(None, _told(entry)),
            before=told,
            after=_told(entry),
        )


def _keep(act: Act, successor: Prepared) -> None:
    record = keep(act.connection, successor)
    if record is not None:
        act.record(record.act, record.object, **record.details)


def _told(entry: KeyEntry) -> dict[str, Any]:  # Any: JSON
    members: dict[str, Any] = {  # Any: JSON
        "key_id": entry.key_id,
        "role": entry.role,
        "algorithm": entry.algorithm,
        "generation": entry.generation,
        "public_key": digest(entry.spki),
        "store": entry.store,
    }
    if entry.chain:
        members["certificate"] = digest(entry.chain[0])
    ends = (("not_after", entry.not_after), ("revoked_at", entry.revoked_at))
    return members | {name: rfc3339(at) for name, at in ends if at is not None}


def _permit(act: Act, name: str, subject: str = "") -> None:
    """Ask policy, and demand that the caller's is the tenant the installation was set up with, whatever its policies say.

    Raises:
        Denied: With the policy's code; ``access.installation``.
    """
    own = identity.first_tenant(act.connection) == act.tenant
    act.permit(name, subject, details={"installation": own})
    if not own:  # a tenant that has changed its policies: they do not bind the keys of all
        raise Denied(
            "access.installation",
            "the keys belong to the installation, not to this tenant",
            subject=name,
            expected="somebody of the tenant that the installation was set up with",
            hint="what verifies evidence is public: `qcos trust`",
        )
