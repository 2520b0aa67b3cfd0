"""Verify an anchor's receipt offline: with the ledger's keys, and a block's hash that the verifier knows himself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qcos.base.errors import Integrity
from qcos.ledger.anchor import bitcoin_proof, ethereum_proof
from qcos.ledger.anchor.model import SCHEMA, Confirmation, anchored_digest
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.pinned import PinnedVkey
from qcos.ledger.verify import verify_checkpoint

_CHECKS: Final = {"ethereum": ethereum_proof.check, "opentimestamps": bitcoin_proof.check}
_BLOCK: Final = re.compile(r"(?:0x)?([0-9a-f]{64})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Held:
    """What was found to hold.

    Attributes:
        checkpoint: The ledger's checkpoint, with the signatures of its keys.
        confirmation: The block that holds its digest; by the time it states the checkpoint existed.
        known: Whether the verifier knew the block's hash.
    """

    checkpoint: Checkpoint
    confirmation: Confirmation
    known: bool


def verify_anchor(
    receipt: Any, vkeys: Sequence[str | PinnedVkey], blocks: Sequence[str]
) -> Held:  # Any: JSON from anybody
    """Check a receipt.

    Args:
        receipt: The receipt.
        vkeys: Verifier keys of the ledger, with the time in which they count.
        blocks: Hashes of blocks that the verifier took from the chain by a way of his own; without any, the caller gets to
            know the block that he has to ask for.

    Raises:
        Integrity: ``anchor.receipt``, ``anchor.proof``, ``anchor.pending``; ``anchor.block`` when it is none of the blocks;
            ``ledger.*`` when the checkpoint does not hold.
        Invalid: ``anchor.package``.
    """
    if not isinstance(receipt, Mapping) or receipt.get("schema") != SCHEMA:
        raise Integrity(
            "anchor.receipt", "not the receipt of an anchor", expected=f"a JSON object with schema {SCHEMA}"
        )
    kind, note, proof = receipt.get("kind"), receipt.get("checkpoint"), receipt.get("proof")
    if kind not in _CHECKS or not isinstance(note, str):
        raise Integrity(
            "anchor.receipt",
            "an unknown kind of anchor, or no checkpoint",
            expected=", ".join(_CHECKS),
            got=str(kind)[:80],
        )
    checkpoint, _ = verify_checkpoint(note, vkeys)
    if proof is None:
        raise Integrity("anchor.pending", "no block holds it yet", hint="fetch the receipt again later")
    if not isinstance(proof, Mapping):
        raise Integrity("anchor.receipt", "the proof is no JSON object", subject="/proof")
    confirmation = _CHECKS[kind](proof, anchored_digest(note))
    wanted = {_plain(block) for block in blocks}
    if wanted and _plain(confirmation.block) not in wanted:
        raise Integrity(
            "anchor.block",
            "the digest stands in another block than the chain's",
            subject=f"block {confirmation.height} of {confirmation.chain}",
            expected=", ".join(blocks)[:300],
            got=confirmation.block,
        )
    return Held(checkpoint, confirmation, bool(wanted))


def _plain(block: str) -> str:
    match = _BLOCK.fullmatch(block.strip())
    return match[1].lower() if match else block
