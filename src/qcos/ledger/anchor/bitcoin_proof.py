"""Check offline that a checkpoint's digest leads to a Bitcoin block's Merkle root (OpenTimestamps).

The receipt holds the detached proof (.ots, which `ots verify` reads too) and the headers of the blocks that it names.
A header must have done the work it states; that it is the chain's own header of that height, the verifier learns from
its hash, known from a node or an explorer of his own.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from qcos.base.errors import Integrity, Invalid
from qcos.ledger.anchor.model import Confirmation

_MAX_PROOF: Final = 64 * 1024  # bytes of an .ots file; those of five calendars have about 3,000
_HEADER: Final = 80  # bytes of a Bitcoin block header
_MAX_HEADERS: Final = 16


def check(proof: Mapping[str, Any], digest: bytes) -> Confirmation:  # Any: JSON from anybody
    """Return the oldest block that holds the digest.

    Raises:
        Integrity: ``anchor.pending`` while only calendars promise it; ``anchor.proof`` with what does not fit.
        Invalid: ``anchor.package`` when the extra is not installed.
    """
    library = packages()
    try:
        file = read(proof["ots"])
        headers = {int(height): bytes.fromhex(text) for height, text in dict(proof["headers"]).items()}
        if len(headers) > _MAX_HEADERS:
            raise ValueError(f"more than {_MAX_HEADERS} headers")
        found, problems = _blocks(library, attested(library, file), headers)
    except Exception as error:  # whatever the libraries raise on hostile bytes: none of it may pass
        raise _wrong("it is malformed", str(error)) from None
    if file.file_digest != digest:
        raise _wrong("it is about something else", file.file_digest.hex(), digest.hex())
    if not found and problems:
        raise _wrong("no block that it names holds it", "; ".join(problems))
    if not found:
        raise Integrity(
            "anchor.pending",
            "no block holds it yet: calendars have promised to put it into one",
            subject="/proof",
            hint="fetch the receipt again in some hours",
        )
    return min(found, key=lambda one: one.height)


def attested(library: Any, file: Any) -> list[tuple[bytes, Any]]:  # Any: libraries without types
    """Return the messages and attestations of Bitcoin blocks in a proof."""
    kind = library.BitcoinBlockHeaderAttestation
    return [(m, a) for m, a in file.timestamp.all_attestations() if isinstance(a, kind)]


def read(text: Any) -> Any:  # Any: JSON; a library without types
    """Read a detached proof, base64; raises ValueError, or what the library raises."""
    library = packages()
    if not isinstance(text, str) or len(text) > _MAX_PROOF * 4 // 3:
        raise ValueError("not base64, or too long")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    file = library.DetachedTimestampFile.deserialize(library.BytesDeserializationContext(data))
    if not isinstance(file.file_hash_op, library.OpSHA256):
        raise ValueError("not a proof over a SHA-256 digest")
    return file


def header_hash(header: bytes) -> str:
    """Return a block's hash as Bitcoin's tools write it."""
    return hashlib.sha256(hashlib.sha256(header).digest()).digest()[::-1].hex()


def _blocks(
    library: Any, claims: list[tuple[bytes, Any]], headers: Mapping[int, bytes]
) -> tuple[list[Confirmation], list[str]]:
    """Return the blocks that hold it, and what is wrong with others: a calendar that lied must not spoil another's word.

    A block without a header here (it was not deep enough) counts for nothing.
    """
    found, problems = [], []
    for message, attestation in claims:
        if int(attestation.height) in headers:
            try:
                found.append(_block(library, message, attestation, headers))
            except Exception as error:  # whatever the libraries raise
                problems.append(str(error))
    return found, problems


def _block(library: Any, message: bytes, attestation: Any, headers: Mapping[int, bytes]) -> Confirmation:
    height = int(attestation.height)
    header = headers[height]
    if len(header) != _HEADER:
        raise ValueError(f"no header of block {height}")
    parsed = library.CBlockHeader.deserialize(header)
    attestation.verify_against_blockheader(message, parsed)
    target = library.uint256_from_compact(parsed.nBits)
    name = header_hash(header)
    if not 0 < target < 2**256 or int(name, 16) > target:
        raise ValueError(f"the header of block {height} has not done the work it states")
    return Confirmation("bitcoin", height, name, dt.datetime.fromtimestamp(parsed.nTime, dt.UTC))


class _Library:
    """What is used of opentimestamps and python-bitcoinlib."""

    def __init__(self) -> None:
        from bitcoin.core import CBlockHeader
        from bitcoin.core.serialize import SerializationError, uint256_from_compact
        from opentimestamps.core.notary import (
            BitcoinBlockHeaderAttestation,
            PendingAttestation,
            VerificationError,
        )
        from opentimestamps.core.op import MsgValueError, OpAppend, OpSHA256
        from opentimestamps.core.serialize import (
            BytesDeserializationContext,
            BytesSerializationContext,
            DeserializationError,
        )
        from opentimestamps.core.timestamp import DetachedTimestampFile, Timestamp

        self.CBlockHeader, self.uint256_from_compact = CBlockHeader, uint256_from_compact
        self.BitcoinBlockHeaderAttestation, self.PendingAttestation = (
            BitcoinBlockHeaderAttestation,
            PendingAttestation,
        )
        self.OpAppend, self.OpSHA256 = OpAppend, OpSHA256
        self.BytesDeserializationContext = BytesDeserializationContext
        self.BytesSerializationContext = BytesSerializationContext
        self.DetachedTimestampFile, self.Timestamp = DetachedTimestampFile, Timestamp
        self.errors = (
            *(DeserializationError, SerializationError, VerificationError, MsgValueError),
            *(
                ValueError,
                TypeError,
                KeyError,
                IndexError,
                AttributeError,
                OverflowError,
                RecursionError,
                OSError,
            ),
        )


def packages() -> Any:  # Any: libraries without types
    """Return what is used of the libraries.

    Raises:
        Invalid: ``anchor.package``.
    """
    try:
        return _Library()
    except ImportError:
        raise Invalid(
            "anchor.package",
            "anchors need packages that are not installed",
            expected="opentimestamps",
            hint="pip install 'qcos[anchor]'",
        ) from None


def _wrong(why: str, got: str, expected: str = "") -> Integrity:
    return Integrity(
        "anchor.proof", f"the anchor does not hold: {why}", subject="/proof", expected=expected, got=got[:200]
    )
