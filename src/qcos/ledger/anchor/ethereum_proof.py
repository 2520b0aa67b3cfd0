"""Check offline that a transaction with a checkpoint's digest stands in a block of an Ethereum-compatible chain.

The receipt holds the block's header (RLP) and the branch of its transaction trie. The header's Keccak-256 is the
block's hash: whoever knows the chain's hash of that number, from a node or an explorer of his own, needs to believe
nobody else (Ethereum yellow paper, 4.3; EIP-1559, EIP-2718).
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from qcos.base.errors import Integrity, Invalid
from qcos.ledger.anchor.model import Confirmation

_TRANSACTIONS_ROOT, _NUMBER, _TIMESTAMP = 4, 8, 11  # places of a header's fields
_LEAST_FIELDS, _MOST_FIELDS = 15, 32
_DATA: Final = {0: 5, 1: 6, 2: 7}  # transaction type: place of its data
_MAX_HEADER: Final = 4096  # bytes; headers of today have about 650
_MAX_NODES: Final = 64  # nodes of a branch: one for each half byte of the key, at the most
_MAX_NODE: Final = 256 * 1024  # bytes of a node: a leaf holds a whole transaction


def check(proof: Mapping[str, Any], digest: bytes) -> Confirmation:  # Any: JSON from anybody
    """Return the block that holds the digest.

    Raises:
        Integrity: ``anchor.proof`` with what does not fit.
        Invalid: ``anchor.package`` when the extra is not installed.
    """
    rlp, keccak, trie = _packages()
    try:
        header = _bytes(proof["header"], _MAX_HEADER)
        nodes = [_bytes(node, _MAX_NODE) for node in _list(proof["nodes"])]
        index, chain = _integer(proof["index"]), _integer(proof["chainId"])
        fields = rlp.decode(header)
        if not isinstance(fields, list) or not _LEAST_FIELDS <= len(fields) <= _MOST_FIELDS:
            raise ValueError("not a block header")
        raw = trie.get_from_proof(
            fields[_TRANSACTIONS_ROOT], rlp.encode(index), [rlp.decode(n) for n in nodes]
        )
        kind = raw[0] if raw and raw[0] < 0x7F else 0
        transaction = rlp.decode(raw[1:] if kind else raw)
        data = transaction[_DATA[kind]]
        signed_for = _chain_of(kind, transaction)
        stamp = int.from_bytes(fields[_TIMESTAMP], "big")
        at = dt.datetime.fromtimestamp(stamp, dt.UTC)
        height = int.from_bytes(fields[_NUMBER], "big")
    except Exception as error:  # whatever the libraries raise on hostile bytes: none of it may pass
        raise _wrong(
            "it is malformed, or its branch does not lead to the block's transactions", str(error)
        ) from None
    if not isinstance(data, bytes) or data != digest:
        raise _wrong(
            "the transaction holds something else",
            data.hex() if isinstance(data, bytes) else "",
            digest.hex(),
        )
    if signed_for != chain:
        raise _wrong("the transaction is of another chain", str(signed_for), str(chain))
    return Confirmation(f"ethereum:{chain}", height, "0x" + keccak(header).hex(), at)


def _chain_of(kind: int, transaction: Any) -> int:  # Any: RLP of anybody
    """Return the chain a transaction was signed for: its first field, or in its signature's v (EIP-155)."""
    if kind:
        return int.from_bytes(transaction[0], "big")
    return (int.from_bytes(transaction[6], "big") - 35) // 2


def _packages() -> Any:  # Any: libraries without types
    try:
        import rlp
        from eth_utils.crypto import keccak
        from trie.hexary import HexaryTrie
    except ImportError:
        raise Invalid(
            "anchor.package",
            "anchors need packages that are not installed",
            expected="rlp, trie, eth-account",
            hint="pip install 'qcos[anchor]'",
        ) from None
    return rlp, keccak, HexaryTrie


def _list(value: Any) -> list[Any]:  # Any: JSON
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_NODES:
        raise ValueError("not a branch of a trie")
    return value


def _integer(value: Any) -> int:  # Any: JSON
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("not a number")
    return value


def _bytes(text: Any, limit: int) -> bytes:  # Any: JSON
    if not isinstance(text, str) or len(text) > limit * 4 // 3 + 4:
        raise ValueError("not base64, or too long")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    if base64.b64encode(data).decode() != text:
        raise ValueError("not the canonical spelling of its base64")
    return data


def _wrong(why: str, got: str, expected: str = "") -> Integrity:
    return Integrity(
        "anchor.proof", f"the anchor does not hold: {why}", subject="/proof", expected=expected, got=got[:200]
    )
