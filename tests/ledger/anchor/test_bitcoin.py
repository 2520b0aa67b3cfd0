"""R5.7: a checkpoint in a Bitcoin block by OpenTimestamps, shown offline by the stored receipt.

No Bitcoin node can be had for tests: calendar and header source are loopback servers that speak the documented wire
formats, with real proofs by the OpenTimestamps library and headers that did the work they state (regtest's).
"""

from __future__ import annotations

import base64
import copy
import random
from typing import Any

import pytest
from opentimestamps.core.notary import BitcoinBlockHeaderAttestation
from opentimestamps.core.timestamp import Timestamp

from qcos.base.errors import Integrity, Unavailable
from qcos.ledger.anchor.bitcoin import OpenTimestamps
from qcos.ledger.anchor.bitcoin_proof import header_hash
from qcos.ledger.anchor.model import SCHEMA, anchored_digest
from qcos.ledger.anchor.verify import verify_anchor

from .conftest import SIGNERS, Bitcoin, _serialized, checkpoint

NOTE = checkpoint()
DIGEST = anchored_digest(NOTE)
HEAD = (
    b"\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94\x01\x08" + DIGEST
)  # of a detached proof


def receipt_of(proof: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, "kind": "opentimestamps", "size": 70_000, "checkpoint": NOTE, "proof": proof}


def chain_of(btc: Bitcoin, *more: str) -> OpenTimestamps:
    return OpenTimestamps((btc.url, *more), btc.url, confirmations=2)


def anchored(btc: Bitcoin) -> tuple[dict[str, Any], str]:
    chain = chain_of(btc)
    step = chain.advance(DIGEST, chain.prepare(DIGEST))
    for _ in range(3):
        btc.block()
    done = chain.advance(DIGEST, step.work)
    assert done.proof is not None
    return receipt_of(dict(done.proof)), header_hash(btc.headers[0])


def test_a_receipt_verifies_offline(btc: Bitcoin) -> None:
    """R5.7."""
    receipt, block = anchored(btc)
    held = verify_anchor(receipt, SIGNERS.vkeys, [block])
    assert (held.known, held.confirmation.chain, held.confirmation.height) == (True, "bitcoin", 800_000)
    assert held.confirmation.block == block
    assert not verify_anchor(receipt, SIGNERS.vkeys, []).known


def test_a_promise_is_no_anchor(btc: Bitcoin) -> None:
    chain = chain_of(btc)
    step = chain.advance(DIGEST, chain.prepare(DIGEST))
    assert step.proof is None
    assert step.work["ots"]
    with pytest.raises(Integrity) as refused:
        verify_anchor(receipt_of({"ots": step.work["ots"], "headers": {}}), SIGNERS.vkeys, [])
    assert refused.value.code == "anchor.pending"


def test_it_counts_only_when_it_is_deep_enough(btc: Bitcoin) -> None:
    chain = chain_of(btc)
    step = chain.advance(DIGEST, chain.prepare(DIGEST))
    btc.block()
    btc.block()
    assert chain.advance(DIGEST, step.work).proof is None
    btc.block()
    assert chain.advance(DIGEST, step.work).proof is not None


def test_a_block_that_is_not_deep_enough_spoils_no_other(btc: Bitcoin) -> None:
    """Two calendars go into two blocks: the receipt of the first one holds, with the second one's promise in it."""
    for height in (2, 0):  # of another block, too young; of the same block, and a lie
        chain = chain_of(btc)
        step = chain.advance(DIGEST, chain.prepare(DIGEST))
        commitment, first = btc.waiting[0], btc.tip + 1
        for _ in range(3):
            btc.block()
        commitment.attestations.add(BitcoinBlockHeaderAttestation(first + height))
        btc.ways[commitment.msg.hex()] = _serialized(commitment)
        done = chain.advance(DIGEST, step.work)
        held = verify_anchor(receipt_of(dict(done.proof or {})), SIGNERS.vkeys, [])
        assert held.confirmation.height == first


