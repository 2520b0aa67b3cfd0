"""DSSE v1.0.0 envelopes (secure-systems-lab/dsse, protocol.md): exact bytes are signed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final, Protocol

from qcos.base.errors import Integrity

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"


class Signer(Protocol):
    """What signs an envelope (see `qcos.keys`)."""

    @property
    def key_id(self) -> str:
        """Return the key's id: a hint for verifiers, nothing more."""
        ...

    @property
    def algorithm(self) -> str:
        """Return the algorithm; it is not written into the envelope but belongs to the pinned key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the signature over the data."""
        ...


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, signers: Sequence[Signer]) -> tuple[dict[str, Any], list[bytes]]:  # Any: JSON
    """Return the envelope around a payload, and the raw signatures in the order of the signers."""
    message = pae(PAYLOAD_TYPE, payload)
    signatures = [signer.sign(message) for signer in signers]
    envelope = {
        "payload": to_base64(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {"keyid": signer.key_id, "sig": to_base64(signature)}
            for signer, signature in zip(signers, signatures, strict=True)
        ],
    }
    return envelope, signatures


def to_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(data).decode()


def from_base64(text: str, pointer: str) -> bytes:
    """Read standard base64; only the one text that `to_base64` would write is accepted.

    Raises:
        Integrity: ``evidence.base64`` with the JSON pointer.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Integrity("evidence.base64", "not base64", subject=pointer, got=str(error)[:100]) from None
    if to_base64(data) != text:
        raise Integrity("evidence.base64", "not the one base64 text of its bytes", subject=pointer)
    return data
