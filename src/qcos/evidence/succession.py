"""The succession of trust documents: each is signed by the keys of the one before it. Pure: no database, no network, no clock.

Who holds a document moves to a later one step by step, and has to trust nobody on the way (compare TUF, section 5.3, "Update the
root role"). A step is a DSSE envelope over an in-toto statement whose predicate is the whole next document. It names version and
digest of its predecessor, and is signed by every evidence and ledger key in force in that predecessor. One of them may be missing:
the key that this very step revokes. So whoever has the keys of one role alone cannot move anybody anywhere.

Keys of evidence and ledger only ever get more, and more restricted: a step that drops one, or lets one count again, is refused
whoever signed it.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qcos.base.canonical import canonical, digest_of, loads_strict
from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity, Invalid, QcosError
from qcos.evidence import envelope
from qcos.evidence.envelope import PAYLOAD_TYPE, Signer, from_base64, pae
from qcos.evidence.statement import STATEMENT_TYPE
from qcos.evidence.trust import MAX_TRUST_BYTES, Trust
from qcos.keys.model import Algorithm
from qcos.keys.signer import PublicKey
from qcos.keys.trust import UNTIL_COVERED
from qcos.ledger.note import COSIGNATURE_MLDSA44, ED25519, MLDSA65
from qcos.ledger.pinned import PinnedVkey

PREDICATE_TYPE: Final = "urn:qcos:trust-document:v1"
_SUBJECT: Final = "trust.json"
_LAST_WORD: Final = dt.timedelta(hours=1)  # so long the ledger's size at a revocation may be corrected
_MOST_SIGNATURES: Final = 16  # five keys, a countersigner, and room
_KINDS: Final[dict[bytes, Algorithm]] = {
    ED25519: "Ed25519",
    COSIGNATURE_MLDSA44: "ML-DSA-44",
    MLDSA65: "ML-DSA-65",
}
_COUNTERSIGNS: Final[Algorithm] = "ECDSA-P384"
_DEMANDED: Final = {"Ed25519", "ML-DSA-65"}


@dataclass(frozen=True, slots=True)
class Held:
    """A trust document, as somebody holds it.

    Attributes:
        document: Its members, JSON.
        trust: What it says.
        digest: ``sha256:<hex>`` of its canonical JSON.
    """

    document: Mapping[str, Any]  # Any: JSON
    trust: Trust
    digest: str

    @property
    def version(self) -> int:
        """Return its number; 0 when it is older than the succession."""
        return self.trust.version

    def __str__(self) -> str:
        return f"version {self.version}, {self.digest}"


@dataclass(frozen=True, slots=True)
class Step:
    """A step as it was sent: nothing of it is believed yet but its form.

    Attributes:
        held: The document that it leads to.
        payload: What is signed.
        signatures: Key ids and raw signatures.
    """

    held: Held
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]


def hold(document: Mapping[str, Any]) -> Held:  # Any: JSON
    """Read a document that its holder trusts.

    Raises:
        Invalid: ``trust.malformed``.
    """
    return Held(document, Trust.load(document), digest_of(document))


def ledger_key(pinned: PinnedVkey) -> PublicKey:
    """Return a ledger's key as a public key, by whose id `qcos key list` names it.

    Raises:
        Invalid: ``keys.public``; ``trust.malformed`` for a kind that no ledger of an installation has.
    """
    algorithm = _KINDS.get(pinned.vkey.kind)
    if algorithm is None:
        raise Invalid("trust.malformed", "not a key of an installation's ledger", got=pinned.vkey.algorithm)
    return PublicKey.of_raw(algorithm, pinned.vkey.public)


def signing_keys(trust: Trust) -> dict[str, PublicKey]:
    """Return the keys in force, of evidence and ledger, by their ids: those that sign what follows this document."""
    evidence = [key.public for key in trust.keys.values() if key.not_after is None and key.revoked_at is None]
    ledger = [ledger_key(key) for key in trust.vkeys if key.not_after is None and key.revoked_at is None]
    return {key.key_id: key for key in (*evidence, *ledger)}


def due_signers(before: Trust, after: Trust) -> dict[str, PublicKey]:
    """Return the keys that have to sign the step from one document to the next.

    Raises:
        Integrity: ``trust.expelled`` when the step revokes more than one of them, ``trust.signer`` when what is left does not hold
            a classical and an ML-DSA-65 key.
    """
    keys = signing_keys(before)
    revoked = {key_id for key_id, key in after.keys.items() if key.revoked_at is not None}
    revoked |= {ledger_key(key).key_id for key in after.vkeys if key.revoked_at is not None}
    gone = sorted(keys.keys() & revoked)
    if len(gone) > 1:
        raise Integrity(
            "trust.expelled",
            "one step revokes several of the keys that had to sign it",
            expected="one at most: the others vouch for it",
            got=", ".join(gone),
        )
    due = {key_id: key for key_id, key in keys.items() if key_id not in gone}
    if not {key.algorithm for key in due.values()} >= _DEMANDED:
        raise Integrity(
            "trust.signer",
            "the document before has no keys that could sign another",
            expected=", ".join(sorted(_DEMANDED)),
            got=", ".join(f"{key.algorithm} {key_id}" for key_id, key in due.items()) or "none",
            hint="get a new trust document by the way you got the first",
        )
    return due


def write_step(document: Mapping[str, Any], signers: Sequence[Signer]) -> dict[str, Any]:  # Any: JSON
    """Return the step that leads to a document, signed by `due_signers` in their order."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": _SUBJECT, "digest": _subject_digest(document)}],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(document),
    }
    return envelope.sign(canonical(statement), signers)[0]


