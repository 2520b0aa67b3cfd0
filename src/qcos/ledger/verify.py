"""Offline verification (R4.2): a proof and the log's verifier keys; no database, no network, no clock.

What is demanded of a checkpoint: for *every algorithm* among the trusted keys named as the log's origin, one
valid signature by a key that was in force at the checkpoint's time (`qcos.ledger.pinned`). So a checkpoint
from which the post-quantum signatures were stripped fails, one that a retired or revoked key signed afresh
fails, and a trust root that lists retired keys beside new ones still works. A policy of witnesses, when one is
given, must be met too: a checkpoint with fewer cosignatures may have been shown to one reader only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcos.base.errors import Integrity
from qcos.ledger.checkpoint import Checkpoint, decode, parse_body
from qcos.ledger.note import Signed, parse, verify
from qcos.ledger.pinned import PinnedVkey, demand_in_force, pin
from qcos.ledger.proof import LedgerProof, read_proof
from qcos.ledger.quorum import NOBODY, Policy
from qcos.ledger.record import check_members, entry_of, read_record
from qcos.ledger.tree import HASH_BYTES, MAX_PROOF, leaf_hash, verify_inclusion
from qcos.ledger.tree import verify_consistency as verify_tree_consistency


@dataclass(frozen=True, slots=True)
class Verified:
    """A proof that holds.

    Attributes:
        record: The record.
        index: Where its entry stands in the log.
        checkpoint: The tree head that covers it.
        signatures: The signatures that hold, those of witnesses too: with the time each states.
    """

    record: dict[str, Any]  # Any: JSON
    index: int
    checkpoint: Checkpoint
    signatures: tuple[Signed, ...]


def verify_proof(
    proof: Mapping[str, Any] | LedgerProof,  # Any: JSON from anybody
    vkeys: Sequence[str | PinnedVkey],
    expected: Mapping[str, Any] | None = None,  # Any: JSON
    witnesses: Policy | None = None,
) -> Verified:
    """Check that a record stands in the log.

    Args:
        proof: The JSON of `LedgerProof.as_dict`, from anybody.
        vkeys: The trust root: verifier keys of the log, with the time in which they count.
        expected: Members the record must have; objects are compared member by member, so ``{"details":
            {"statement": "sha256:..."}}`` checks one detail.
        witnesses: Whose cosignatures the checkpoint must carry.

    Raises:
        Integrity: With the exact reason; see the ``ledger.*`` codes in docs/reference/ledger.md.
        Invalid: ``ledger.vkey`` when the trust root itself is malformed.
    """
    read = proof if isinstance(proof, LedgerProof) else read_proof(proof)
    checkpoint, signatures = verify_checkpoint(read.checkpoint, vkeys, witnesses)
    if read.size != checkpoint.size:
        raise Integrity(
            "ledger.proof",
            "the proof and its checkpoint are of different sizes",
            expected=str(checkpoint.size),
            got=str(read.size),
        )
    leaf = leaf_hash(entry_of(read.record))
    verify_inclusion(leaf, read.index, checkpoint.size, read.hashes, checkpoint.root)
    record = read_record(read.record)
    check_members(record, expected or {})
    return Verified(record, read.index, checkpoint, signatures)


def verify_checkpoint(
    note: str | bytes, vkeys: Sequence[str | PinnedVkey], witnesses: Policy | None = None
) -> tuple[Checkpoint, tuple[Signed, ...]]:
    """Check a signed checkpoint.

    Returns:
        The tree head, and the signatures that hold, those of witnesses too.

    Raises:
        Integrity: ``ledger.note``, ``ledger.checkpoint``, ``ledger.origin``, ``ledger.signature``,
            ``ledger.unsigned``, ``ledger.key_validity``, ``ledger.unwitnessed``.
        Invalid: ``ledger.vkey`` when the trust root itself is malformed.
    """
    trusted = [pin(vkey) for vkey in vkeys]
    text, _ = parse(note)
    checkpoint = parse_body(text)
    log = [key for key in trusted if key.vkey.name == checkpoint.origin]
    if not log:
        raise Integrity(
            "ledger.origin",
            "the checkpoint is of a log that is not trusted",
            expected=", ".join(dict.fromkeys(key.vkey.name for key in trusted))[:300] or "a trusted key",
            got=checkpoint.origin,
        )
    policy = witnesses or NOBODY
    _, signatures = verify(note, [*(key.vkey for key in trusted), *policy.vkeys])
    demand_in_force(log, signatures)
    policy.demand(signatures)
    return checkpoint, signatures


def verify_consistency(
    old_note: str | bytes,
    new_note: str | bytes,
    hashes: Sequence[str],
    vkeys: Sequence[str | PinnedVkey],
    witnesses: Policy | None = None,
) -> tuple[Checkpoint, Checkpoint]:
    """Check that the newer of two signed checkpoints continues the older: nothing was changed or removed.

    Args:
        old_note: The checkpoint the caller kept.
        new_note: The checkpoint of today.
        hashes: The consistency proof, base64.
        vkeys: The trust root.
        witnesses: Whose cosignatures both must carry.

    Raises:
        Integrity: With the exact reason.
        Invalid: ``ledger.vkey`` when the trust root itself is malformed.
    """
    old, _ = verify_checkpoint(old_note, vkeys, witnesses)
    new, _ = verify_checkpoint(new_note, vkeys, witnesses)
    if old.origin != new.origin:
        raise Integrity(
            "ledger.origin", "the two checkpoints are of different logs", expected=old.origin, got=new.origin
        )
    if len(hashes) > MAX_PROOF or not all(isinstance(item, str) for item in hashes):
        raise Integrity(
            "ledger.consistency", "the proof is no list of base64 hashes", expected=f"at most {MAX_PROOF}"
        )
    read = [decode(item, HASH_BYTES, "ledger.consistency") for item in hashes]
    verify_tree_consistency(old.size, new.size, read, old.root, new.root)
    return old, new
