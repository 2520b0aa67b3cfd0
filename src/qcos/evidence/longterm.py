"""Whether the time stamp of a bundle counts as long as somebody asks (RFC 4998): renewals, and their end. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity
from qcos.evidence.trust import Trust, TrustedAuthority
from qcos.evidence.validity import authority_of, check_authority, check_order
from qcos.timestamp.archive import RENEWAL_HASHES, EvidenceRecord, spelled
from qcos.timestamp.chain import Revoked, check_until, verify_record
from qcos.timestamp.verify import TimeInfo

RECORD: Final = "/proof/evidenceRecord"


def check_renewals(record: EvidenceRecord, signature: bytes, trust: Trust) -> list[TimeInfo]:
    """Demand that each time stamp was renewed while it counted, by an authority that counted then.

    Returns:
        What each says, the initial one first.

    Raises:
        Integrity: ``timestamp.*`` or ``evidence.key_validity``.
    """
    revoked = revoked_in(trust)
    try:
        infos = verify_record(record, signature, trust.certificates, revoked)
        for info in infos[1:]:
            _check_strength(info)
            check_authority(authority_of(trust, info), info.time)
        if infos[-1].certificate in revoked:
            raise Integrity(
                "evidence.key_validity",
                "the authority of the newest time stamp is revoked: who has its key writes any time",
                expected="an authority that is not",
                got=infos[-1].authority,
            )
    except Integrity as error:
        error.subject = RECORD
        raise
    return infos


def _check_strength(info: TimeInfo) -> None:
    if info.hash_name not in RENEWAL_HASHES:
        raise Integrity(
            "evidence.field",
            "a weaker imprint than evidence has",
            expected=" or ".join(map(spelled, RENEWAL_HASHES)),
            got=spelled(info.hash_name),
        )


def check_doubted(authority: TrustedAuthority, renewals: Sequence[TimeInfo], index: int | None) -> str:
    """Demand a witness of the time beside a revoked authority: a renewal made before, or the ledger's order.

    Raises:
        Integrity: ``evidence.key_validity``.
    """
    first = renewals[1] if len(renewals) > 1 else None
    if first is not None and authority.revoked_at is not None and first.time < authority.revoked_at:
        return f"its authority's key was revoked later; it was renewed before, at {rfc3339(first.time)}"
    return check_order(authority, index)


def check_long_term(newest: TimeInfo, at: dt.datetime, trust: Trust) -> str:
    """Demand that the newest time stamp counts at an instant.

    Raises:
        Integrity: ``timestamp.expired``, or ``timestamp.order`` when the instant lies before it.
    """
    try:
        if at < newest.time:
            raise Integrity(
                "timestamp.order",
                "the time asked about lies before the newest time stamp",
                expected=f"after {rfc3339(newest.time)}",
                got=rfc3339(at),
            )
        check_until(newest, at, revoked_in(trust))
    except Integrity as error:
        error.subject = "/proof"
        raise
    return f"the newest time stamp counts at {rfc3339(at)}, until {rfc3339(newest.expires)}"


def revoked_in(trust: Trust) -> Revoked:
    """Return when each revoked authority was, by the DER of its certificate."""
    return {
        certificate: authority.revoked_at
        for certificate, authority in trust.authorities.items()
        if authority.revoked_at is not None
    }