def read_step(item: Any) -> Step:  # Any: JSON from anybody
    """Read a step as it was sent.

    Raises:
        Integrity: ``trust.update`` with what is wrong with its form.
    """
    try:
        if item.keys() != {"payload", "payloadType", "signatures"} or item["payloadType"] != PAYLOAD_TYPE:
            raise ValueError(f"an envelope with payload, signatures and payloadType {PAYLOAD_TYPE} only")
        given = item["signatures"]
        if len(given) > _MOST_SIGNATURES or any(one.keys() != {"keyid", "sig"} for one in given):
            raise ValueError(f"at most {_MOST_SIGNATURES} signatures, each with keyid and sig only")
        if len(item["payload"]) > 2 * MAX_TRUST_BYTES:
            raise ValueError(f"longer than {2 * MAX_TRUST_BYTES} characters")
        payload = from_base64(item["payload"], "/payload")
        signatures = tuple(
            (_text(one["keyid"]), from_base64(one["sig"], f"/signatures/{n}/sig"))
            for n, one in enumerate(given)
        )
        statement = loads_strict(payload, subject="update of a trust document")
        document = statement["predicate"]
        expected = {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": _SUBJECT, "digest": _subject_digest(document)}],
            "predicateType": PREDICATE_TYPE,
            "predicate": document,
        }
        if statement != expected or canonical(statement) != payload:
            raise ValueError("a canonical statement about its predicate, and nothing else")
        held = hold(document)
        for key in held.trust.vkeys:  # one of a kind that no ledger of an installation has leads nowhere
            ledger_key(key)
        if not held.version:
            raise ValueError("a document with a version")
    except (QcosError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Integrity(
            "trust.update",
            "an update of the trust document cannot be read",
            expected="what GET /v1/trust/updates gives",
            got=f"{type(error).__name__}: {error}"[:300],
        ) from None
    return Step(held, payload, signatures)


def verify_step(before: Held, step: Step) -> Held:
    """Demand that a step follows a document, and return where it leads.

    Raises:
        Integrity: ``trust.gap``, ``trust.rollback``, ``trust.origin``, ``trust.revoked_signer``, ``trust.signer``,
            ``trust.signature``, ``trust.expelled``, ``trust.fork``, ``trust.order``, ``trust.lost_key``.
    """
    after = step.held
    if after.version <= before.version:
        raise _rollback(before, str(after))
    if after.version != before.version + 1:
        raise _gap(before.version + 1, after.version)
    if after.trust.origin != before.trust.origin:
        raise Integrity(
            "trust.origin",
            "the update is of another installation",
            expected=before.trust.origin[:200],
            got=after.trust.origin[:200],
        )
    _demand_signed(before, step)
    if before.version and after.trust.previous != before.digest:
        raise _fork(before, after.trust.previous)
    first, then = before.trust.issued, after.trust.issued
    if first is not None and then is not None and then < first:
        raise Integrity(
            "trust.order",
            "the update is older than the document it follows",
            subject=f"version {after.version}",
            expected=f"after {rfc3339(first)}",
            got=rfc3339(then),
        )
    demand_grown(before.trust, after.trust)
    _demand_final(before.trust, after.trust)
    return after


def update(
    held: Held, items: Sequence[Any], *, overlapping: bool = False
) -> tuple[Held, ...]:  # Any: JSON from anybody
    """Follow steps from the document held, in their order; those up to it are only compared.

    Args:
        held: The document.
        items: The steps, as they were sent.
        overlapping: Whether the step to the document held was asked for, too: then having none at all is a rollback.

    Returns:
        The documents after the one held, oldest first; none when it is the newest.

    Raises:
        Integrity: ``trust.update``, and as `verify_step`.
    """
    done: list[Held] = []
    last: int | None = None
    for item in items:
        step = read_step(item)
        if last is not None and step.held.version != last + 1:
            raise _gap(last + 1, step.held.version)
        last = step.held.version
        if last > held.version:
            done.append(verify_step(done[-1] if done else held, step))
        elif last == held.version and step.held.digest != held.digest:
            raise _fork(held, step.held.digest)
    if last is None and overlapping and held.version:
        raise _rollback(held, "no version")
    if last is not None and last < held.version:
        raise _rollback(held, f"version {last}")
    return tuple(done)


def demand_grown(before: Trust, after: Trust) -> None:
    """Demand that no key of evidence or ledger was dropped or counts for longer, nor an authority that was replaced or revoked.

    Raises:
        Integrity: ``trust.lost_key``.
    """
    for key_id, key in before.keys.items():
        new = after.keys.get(key_id)
        if new is None or new.not_before != key.not_before or not _narrower(key, new):
            raise _lost(f"evidence key {key_id}")
        if new.public.spki != key.public.spki:  # an id is 64 bits of its digest
            raise _lost(f"evidence key {key_id}")
    vkeys = {key.vkey: key for key in after.vkeys}
    for pinned in before.vkeys:
        found = vkeys.get(pinned.vkey)
        if found is None or found.not_before != pinned.not_before or not _narrower(pinned, found):
            raise _lost(f"ledger key {pinned.vkey}")
    for certificate, authority in before.authorities.items():
        if authority.not_after is None and authority.revoked_at is None:
            continue  # an outside one that the installation no longer pins
        other = after.authorities.get(certificate)
        if other is None or not _narrower(authority, other):
            raise _lost("a time-stamping authority that was replaced or revoked")


def _demand_final(before: Trust, after: Trust) -> None:
    """Demand that a revoked authority does not vouch for more of the ledger than was said when the revocation had taken effect.

    Raises:
        Integrity: ``trust.lost_key``.
    """
    if before.issued is None or after.issued is None:
        return
    for certificate, authority in before.authorities.items():
        if authority.revoked_at is None or authority.ledger_size is None:
            continue
        known = before.issued - authority.revoked_at >= UNTIL_COVERED
        size = after.authorities[certificate].ledger_size
        grown = size is None or size > authority.ledger_size
        if known and grown and after.issued - authority.revoked_at >= UNTIL_COVERED + _LAST_WORD:
            raise _lost("the ledger's size at the revocation of a time-stamping authority")


def demand_witnesses(before: Trust, after: Trust) -> None:
    """Demand the same witnesses of the ledger; whoever had none may get some.

    Witnesses are what the installation has no say in, so its keys alone do not change them.

    Raises:
        Integrity: ``trust.witnesses``.
    """
    known, told = before.witnesses.as_trust(), after.witnesses.as_trust()
    if known is not None and known != told:
        raise Integrity(
            "trust.witnesses",
            "the updates demand other witnesses of the ledger than the document held",
            expected=before.witnesses.describe()[:300],
            got=after.witnesses.describe()[:300],
            hint="ask the witnesses or the operator why, then take it with --accept-witnesses",
        )


def demand_countersigner(chain: Sequence[Held]) -> None:
    """Demand that no key that countersigns evidence went by the word of the other keys alone.

    It lies in a key store that gives no key away, so it is what the holder of all other keys lacks (docs/reference/keystores.md);
    he could sign a step that revokes it, and seal evidence without it from then on.

    Args:
        chain: The document held and those after it, each following the one before.

    Raises:
        Integrity: ``trust.countersigner``.
    """
    for before, after in itertools.pairwise(chain):
        for key_id, key in signing_keys(before.trust).items():
            if key.algorithm == _COUNTERSIGNS and after.trust.keys[key_id].revoked_at is not None:
                raise Integrity(
                    "trust.countersigner",
                    "the updates revoke the key that countersigns evidence, by the word of the other keys",
                    subject=f"version {after.version}, key {key_id}",
                    got=after.trust.keys[key_id].reason[:300],
                    hint="ask the operator whether its key store is lost, then take it with --accept-countersigner",
                )


def _narrower(old: Any, new: Any) -> bool:  # Any: keys of three kinds, all with not_after and revoked_at
    """Return whether a key counts no longer than before."""
    kept = old.not_after is None or (new.not_after is not None and new.not_after <= old.not_after)
    return kept and (
        old.revoked_at is None or (new.revoked_at is not None and new.revoked_at <= old.revoked_at)
    )


def _demand_signed(before: Held, step: Step) -> None:
    """Demand exactly the signatures that are due, in their order."""
    due = due_signers(before.trust, step.held.trust)
    named = [key_id for key_id, _ in step.signatures]
    for key_id in named:
        if key_id not in due:
            raise _no_signer(before.trust, key_id, due)
    if named != list(due):
        raise Integrity(
            "trust.signer",
            "the update is not signed by every key that has to",
            subject=f"version {step.held.version}",
            expected=", ".join(due),
            got=", ".join(named)[:300] or "no signature",
        )
    message = pae(PAYLOAD_TYPE, step.payload)
    for key_id, signature in step.signatures:
        try:
            due[key_id].verify(signature, message)
        except Integrity as error:
            raise Integrity(
                "trust.signature",
                f"{error.message}: the update was changed",
                subject=f"version {step.held.version}",
                expected=f"a signature by key {key_id}",
            ) from None


def _no_signer(before: Trust, key_id: str, due: Mapping[str, PublicKey]) -> Integrity:
    ledger = {ledger_key(key).key_id: key for key in before.vkeys}
    known = before.keys.get(key_id) or ledger.get(key_id)
    if known is not None and known.revoked_at is not None:
        return Integrity(
            "trust.revoked_signer",
            "the update is signed by a key that was revoked before",
            subject=f"key {key_id}",
            expected=f"signatures by {', '.join(due)}",
            got=f"a key revoked at {rfc3339(known.revoked_at)}",
        )
    return Integrity(
        "trust.signer",
        "the update is signed by a key that may not sign it"
        if known is not None
        else "the update is signed by a key that the document held does not know",
        subject=f"key {str(key_id)[:80]}",
        expected=f"signatures by {', '.join(due)}",
        hint="of another installation, or made after a rotation that the document held knows nothing of: get the new trust "
        "document by the way you got the first",
    )


def _text(value: Any) -> str:  # Any: JSON
    if not isinstance(value, str):
        raise TypeError(f"a key id {value!r}"[:80])
    return value


def _subject_digest(document: Any) -> dict[str, str]:  # Any: JSON
    return {"sha256": digest_of(document).removeprefix("sha256:")}


def _gap(expected: int, got: int) -> Integrity:
    return Integrity(
        "trust.gap",
        "an update is missing in between",
        expected=f"version {expected}",
        got=f"version {got}",
        hint="get all updates after the version that you hold",
    )


def _rollback(held: Held, got: str) -> Integrity:
    return Integrity(
        "trust.rollback",
        "the updates end before the document held: they are older",
        expected=f"version {held.version} or later",
        got=got,
        hint="the server was set back, or shows you an old state on purpose: keep your document",
    )


def _fork(held: Held, got: str) -> Integrity:
    return Integrity(
        "trust.fork",
        "the updates continue another document than the one held: there are two histories",
        subject=f"version {held.version}",
        expected=held.digest,
        got=got,
        hint="keep both documents, compare them with what others hold and with the records `trust.issued` of the ledger",
    )


def _lost(what: str) -> Integrity:
    return Integrity(
        "trust.lost_key",
        "the update drops a key, or lets it count for longer than before",
        subject=what,
        expected="keys that are added or restricted, never released",
    )
