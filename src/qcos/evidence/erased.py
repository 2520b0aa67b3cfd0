"""The erased bundle: what is left of evidence whose payload was erased, and its verification (R4.3). Pure.

The ledger's record of the sealing proves that a bundle was sealed, when, and with what digests; the record of the
erasing proves that its payload was erased, when, by whom and under what. Nothing of what the bundle said can be
read or verified any more, so it never passes for the proof of an execution. A bundle that somebody fetched before
stays verifiable: its digest is the one named here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from qcos.base.canonical import loads_strict
from qcos.base.clock import parse_rfc3339
from qcos.base.errors import Integrity, QcosError
from qcos.base.limits import MAX_BUNDLE_BYTES
from qcos.evidence.report import Checks, Report
from qcos.evidence.trust import Trust
from qcos.ledger.record import check_members
from qcos.ledger.verify import Verified, verify_proof

SCHEMA: Final = "qcos.evidence.erased/v1"
_MEMBERS: Final = {"schema", "bundle_id", "job_id", "erased", "proof"}
_ERASED: Final = {"at", "rule", "by", "record"}
_PROOF: Final = {"record", "index", "size", "hashes", "checkpoint", "tlogProof"}
_PARTS: Final = {"sealed": "evidence.sealed", "erased": "payload.erased"}


def erased_bundle(
    bundle_id: str,
    job_id: str,
    erased: Mapping[str, Any],
    sealed_proof: Mapping[str, Any] | None,
    erased_proof: Mapping[str, Any] | None,
) -> dict[str, Any]:  # Any: JSON
    """Return the erased bundle for the reader; a proof that the ledger does not have yet is null."""
    return {
        "schema": SCHEMA,
        "bundle_id": bundle_id,
        "job_id": job_id,
        "erased": dict(erased),
        "proof": {"sealed": sealed_proof, "erased": erased_proof},
    }


def is_erased_bundle(given: bytes | str | Mapping[str, Any]) -> bool:  # Any: JSON from anybody
    """Tell whether a document says that it is an erased bundle; whether it is one, `verify_erased` finds out."""
    if isinstance(given, Mapping):
        return given.get("schema") == SCHEMA
    marker = SCHEMA.encode() if isinstance(given, bytes) else SCHEMA
    if len(given) > MAX_BUNDLE_BYTES or marker not in given:  # type: ignore[operator] # both are of one kind
        return False
    try:
        found = loads_strict(given, subject="erased bundle")
    except QcosError:
        return False
    return isinstance(found, dict) and found.get("schema") == SCHEMA


def verify_erased(
    given: bytes | str | Mapping[str, Any],  # Any: JSON from anybody
    trust: Trust,
    beyond: Sequence[str] = (),
    *,
    allow_erased: bool = False,
) -> Report:
    """Verify an erased bundle: that it was sealed, and that its payload was erased, both by the ledger.

    Args:
        given: The document.
        trust: The trust document.
        beyond: Checks that the caller asks for and that only the payload could answer: they fail.
        allow_erased: Whether this may pass; by default the report is not ``ok``, for nothing executed is proved.

    Returns:
        The report; `Report.erased` when both proofs hold.
    """
    run = _Run(trust)
    make = run.checks.make
    if make("document", lambda: run.document(given)):
        for part in _PARTS:
            make(f"{part} record in the ledger", lambda part=part: run.proved(part))  # type: ignore[misc]
        if len(run.proved_records) == len(_PARTS):
            make("erasing", run.agree)
    holds = "erasing" in {check.name for check in run.checks.done} and all(c.ok for c in run.checks.done)
    for name in beyond:
        run.checks.skip(name, "the payload, which it would be compared with, is gone")
    make("payload", lambda: run.payload(holds, allow_erased))
    return run.checks.report(pending=False, facts=run.facts, erased=holds)


class _Run:
    """One verification: what was read so far, and the checks. Any: JSON that came with the document."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self.checks = Checks()
        self.facts: dict[str, Any] = {}
        self.found: dict[str, Any] = {}
        self.proved_records: dict[str, Verified] = {}

    def document(self, given: bytes | str | Mapping[str, Any]) -> str:
        found = _read(given)
        erased, proof = found["erased"], found["proof"]
        if not (
            found.keys() == _MEMBERS
            and isinstance(erased, dict)
            and erased.keys() == _ERASED
            and isinstance(proof, dict)
            and proof.keys() == _PARTS.keys()
            and all(one is None or (isinstance(one, dict) and one.keys() == _PROOF) for one in proof.values())
            and all(isinstance(text, str) for text in (found["bundle_id"], found["job_id"], *erased.values()))
        ):
            raise Integrity("evidence.document", "not the members of an erased bundle")
        self.found = found
        self.facts = {"bundle": found["bundle_id"], "job": found["job_id"]}
        return f"erased bundle {found['bundle_id']} of job {found['job_id']}"[:500]

    def proved(self, part: str) -> str:
        proof = self.found["proof"][part]
        if proof is None:
            raise Integrity(
                "evidence.pending",
                "not yet in the ledger; fetch it again in a few seconds",
                subject=f"/proof/{part}",
                expected="a ledger proof",
                got="null",
            )
        held = verify_proof(proof, self.trust.vkeys, {"act": _PARTS[part]}, witnesses=self.trust.witnesses)
        if held.checkpoint.origin != self.trust.origin:
            raise Integrity(
                "evidence.field",
                "another ledger",
                subject=f"/proof/{part}/checkpoint",
                expected=self.trust.origin,
                got=held.checkpoint.origin[:300],
            )
        self.proved_records[part] = held
        return f"entry {held.index} of {held.checkpoint.size} at {held.record.get('time')}"

    def agree(self) -> str:
        """Check that the two records are of this bundle, and that the document says what they say."""
        sealed, erased = self.proved_records["sealed"], self.proved_records["erased"]
        said, bundle = self.found["erased"], self.found["bundle_id"]
        check_members(
            sealed.record, {"object": bundle, "details": {"job": self.found["job_id"]}}, "/proof/sealed"
        )
        check_members(
            erased.record,
            {
                "object": bundle,
                "id": said["record"],
                "time": said["at"],
                "actor": said["by"],
                "tenant": sealed.record.get("tenant"),
                "details": {
                    "job": self.found["job_id"],
                    "bundle": bundle,
                    "sealed": sealed.record.get("id"),
                    "statement": sealed.record["details"].get("statement"),
                    "rule": said["rule"],
                },
            },
            "/proof/erased",
        )
        if erased.index <= sealed.index or parse_rfc3339(said["at"]) < parse_rfc3339(sealed.record["time"]):
            raise Integrity("evidence.field", "erased before it was sealed", subject="/proof/erased/index")
        details = sealed.record["details"]
        self.facts |= {
            "erasedAt": said["at"],
            "rule": said["rule"],
            "by": said["by"],
            "sealedAt": sealed.record["time"],
            "statement": details.get("statement"),
            "document": details.get("document"),
            "sealedIndex": sealed.index,
            "erasedIndex": erased.index,
        }
        return f"payload erased on {said['at'][:10]} under {said['rule']}, by {said['by']}"

    def payload(self, holds: bool, allowed: bool) -> str:
        if not holds:
            raise Integrity("evidence.unchecked", "neither readable nor proved to be erased")
        text = self.verdict()
        if not allowed:
            raise Integrity(
                "evidence.erased", text, subject="/erased", expected="a bundle", got="an erased bundle"
            )
        return text

    def verdict(self) -> str:
        facts = self.facts
        return (
            f"payload erased on {facts['erasedAt'][:10]} under {facts['rule']}; the bundle sealed at "
            f"{facts['sealedAt']} with statement {facts['statement']} is no longer readable"
        )


def _read(given: bytes | str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(given, Mapping):
        try:
            given = json.dumps(given, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise Integrity("evidence.document", "the document is not JSON", got=str(error)[:100]) from None
    if len(given) > MAX_BUNDLE_BYTES:
        raise Integrity(
            "evidence.document", "the document is too long", expected=f"at most {MAX_BUNDLE_BYTES} bytes"
        )
    found = loads_strict(given, subject="erased bundle")
    if not isinstance(found, dict) or not found.keys() >= _MEMBERS:
        raise Integrity("evidence.document", "not the members of an erased bundle")
    return found
