"""The sequencer: gives committed entries their index, writes tiles, signs and publishes checkpoints.

A step has three writes, each safe to die before or after:

1. one scope: entries get contiguous indices (`qcos.ledger.number`), the head moves from (size, root) to the next
   by compare-and-set;
2. tiles and bundles of the new size go to the folder, durably;
3. the checkpoint is signed, witnessed, kept (one a size, for ever), and published as one renamed file:
   `qcos.ledger.publish`.

Whatever a dead sequencer left undone, the next step of any sequencer does: the head in the database says what
is to be written. Nothing more is numbered before the last numbering is published or waits for its witnesses: a
sequencer that cannot write or sign lets the backlog grow, and beyond its limit acts are refused
(`qcos.ledger.append`); witnesses that are away stop nobody's acts.

Two at once are harmless: the head's row is locked, files are the same bytes whoever writes them, a size has one
signed checkpoint, and the published one never goes back. Each may have a folder of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import sqlalchemy as sa

from qcos.base.errors import Integrity, Unavailable
from qcos.base.limits import SEQUENCE_BATCH, SEQUENCE_INTERVAL_S
from qcos.db.engine import scope
from qcos.ledger import number, store
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.collect import Witnesses
from qcos.ledger.edge import Edge, Growth
from qcos.ledger.files import LogFolder
from qcos.ledger.publish import Publisher, forked, shown_in
from qcos.ledger.sign import CheckpointSigner
from qcos.ledger.store import Head
from qcos.ledger.tile import WIDTH, Address

Stage = Literal["numbered", "written", "witnessed", "signed", "published"]

_PARTIALS_KEPT_S: Final = 60.0  # how long readers of an older checkpoint find the partial tiles it names
_RETRY_S: Final = 1.0  # pause after the database or the disk failed

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step left.

    Attributes:
        size: Entries that have an index; their checkpoint is published, or waits for its witnesses.
        added: Entries this step gave an index.
        root: The root of their tree.
    """

    size: int
    added: int
    root: bytes


