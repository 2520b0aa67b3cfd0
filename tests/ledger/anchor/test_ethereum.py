"""R5.7: a checkpoint on an Ethereum-compatible chain, shown offline by the stored receipt; on a real node."""

from __future__ import annotations

import base64
import copy
import random
from pathlib import Path
from typing import Any

import pytest
import rlp
from eth_account import Account

from qcos.base.errors import Integrity, Invalid, QcosError, Unavailable
from qcos.ledger.anchor.ethereum import Ethereum
from qcos.ledger.anchor.model import SCHEMA, anchored_digest
from qcos.ledger.anchor.verify import verify_anchor

from .conftest import KEY, SIGNERS, Node, checkpoint


@pytest.fixture
def chain(anvil: Node, tmp_path: Path) -> Ethereum:
    key = tmp_path / "anchor.key"
    key.write_text(KEY)
    anvil.fund(Account.from_key(KEY).address)
    return Ethereum(anvil.url, key, confirmations=3)


def receipt_of(note: str, proof: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, "kind": "ethereum", "size": 70_000, "checkpoint": note, "proof": proof}


def anchored(chain: Ethereum, anvil: Node) -> tuple[dict[str, Any], str]:
    """Anchor a checkpoint; returns the receipt, and the block's hash as the chain itself tells it."""
    note = checkpoint()
    work = chain.prepare(anchored_digest(note))
    assert chain.advance(anchored_digest(note), work).proof is None, "it is sent"
    anvil.taken(work["hash"])
    anvil.mine(4)
    done = chain.advance(anchored_digest(note), work)
    assert done.proof is not None
    return receipt_of(note, dict(done.proof)), anvil.call("eth_getTransactionReceipt", work["hash"])[
        "blockHash"
    ]


def test_a_receipt_verifies_offline(chain: Ethereum, anvil: Node) -> None:
    """R5.7."""
    receipt, block = anchored(chain, anvil)
    held = verify_anchor(receipt, SIGNERS.vkeys, [block])
    assert (held.known, held.confirmation.chain, held.confirmation.block) == (True, "ethereum:31337", block)
    assert held.checkpoint.size == 70_000
    unknown = verify_anchor(receipt, SIGNERS.vkeys, [])
    assert (unknown.known, unknown.confirmation.block) == (False, block), (
        "who knows no block learns which to ask for"
    )


def test_a_receipt_cannot_claim_another_chain(chain: Ethereum, anvil: Node) -> None:
    """Else somebody looks the block up in the wrong chain, or takes a test net's for the main one's."""
    receipt, block = anchored(chain, anvil)
    receipt["proof"]["chainId"] = 1
    with pytest.raises(Integrity) as refused:
        verify_anchor(receipt, SIGNERS.vkeys, [block])
    assert (refused.value.code, refused.value.got) == ("anchor.proof", "31337")


def test_another_block_is_refused(chain: Ethereum, anvil: Node) -> None:
    receipt, block = anchored(chain, anvil)
    with pytest.raises(Integrity) as refused:
        verify_anchor(receipt, SIGNERS.vkeys, ["0x" + "00" * 32])
    assert (refused.value.code, refused.value.got) == ("anchor.block", block)


def test_it_counts_only_when_it_is_deep_enough(chain: Ethereum, anvil: Node) -> None:
    digest = anchored_digest(checkpoint())
    work = chain.prepare(digest)
    chain.advance(digest, work)
    anvil.taken(work["hash"])
    anvil.mine(2)
    assert chain.advance(digest, work).proof is None
    anvil.mine(1)
    assert chain.advance(digest, work).proof is not None


def test_a_crash_after_sending_sends_the_same_again_and_pays_once(chain: Ethereum, anvil: Node) -> None:
    digest = anchored_digest(checkpoint())
    address = Account.from_key(KEY).address
    before = int(anvil.call("eth_getTransactionCount", address, "latest"), 16)
    work = chain.prepare(digest)
    for _ in range(3):
        chain._send(work)
    anvil.mine(4)
    assert chain.advance(digest, work).proof is not None
    assert int(anvil.call("eth_getTransactionCount", address, "latest"), 16) == before + 1


def test_a_reorganisation_throws_it_out_and_it_goes_in_again(chain: Ethereum, anvil: Node) -> None:
    digest = anchored_digest(checkpoint())
    work = chain.prepare(digest)
    snapshot = anvil.call("evm_snapshot")
    chain.advance(digest, work)
    anvil.taken(work["hash"])
    assert anvil.call("evm_revert", snapshot)
    assert anvil.call("eth_getTransactionReceipt", work["hash"]) is None
    assert chain.advance(digest, work).proof is None
    anvil.mine(4)
    done = chain.advance(digest, work)
    assert done.proof is not None
    verify_anchor(receipt_of(checkpoint(), dict(done.proof)), SIGNERS.vkeys, [])


