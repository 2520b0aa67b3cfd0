"""What is anchored, and what shows it. Pure."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from qcos.ledger.checkpoint import parse_body
from qcos.ledger.note import parse

SCHEMA: Final = "qcos.anchor/v1"
Kind = Literal["ethereum", "opentimestamps"]


def anchored_digest(note: str | bytes) -> bytes:
    """Return what goes to a chain for a checkpoint: the SHA-256 of its body (name, size and root).

    The signatures are left out: they may differ between two copies of one checkpoint, the body does not.
    """
    return hashlib.sha256(parse(note)[0].encode()).digest()


def size_of(note: str | bytes) -> int:
    """Return how many entries a checkpoint covers."""
    return parse_body(parse(note)[0]).size


@dataclass(frozen=True, slots=True)
class Anchored:
    """A commitment under way or done.

    Attributes:
        work: What the chain's client has to remember (a signed transaction, a pending time stamp); JSON.
        proof: The finished proof; JSON; None while the chain has not confirmed it.
        at: The chain's own time of the block, UTC; None until confirmed.
    """

    work: Mapping[str, Any]  # Any: JSON
    proof: Mapping[str, Any] | None = None  # Any: JSON
    at: dt.datetime | None = None


class Chain(Protocol):
    """A public chain that commitments go to."""

    @property
    def kind(self) -> Kind:
        """Return which."""
        ...

    def prepare(self, digest: bytes) -> Mapping[str, Any]:  # Any: JSON
        """Return all that sending needs, so that it can be kept before anything is sent; sends nothing.

        Raises:
            Unavailable: ``anchor.unavailable``.
        """
        ...

    def advance(self, digest: bytes, work: Mapping[str, Any]) -> Anchored:  # Any: JSON
        """Send, send again or look: whatever brings the commitment forward. Sending twice gives one commitment.

        Raises:
            Unavailable: ``anchor.unavailable``.
            Integrity: ``anchor.chain`` when the chain's answers contradict each other.
        """
        ...


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What an anchor shows.

    Attributes:
        chain: ``ethereum:<chain id>`` or ``bitcoin``.
        height: Number of the block.
        block: Its hash, as the chain's tools write it.
        time: The time the block states, UTC.
    """

    chain: str
    height: int
    block: str
    time: dt.datetime