class Sequencer:
    """One sequencer; for one thread.

    Args:
        engine: As the application's role.
        directory: Where the log's files stand; made when missing. May be shared with other sequencers on this
            host.
        signers: The log's keys.
        origin: The log's name; the same for ever.
        witnesses: Who must cosign a checkpoint before it is kept and published; None: nobody.
        batch: Most entries of one step.
        on_stage: Told after each write, with its name; for telemetry and for tests that end the process
            there.
    """

    def __init__(
        self,
        engine: sa.Engine,
        directory: Path,
        signers: CheckpointSigner,
        origin: str,
        *,
        witnesses: Witnesses | None = None,
        batch: int = SEQUENCE_BATCH,
        on_stage: Callable[[Stage], None] = lambda stage: None,
    ) -> None:
        self._engine = engine
        self._folder = LogFolder(directory)
        self._folder.prepare()
        self._origin = origin
        self._publisher = Publisher(engine, self._folder, signers, origin, witnesses, on_stage)
        self._batch = batch
        self._on_stage = on_stage
        self._edge: tuple[Head, Edge] | None = None  # None: to be read from the database
        self._growth: Growth | None = None  # of the last numbering, until it is on the disk
        self._written = -1  # size up to which the folder has all tiles; -1: to be found out
        self._published = -1
        self._partials: deque[tuple[float, Address]] = deque()

    def run(self, stop: threading.Event) -> None:
        """Step until told to stop: at once while batches are full, else each `SEQUENCE_INTERVAL_S`.

        Raises:
            Integrity: The log must not go on; nothing was signed. See `step`.
        """
        while not stop.is_set():
            began = time.monotonic()
            pause = SEQUENCE_INTERVAL_S
            try:
                if self.step().added >= self._batch:
                    pause = 0.0
            except (Unavailable, OSError) as error:
                _log.warning("the sequencer waits: %s", error)
                pause = _RETRY_S
            stop.wait(max(0.0, pause - (time.monotonic() - began)))

    def step(self) -> Step:
        """Cover what was committed; finish what an earlier step left undone.

        When there is nothing to do it costs one small statement.

        Raises:
            Unavailable: The database does not answer.
            Integrity: ``ledger.rolled_back``, ``ledger.forked``, ``ledger.origin``, ``ledger.tile_changed``:
                the database, the folder and what was published do not agree. Nothing more is signed until an
                administrator has looked.
        """
        try:
            return self._step()
        except BaseException:
            self._edge = self._growth = None  # may be ahead of the database now
            self._written = self._published = -1
            raise

    def _step(self) -> Step:
        with scope(self._engine, None) as connection:
            seen = store.glance(connection)
        head, added = seen.head, 0
        if head.size or not seen.waiting or shown_in(self._folder, self._origin):
            self._cover(
                head
            )  # what an earlier step left undone; the empty tree is signed only while it is empty
        if seen.waiting:
            head, added = self._number(head)
            self._cover(head)
        self._drop_partials()
        return Step(head.size, added, head.root)

    def _cover(self, head: Head) -> None:
        """Write and publish the head, unless it is."""
        if self._published == head.size:
            return self._publisher.freshen(head)
        if self._written != head.size:  # else it waits for its witnesses only
            growth = self._growth
            if growth is None or (growth.old, growth.new) != (self._written, head.size):
                self._look_at_folder(head)
                growth = None
            if self._written < head.size:
                self._write(head, growth)
        if self._publisher.publish(head):
            self._published = head.size

    def _number(self, seen: Head) -> tuple[Head, int]:
        with scope(self._engine, None) as connection:
            locked = number.lock_head(connection)
            if locked is None:  # another sequencer is at it
                return seen, 0
            edge = self._edge_at(connection, locked.head)
            entries, last = number.number_waiting(connection, locked, self._batch)
            growth = edge.extend(entries)
            new = Head(edge.size, edge.root())
            if growth.new > growth.old:
                store.insert_nodes(connection, growth.nodes)
                if not number.move_head(connection, locked.head, new, last):
                    raise Integrity(
                        "ledger.forked", "the head moved while it was locked", expected=str(growth.old)
                    )
        if growth.new > growth.old:
            self._edge, self._growth = (new, edge), growth
            self._on_stage("numbered")
        return new, growth.new - growth.old

    def _edge_at(self, connection: sa.Connection, head: Head) -> Edge:
        if self._edge is not None and self._edge[0] == head:
            return self._edge[1]
        return _load_checked(connection, head)

    def _look_at_folder(self, head: Head) -> None:
        """Find out how far the folder is: it has all tiles of the checkpoint it shows.

        Refuses when that checkpoint does not lead to our head.
        """
        shown = shown_in(self._folder, self._origin)
        if shown is None:
            self._written, self._published = 0, -1
            return
        self._refuse_unless_ours(shown, head)
        if self._written != shown.size:
            with scope(self._engine, None) as connection:
                _load_checked(connection, Head(shown.size, shown.root))
        self._written = self._published = shown.size

    def _refuse_unless_ours(self, shown: Checkpoint, head: Head) -> None:
        if shown.size > head.size:
            with scope(self._engine, None) as connection:
                head = store.glance(connection).head  # another sequencer may be ahead of what we saw
            if shown.size > head.size:
                raise Integrity(
                    "ledger.rolled_back",
                    "the database has fewer entries than the published checkpoint",
                    expected=f"at least {shown.size} entries",
                    got=str(head.size),
                    hint="it was restored from an old copy: restore the newest; going on forks the log",
                )

    def _write(self, head: Head, growth: Growth | None) -> None:
        """Bring the folder's tiles up to the head: from memory when it lacks just one growth."""
        if growth is not None and self._edge is not None:
            self._folder.write_tiles([*growth.tiles, *self._edge[1].partials()])
            self._outdate(growth)
        else:
            self._catch_up(head)
        self._written = head.size
        self._on_stage("written")

    def _catch_up(self, head: Head) -> None:
        """Write the tiles between the folder's size and the head's from the database."""
        with scope(self._engine, None) as connection:
            edge = store.load_edge(connection, self._written)
            while edge.size < head.size:
                end = min(head.size, edge.size + self._batch)
                entries = store.entries_between(connection, edge.size, end)
                if len(entries) != end - edge.size:
                    raise forked(Head(end, head.root), "entries are missing in the database")
                growth = edge.extend(entries)
                self._folder.write_tiles(growth.tiles)
                self._outdate(growth)
            signed = store.checkpoint_sizes(connection, self._written, head.size)
        if edge.root() != head.root:
            raise forked(head, "the entries in the database do not give the head's root")
        self._folder.write_tiles(edge.partials(signed))

    def _outdate(self, growth: Growth) -> None:
        due = time.monotonic() + _PARTIALS_KEPT_S
        self._partials.extend((due, address) for address, _ in growth.tiles if address.width == WIDTH)

    def _drop_partials(self) -> None:
        while self._partials and self._partials[0][0] <= time.monotonic():
            self._folder.drop_partials(self._partials.popleft()[1])


def _load_checked(connection: sa.Connection, head: Head) -> Edge:
    try:
        edge = store.load_edge(connection, head.size)
    except ValueError:
        raise forked(head, "entries or nodes are missing in the database") from None
    if edge.root() != head.root:
        raise forked(head, "the entries in the database do not give this root")
    return edge
