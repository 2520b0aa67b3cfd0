"""Checks of the ledger: that a checkpoint of the pinned log covers the record of sealing this very bundle."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from qcos.base.canonical import digest
from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity
from qcos.base.limits import MAX_CLOCK_DRIFT_S
from qcos.evidence.bundle import detached_digest
from qcos.evidence.decision import check_decision as check_allowed
from qcos.evidence.run import Run, differs, known
from qcos.ledger.note import Signed
from qcos.ledger.record import check_members
from qcos.ledger.verify import verify_checkpoint, verify_proof

_NOT_YET: Final = "not yet in the ledger; fetch the bundle again in a few seconds"


def check_pending(*, allowed: bool) -> str:
    """Accept that there is no proof yet, if the caller does."""
    if not allowed:
        raise Integrity(
            "evidence.pending", _NOT_YET, subject="/proof/ledger", expected="a ledger proof", got="null"
        )
    return _NOT_YET


def check_checkpoint(run: Run, proof: Mapping[str, Any]) -> str:
    """Demand a checkpoint of the pinned log, witnessed as the trust document asks."""
    with _placed("/proof/ledger/checkpoint"):
        checkpoint, signatures = verify_checkpoint(proof["checkpoint"], run.trust.vkeys, run.trust.witnesses)
    if checkpoint.origin != run.trust.origin:
        raise differs("/proof/ledger/checkpoint", "another ledger", run.trust.origin, checkpoint.origin)
    log = [one for one in signatures if one.vkey.name == checkpoint.origin]
    kinds = ", ".join(sorted(one.vkey.algorithm for one in log))
    told = f"{checkpoint.origin}, {checkpoint.size} entries, signed with {kinds}"
    return told + _witnesses(run, run.trust.witnesses.demand(signatures))


def check_inclusion(run: Run, proof: Mapping[str, Any]) -> str:
    """Demand that the record's entry is in the tree of that checkpoint."""
    with _placed("/proof/ledger"):
        held = verify_proof(proof, run.trust.vkeys, witnesses=run.trust.witnesses)
    run.facts |= {"ledgerIndex": held.index, "ledgerRecord": held.record}
    return f"entry {held.index} of {held.checkpoint.size}"


def check_record(run: Run) -> str:
    """Demand that it is the record of sealing this very bundle."""
    record = run.facts["ledgerRecord"]
    who = known(run.facts.get("predicate"))["who"]
    expected = {
        "act": "evidence.sealed",
        "object": run.bundle["bundle_id"],
        "details": {
            "job": run.bundle["job_id"],
            "statement": digest(run.payload),
            "document": detached_digest(run.bundle),
        },
        **{name: who[name] for name in ("actor", "project", "tenant")},
    }
    check_members(record, expected)
    return f"record {record.get('id')} commits to this very bundle"


def check_decision(run: Run) -> str:
    """Demand that the record of the decision is in the same tree, and allows this job."""
    claimed, predicate = known(run.claimed), run.statement["predicate"]
    with _placed("/proof/decision"):
        index, record = check_allowed(run.bundle, predicate, claimed, run.trust)
    run.facts["decisionRecord"] = record
    return f"entry {index}: decision {record['object']} allowed this very job"


@contextmanager
def _placed(pointer: str) -> Iterator[None]:
    """Say where in the bundle it stands what the ledger's verifier refuses; a key that it names goes into the message."""
    try:
        yield
    except Integrity as error:
        if not error.subject.startswith("/"):
            error.message += f" ({error.subject})" if error.subject else ""
            error.subject = pointer
        raise


def _witnesses(run: Run, cosignatures: Sequence[Signed]) -> str:
    """Say who has witnessed the checkpoint and when: a second source of time."""
    if not cosignatures:
        return ""
    first = min(cosignatures, key=lambda one: one.time or 0)
    if run.time and (first.time or 0) + MAX_CLOCK_DRIFT_S < run.time.time.timestamp():
        raise Integrity(
            "evidence.witness_time",
            "a witness saw the checkpoint before the evidence in it was signed",
            subject="/proof/ledger/checkpoint",
            expected=f"not before {rfc3339(run.time.time)}",
            got=f"{first.vkey.name} at {_instant(first.time)}",
        )
    seen = [(one.vkey.name, _instant(one.time)) for one in cosignatures]
    run.facts["witnesses"] = [{"name": name, "time": time} for name, time in seen]
    return "; witnessed by " + ", ".join(f"{name} at {time}" for name, time in seen)


def _instant(seconds: int | None) -> str:
    try:
        return rfc3339(dt.datetime.fromtimestamp(seconds or 0, dt.UTC))
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s after 1970"