def test_a_transaction_whose_place_was_taken_is_told(chain: Ethereum, anvil: Node) -> None:
    """The key paid for something else meanwhile: silence would look like waiting."""
    one, other = (anchored_digest(checkpoint(size)) for size in (70_000, 70_001))
    work, taking = chain.prepare(one), chain.prepare(other)
    assert chain.advance(other, taking).proof is None
    anvil.mine(1)
    with pytest.raises(Unavailable, match="took this one's place"):
        chain.advance(one, work)
    anvil.mine(4)
    assert chain.advance(other, taking).proof is not None


def test_among_other_transactions_of_its_block(chain: Ethereum, anvil: Node) -> None:
    """The branch of the trie is real: the block has many transactions, ours somewhere among them."""
    digest = anchored_digest(checkpoint())
    anvil.call("evm_setAutomine", False)
    try:
        others = anvil.call("eth_accounts")
        for n in range(40):
            anvil.call(
                "eth_sendTransaction", {"from": others[n % len(others)], "to": others[0], "value": "0x1"}
            )
        work = chain.prepare(digest)
        chain.advance(digest, work)
        anvil.mine(4)
    finally:
        anvil.call("evm_setAutomine", True)
    done = chain.advance(digest, work)
    assert done.proof is not None
    assert len(done.proof["nodes"]) >= 2
    verify_anchor(receipt_of(checkpoint(), dict(done.proof)), SIGNERS.vkeys, [])


def test_no_changed_byte_verifies(chain: Ethereum, anvil: Node) -> None:
    """Every byte of header and branch counts: a changed one gives another block, or nothing."""
    receipt, block = anchored(chain, anvil)
    chosen = random.Random(5)
    for _ in range(200):
        changed = copy.deepcopy(receipt)
        place = chosen.choice([("header", None), ("nodes", chosen.randrange(len(receipt["proof"]["nodes"])))])
        text = changed["proof"][place[0]] if place[1] is None else changed["proof"][place[0]][place[1]]
        data = bytearray(base64.b64decode(text))
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        new = base64.b64encode(data).decode()
        if place[1] is None:
            changed["proof"]["header"] = new
        else:
            changed["proof"]["nodes"][place[1]] = new
        with pytest.raises(Integrity):
            verify_anchor(changed, SIGNERS.vkeys, [block])


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint": checkpoint(70_001)},
        {"kind": "bitcoin"},
        {"schema": "qcos.anchor/v2"},
        {"proof": None},
        {"proof": []},
        {"proof": {}},
    ],
)
def test_other_parts_changed(chain: Ethereum, anvil: Node, change: dict[str, Any]) -> None:
    receipt, block = anchored(chain, anvil)
    with pytest.raises(Integrity):
        verify_anchor(receipt | change, SIGNERS.vkeys, [block])


@pytest.mark.parametrize(
    "proof",
    [
        {"header": "", "nodes": [""], "index": 0, "chainId": 1},
        {"header": base64.b64encode(b"\xf8" * 4000).decode(), "nodes": ["gA=="], "index": 0, "chainId": 1},
        {
            "header": base64.b64encode(b"\xc1" * 4000).decode(),
            "nodes": ["gA=="] * 64,
            "index": 0,
            "chainId": 1,
        },
        {
            "header": base64.b64encode(rlp.encode([b"x"] * 20)).decode(),
            "nodes": ["gA=="] * 65,
            "index": 0,
            "chainId": 1,
        },
        {
            "header": base64.b64encode(rlp.encode([b"x"] * 20)).decode(),
            "nodes": ["wA=="],
            "index": -1,
            "chainId": 1,
        },
        {
            "header": base64.b64encode(rlp.encode([b"x"] * 20)).decode(),
            "nodes": ["wA=="],
            "index": True,
            "chainId": 1,
        },
        {"header": 5, "nodes": {}, "index": "0", "chainId": None},
    ],
)
def test_hostile_proofs_are_refused(proof: dict[str, Any]) -> None:
    with pytest.raises(Integrity) as refused:
        verify_anchor(receipt_of(checkpoint(), proof), SIGNERS.vkeys, [])
    assert refused.value.code == "anchor.proof"


def test_a_node_that_is_away(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    with pytest.raises(Unavailable) as failed:
        Ethereum("http://127.0.0.1:9", key).prepare(b"\0" * 32)
    assert failed.value.code == "anchor.unavailable"


def test_a_key_that_is_none_is_named_and_not_shown(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0xsecret")
    with pytest.raises(Invalid) as failed:
        Ethereum("http://127.0.0.1:9", key).prepare(b"\0" * 32)
    assert "secret" not in str(failed.value)


def test_an_empty_purse(anvil: Node, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0x" + "11" * 32)
    with pytest.raises(QcosError) as failed:
        chain = Ethereum(anvil.url, key)
        chain.advance(b"\0" * 32, chain.prepare(b"\0" * 32))
    assert failed.value.code == "anchor.unavailable"
