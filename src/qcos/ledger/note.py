"""C2SP signed notes: verifier keys, key ids, signature lines; strict and bounded.

Types: 0x01 Ed25519 over the text; 0x04 Ed25519 and 0x06 ML-DSA-44 cosignatures with a time
(tlog-cosignature); 0xff followed by ``ML-DSA-65/qcos/v1``, pure ML-DSA-65 with empty context over the text.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from qcos.base.errors import Integrity, Invalid, QcosError
from qcos.base.limits import MAX_NOTE_BYTES, MAX_NOTE_SIGNATURES
from qcos.ledger.checkpoint import cosigned, decode, encode, parse_body

ED25519: Final = b"\x01"
COSIGNATURE_ED25519: Final = b"\x04"
COSIGNATURE_MLDSA44: Final = b"\x06"
MLDSA65: Final = b"\xffML-DSA-65/qcos/v1"

_KEY_BYTES: Final = {ED25519: 32, COSIGNATURE_ED25519: 32, COSIGNATURE_MLDSA44: 1312, MLDSA65: 1952}
ALGORITHMS: Final = {
    ED25519: "Ed25519",
    COSIGNATURE_ED25519: "Ed25519 cosignature",
    COSIGNATURE_MLDSA44: "ML-DSA-44 cosignature",
    MLDSA65: "ML-DSA-65",
}
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NAME: Final = re.compile(r"[^\s+]+")
_DASH: Final = "\u2014 "


@dataclass(frozen=True, slots=True)
class Vkey:
    """A verifier key.

    Attributes:
        name: The signer's name; for a log, its origin.
        kind: Signature type: one of the constants of this module.
        public: Raw public key.
    """

    name: str
    kind: bytes
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Return the four bytes that mark this key's signatures."""
        return sha256(self.name.encode() + b"\n" + self.kind + self.public).digest()[:4]

    @property
    def algorithm(self) -> str:
        """Return the type's readable name."""
        return ALGORITHMS[self.kind]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{encode(self.kind + self.public)}"


@dataclass(frozen=True, slots=True)
class Line:
    """A signature line: the key's name, its id, and the signature's bytes."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {encode(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that was checked.

    Attributes:
        vkey: The key.
        time: POSIX seconds stated by a cosignature; None when the type has none, 0 when it states none.
    """

    vkey: Vkey
    time: int | None


def parse_vkey(text: str) -> Vkey:
    """Read ``name+hexid+base64``.

    Raises:
        Invalid: ``ledger.vkey`` when it is malformed, of an unknown type, or its id does not fit.
    """
    parts = text.split("+", 2) if len(text) <= MAX_NOTE_BYTES else []
    if len(parts) != 3 or not is_name(parts[0]):
        raise _bad_vkey(text, "not of the form name+id+key")
    try:
        data = decode(parts[2])
    except Integrity as error:
        raise _bad_vkey(text, error.message) from None
    kind = next((known for known in _KEY_BYTES if data.startswith(known)), None)
    if kind is None:
        raise _bad_vkey(text, "the key's type is not known")
    vkey = Vkey(parts[0], kind, data[len(kind) :])
    if len(vkey.public) != _KEY_BYTES[kind]:
        raise _bad_vkey(text, f"an {vkey.algorithm} key has {_KEY_BYTES[kind]} bytes")
    if vkey.key_id.hex() != parts[1]:
        raise _bad_vkey(text, "the id does not belong to the key")
    return vkey


def is_name(text: str) -> bool:
    """Return whether a text may name a key: not empty, no white space, no plus sign, at most 255 bytes."""
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        return False
    return length <= 255 and bool(_NAME.fullmatch(text)) and not _CONTROL.search(text)


def parse(note: str | bytes) -> tuple[str, tuple[Line, ...]]:
    """Split a note into its text (with its last newline) and its signature lines.

    Raises:
        Integrity: ``ledger.note`` with what is wrong.
    """
    text = _text_of(note)
    head, blank, tail = text.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise _malformed("no blank line before the signatures, or no newline after them", text)
    rows = tail[:-1].split("\n")
    if len(rows) > MAX_NOTE_SIGNATURES:
        raise _malformed(f"more than {MAX_NOTE_SIGNATURES} signatures", "")
    return head + "\n", tuple(_line(row) for row in rows)


