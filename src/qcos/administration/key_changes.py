"""What rotation, revocation and certification make of the registry of keys: decided on its entries, before anything is written. Pure.

The trust document that tells of a change is signed between the decision and the act, which then demands that the registry is still
the one decided on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qcos.base.clock import rfc3339
from qcos.base.errors import Conflict, Invalid, NotFound
from qcos.base.limits import KEY_EFFECT_S, KEY_OVERLAP_MAX_S
from qcos.keys.model import OPTIONAL, Algorithm, KeyEntry, Role


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


@dataclass(frozen=True, slots=True)
class Rotation:
    """Keys that were made take the place of others.

    Attributes:
        plan: Of the act.
        made: The new keys.
        not_after: Until when what the old ones sign counts, UTC.
    """

    plan: Plan
    made: tuple[KeyEntry, ...]
    not_after: dt.datetime

    def __call__(self, entries: Sequence[KeyEntry]) -> tuple[KeyEntry, ...]:
        """Return the entries afterwards.

        Raises:
            Conflict: ``keys.changed_meanwhile``.
        """
        live = {entry.key_id for entry in entries if entry.in_force}
        if not live.issuperset(self.plan.replaced):
            raise meanwhile(", ".join(self.plan.replaced))
        kept = [
            replace(entry, not_after=self.not_after) if entry.key_id in self.plan.replaced else entry
            for entry in entries
        ]
        return (*kept, *self.made)


@dataclass(frozen=True, slots=True)
class Revocation:
    """A key is not to be trusted, and with a CA those that it alone vouched for.

    Attributes:
        key_id: The key.
        plan: Of the act.
        made: Its successors.
        at: When the act is, UTC.
        effect: From when on the key does not count, UTC.
        reason: Why.
    """

    key_id: str
    plan: Plan
    made: tuple[KeyEntry, ...]
    at: dt.datetime
    effect: dt.datetime
    reason: str

    def __call__(self, entries: Sequence[KeyEntry]) -> tuple[KeyEntry, ...]:
        """Return the entries afterwards.

        Raises:
            NotFound: ``keys.unknown``.
            Conflict: ``keys.changed_meanwhile``.
        """
        entry = find(entries, self.key_id)
        if self.made or self.plan.replaced:
            entries = Rotation(self.plan, self.made, max(self.effect, self.at))(entries)
        elif entry.in_force and not is_optional(entry):
            raise Conflict(
                "keys.changed_meanwhile",
                "the key came into force in between",
                subject=self.key_id,
                hint="try again",
            )
        taken = {one.key_id for one in _taken_along(entries, entry)}
        return tuple(self._revoked(one) if one.key_id in taken else one for one in entries)

    def _revoked(self, entry: KeyEntry) -> KeyEntry:
        since = max(self.effect, entry.not_before)
        if entry.revoked_at is not None and entry.revoked_at <= since:
            return entry
        return replace(entry, revoked_at=since, reason=self.reason)


@dataclass(frozen=True, slots=True)
class Certification:
    """A key gets a chain of certificates; the one it had is kept, for something may name it.

    Attributes:
        key_id: The key.
        chain: DER certificates, its own first.
    """

    key_id: str
    chain: tuple[bytes, ...]

    def __call__(self, entries: Sequence[KeyEntry]) -> tuple[KeyEntry, ...]:
        """Return the entries afterwards."""
        return tuple(self._certified(one) if one.key_id == self.key_id else one for one in entries)

    def _certified(self, entry: KeyEntry) -> KeyEntry:
        if entry.chain == self.chain:
            return entry
        former = (*entry.former, entry.chain) if entry.chain else entry.former
        return replace(entry, chain=self.chain, former=former)


def decide_rotation(plan: Plan, made: Sequence[KeyEntry], overlap_s: int, at: dt.datetime) -> Rotation:
    """Return a rotation: what the keys before sign counts for the overlap.

    Raises:
        Invalid: ``keys.overlap``.
    """
    if not KEY_EFFECT_S <= overlap_s <= KEY_OVERLAP_MAX_S:
        raise Invalid(
            "keys.overlap",
            "an overlap that is too short for keys to be noticed, or too long for one",
            expected=f"{KEY_EFFECT_S} to {KEY_OVERLAP_MAX_S} seconds",
            got=str(overlap_s),
        )
    return Rotation(plan, tuple(made), at + dt.timedelta(seconds=overlap_s))


def decide_revocation(
    key_id: str,
    plan: Plan,
    made: Sequence[KeyEntry],
    reason: str,
    at: dt.datetime,
    since: dt.datetime | None = None,
) -> Revocation:
    """Return a revocation: from `KEY_EFFECT_S` after the act on, or since the key fell into other hands.

    Raises:
        NotFound: ``keys.unknown``.
        Invalid: ``keys.reason``, ``keys.since``.
    """
    entry = find(plan.entries, key_id)
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
    effect = since or at + dt.timedelta(seconds=KEY_EFFECT_S)
    return Revocation(key_id, plan, tuple(made), at, effect, reason)


def find(entries: Sequence[KeyEntry], key_id: str) -> KeyEntry:
    """Return a key.

    Raises:
        NotFound: ``keys.unknown``.
    """
    found = next((entry for entry in entries if entry.key_id == key_id), None)
    if found is None:
        raise NotFound(
            "keys.unknown", "there is no such key", subject=key_id[:80], hint="see `qcos key list`"
        )
    return found


def is_optional(entry: KeyEntry) -> bool:
    """Return whether its role does without a key of its algorithm."""
    return entry.algorithm in OPTIONAL.get(entry.role, ())


def meanwhile(subject: str) -> Conflict:
    """Return the error of an act that was decided on a registry that is no more."""
    return Conflict(
        "keys.changed_meanwhile",
        "the keys were changed by somebody else in between",
        subject=subject,
        hint="look at `qcos key list`, and decide again",
    )


def _taken_along(entries: Sequence[KeyEntry], entry: KeyEntry) -> list[KeyEntry]:
    """Return a key, and those that its certificate alone vouches for: a CA's authorities."""
    if entry.role != "tsa-ca":
        return [entry]
    return [entry, *(one for one in entries if one.role == "tsa" and set(entry.chain) & set(one.chain))]
