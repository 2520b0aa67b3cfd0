"""When a key's signatures count: from when it was made until it was replaced or revoked, by the trusted time. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity
from qcos.base.limits import MAX_CLOCK_DRIFT_S
from qcos.evidence.trust import Trust, TrustedAuthority, TrustedKey
from qcos.timestamp.verify import TimeInfo


def check_keys(keys: Sequence[TrustedKey], at: dt.datetime) -> str:
    """Demand that each signature of an envelope was made while its key counted; tell what the reader should know.

    Args:
        keys: In the order of the envelope's signatures.
        at: The trusted time, UTC.

    Raises:
        Integrity: ``evidence.key_validity`` with the exact reason.
    """
    for index, key in enumerate(keys):
        pointer = f"/proof/envelope/signatures/{index}/keyid"
        if at < key.not_before - dt.timedelta(seconds=MAX_CLOCK_DRIFT_S):
            raise _refused(pointer, "signed before its key was made", f"after {rfc3339(key.not_before)}", at)
        if key.not_after is not None and at > key.not_after:
            raise _refused(pointer, "signed after its key was retired", f"until {rfc3339(key.not_after)}", at)
        if key.revoked_at is not None and at >= key.revoked_at:
            raise _refused(
                pointer,
                "signed after its key was revoked" + (f" ({key.reason})" if key.reason else ""),
                f"before {rfc3339(key.revoked_at)}",
                at,
            )
    revoked = [
        f"key {key.public.key_id} was revoked later, at {rfc3339(key.revoked_at)}"
        + (f" ({key.reason})" if key.reason else "")
        for key in keys
        if key.revoked_at is not None
    ]
    return "; ".join(["the keys were in use at that time", *revoked])


def authority_of(trust: Trust, info: TimeInfo) -> TrustedAuthority:
    """Return the authority that made a token. A certificate that stands in a chain only is an issuer's, and stamps nothing.

    Raises:
        Integrity: ``timestamp.unpinned``.
    """
    found = trust.authorities.get(info.certificate)
    if found is None:
        raise Integrity(
            "timestamp.unpinned",
            "the trust document has this certificate as an issuer's, not as an authority's",
            subject="/proof/timestamp",
            expected="a member `certificate` under `timestamp`",
            got=info.authority,
        )
    return found


def check_authority(authority: TrustedAuthority, at: dt.datetime) -> None:
    """Demand that a token was made while its authority's key counted.

    Raises:
        Integrity: ``evidence.key_validity``.
    """
    pointer = "/proof/timestamp"
    if authority.not_after is not None and at > authority.not_after:
        raise _refused(
            pointer,
            "stamped after the authority's key was retired",
            f"until {rfc3339(authority.not_after)}",
            at,
        )
    if authority.revoked_at is not None and at >= authority.revoked_at:
        raise _refused(
            pointer,
            "stamped after the authority's key was revoked"
            + (f" ({authority.reason})" if authority.reason else ""),
            f"before {rfc3339(authority.revoked_at)}",
            at,
        )


def check_order(authority: TrustedAuthority, index: int | None) -> str:
    """Demand that the ledger had the evidence before its authority's key was revoked.

    Who has the key writes any time into a token; he does not get an entry among those the ledger had before (RFC 3161,
    section 4: tokens of a compromised authority need another witness of their time).

    Args:
        authority: One whose key was revoked.
        index: Where the evidence's record stands in the ledger, as proved; None: not proved.

    Raises:
        Integrity: ``evidence.key_validity``.
    """
    size = authority.ledger_size
    if size is None or index is None or index >= size:
        raise Integrity(
            "evidence.key_validity",
            "the authority's key is revoked, and the ledger does not show that the token is older",
            subject="/proof/timestamp",
            expected=f"an entry before {size} of the ledger"
            if size is not None
            else "the ledger's size at that time",
            got=f"entry {index}" if index is not None else "no entry that is proved",
        )
    return (
        f"its authority's key was revoked later; the ledger had the evidence before, entry {index} of {size}"
    )


def _refused(pointer: str, message: str, expected: str, at: dt.datetime) -> Integrity:
    return Integrity("evidence.key_validity", message, subject=pointer, expected=expected, got=rfc3339(at))
