"""The proof that a record stands in the ledger: a value, JSON, a C2SP ``.tlog-proof`` file.

Pure, strict, bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from qcos.base.errors import Integrity
from qcos.base.limits import MAX_NOTE_BYTES, MAX_RECORD_BYTES
from qcos.ledger.checkpoint import decode, encode
from qcos.ledger.tree import HASH_BYTES, MAX_PROOF, MAX_SIZE

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_HASH_TEXT: Final = 44  # characters of 32 bytes in base64
_MEMBERS: Final = frozenset({"record", "index", "size", "hashes", "checkpoint", "tlogProof"})


@dataclass(frozen=True, slots=True)
class LedgerProof:
    """Everything an offline verifier needs beside the trust root.

    Attributes:
        record: The record's bytes.
        index: Where its entry stands.
        size: Entries in the checkpoint's tree.
        hashes: Inclusion proof, the leaf's sibling first.
        checkpoint: The signed note.
    """

    record: bytes
    index: int
    size: int
    hashes: tuple[bytes, ...]
    checkpoint: str

    @property
    def tlog_proof(self) -> str:
        """Return the C2SP proof file; its ``extra`` line carries the record."""
        lines = [
            _HEADER,
            f"extra {encode(self.record)}",
            f"index {self.index}",
            *(encode(value) for value in self.hashes),
        ]
        return "\n".join(lines) + "\n\n" + self.checkpoint

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return the JSON of an evidence bundle's ledger proof."""
        return {
            "record": encode(self.record),
            "index": self.index,
            "size": self.size,
            "hashes": [encode(value) for value in self.hashes],
            "checkpoint": self.checkpoint,
            "tlogProof": self.tlog_proof,
        }


def read_proof(value: Mapping[str, Any]) -> LedgerProof:  # Any: JSON from anybody
    """Read the JSON of a proof.

    Raises:
        Integrity: ``ledger.proof`` with what is wrong.
    """
    if not isinstance(value, Mapping):
        raise _malformed("not an object")
    if strange := sorted(str(name) for name in value if name not in _MEMBERS):
        raise _malformed(f"unknown members {', '.join(strange)[:100]}")
    record, checkpoint, hashes = value.get("record"), value.get("checkpoint"), value.get("hashes")
    if not isinstance(record, str) or len(record) > MAX_RECORD_BYTES * 4 // 3 + 4:
        raise _malformed("/record is no text, or too long")
    if not isinstance(checkpoint, str) or len(checkpoint) > MAX_NOTE_BYTES:
        raise _malformed("/checkpoint is no text, or too long")
    if not isinstance(hashes, list) or len(hashes) > MAX_PROOF:
        raise _malformed(f"/hashes is no list of at most {MAX_PROOF}")
    proof = LedgerProof(
        decode(record, code="ledger.proof"),
        _number(value, "index"),
        _number(value, "size"),
        tuple(_hash(item) for item in hashes),
        checkpoint,
    )
    if value.get("tlogProof", proof.tlog_proof) != proof.tlog_proof:
        raise _malformed("/tlogProof says something else than the other members")
    return proof


def parse_tlog_proof(text: str) -> tuple[bytes, int, tuple[bytes, ...], str]:
    """Read a ``.tlog-proof`` file: extra data (not authenticated), index, hashes, checkpoint.

    Raises:
        Integrity: ``ledger.proof`` with what is wrong.
    """
    if len(text) > MAX_NOTE_BYTES + 2 * MAX_RECORD_BYTES:
        raise _malformed("too long")
    head, blank, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != _HEADER:
        raise _malformed(f"it does not begin with {_HEADER}, or has no blank line")
    extra = decode(lines.pop(0)[6:], code="ledger.proof") if lines and lines[0].startswith("extra ") else b""
    index = lines.pop(0).removeprefix("index ") if lines and lines[0].startswith("index ") else ""
    if not (index.isascii() and index.isdigit() and len(index) < 20 and str(int(index)) == index):
        raise _malformed("the index is no decimal number")
    if len(lines) > MAX_PROOF:
        raise _malformed(f"more than {MAX_PROOF} hashes")
    return extra, int(index), tuple(_hash(line) for line in lines), checkpoint


def _hash(item: object) -> bytes:
    if not isinstance(item, str) or len(item) != _HASH_TEXT:
        raise _malformed("a hash is not 32 bytes in base64")
    return decode(item, HASH_BYTES, "ledger.proof")


def _number(value: Mapping[str, Any], name: str) -> int:  # Any: JSON from anybody
    number = value.get(name)
    if type(number) is not int or not 0 <= number <= MAX_SIZE:
        raise _malformed(f"/{name} is no whole number from 0 to 2^63-1")
    return number


def _malformed(why: str) -> Integrity:
    return Integrity("ledger.proof", f"the ledger proof is malformed: {why}")
