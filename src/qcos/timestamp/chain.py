"""Verify an evidence record: each time stamp covers the one before, made while that one still counted (RFC 4998, 5.3)."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence

from qcos.base.clock import rfc3339
from qcos.timestamp.archive import Chain, EvidenceRecord, hash_to_rehash
from qcos.timestamp.pinned import fail
from qcos.timestamp.tree import climb
from qcos.timestamp.verify import TimeInfo, verify_root

Revoked = Mapping[bytes, dt.datetime]
"""From when on an authority is not to be trusted, by the DER of its certificate; those that are, are not in it."""


def verify_record(
    record: EvidenceRecord,
    data: bytes,
    trusted: Sequence[str | bytes],
    revoked: Revoked,
    known: dict[tuple[bytes, bytes], TimeInfo] | None = None,
) -> list[TimeInfo]:
    """Check that the data has been time-stamped without a gap.

    Args:
        record: The archive time stamps.
        data: The data object.
        trusted: Pinned certificates of the authorities and of their issuers.
        revoked: Authorities whose keys were revoked.
        known: Tokens that were verified already, with their roots: one is over many objects. What is verified is added.

    Returns:
        What each time stamp says, oldest first; whether the newest still counts is for `check_until`.

    Raises:
        Integrity: ``timestamp.tree``, ``timestamp.order``, ``timestamp.late``, and as `verify_root`.
    """
    infos: list[TimeInfo] = []
    known = known if known is not None else {}
    for number, (chain, hash_name) in enumerate(zip(record.chains, record.hashes, strict=True)):
        covered = _begins(record.chains[:number], data, hash_name)
        for stamp in chain:
            root = climb(covered, stamp.tree, hash_name)
            if (stamp.token, root) not in known:
                known[stamp.token, root] = verify_root(stamp.token, root, trusted)
            info = known[stamp.token, root]
            if info.hash_name != hash_name:
                fail("order", "a chain whose time stamps have different hashes", hash_name, info.hash_name)
            if infos:
                _check_link(infos[-1], info, revoked)
            infos.append(info)
            covered = hashlib.new(hash_name, stamp.token).digest()
    return infos


def _begins(older: tuple[Chain, ...], data: bytes, hash_name: str) -> bytes:
    return hash_to_rehash(older, data, hash_name) if older else hashlib.new(hash_name, data).digest()


def _check_link(before: TimeInfo, after: TimeInfo, revoked: Revoked) -> None:
    """Demand that a time stamp was renewed after it was made and while it counted."""
    if after.time < before.time:
        fail(
            "order",
            "a renewal that is older than what it renews",
            f"after {rfc3339(before.time)}",
            rfc3339(after.time),
        )
    check_until(
        before, after.time, revoked, "late", "the time stamp was renewed when it did not count any more"
    )


def check_until(
    info: TimeInfo,
    at: dt.datetime,
    revoked: Revoked,
    code: str = "expired",
    message: str = "the newest time stamp does not count any more: it was not renewed in time",
) -> None:
    """Demand that a time stamp counts at an instant: its certificates are valid then, its authority is not revoked.

    Raises:
        Integrity: ``timestamp.<code>``.
    """
    until, why = info.expires, "its certificate expired"
    if (ends := revoked.get(info.certificate)) is not None and ends < until:
        until, why = ends, "its authority was revoked"
    if at >= until:
        fail(code, f"{message}; {why}", f"before {rfc3339(until)}", rfc3339(at))
