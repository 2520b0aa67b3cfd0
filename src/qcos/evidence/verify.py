"""Verify a bundle offline, with the trust document alone (R4.2): no database, no network, no clock.

Whatever the bundle says is hostile until a check has held. Every check is made that can be, so that the
report tells all that is wrong; `Report.ok` needs all of them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from qcos.base.canonical import digest, loads_strict
from qcos.base.clock import parse_rfc3339, rfc3339
from qcos.base.errors import Integrity, Invalid, QcosError
from qcos.base.limits import MAX_CLOCK_DRIFT_S
from qcos.evidence.bundle import READER_MEMBERS, SIGNATURE_PREFIX, TOKEN_PREFIX, detached_digest
from qcos.evidence.decision import check_decision
from qcos.evidence.drift import check_times
from qcos.evidence.envelope import PAYLOAD_TYPE, from_base64, pae
from qcos.evidence.erased import is_erased_bundle, verify_erased
from qcos.evidence.levels import LEVELS, Claimed, asked, at_least, check_level
from qcos.evidence.longterm import check_doubted, check_long_term, check_renewals
from qcos.evidence.model import milliseconds
from qcos.evidence.report import Checks, Report
from qcos.evidence.shape import demand_equal, read_bundle
from qcos.evidence.statement import PREDICATE_TYPE, STATEMENT_TYPE, subject_digests
from qcos.evidence.trust import Trust, TrustedAuthority, TrustedKey
from qcos.evidence.validity import authority_of, check_authority, check_keys
from qcos.ledger.note import Signed
from qcos.ledger.record import check_members
from qcos.ledger.verify import verify_checkpoint, verify_proof
from qcos.timestamp.archive import EvidenceRecord, read_record
from qcos.timestamp.tree import climb
from qcos.timestamp.verify import TimeInfo, verify_root

Known = TypeVar("Known")

ALGORITHMS: Final = ("ML-DSA-65", "Ed25519")
"""Signatures of an envelope, in this order: the promise, and the one every DSSE verifier checks today."""

COUNTERSIGNATURE: Final = "ECDSA-P384"
"""A third signature, by a key that a key store holds: demanded while the trust document has such a key."""

REQUIRED: Final = (
    *("document", "envelope"),
    *(f"signature {algorithm}" for algorithm in ALGORITHMS),
    *("statement", "reader's fields", "hashes", "level"),
    *("signatures shown", "timestamp", "key validity", "times"),
)
REQUIRED_LEDGER: Final = ("ledger checkpoint", "ledger inclusion", "ledger record")
"""Checks without which nothing is verified."""

_NOT_YET: Final = "not yet in the ledger; fetch the bundle again in a few seconds"


def verify(
    bundle: bytes | str | Mapping[str, Any],  # Any: JSON from anybody
    trust: bytes | str | Mapping[str, Any] | Trust,  # Any: JSON
    *,
    materials: Mapping[str, bytes] | None = None,
    allow_pending: bool = False,
    level: str = "basic",
    allow_erased: bool = False,
    at: dt.datetime | None = None,
) -> Report:
    """Verify a bundle.

    Args:
        bundle: The bundle, JSON.
        trust: The trust document, got by a safe way.
        materials: Bytes of things the statement names (``input``: canonical Job Spec, ``output``: canonical
            result, ``circuit/0``, ...); each must have the digest the statement commits to.
        allow_pending: Whether a bundle that is not in the ledger yet may pass (it is then marked
            ``pending``).
        level: The least evidence level the caller demands (`qcos.evidence.levels`).
        allow_erased: Whether an erased bundle may pass, for which nothing but its sealing and its erasing is
            proved (it is marked ``erased`` either way): with ``materials``, ``level`` or ``at`` it fails all the same.
        at: When given, the newest time stamp must still count at this instant (UTC): its certificates not
            expired, its authority not revoked. Without it a time stamp that counted when it was made is enough.

    Returns:
        The report. A bad bundle never raises.

    Raises:
        Invalid: ``evidence.no_level`` when there is no such level.
        Invalid: ``trust.malformed``: the caller's own document is wrong.
    """
    if level not in LEVELS:
        raise Invalid(
            "evidence.no_level", "there is no such evidence level", expected=", ".join(LEVELS), got=level
        )
    pinned = trust if isinstance(trust, Trust) else Trust.load(trust)
    if is_erased_bundle(bundle):
        beyond = {f"material {name}": True for name in materials or {}}
        beyond |= {"level": level != "basic", "long term": at is not None}
        asked_for = [name for name, is_asked in beyond.items() if is_asked]
        return verify_erased(bundle, pinned, asked_for, allow_erased=allow_erased)
    run = _Run(pinned, level, at)
    if run.checks.make("document", lambda: run.document(bundle)):
        run.all_checks(materials or {}, allow_pending=allow_pending)
    return run.checks.report(pending=run.pending, facts=run.facts)


class _Run:
    """One verification: what was read so far, and the checks. Any: JSON that came with the bundle."""

    def __init__(self, trust: Trust, level: str, at: dt.datetime | None) -> None:
        self.trust, self.least, self.at = trust, level, at
        self.claimed: Claimed | None = None
        self.checks = Checks()
        self.facts: dict[str, Any] = {}
        self.pending = False
        self.bundle: dict[str, Any] = {}
        self.payload = b""
        self.signatures: tuple[bytes, ...] = ()
        self.keys: tuple[TrustedKey, ...] = ()
        self.statement: dict[str, Any] = {}
        self.time: TimeInfo | None = None
        self.record: EvidenceRecord | None = None
        self.stamps: list[TimeInfo] = []
        self.doubted: TrustedAuthority | None = None

    def all_checks(self, materials: Mapping[str, bytes], *, allow_pending: bool) -> None:
        make = self.checks.make
        if make("envelope", self.envelope):
            for index, key in enumerate(self.keys):
                make(f"signature {key.public.algorithm}", partial(self.signature, index))
        if "statement" in self.facts and make("statement", self.read_statement):
            make("reader's fields", self.reader_fields)
            make("hashes", self.hashes)
            make("level", self.level)
            for name, data in materials.items():
                make(f"material {name}", partial(self.material, name, data))
            if "input" in materials:
                make("level asked", partial(self.level_asked, materials["input"]))
        make("signatures shown", self.signatures_shown)
        if self.signatures and make("timestamp", self.timestamp):
            renewed = self.record is not None and self.record.is_renewed
            if (not renewed or make("renewal", self.renewal)) and self.at is not None:
                make("long term", self.long_term)
            make("key validity", self.key_validity)
            if any(key.public.algorithm == COUNTERSIGNATURE for key in self.trust.keys.values()):
                make("countersignature", self.countersignature)
            if self.statement:
                make("times", self.times)
        self.ledger(allow_pending=allow_pending)
        if (doubted := self.doubted) is not None:
            make(
                "revoked authority",
                lambda: check_doubted(doubted, self.stamps, self.facts.get("ledgerIndex")),
            )
        made = {check.name for check in self.checks.done}
        required = REQUIRED if self.pending else (*REQUIRED, *REQUIRED_LEDGER)
        for name in required if self.at is None else (*required, "long term"):
            if name not in made:
                self.checks.skip(name, "what it needs did not hold")

    def document(self, given: bytes | str | Mapping[str, Any]) -> str:
        self.bundle = read_bundle(given)
        self.facts = {"bundle": self.bundle["bundle_id"], "job": self.bundle["job_id"]}
        return f"evidence bundle {self.bundle['bundle_id']} of job {self.bundle['job_id']}"[:500]

    def envelope(self) -> str:
        envelope = self.bundle["proof"]["envelope"]
        self.payload = from_base64(envelope["payload"], "/proof/envelope/payload")
        self.facts["statement"] = digest(self.payload)
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise _wrong(
                "/proof/envelope/payloadType", "another payload type", PAYLOAD_TYPE, envelope["payloadType"]
            )
        given = envelope["signatures"]
        expected = (*ALGORITHMS, COUNTERSIGNATURE)[: max(len(given), len(ALGORITHMS))]
        if len(given) != len(expected):
            raise _wrong(
                "/proof/envelope/signatures",
                "neither the two signatures nor they and a countersignature",
                ", ".join(expected),
                str(len(given)),
            )
        keys = [self._key(index, algorithm) for index, algorithm in enumerate(expected)]
        self.signatures = tuple(
            from_base64(one["sig"], f"/proof/envelope/signatures/{n}/sig") for n, one in enumerate(given)
        )
        self.keys = tuple(keys)
        return f"DSSE, {PAYLOAD_TYPE}, keys {', '.join(key.public.key_id for key in keys)}"

    def _key(self, index: int, algorithm: str) -> TrustedKey:
        pointer = f"/proof/envelope/signatures/{index}/keyid"
        key_id = self.bundle["proof"]["envelope"]["signatures"][index]["keyid"]
        key = self.trust.keys.get(key_id)
        trusted = ", ".join(k for k, v in self.trust.keys.items() if v.public.algorithm == algorithm)
        if key is None:
            raise _wrong(pointer, "a key that is not trusted", f"key {trusted}", key_id)
        if key.public.algorithm != algorithm:
            raise _wrong(
                pointer, "a key of another algorithm", f"{algorithm} key {trusted}", key.public.algorithm
            )
        return key

    def signature(self, index: int) -> str:
        public = self.keys[index].public
        try:
            public.verify(self.signatures[index], pae(PAYLOAD_TYPE, self.payload))
        except Integrity as error:
            raise Integrity(
                "evidence.signature",
                f"{error.message}: the statement or the signature was changed",
                subject=f"/proof/envelope/signatures/{index}/sig",
                expected=f"a signature by key {public.key_id} over the statement {self.facts['statement']}",
            ) from None
        return f"key {public.key_id} signed the statement"

    def read_statement(self) -> str:
        try:
            statement = loads_strict(self.payload, subject="statement")
        except QcosError as error:
            raise Integrity("evidence.statement", f"the statement is not JSON: {error.message}") from None
        predicate = statement.get("predicate") if isinstance(statement, dict) else None
        if not isinstance(predicate, dict):
            raise Integrity("evidence.statement", "not an in-toto statement with a predicate")
        head = {"_type": STATEMENT_TYPE, "predicateType": PREDICATE_TYPE}
        found = {name: statement.get(name) for name in head}
        demand_equal(head, found, "evidence.statement", "not a statement of this kind")
        self.facts["predicate"] = predicate
        self.statement = statement
        return f"in-toto, {PREDICATE_TYPE}"

    def reader_fields(self) -> str:
        shown = {name: self.bundle[name] for name in READER_MEMBERS}
        demand_equal(
            self.statement["predicate"]["bundle"],
            shown,
            "evidence.field",
            "the bundle shows something else than what was signed",
        )
        return "every field of the bundle is what was signed"

    def hashes(self) -> str:
        subjects = subject_digests(self.statement)
        for name, member in (("input", "input_hash"), ("output", "output_hash")):
            if subjects[name] != self.bundle[member]:
                raise _wrong(
                    f"/{member}",
                    "another digest than the statement's subject",
                    subjects[name],
                    self.bundle[member],
                )
        return f"input {subjects['input']}, output {subjects['output']}"

    def level(self) -> str:
        claimed = check_level(self.statement, subject_digests(self.statement))
        self.claimed = claimed
        self.facts |= {"level": claimed.level, "absent": dict(claimed.absent)}
        if not at_least(claimed.level, self.least):
            raise _wrong(
                "/proof/envelope/payload", "a lower evidence level than demanded", self.least, claimed.level
            )
        if claimed.legacy:
            return "made before evidence levels had a meaning: nothing beyond basic is promised"
        without = "; ".join(f"no {name}: {why}" for name, why in claimed.absent.items())
        return f"everything that level {claimed.level} demands{f' ({without[:300]})' if without else ''}"

    def level_asked(self, job_spec: bytes) -> str:
        wanted, kept = asked(loads_strict(job_spec, subject="Job Spec")), _known(self.claimed)
        if not kept.legacy and not at_least(kept.level, wanted):
            raise _wrong(
                "/proof/envelope/payload", "less evidence than the job asked for", wanted, kept.level
            )
        return f"the job asked for {wanted}"

    def material(self, name: str, data: bytes) -> str:
        subjects = subject_digests(self.statement)
        if name not in subjects:
            raise _wrong("", f"the statement names no {name}", ", ".join(subjects), name)
        if digest(data) != subjects[name]:
            raise _wrong("", f"the {name} given is not the one of this job", subjects[name], digest(data))
        return f"the {name} given is the one of this job, {subjects[name]}"

    def signatures_shown(self) -> str:
        proof = self.bundle["proof"]
        signature = next((one["sig"] for one in proof["envelope"]["signatures"]), "")
        demand_equal(
            {
                "signatures": {
                    "qcos_signature": SIGNATURE_PREFIX + signature,
                    "timestamp_authority": TOKEN_PREFIX + proof["timestamp"],
                }
            },
            {"signatures": self.bundle["signatures"]},
            "evidence.field",
            "the bundle shows another signature than its proof holds",
        )
        return "the signatures shown are those of the proof"

    def timestamp(self) -> str:
        token = from_base64(self.bundle["proof"]["timestamp"], "/proof/timestamp")
        over = "over the ML-DSA-65 signature"
        try:
            root = self._root(token)
            if self.record is not None and self.record.first.tree:  # renewals alone leave it empty
                over = "over a hash tree that covers the ML-DSA-65 signature"
                if self.claimed is not None and self.claimed.level == "full":
                    raise Integrity(
                        "evidence.level",
                        "a bundle of level full must have a time stamp of its own",
                        subject="/proof/evidenceRecord",
                        expected="a token over the ML-DSA-65 signature",
                        got="one over a hash tree",
                    )
            self.time = verify_root(token, root, self.trust.certificates)
            authority_of(self.trust, self.time)
        except Integrity as error:
            error.subject = error.subject if error.subject.startswith("/") else "/proof/timestamp"
            raise
        if self.time.hash_name != "sha512":
            raise _wrong(
                "/proof/timestamp", "a weaker imprint than evidence has", "sha512", self.time.hash_name
            )
        accuracy = self.time.accuracy
        self.facts["trustedTime"] = rfc3339(self.time.time)
        self.facts["accuracyMs"] = milliseconds(accuracy) if accuracy is not None else None
        self.facts["authority"] = self.time.authority
        return f"{rfc3339(self.time.time)} by {self.time.authority}, {over}"

    def _root(self, token: bytes) -> bytes:
        """Return what the token stamps: the hash of the signature, or the root of the hash tree that covers it."""
        pointer = "/proof/evidenceRecord"
        attached, imprint = (
            self.bundle["proof"].get("evidenceRecord"),
            hashlib.sha512(self.signatures[0]).digest(),
        )
        if attached is None:
            return imprint
        try:
            record = read_record(from_base64(attached, pointer))
            if record.first.token != token:
                raise _wrong(
                    pointer,
                    "the initial archive time stamp is not the bundle's time-stamp token",
                    "the token at /proof/timestamp",
                    "another one",
                )
            if not record.first.tree and not record.is_renewed:
                raise _wrong(
                    pointer,
                    "a record that says no more than the token",
                    "a hash tree or a renewal",
                    "neither",
                )
            self.record = record
            return climb(imprint, record.first.tree, record.hashes[0])
        except Integrity as error:
            error.subject = pointer
            raise

    def renewal(self) -> str:
        """Demand that the time stamp was renewed without a gap."""
        self.stamps = check_renewals(_known(self.record), self.signatures[0], self.trust)
        later = [{"time": rfc3339(one.time), "authority": one.authority} for one in self.stamps[1:]]
        self.facts["renewals"] = later
        return "renewed " + ", ".join(f"at {one['time']} by {one['authority']}" for one in later)

    def long_term(self) -> str:
        """Demand that the newest time stamp counts when it is asked about."""
        newest = self.stamps[-1] if self.stamps else _known(self.time)
        return check_long_term(newest, _known(self.at), self.trust)

    def key_validity(self) -> str:
        info = _known(self.time)
        authority = authority_of(self.trust, info)
        check_authority(authority, info.time)
        if authority.revoked_at is not None:
            self.doubted = authority
        return check_keys(self.keys, info.time)

    def countersignature(self) -> str:
        made = [key.not_before for key in self.keys]  # whatever a stolen authority's token says, not before
        at = max(_known(self.time).time, *made)
        due = [
            key.public.key_id
            for key in self.trust.keys.values()
            if key.public.algorithm == COUNTERSIGNATURE and key.in_force(at)
        ]
        by = [key.public.key_id for key in self.keys if key.public.algorithm == COUNTERSIGNATURE]
        if due and not by:
            raise Integrity(
                "evidence.countersignature",
                "the countersignature by the key store's key is missing",
                subject="/proof/envelope/signatures",
                expected=f"a third signature, by key {' or '.join(due)}",
                got="none",
            )
        return f"countersigned by key {by[0]}" if by else "none was due at that time"

    def times(self) -> str:
        when = self.statement["predicate"]["when"]
        trusted = _known(self.time).time
        started, ended, sealed_at = (parse_rfc3339(when[n]) for n in ("startedAt", "endedAt", "sealedAt"))
        drift = check_times(started, ended, sealed_at, trusted)
        self.facts |= {"systemTime": when["sealedAt"], "clockDriftMs": drift}
        return f"executed, sealed, stamped; the system clock was {abs(drift)} ms off the trusted time"

    def ledger(self, *, allow_pending: bool) -> None:
        proof = self.bundle["proof"]["ledger"]
        if proof is None:
            self.pending = True
            if "decision" in self.bundle["proof"]:
                self.checks.skip("ledger decision", "there is no checkpoint to hold it against")
            self.checks.make("ledger", lambda: self._no_proof(allow_pending))
            return
        self.checks.make("ledger checkpoint", lambda: self._checkpoint(proof))
        self.checks.make("ledger inclusion", lambda: self._inclusion(proof))
        if "ledgerRecord" in self.facts:
            self.checks.make("ledger record", self._record)
        full = self.claimed is not None and self.claimed.level == "full"
        if full or "decision" in self.bundle["proof"]:
            self.checks.make("ledger decision", self._decision)

    def _no_proof(self, allowed: bool) -> str:
        if not allowed:
            raise Integrity(
                "evidence.pending", _NOT_YET, subject="/proof/ledger", expected="a ledger proof", got="null"
            )
        return _NOT_YET

    def _checkpoint(self, proof: Mapping[str, Any]) -> str:
        checkpoint, signatures = verify_checkpoint(
            proof["checkpoint"], self.trust.vkeys, self.trust.witnesses
        )
        if checkpoint.origin != self.trust.origin:
            raise _wrong("/proof/ledger/checkpoint", "another ledger", self.trust.origin, checkpoint.origin)
        log = [one for one in signatures if one.vkey.name == checkpoint.origin]
        kinds = ", ".join(sorted(one.vkey.algorithm for one in log))
        told = f"{checkpoint.origin}, {checkpoint.size} entries, signed with {kinds}"
        return told + self._witnesses(self.trust.witnesses.demand(signatures))

    def _witnesses(self, cosignatures: Sequence[Signed]) -> str:
        """Say who has witnessed the checkpoint and when: a second source of time."""
        if not cosignatures:
            return ""
        first = min(cosignatures, key=lambda one: one.time or 0)
        if self.time and (first.time or 0) + MAX_CLOCK_DRIFT_S < self.time.time.timestamp():
            raise Integrity(
                "evidence.witness_time",
                "a witness saw the checkpoint before the evidence in it was signed",
                subject="/proof/ledger/checkpoint",
                expected=f"not before {rfc3339(self.time.time)}",
                got=f"{first.vkey.name} at {_instant(first.time)}",
            )
        seen = [(one.vkey.name, _instant(one.time)) for one in cosignatures]
        self.facts["witnesses"] = [{"name": name, "time": time} for name, time in seen]
        return "; witnessed by " + ", ".join(f"{name} at {time}" for name, time in seen)

    def _inclusion(self, proof: Mapping[str, Any]) -> str:
        held = verify_proof(proof, self.trust.vkeys, witnesses=self.trust.witnesses)
        self.facts |= {"ledgerIndex": held.index, "ledgerRecord": held.record}
        return f"entry {held.index} of {held.checkpoint.size}"

    def _record(self) -> str:
        record = self.facts["ledgerRecord"]
        who = _known(self.facts.get("predicate"))["who"]
        expected = {
            "act": "evidence.sealed",
            "object": self.bundle["bundle_id"],
            "details": {
                "job": self.bundle["job_id"],
                "statement": digest(self.payload),
                "document": detached_digest(self.bundle),
            },
            **{name: who[name] for name in ("actor", "project", "tenant")},
        }
        check_members(record, expected)
        return f"record {record.get('id')} commits to this very bundle"

    def _decision(self) -> str:
        claimed, predicate = _known(self.claimed), self.statement["predicate"]
        index, record = check_decision(self.bundle, predicate, claimed, self.trust)
        self.facts["decisionRecord"] = record
        return f"entry {index}: decision {record['object']} allowed this very job"


def _instant(seconds: int | None) -> str:
    try:
        return rfc3339(dt.datetime.fromtimestamp(seconds or 0, dt.UTC))
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s after 1970"


def _known(value: Known | None) -> Known:
    if value is None:
        raise Integrity("evidence.unchecked", "what this is compared with did not hold")
    return value


def _wrong(pointer: str, message: str, expected: str, got: str) -> Integrity:
    return Integrity("evidence.field", message, subject=pointer, expected=expected[:300], got=got[:300])
