"""The installation's signing keys: rotated, revoked, certified; each a governed act of the tenant it was set up with (R10.5)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import Encoding

from qcos.administration.act import Act
from qcos.base.canonical import digest
from qcos.base.clock import now, rfc3339
from qcos.base.errors import Conflict, Denied, Invalid, NotFound
from qcos.base.limits import KEY_EFFECT_S, KEY_LEASE_S, KEY_OVERLAP_MAX_S, KEY_OVERLAP_S
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.keys import store
from qcos.keys.make import algorithms_of, role_of
from qcos.keys.model import OPTIONAL, Algorithm, KeyEntry, Role
from qcos.keys.request import demand_fits, read_chain, spki_of
from qcos.ledger.append import append
from qcos.ledger.record import Record

_INSTALLATION: Final = "service:qcos-installation"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an act is about to do, decided on the registry as it was seen; private halves are made between plan and act.

    Attributes:
        entries: The registry's entries then.
        role: Whose keys are made; None: none are.
        algorithms: Which.
        replaced: Ids of the keys they take the place of.
    """

    entries: tuple[KeyEntry, ...]
    role: Role | None
    algorithms: tuple[Algorithm, ...] = ()
    replaced: tuple[str, ...] = ()


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


def rotate(
    act: Act, plan: Plan, made: Sequence[KeyEntry], overlap_s: int = KEY_OVERLAP_S, reason: str = ""
) -> None:
    """Put the keys that were made in force; what those before them sign counts for the overlap.

    Raises:
        Invalid: ``keys.overlap``.
        Conflict: ``keys.changed_meanwhile`` when somebody else was faster.
    """
    if not KEY_EFFECT_S <= overlap_s <= KEY_OVERLAP_MAX_S:
        raise Invalid(
            "keys.overlap",
            "an overlap that is too short for keys to be noticed, or too long for one",
            expected=f"{KEY_EFFECT_S} to {KEY_OVERLAP_MAX_S} seconds",
            got=str(overlap_s),
        )
    assert plan.role is not None  # noqa: S101 - a rotation's plan has one
    _permit(act, "key.rotate", plan.role)
    store.lock(act.connection)
    _put_in_force(act, plan, made, now() + dt.timedelta(seconds=overlap_s), reason)


def plan_revocation(act: Act, key_id: str) -> Plan:
    """Decide what a revocation makes: a key in force gets a successor, so that signing goes on."""
    _permit(act, "key.revoke", key_id)
    entries = store.load(act.connection).entries
    entry = _find(entries, key_id)
    if not entry.in_force or entry.algorithm in OPTIONAL.get(entry.role, ()):
        return Plan(entries, None)
    roles = (
        {"tsa"} if entry.role == "tsa-ca" else set()
    )  # a new CA has a new authority, whoever certified the old one
    replaced = [
        one.key_id for one in entries if one.in_force and (one.role in roles or one.key_id == entry.key_id)
    ]
    return Plan(entries, entry.role, (entry.algorithm,), tuple(replaced))


def revoke(
    act: Act, key_id: str, plan: Plan, made: Sequence[KeyEntry], reason: str, since: dt.datetime | None = None
) -> list[KeyEntry]:
    """Let what a key signs not count any more: `KEY_EFFECT_S` from now, or since it fell into other hands.

    Args:
        act: Who does it.
        key_id: The key.
        plan: Of `plan_revocation`.
        made: Its successors.
        reason: Why; everybody who verifies evidence reads it.
        since: From when on it is not to be trusted, UTC; by default from now on.

    Returns:
        The keys that this revoked: with a CA those that it certified, and none that were revoked from then already.

    Raises:
        Invalid: ``keys.reason``, ``keys.since``.
        Conflict: ``keys.changed_meanwhile``.
    """
    _permit(act, "key.revoke", key_id)
    entries = store.lock(act.connection).entries
    entry, at = _find(entries, key_id), now()
    effect = since or at + dt.timedelta(seconds=KEY_EFFECT_S)
    if not reason.strip():
        raise Invalid(
            "keys.reason", "a revocation needs a reason", subject=key_id, expected="why, in a few words"
        )
    if since is not None and not entry.not_before <= since <= at:
        raise Invalid(
            "keys.since",
            "a key is revoked since a time at which it was there",
            subject=key_id,
            expected=f"{rfc3339(entry.not_before)} to {rfc3339(at)}",
            got=rfc3339(since),
        )
    if made or plan.replaced:
        _put_in_force(act, plan, made, max(effect, at), reason)
    elif entry.in_force and entry.algorithm not in OPTIONAL.get(entry.role, ()):
        raise Conflict(
            "keys.changed_meanwhile", "the key came into force in between", subject=key_id, hint="try again"
        )
    done = [
        one
        for one in _taken_along(entries, entry)
        if store.revoke(act.connection, one.key_id, max(effect, one.not_before), reason)
    ]
    for one in done:
        after = _told(replace(one, revoked_at=max(effect, one.not_before)))
        act.record(
            "key.revoked",
            one.key_id,
            reason=reason,
            states=(_told(one), after),
            before=_told(one),
            after=after,
            successor=next((new.key_id for new in made if new.slot == one.slot), None),
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


def certify(act: Act, text: str) -> KeyEntry:
    """Keep the chain of certificates of a key: the first one names which.

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
    entries = store.lock(act.connection).entries
    entry = next((one for one in entries if one.spki == spki), None)
    if entry is None:
        raise NotFound("keys.unknown", "the certificate is for no key of this installation", got=digest(spki))
    demand_fits(chain, entry.role, now())
    der = tuple(one.public_bytes(Encoding.DER) for one in chain)
    if der == entry.chain:
        return entry
    store.certify(act.connection, entry, der)
    changed = replace(entry, chain=der)
    before, after = _told(entry), _told(changed)
    issuer = chain[0].issuer.rfc4514_string()
    act.record(
        "key.certified", entry.key_id, states=(before, after), before=before, after=after, issuer=issuer
    )
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


def _put_in_force(
    act: Act, plan: Plan, made: Sequence[KeyEntry], not_after: dt.datetime, reason: str
) -> None:
    if plan.replaced:
        store.replace(act.connection, plan.replaced, not_after)
    if made:
        store.add(act.connection, made)
    before = {entry.slot: entry for entry in plan.entries if entry.key_id in plan.replaced}
    for entry in made:
        old = before.get(entry.slot)
        act.record(
            "key.rotated",
            entry.key_id,
            reason=reason,
            states=(None, _told(entry)),
            before=_told(replace(old, not_after=not_after)) if old else None,
            after=_told(entry),
        )


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


def _taken_along(entries: Sequence[KeyEntry], entry: KeyEntry) -> list[KeyEntry]:
    """Return a key, and those that its certificate alone vouches for: a CA's authorities."""
    if entry.role != "tsa-ca":
        return [entry]
    return [entry, *(one for one in entries if one.role == "tsa" and set(entry.chain) & set(one.chain))]


def _find(entries: Sequence[KeyEntry], key_id: str) -> KeyEntry:
    found = next((entry for entry in entries if entry.key_id == key_id), None)
    if found is None:
        raise NotFound(
            "keys.unknown", "there is no such key", subject=key_id[:80], hint="see `qcos key list`"
        )
    return found


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