def verify(note: str | bytes, vkeys: Sequence[Vkey]) -> tuple[str, tuple[Signed, ...]]:
    """Check every signature of a note that one of the keys claims; those of unknown keys are ignored.

    Returns:
        The text, and the signatures that hold, one a key, in the order of the keys.

    Raises:
        Integrity: ``ledger.note`` when malformed, ``ledger.signature`` when a known key's signature is wrong,
            ``ledger.unsigned`` when no known key signed.
    """
    text, lines = parse(note)
    held = []
    for vkey in dict.fromkeys(vkeys):
        times = [
            _check(vkey, text, line)
            for line in lines
            if line.name == vkey.name and line.key_id == vkey.key_id
        ]
        if times:
            held.append(Signed(vkey, times[0]))
    if not held:
        raise Integrity(
            "ledger.unsigned",
            "no known key signed the note",
            expected="a signature of "
            + ", ".join(dict.fromkeys(f"{key.name} ({key.algorithm})" for key in vkeys))[:300],
            got="signatures of " + (", ".join(dict.fromkeys(line.name for line in lines))[:300] or "nobody"),
        )
    return text, tuple(held)


def sign_line(vkey: Vkey, text: str, sign: Callable[[bytes], bytes], time: int = 0) -> Line:
    """Sign a note's text.

    Args:
        vkey: The key's public side.
        text: The note's text, ending with a newline; for the cosignature types a checkpoint's body.
        sign: The private side: returns the raw signature of bytes.
        time: POSIX seconds, for the cosignature types.
    """
    signature = sign(_message(vkey, text, time))
    stamp = struct.pack(">Q", time) if _is_cosignature(vkey) else b""
    return Line(vkey.name, vkey.key_id, stamp + signature)


def join(text: str, lines: Sequence[Line]) -> str:
    """Return the note: text, blank line, signatures."""
    return text + "\n" + "".join(str(line) for line in lines)


def _check(vkey: Vkey, text: str, line: Line) -> int | None:
    signature, time = line.signature, None
    if _is_cosignature(vkey):
        time = int.from_bytes(signature[:8], "big")
        signature = signature[8:]
        if len(line.signature) < 8 or time > 2**63 - 1:
            raise _wrong(vkey, "the cosignature's time is malformed")
    try:
        message = _message(vkey, text, time or 0)
        if vkey.kind == COSIGNATURE_MLDSA44:
            mldsa.MLDSA44PublicKey.from_public_bytes(vkey.public).verify(signature, message)
        elif vkey.kind == MLDSA65:
            mldsa.MLDSA65PublicKey.from_public_bytes(vkey.public).verify(signature, message)
        else:
            ed25519.Ed25519PublicKey.from_public_bytes(vkey.public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise _wrong(vkey, "the signature does not hold") from None
    except QcosError as error:
        raise _wrong(vkey, error.message) from None
    return time


def _message(vkey: Vkey, text: str, time: int) -> bytes:
    if vkey.kind == COSIGNATURE_MLDSA44:
        return cosigned(vkey.name, time, parse_body(text))
    if vkey.kind == COSIGNATURE_ED25519:
        return f"cosignature/v1\ntime {time}\n{text}".encode()
    return text.encode()


def _is_cosignature(vkey: Vkey) -> bool:
    return vkey.kind in (COSIGNATURE_ED25519, COSIGNATURE_MLDSA44)


def _text_of(note: str | bytes) -> str:
    if len(note) > MAX_NOTE_BYTES:
        raise _malformed(f"longer than {MAX_NOTE_BYTES} bytes", "")
    try:
        text = note.decode("utf-8") if isinstance(note, bytes) else note
        text.encode("utf-8")
    except UnicodeError:
        raise _malformed("not UTF-8", "") from None
    if found := _CONTROL.search(text):
        raise _malformed("it holds a control character", found[0])
    return text


def _line(row: str) -> Line:
    name, space, data = row.removeprefix(_DASH).partition(" ")
    if not row.startswith(_DASH) or not space or not is_name(name):
        raise _malformed("a signature line is not of the form '\u2014 name base64'", row)
    decoded = decode(data, code="ledger.note")
    if len(decoded) < 5:
        raise _malformed("a signature is too short", row)
    return Line(name, decoded[:4], decoded[4:])


def _malformed(why: str, got: str) -> Integrity:
    return Integrity("ledger.note", f"the signed note is malformed: {why}", got=repr(got[:80]) if got else "")


def _wrong(vkey: Vkey, why: str) -> Integrity:
    return Integrity(
        "ledger.signature", why, subject=f"{vkey.algorithm} key {vkey.key_id.hex()} of {vkey.name}"
    )


def _bad_vkey(text: str, why: str) -> Invalid:
    return Invalid(
        "ledger.vkey", f"not a verifier key: {why}", got=text[:80], expected="as in C2SP signed-note"
    )
