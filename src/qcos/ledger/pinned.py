"""Which of a log's keys counted when: a checkpoint is worth the keys that were in force at its time. Pure.

The time of a checkpoint is what its cosignatures state. A key that was replaced could still sign, and a stolen one would state
any time: so a revoked key counts only where a cosigner that is not revoked (another key of the log, or a witness) says that the
checkpoint is older than the revocation. Who has only such an old proof asks the log for one against its newest checkpoint.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qcos.base.clock import parse_rfc3339, rfc3339
from qcos.base.errors import Integrity
from qcos.base.limits import MAX_CLOCK_DRIFT_S
from qcos.ledger.note import Signed, Vkey, parse_vkey

_MEMBERS: Final = {"vkey", "notBefore", "notAfter", "revokedAt", "reason", "ledgerSize", "certificate"}


@dataclass(frozen=True, slots=True)
class PinnedVkey:
    """A verifier key of the trust root, and the time in which its signatures count.

    Attributes:
        vkey: The key (C2SP signed-note).
        not_before: When it was made, UTC; None: not known.
        not_after: When it was replaced, UTC, if it was.
        revoked_at: From when on it is not to be trusted, UTC, if it was revoked.
        chain: PEM certificates, its own first, if it is certified.
        reason: Why it was revoked.
    """

    vkey: Vkey
    not_before: dt.datetime | None = None
    not_after: dt.datetime | None = None
    revoked_at: dt.datetime | None = None
    chain: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return str(self.vkey)


def pin(key: str | PinnedVkey) -> PinnedVkey:
    """Return a pinned key; a bare verifier key counts always.

    Raises:
        Invalid: ``ledger.vkey``.
    """
    return key if isinstance(key, PinnedVkey) else PinnedVkey(parse_vkey(key))


def read_pinned(entry: Any) -> PinnedVkey:  # Any: JSON of a trust document
    """Read one member of a trust document's ``ledger``.

    Raises:
        Invalid: ``ledger.vkey``.
        ValueError, KeyError, TypeError, AttributeError: Otherwise malformed; a member that is not known might be a restriction.
    """
    if unknown := entry.keys() - _MEMBERS:
        raise ValueError(f"a ledger key has members this version does not know: {', '.join(sorted(unknown))}")
    before, after, revoked = (
        parse_rfc3339(entry[name]) if entry.get(name) is not None else None
        for name in ("notBefore", "notAfter", "revokedAt")
    )
    said = (str(entry.get(name, "")) for name in ("certificate", "reason"))
    return PinnedVkey(parse_vkey(entry["vkey"]), before, after, revoked, *said)


def demand_in_force(log: Sequence[PinnedVkey], signatures: Iterable[Signed]) -> None:
    """Demand, for every algorithm the log had at the checkpoint's time, a signature by a key in force then.

    Args:
        log: The trusted keys that bear the log's name.
        signatures: Those that hold, of witnesses too.

    Raises:
        Integrity: ``ledger.unsigned`` when an algorithm's signature is missing, ``ledger.key_validity`` when
            it is there but by a key that did not count.
    """
    held = list(signatures)
    keys = {key.vkey: key for key in log}
    at = _stated(held, keys)
    trusted = _stated([one for one in held if one.vkey not in keys or keys[one.vkey].revoked_at is None])
    counted, refused = set(), {}
    for one in held:
        if (key := keys.get(one.vkey)) is None:
            continue
        why = _refusal(key, at, trusted)
        if why is None:
            counted.add(one.vkey.kind)
        else:
            refused[one.vkey.kind] = Integrity(
                "ledger.key_validity",
                f"the checkpoint is signed by a key of the log that did not count: {why[0]}",
                subject=f"{one.vkey.algorithm} key {one.vkey.key_id.hex()} of {one.vkey.name}",
                expected=why[1],
                got=_told(at),
                hint="get the proof again: the log's newest checkpoint is signed by the keys in force",
            )
    demanded = {key.vkey.kind: key.vkey.algorithm for key in log if not _later(key, at)}
    missing = {kind: name for kind, name in demanded.items() if kind not in counted}
    for kind in missing:
        if kind in refused:
            raise refused[kind]
    if missing or not counted:
        raise Integrity(
            "ledger.unsigned",
            "the checkpoint lacks signatures of the log",
            subject=log[0].vkey.name,
            expected=f"a signature by {', '.join(sorted(missing.values())) or 'a key of the log'}",
            got=f"signatures by {', '.join(sorted(one.vkey.algorithm for one in held if one.vkey in keys))}",
        )


def _stated(signatures: Sequence[Signed], among: Mapping[Vkey, PinnedVkey] | None = None) -> int | None:
    """Return the latest time that cosignatures state, POSIX seconds; None when none states one."""
    times = [one.time for one in signatures if one.time and (among is None or one.vkey in among)]
    return max(times) if times else None


def _refusal(key: PinnedVkey, at: int | None, trusted: int | None) -> tuple[str, str] | None:
    """Return why a key's signature does not count, and what would have; None when it does."""
    if key.not_before is not None and _later(key, at):
        return "it was signed before the key was made", f"a time after {rfc3339(key.not_before)}"
    if key.not_after is not None and (at is None or at > key.not_after.timestamp()):
        return "it was signed after the key was retired", f"a time until {rfc3339(key.not_after)}"
    if key.revoked_at is not None and (trusted is None or trusted >= key.revoked_at.timestamp()):
        before = rfc3339(key.revoked_at)
        return "the key is revoked", f"a time before {before}, stated by a cosigner that is not revoked"
    return None


def _later(key: PinnedVkey, at: int | None) -> bool:
    """Return whether the key was made after that time."""
    if at is None or key.not_before is None:
        return False
    return at < key.not_before.timestamp() - MAX_CLOCK_DRIFT_S


def _told(at: int | None) -> str:
    if at is None:
        return "no time is stated"
    try:
        return rfc3339(dt.datetime.fromtimestamp(at, dt.UTC))
    except (OverflowError, ValueError, OSError):
        return f"{at} s after 1970"
