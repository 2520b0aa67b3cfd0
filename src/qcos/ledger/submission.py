"""What a log sends a witness and what it answers (C2SP tlog-witness, add-checkpoint). Pure, strict, bounded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from qcos.base.errors import Integrity
from qcos.base.limits import MAX_NOTE_BYTES
from qcos.ledger.checkpoint import Checkpoint, decode, encode, parse_body
from qcos.ledger.note import Line, parse
from qcos.ledger.tree import HASH_BYTES, MAX_PROOF, MAX_SIZE

MAX_SUBMISSION_BYTES: Final = MAX_NOTE_BYTES + 64 * 64  # 63 hashes of 45 characters, and the old size
SIZE_TYPE: Final = "text/x.tlog.size"
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Submission:
    """A checkpoint offered to a witness.

    Attributes:
        old: Size of the checkpoint the witness cosigned last, as the log believes.
        proof: Consistency proof from that size to the checkpoint's.
        note: The signed checkpoint.
        checkpoint: What it says.
        lines: Its signatures, unchecked.
    """

    old: int
    proof: tuple[bytes, ...]
    note: str
    checkpoint: Checkpoint
    lines: tuple[Line, ...]


def write_submission(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """Return the body of an add-checkpoint request."""
    head = [f"old {old}", *(encode(value) for value in proof)]
    return ("\n".join(head) + "\n\n" + note).encode()


def read_submission(body: bytes) -> Submission:
    """Read the body of an add-checkpoint request.

    Raises:
        Integrity: ``ledger.submission``, ``ledger.note`` or ``ledger.checkpoint`` with what is wrong.
    """
    if len(body) > MAX_SUBMISSION_BYTES:
        raise _malformed(f"longer than {MAX_SUBMISSION_BYTES} bytes")
    try:
        head, blank, note = body.decode().partition("\n\n")
    except UnicodeDecodeError:
        raise _malformed("not UTF-8") from None
    first, *hashes = head.split("\n")
    if not blank or not first.startswith("old "):
        raise _malformed("no line of the old size, or no empty line")
    old = read_size(first[4:])
    if len(hashes) > MAX_PROOF:
        raise _malformed(f"more than {MAX_PROOF} hashes")
    proof = tuple(decode(value, HASH_BYTES, "ledger.submission") for value in hashes)
    text, lines = parse(note)
    return Submission(old, proof, note, parse_body(text), lines)


def read_size(text: str) -> int:
    """Read a tree size in decimal; raises `Integrity` ``ledger.submission``."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise _malformed(f"{text[:30]!r} is no tree size")
    return int(text)


def origin_hash(origin: str) -> str:
    """Return the name under which a witness shows a log's checkpoint."""
    return sha256(origin.encode()).hexdigest()


def _malformed(why: str) -> Integrity:
    return Integrity("ledger.submission", f"the submission to a witness is malformed: {why}")
