"""The body of a checkpoint (C2SP tlog-checkpoint) and what a cosigner signs (C2SP tlog-cosignature). Pure."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from dataclasses import dataclass
from typing import Final

from qcos.base.errors import Integrity
from qcos.ledger.tree import HASH_BYTES, MAX_SIZE

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
MAX_ORIGIN: Final = 255  # bytes: its length is one byte in what ML-DSA cosigners sign


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head.

    Attributes:
        origin: The log's name, a URL prefix without scheme.
        size: Entries in the tree.
        root: Its root, 32 bytes.
        extensions: More lines; not covered by ML-DSA-44 cosignatures. QCOS writes none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def body(self) -> str:
        """Return the text that is signed; ends with a newline."""
        lines = (self.origin, str(self.size), encode(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse_body(text: str) -> Checkpoint:
    """Read a checkpoint's body.

    Raises:
        Integrity: ``ledger.checkpoint`` with what is wrong.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() != "":
        raise _malformed("it has no three lines", text)
    origin, size, root, *extensions = lines
    if not origin or len(origin.encode("utf-8", "replace")) > MAX_ORIGIN:
        raise _malformed("the origin is empty or too long", origin)
    if not _SIZE.fullmatch(size) or int(size) > MAX_SIZE:
        raise _malformed("the size is no decimal number", size)
    if "" in extensions:
        raise _malformed("an extension line is empty", text)
    return Checkpoint(origin, int(size), decode(root, HASH_BYTES, "ledger.checkpoint"), tuple(extensions))


def cosigned(name: str, time: int, checkpoint: Checkpoint) -> bytes:
    """Return what an ML-DSA-44 cosigner signs (type 0x06) for a whole tree.

    Args:
        name: The cosigner's key name, 1 to 255 bytes.
        time: POSIX seconds; 0 states no time.
        checkpoint: What is cosigned; its extensions are not covered.
    """
    cosigner, origin = name.encode(), checkpoint.origin.encode()
    return b"".join(
        (
            b"subtree/v1\n\0",
            bytes([len(cosigner)]),
            cosigner,
            struct.pack(">Q", time),
            bytes([len(origin)]),
            origin,
            struct.pack(">QQ", 0, checkpoint.size),
            checkpoint.root,
        )
    )


def encode(data: bytes) -> str:
    """Return standard base64."""
    return base64.b64encode(data).decode("ascii")


def decode(text: str, length: int | None = None, code: str = "ledger.base64") -> bytes:
    """Read standard base64, only in the spelling that `encode` gives: no changed character goes unnoticed.

    Raises:
        Integrity: ``code`` when it is not base64 or not of the length (bytes).
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise Integrity(code, "not base64", got=text[:80]) from None
    if encode(data) != text:
        raise Integrity(code, "not the canonical spelling of its base64", got=text[-80:])
    if length is not None and len(data) != length:
        raise Integrity(code, "wrong length", expected=f"{length} bytes", got=f"{len(data)} bytes")
    return data


def _malformed(why: str, got: str) -> Integrity:
    return Integrity("ledger.checkpoint", f"the checkpoint is malformed: {why}", got=repr(got[:80]))
