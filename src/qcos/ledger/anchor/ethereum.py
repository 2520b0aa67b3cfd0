"""Commit a digest to an Ethereum-compatible chain: as the data of a transaction to oneself, by any node's JSON-RPC."""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qcos.base.canonical import loads_strict
from qcos.base.errors import Integrity, Invalid, Unavailable
from qcos.base.limits import ANCHOR_NODE_BYTES
from qcos.ledger.anchor.exchange import exchange
from qcos.ledger.anchor.model import Anchored, Kind

_BATCH: Final = 100  # calls in one request
_FIELDS: Final = (  # a header's fields in order; later forks added those at the end
    *("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom"),
    *("difficulty", "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce"),
    *(
        "baseFeePerGas",
        "withdrawalsRoot",
        "blobGasUsed",
        "excessBlobGas",
        "parentBeaconBlockRoot",
        "requestsHash",
    ),
)
_NUMBERS: Final = frozenset(
    {
        "difficulty",
        "number",
        "gasLimit",
        "gasUsed",
        "timestamp",
        "baseFeePerGas",
        "blobGasUsed",
        "excessBlobGas",
    }
)


@dataclass(frozen=True, slots=True)
class Ethereum:
    """A chain, by one of its nodes.

    Attributes:
        url: JSON-RPC over HTTP.
        key_file: File with the private key that pays, 32 bytes in hexadecimal.
        confirmations: Blocks on top of ours before it counts as final; 12 are customary on the main chain.
    """

    url: str
    key_file: Path
    confirmations: int = 12

    @property
    def kind(self) -> Kind:
        """Return ``ethereum``."""
        return "ethereum"

    def prepare(self, digest: bytes) -> Mapping[str, Any]:
        """Sign a transaction to ourselves whose data is the digest; a node is asked, nothing is sent."""
        account = self._account()
        chain = int(self._call("eth_chainId"), 16)
        nonce = int(self._call("eth_getTransactionCount", account.address, "pending"), 16)
        price = int(self._call("eth_gasPrice"), 16)
        draft = {"from": account.address, "to": account.address, "value": "0x0", "data": "0x" + digest.hex()}
        signed = account.sign_transaction(
            {
                "type": 2,
                "chainId": chain,
                "nonce": nonce,
                "to": account.address,
                "value": 0,
                "data": draft["data"],
                "gas": int(self._call("eth_estimateGas", draft), 16) * 5 // 4,
                "maxFeePerGas": 2 * price,  # a base fee may double in six full blocks
                "maxPriorityFeePerGas": min(price, 10**9),
            }
        )
        return {
            "chainId": chain,
            "raw": "0x" + signed.raw_transaction.hex(),
            "hash": "0x" + signed.hash.hex().removeprefix("0x"),
        }

    def advance(self, digest: bytes, work: Mapping[str, Any]) -> Anchored:
        """Send the very transaction that was kept, or find it in a block that is deep enough."""
        receipt = self._call("eth_getTransactionReceipt", work["hash"])
        if receipt is None:  # not in a block: never sent, waiting, or thrown out by a reorganisation
            self._send(work)
            return Anchored(work)
        height = int(receipt["blockNumber"], 16)
        if int(self._call("eth_blockNumber"), 16) - height < self.confirmations:
            return Anchored(work)
        block = self._call("eth_getBlockByNumber", receipt["blockNumber"], True)
        if block is None or block["hash"] != receipt["blockHash"]:
            return Anchored(work)  # reorganised between the calls
        at = dt.datetime.fromtimestamp(int(block["timestamp"], 16), dt.UTC)
        return Anchored(work, self._proof(block, int(receipt["transactionIndex"], 16), work), at)

    def _proof(self, block: Mapping[str, Any], index: int, work: Mapping[str, Any]) -> Mapping[str, Any]:
        import rlp
        from trie.hexary import HexaryTrie

        header = _header(block)
        hashes = [transaction["hash"] for transaction in block["transactions"]]
        trie: Any = HexaryTrie({})  # Any: half of its methods have no types
        for number, raw in enumerate(self._raw_transactions(hashes)):
            trie[rlp.encode(number)] = raw
        if "0x" + trie.root_hash.hex() != block["transactionsRoot"]:
            raise _contradiction(
                "the block's transactions do not give its root",
                block["transactionsRoot"],
                trie.root_hash.hex(),
            )
        nodes = trie.get_proof(rlp.encode(index))
        return {
            "chainId": work["chainId"],
            "header": base64.b64encode(header).decode(),
            "index": index,
            "nodes": [base64.b64encode(rlp.encode(node)).decode() for node in nodes],
        }

    def _raw_transactions(self, hashes: list[str]) -> list[bytes]:
        found: list[bytes] = []
        for start in range(0, len(hashes), _BATCH):
            part = hashes[start : start + _BATCH]
            answers = self._post(
                [_request("eth_getRawTransactionByHash", (one,), n) for n, one in enumerate(part)]
            )
            by_id = {answer["id"]: answer.get("result") for answer in answers}
            found += [bytes.fromhex(str(by_id[n])[2:]) for n in range(len(part))]
        return found

    def _send(self, work: Mapping[str, Any]) -> None:
        answer = self._post(_request("eth_sendRawTransaction", (work["raw"],)))
        error = answer.get("error")
        spent = error and "nonce too low" in str(error.get("message", "")).lower()
        if spent and self._call("eth_getTransactionReceipt", work["hash"]) is None:
            raise Unavailable(
                "anchor.unavailable",
                "another transaction of the same key took this one's place: this anchor will not come, a later one may",
                subject=work["hash"],
                hint="use the key for nothing else, and with one installation only",
            )
        if error and not any(
            word in str(error.get("message", "")).lower() for word in ("already", "known", "nonce too low")
        ):
            raise Unavailable(
                "anchor.unavailable",
                "the node does not take the transaction",
                subject=self.url,
                got=str(error)[:300],
            )

    def _call(self, method: str, *parameters: Any) -> Any:
        answer = self._post(_request(method, parameters))
        if "error" in answer:
            raise Unavailable(
                "anchor.unavailable",
                f"the node refuses {method}",
                subject=self.url,
                got=str(answer["error"])[:300],
            )
        return answer.get("result")

    def _post(self, body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        status, data = exchange(
            "POST", self.url, ANCHOR_NODE_BYTES, content=json.dumps(body).encode(), headers=headers
        )
        try:
            # py_ecc, below eth-account, lifts Python's recursion limit: only depth that is looked at first is safe
            answer = loads_strict(data) if status == 200 else None
        except Invalid:
            answer = None
        if not isinstance(answer, type(body)):
            raise Unavailable(
                "anchor.unavailable",
                "the node gives no answer",
                subject=self.url,
                expected="HTTP 200 with JSON-RPC",
                got=f"HTTP {status}: {data[:100]!r}",
            )
        return answer

    def _account(self) -> Any:
        try:
            from eth_account import Account
        except ImportError:
            raise Invalid(
                "anchor.package",
                "Ethereum needs a package that is not installed",
                expected="eth-account",
                hint="pip install 'qcos[anchor]'",
            ) from None
        try:
            return Account.from_key(self.key_file.read_text().strip())
        except Exception as error:  # whatever is wrong, the key itself must not get into a message
            raise Invalid(
                "anchor.key",
                "the key that pays for anchors cannot be read",
                subject=str(self.key_file),
                expected="32 bytes in hexadecimal",
                got=type(error).__name__,
            ) from None


_numbers = itertools.count(1)


def _request(method: str, parameters: tuple[Any, ...], number: int | None = None) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": next(_numbers) if number is None else number,
        "method": method,
        "params": list(parameters),
    }


def _header(block: Mapping[str, Any]) -> bytes:
    """Return the RLP of a block's header, which must give the block's hash."""
    import rlp
    from eth_utils.crypto import keccak

    present = [name for name in _FIELDS if block.get(name) is not None]
    values = [
        int(block[name], 16).to_bytes((int(block[name], 16).bit_length() + 7) // 8, "big")
        if name in _NUMBERS
        else bytes.fromhex(block[name][2:])
        for name in present
    ]
    header: bytes = rlp.encode(values)
    if "0x" + keccak(header).hex() != block["hash"]:
        raise _contradiction(
            "the header does not give the block's hash: a fork with fields we do not know?",
            block["hash"],
            keccak(header).hex(),
        )
    return header


def _contradiction(message: str, expected: str, got: str) -> Integrity:
    return Integrity("anchor.chain", message, expected=expected, got=got)
