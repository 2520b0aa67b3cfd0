"""Watch a log from outside: each checkpoint must continue the last, by the log's own tiles. Pure.

Nothing the log says of itself is believed: the consistency proof is made here, from tiles, and two signed
checkpoints that contradict each other come back as evidence that convinces others too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from qcos.base.errors import Integrity, Unavailable
from qcos.ledger.checkpoint import Checkpoint, encode, parse_body
from qcos.ledger.edge import Edge
from qcos.ledger.nodes import Tiles, consistency_of, nodes_of
from qcos.ledger.note import Signed, parse
from qcos.ledger.quorum import NOBODY, Policy
from qcos.ledger.tile import WIDTH
from qcos.ledger.tree import EMPTY_ROOT, hash_range, verify_consistency
from qcos.ledger.trust import LedgerTrust
from qcos.ledger.verify import verify_checkpoint

SPLIT_VIEW: Final = "ledger.split_view"
Progress = Callable[[int, int], None]


class Reader(Tiles, Protocol):
    """Where a log's tiles and entries come from: `qcos.ledger.files.LogFolder`, or a server."""

    def entries(self, n: int, width: int) -> list[bytes]:
        """Return the first entries of a bundle."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """A checkpoint that holds and continues the one before.

    Attributes:
        old: The one before; None at first.
        new: This one.
        note: The same, signed.
        signatures: Those that hold, of witnesses too, with the times they state.
        entries: Entries that were hashed into its root.
    """

    old: Checkpoint | None
    new: Checkpoint
    note: str
    signatures: tuple[Signed, ...]
    entries: int = 0

    @property
    def time(self) -> int | None:
        """Return the latest time that a cosignature states, POSIX seconds."""
        times = [one.time for one in self.signatures if one.time]
        return max(times) if times else None

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return JSON-ready members."""
        cosigners = {one.vkey.name: one.time for one in self.signatures if one.time}
        return {
            "ok": True,
            "origin": self.new.origin,
            "size": self.new.size,
            "root": self.new.root.hex(),
            "grown": self.new.size - (self.old.size if self.old else 0),
            "entries_checked": self.entries,
            "cosigned": cosigners,
        }


def observe(
    kept: str | None,
    note: str,
    trust: LedgerTrust,
    reader: Reader,
    *,
    entries: bool = False,
    progress: Progress | None = None,
) -> Seen:
    """Check the checkpoint a log shows now against the one that was kept.

    Args:
        kept: The last one that was verified; None at first.
        note: The one shown now.
        trust: The log's keys and the witnesses that must have cosigned.
        reader: The log's tiles.
        entries: Hash every entry since the kept one, too (at first: every entry).
        progress: Called with entries done and entries in all.

    Raises:
        Integrity: ``ledger.split_view`` when the two contradict each other, ``ledger.rolled_back`` when it is older
            than the kept one (both notes in the error's details); ``ledger.root``, ``ledger.tile``,
            ``ledger.bundle`` when the log's files do not give its root; and as
            `qcos.ledger.verify.verify_checkpoint`.
        Unavailable: A tile is not there.
    """
    new, signatures = verify_checkpoint(note, trust.vkeys, trust.witnesses)
    old = parse_body(parse(kept)[0]) if kept is not None else None
    if kept is not None and old is not None:
        if new.size < old.size:
            with contextlib.suppress(
                Unavailable
            ):  # a log that went back has no tiles of what it showed before
                compare(kept, note, reader)
            raise Integrity(
                "ledger.rolled_back",
                "the log shows an older checkpoint than before",
                expected=f"at least {old.size} entries",
                got=str(new.size),
                details={"old": kept, "new": note},
            )
        compare(kept, note, reader)
    else:
        _demand_root(reader, new)
    done = (
        _hash_entries(old or Checkpoint(new.origin, 0, EMPTY_ROOT), new, reader, progress) if entries else 0
    )
    return Seen(old, new, note, signatures, done)


