"""Checks of the trusted time: the token, its renewals, and that keys and clocks fit the time it names."""

from __future__ import annotations

import hashlib

from qcos.base.clock import parse_rfc3339, rfc3339
from qcos.base.errors import Integrity
from qcos.evidence.drift import check_times as check_order_of_times
from qcos.evidence.envelope import from_base64
from qcos.evidence.longterm import RECORD, check_long_term, check_renewals
from qcos.evidence.model import milliseconds
from qcos.evidence.run import Run, differs, known
from qcos.evidence.validity import authority_of, check_authority, check_keys
from qcos.timestamp.archive import read_record, spelled
from qcos.timestamp.tree import climb
from qcos.timestamp.verify import verify_root


def check_timestamp(run: Run) -> str:
    """Demand that a pinned authority stamped the signature, or a hash tree that covers it."""
    token = from_base64(run.bundle["proof"]["timestamp"], "/proof/timestamp")
    over = "over the ML-DSA-65 signature"
    try:
        root = _root(run, token)
        if run.record is not None and run.record.first.tree:  # renewals alone leave it empty
            over = "over a hash tree that covers the ML-DSA-65 signature"
            if run.claimed is not None and run.claimed.level == "full":
                raise Integrity(
                    "evidence.level",
                    "a bundle of level full must have a time stamp of its own",
                    subject=RECORD,
                    expected="a token over the ML-DSA-65 signature",
                    got="one over a hash tree",
                )
        run.time = verify_root(token, root, run.trust.certificates)
        authority_of(run.trust, run.time)
    except Integrity as error:
        error.subject = error.subject if error.subject.startswith("/") else "/proof/timestamp"
        raise
    if run.time.hash_name != "sha512":
        raise differs("/proof/timestamp", "a weaker imprint than evidence has", "sha512", run.time.hash_name)
    accuracy = run.time.accuracy
    run.facts["trustedTime"] = rfc3339(run.time.time)
    run.facts["accuracyMs"] = milliseconds(accuracy) if accuracy is not None else None
    run.facts["authority"] = run.time.authority
    return f"{rfc3339(run.time.time)} by {run.time.authority}, {over}"


def check_renewal(run: Run) -> str:
    """Demand that the time stamp was renewed without a gap."""
    run.stamps = check_renewals(known(run.record), run.signatures[0], run.trust)
    later = [
        {"time": rfc3339(one.time), "authority": one.authority, "hash": spelled(one.hash_name)}
        for one in run.stamps[1:]
    ]
    run.facts["renewals"] = later
    told, used = [], run.stamps[0].hash_name
    for one, info in zip(later, run.stamps[1:], strict=True):
        anew = f", hashed anew with {one['hash']}" if info.hash_name != used else ""
        told.append(f"at {one['time']} by {one['authority']}{anew}")
        used = info.hash_name
    return "renewed " + ", ".join(told)


def check_newest(run: Run) -> str:
    """Demand that the newest time stamp counts when it is asked about."""
    newest = run.stamps[-1] if run.stamps else known(run.time)
    return check_long_term(newest, known(run.at), run.trust)


def check_key_validity(run: Run) -> str:
    """Demand that each signature was made while its key counted."""
    info = known(run.time)
    authority = authority_of(run.trust, info)
    check_authority(authority, info.time)
    if authority.revoked_at is not None:
        run.doubted = authority
    return check_keys(run.keys, info.time)


def check_times(run: Run) -> str:
    """Demand times that are possible together."""
    when = run.statement["predicate"]["when"]
    trusted = known(run.time).time
    started, ended, sealed_at = (parse_rfc3339(when[n]) for n in ("startedAt", "endedAt", "sealedAt"))
    drift = check_order_of_times(started, ended, sealed_at, trusted)
    run.facts |= {"systemTime": when["sealedAt"], "clockDriftMs": drift}
    return f"executed, sealed, stamped; the system clock was {abs(drift)} ms off the trusted time"


def _root(run: Run, token: bytes) -> bytes:
    """Return what the token stamps: the hash of the signature, or the root of the hash tree that covers it."""
    attached = run.bundle["proof"].get("evidenceRecord")
    imprint = hashlib.sha512(run.signatures[0]).digest()
    if attached is None:
        return imprint
    try:
        record = read_record(from_base64(attached, RECORD))
        if record.first.token != token:
            raise differs(
                RECORD,
                "the initial archive time stamp is not the bundle's time-stamp token",
                "the token at /proof/timestamp",
                "another one",
            )
        if not record.first.tree and not record.is_renewed:
            raise differs(
                RECORD,
                "a record that says no more than the token",
                "a hash tree or a renewal",
                "neither",
            )
        run.record = record
        return climb(imprint, record.first.tree, record.hashes[0])
    except Integrity as error:
        error.subject = RECORD
        raise