def test_a_block_that_does_not_hold_it_is_no_anchor(btc: Bitcoin) -> None:
    chain = chain_of(btc)
    step = chain.advance(DIGEST, chain.prepare(DIGEST))
    lie = Timestamp(btc.waiting[0].msg)
    lie.attestations.add(BitcoinBlockHeaderAttestation(btc.tip + 1))
    for _ in range(3):
        btc.block()
    btc.ways[lie.msg.hex()] = _serialized(lie)
    assert chain.advance(DIGEST, step.work).proof is None


def test_a_dead_calendar_holds_up_no_other_and_none_at_all_is_an_error(btc: Bitcoin) -> None:
    chain = chain_of(btc, "http://127.0.0.1:9")
    step = chain.advance(DIGEST, chain.prepare(DIGEST))
    assert list(step.work["promises"]) == [btc.url]
    with pytest.raises(Unavailable):
        dead = OpenTimestamps(("http://127.0.0.1:9",), btc.url)
        dead.advance(DIGEST, dead.prepare(DIGEST))


def test_a_calendar_that_talks_nonsense(btc: Bitcoin) -> None:
    btc.broken = True
    chain = chain_of(btc)
    work = chain.prepare(DIGEST)
    with pytest.raises(Unavailable):
        chain.advance(DIGEST, work)
    btc.broken = False
    assert chain.advance(DIGEST, work).work["promises"], "nothing of the nonsense was kept"


def test_the_calendar_does_not_learn_the_digest(btc: Bitcoin) -> None:
    chain = chain_of(btc)
    chain.advance(DIGEST, chain.prepare(DIGEST))
    assert all(DIGEST not in timestamp.msg for timestamp in btc.waiting)


def test_work_that_was_not_done(btc: Bitcoin) -> None:
    """A header that claims the main chain's difficulty needs its work."""
    receipt, _ = anchored(btc)
    header = bytearray(bytes.fromhex(receipt["proof"]["headers"]["800000"]))
    header[72:76] = (0x1702C070).to_bytes(4, "little")
    receipt["proof"]["headers"]["800000"] = header.hex()
    with pytest.raises(Integrity) as refused:
        verify_anchor(receipt, SIGNERS.vkeys, [])
    assert "work" in refused.value.got


def test_about_another_checkpoint(btc: Bitcoin) -> None:
    receipt, block = anchored(btc)
    with pytest.raises(Integrity):
        verify_anchor(receipt | {"checkpoint": checkpoint(70_001)}, SIGNERS.vkeys, [block])


def test_no_changed_byte_verifies(btc: Bitcoin) -> None:
    receipt, block = anchored(btc)
    chosen = random.Random(7)
    original = base64.b64decode(receipt["proof"]["ots"])
    for _ in range(300):
        changed = copy.deepcopy(receipt)
        if chosen.random() < 0.5:
            data = bytearray(original)
            data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
            changed["proof"]["ots"] = base64.b64encode(data).decode()
            if _same_way(bytes(data), original):
                continue
        else:
            data = bytearray.fromhex(changed["proof"]["headers"]["800000"])
            data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
            changed["proof"]["headers"]["800000"] = data.hex()
        with pytest.raises(Integrity):
            verify_anchor(changed, SIGNERS.vkeys, [block])


def _same_way(data: bytes, original: bytes) -> bool:
    """Tell whether only a calendar's promise was changed: it proves nothing, with or without."""
    start = original.index(b"http://")
    places = [n for n, (a, b) in enumerate(zip(data, original, strict=True)) if a != b]
    return all(start - 12 <= place < start + 30 for place in places)


@pytest.mark.parametrize(
    "proof",
    [
        {"ots": "", "headers": {}},
        {"ots": "AAAA", "headers": {}},
        {"ots": "A" * 200_000, "headers": {}},
        {"ots": base64.b64encode(HEAD + b"\xff" * 5000).decode(), "headers": {}},
        {"ots": base64.b64encode(HEAD + b"\x08" * 5000).decode(), "headers": {}},
        {"ots": 5, "headers": None},
    ],
)
def test_hostile_proofs_are_refused(proof: dict[str, Any]) -> None:
    with pytest.raises(Integrity) as refused:
        verify_anchor(receipt_of(proof), SIGNERS.vkeys, [])
    assert refused.value.code == "anchor.proof"