def compare(first: str, second: str, reader: Reader) -> None:
    """Demand that two signed checkpoints are of one history. Their signatures were checked.

    Raises:
        Integrity: ``ledger.split_view`` when they contradict each other, with both notes, and the hashes from which
            anybody computes it, in the error's details; ``ledger.origin``; ``ledger.root`` when the tiles are
            damaged and tell nothing.
        Unavailable: A tile is not there.
    """
    notes = sorted((first, second), key=lambda note: parse_body(parse(note)[0]).size)
    old, new = (parse_body(parse(note)[0]) for note in notes)
    if old.origin != new.origin:
        raise Integrity(
            "ledger.origin", "the two checkpoints are of different logs", expected=old.origin, got=new.origin
        )
    if (old.size, old.root) == (new.size, new.root):
        return
    if old.size == new.size:
        raise _split(first, second, "the log signed two roots for one size", old, new)
    hashes: tuple[bytes, ...] = ()
    try:
        hashes = consistency_of(reader, old.size, new.size)
        verify_consistency(old.size, new.size, hashes, old.root, new.root)
    except Integrity as error:
        _demand_root(reader, new)  # else the tiles are wrong, and prove nothing about the older one
        why = f"the later checkpoint does not continue the earlier one: {error.message}"
        raise _split(first, second, why, old, new, hashes) from None


def demand_fresh(seen: Seen, max_age_s: float, now: float | None = None, witnesses: Policy = NOBODY) -> None:
    """Demand that a checkpoint states a time not longer ago than so many seconds.

    The log's own cosignature counts only where no witness is demanded: it could sign an old tree again at any time.

    Args:
        seen: The checkpoint.
        max_age_s: Seconds.
        now: POSIX seconds; by default the clock's.
        witnesses: Whose cosignatures must be that young.

    Raises:
        Unavailable: ``ledger.stale``.
    """
    now = time.time() if now is None else now
    young = [one.vkey for one in seen.signatures if one.time and now - one.time <= max_age_s]
    if not young or not witnesses.met(young):
        raise Unavailable(
            "ledger.stale",
            "the log shows an old checkpoint",
            subject=f"{seen.new.origin}, {seen.new.size} entries",
            expected=f"one that was cosigned within {max_age_s:.0f} s",
            got="; ".join(
                f"{one.vkey.name}: {now - one.time:.0f} s ago" for one in seen.signatures if one.time
            )[:300]
            or "no time is stated",
            hint="the log stands still, or newer checkpoints are kept from you",
        )


def _demand_root(reader: Reader, checkpoint: Checkpoint) -> None:
    size = checkpoint.size
    root = hash_range(0, size, nodes_of(reader, size)) if size else EMPTY_ROOT
    if root != checkpoint.root:
        raise _no_root(checkpoint, root)


def _hash_entries(old: Checkpoint, new: Checkpoint, reader: Reader, progress: Progress | None) -> int:
    """Hash the entries since ``old`` into its tree: the root must become that of ``new``."""
    if new.size <= old.size:
        return 0
    edge = _edge_at(old, new.size, reader)
    while edge.size < new.size:
        n, inside = divmod(edge.size, WIDTH)
        width = min(WIDTH, new.size - n * WIDTH)
        edge.extend(reader.entries(n, width)[inside:])
        if progress is not None:
            progress(edge.size - old.size, new.size - old.size)
    if edge.root() != new.root:
        raise _no_root(new, edge.root())
    return new.size - old.size


def _edge_at(old: Checkpoint, size: int, reader: Reader) -> Edge:
    """Return the right edge of the older tree, read from the files of a tree of a size."""
    upper: list[list[bytes]] = []
    level = 1
    while old.size >> (8 * level):
        n, width = divmod(old.size >> (8 * level), WIDTH)
        upper.append(list(reader.pyramid(level, n, width).levels[0][:width]) if width else [])
        level += 1
    n, width = divmod(old.size, WIDTH)
    edge = Edge(old.size, reader.entries(n, width) if width else [], upper)
    if edge.root() != old.root:
        raise _no_root(old, edge.root())
    return edge


def _no_root(checkpoint: Checkpoint, got: bytes) -> Integrity:
    return Integrity(
        "ledger.root",
        "the log's files do not give the root of its checkpoint",
        subject=f"tree of {checkpoint.size} entries",
        expected=checkpoint.root.hex(),
        got=got.hex(),
    )


def _split(
    first: str, second: str, why: str, old: Checkpoint, new: Checkpoint, hashes: tuple[bytes, ...] = ()
) -> Integrity:
    return Integrity(
        SPLIT_VIEW,
        why,
        subject=old.origin,
        expected=f"one history: {old.size} entries with root {old.root.hex()}",
        got=f"{new.size} entries with root {new.root.hex()}",
        hint="keep both checkpoints: with the log's signatures they prove it to anybody",
        details={"old": first, "new": second, "hashes": [encode(value) for value in hashes]},
    )
