"""Sign a head, have it witnessed, keep it, publish it: at most one root for a size, whoever else is at it.

With witnesses configured, a checkpoint that too few of them cosigned is neither kept nor published: it waits,
and so does nothing else. Three writes, each safe to die before or after:

1. witnesses persist the tree; they cosign the same one again, and refuse another;
2. the note with its cosignatures is kept, the first of its size for ever;
3. it is published as one renamed file, which never goes back.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa

from qcos.base.clock import now, rfc3339
from qcos.base.errors import Integrity, QcosError
from qcos.base.limits import CHECKPOINT_FRESH_S, SEQUENCE_INTERVAL_S, WITNESS_PAUSE_MAX_S
from qcos.db.engine import scope
from qcos.ledger import store
from qcos.ledger.checkpoint import Checkpoint, parse_body
from qcos.ledger.collect import Collected, Told, Witnesses
from qcos.ledger.files import CHECKPOINT, LogFolder
from qcos.ledger.nodes import consistency_of, nodes_of
from qcos.ledger.note import parse
from qcos.ledger.sign import CheckpointSigner
from qcos.ledger.store import Head
from qcos.ledger.tree import EMPTY_ROOT, hash_range
from qcos.ledger.verify import verify_checkpoint
from qcos.ledger.witness_state import write_durably
from qcos.telemetry import instruments

Stage = Literal["witnessed", "signed", "published"]
STATUS: Final = "witnesses.json"
SPLIT_VIEW: Final = "split-view.json"

_log = logging.getLogger(__name__)


class Publisher:
    """Publishes the checkpoints of one log folder. For one thread.

    Args:
        engine: As the application's role.
        folder: Where the log's files stand.
        signers: The log's keys.
        origin: The log's name.
        witnesses: Who must cosign; None: nobody.
        on_stage: Told after each write.
    """

    def __init__(
        self,
        engine: sa.Engine,
        folder: LogFolder,
        signers: CheckpointSigner,
        origin: str,
        witnesses: Witnesses | None,
        on_stage: Callable[[Stage], None],
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._signers = signers
        self._origin = origin
        self._witnesses = witnesses
        self._on_stage = on_stage
        self._known: Head | None = None  # the last head that was published here
        self._withheld_since: float | None = None
        self._again = 0.0  # monotonic: not before then are the witnesses asked again
        self._pause = SEQUENCE_INTERVAL_S
        self._outcomes: tuple[tuple[str, str], ...] = ()
        self._old_at = 0.0  # monotonic: then the published checkpoint is old

    def publish(self, head: Head) -> bool:
        """Publish a head whose tiles stand in the folder; False when too few witnesses have cosigned it yet.

        Raises:
            Integrity: ``ledger.forked``, ``ledger.rolled_back``: another tree was signed, published or
                witnessed with the log's own keys.
        """
        with scope(self._engine, None) as connection:
            kept = store.checkpoint_of(connection, head.size)
        if kept is None:
            note = self._signed(head)
            if note is None:
                return False
            with scope(self._engine, None) as connection:
                store.insert_checkpoint(connection, head, note)
                kept = store.checkpoint_of(connection, head.size)
            self._on_stage("signed")
        if kept is None or kept[0] != head.root:
            raise forked(head, "another root was signed for this size")
        with self._folder.locked():
            if not self._shown_already(head):
                self._folder.write_checkpoint(kept[1])
        self._known = head
        self._old_at = time.monotonic() + CHECKPOINT_FRESH_S
        self._on_stage("published")
        return True

    def freshen(self, head: Head) -> None:
        """Sign the published head again, and have it witnessed again, when its times got old.

        An idle log shows so that it is alive, with the keys in force, and learns whether its witnesses still agree. Only the published
        file changes: the first checkpoint of a size is the one that is kept and that proofs carry.

        Raises:
            Integrity: As `publish`.
        """
        if time.monotonic() < self._old_at:
            return
        note = self._signed(head)
        if note is None:  # the old one stands; they are asked again
            return
        with self._folder.locked():
            shown = shown_in(self._folder, self._origin)
            if shown is not None and (shown.size, shown.root) == (head.size, head.root):
                self._folder.write_checkpoint(note)
        self._old_at = time.monotonic() + CHECKPOINT_FRESH_S

    def _shown_already(self, head: Head) -> bool:
        """Return whether the folder shows this head or a later one. Its lock is held.

        Raises:
            Integrity: ``ledger.forked`` when it shows a tree that this database does not continue.
        """
        standing = shown_in(self._folder, self._origin)
        shown = standing or Checkpoint(self._origin, 0, EMPTY_ROOT)
        if self._known is not None and (shown.size, shown.root) == (self._known.size, self._known.root):
            return standing is not None and shown.size >= head.size
        with scope(self._engine, None) as connection:
            ours = head.root if shown.size == head.size else None
            if ours is None and shown.size:
                kept = store.checkpoint_of(connection, shown.size)
                ours = kept[0] if kept else self._root_at(shown.size, head)
        if shown.size and ours != shown.root:
            raise forked(Head(shown.size, shown.root), "the folder shows a tree of another database")
        return standing is not None and shown.size >= head.size

    def _root_at(self, size: int, head: Head) -> bytes | None:
        """Return the root our tree had at a size; None when it never had so many entries."""
        if size > head.size:
            return None
        return hash_range(0, size, nodes_of(self._folder, head.size)) if size else EMPTY_ROOT

    def _signed(self, head: Head) -> str | None:
        """Return the signed note, with as many cosignatures as are demanded; None when there are too few."""
        checkpoint = Checkpoint(self._origin, head.size, head.root)
        if self._witnesses is None:
            return self._signers.sign(checkpoint, int(time.time()))
        if time.monotonic() < self._again:
            return None
        note = self._signers.sign(checkpoint, int(time.time()))
        collected = self._witnesses.collect(
            checkpoint, note, lambda old: consistency_of(self._folder, old, head.size)
        )
        self._on_stage("witnessed")
        if (
            not collected.met
            and any(told.outcome == "ahead" for told in collected.told)
            and self._outrun(head)
        ):
            return None
        self._report(head, collected)
        for told in collected.told:
            if told.shown:
                self._judge(told, head, collected.note)
        return collected.note if collected.met else None

    def _outrun(self, head: Head) -> bool:
        """Return whether another sequencer has gone on from our head meanwhile."""
        with scope(self._engine, None) as connection:
            return store.glance(connection).head.size > head.size

    def _report(self, head: Head, collected: Collected) -> None:
        """Say what the witnesses said: log, metrics, and a file that `qcos ledger status` shows."""
        for told in collected.told:
            instruments.witness_answer(told.name, told.outcome)
        if collected.met:
            self._withheld_since, self._pause = None, SEQUENCE_INTERVAL_S
        else:
            self._withheld_since = self._withheld_since or time.time()
            self._again = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, WITNESS_PAUSE_MAX_S)
        instruments.set_withheld(time.time() - self._withheld_since if self._withheld_since else 0.0)
        outcomes = tuple((told.name, told.outcome) for told in collected.told)
        if outcomes != self._outcomes:
            self._outcomes = outcomes
            said = "; ".join(f"{told.name}: {told.outcome} {told.detail}".strip() for told in collected.told)
            level = logging.INFO if collected.met else logging.ERROR
            what = "witnessed" if collected.met else "NOT PUBLISHED, too few witnesses"
            _log.log(level, "checkpoint of %d entries %s: %s", head.size, what, said)
        assert self._witnesses is not None  # noqa: S101 - for the type checker
        since = self._withheld_since
        status = {
            "quorum": self._witnesses.policy.describe(),
            "met": collected.met,
            "size": head.size,
            "at": rfc3339(now()),
            "withheld_s": round(time.time() - since, 3) if since else 0,
            "witnesses": [told.as_dict() for told in collected.told],
        }
        path = self._folder.directory / STATUS
        making = path.with_name(f".{STATUS}-{os.getpid()}")
        with contextlib.suppress(OSError):  # a report, not a record: no flush, and nothing waits for it
            making.write_text(json.dumps(status))
            making.replace(path)

    def _judge(self, told: Told, head: Head, note: str) -> None:
        """Look whether what a witness shows contradicts our tree by our own signature. Its word alone does not count.

        Raises:
            Integrity: ``ledger.rolled_back`` or ``ledger.forked``; both notes stand in ``split-view.json``.
        """
        try:
            shown, _ = verify_checkpoint(told.shown, self._signers.vkeys)
        except QcosError:
            return
        if shown.size > head.size:
            if self._outrun(Head(shown.size - 1, b"")):
                return
            error = Integrity(
                "ledger.rolled_back",
                "a witness has cosigned more entries than the database has",
                subject=told.name,
                expected=f"at least {shown.size} entries",
                got=str(head.size),
                hint="it was restored from an old copy: restore the newest; going on forks the log",
            )
        elif self._root_at(shown.size, head) != shown.root:
            error = forked(head, f"the witness {told.name} has cosigned another history of this log")
        else:
            return
        write_durably(self._folder.directory / SPLIT_VIEW, split_view(error, told.shown, note))
        raise error


def shown_in(folder: LogFolder, origin: str) -> Checkpoint | None:
    """Return the checkpoint that a folder shows, whoever signed it; None when it shows none.

    Raises:
        Integrity: What stands there is no checkpoint (``ledger.note``, ``ledger.checkpoint``,
            ``ledger.file_size``) or another log's (``ledger.origin``). It is left as it is: it may be the only
            trace of what was done.
        OSError: It is no regular file, or cannot be read.
    """
    try:
        note = folder.checkpoint()
        if note is None:
            return None
        shown = parse_body(parse(note)[0])
    except QcosError as error:
        raise Integrity(
            error.code,
            f"the published checkpoint is none: {error.message}",
            subject=str(folder.directory / CHECKPOINT),
            expected=error.expected,
            got=error.got,
            hint="nothing was published or overwritten: find out who wrote it, keep it, then move it away;"
            " the newest one is published anew",
        ) from error
    if shown.origin != origin:
        raise Integrity(
            "ledger.origin",
            "the folder holds another log",
            subject=str(folder.directory / CHECKPOINT),
            expected=origin,
            got=shown.origin,
        )
    return shown


def split_view(error: QcosError, old: str, new: str, **more: Any) -> bytes:  # Any: JSON
    """Return the file that shows others two signed checkpoints which contradict each other."""
    document = {
        "schema": "qcos.ledger.split-view/v1",
        "found": rfc3339(now()),
        "code": error.code,
        "message": str(error),
        "old": old,
        "new": new,
        **more,
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def read_status(directory: Path) -> dict[str, Any] | None:  # Any: JSON
    """Return what the witnesses said last; None when nobody was asked."""
    try:
        status = json.loads((directory / STATUS).read_text())
    except (OSError, ValueError):
        return None
    return status if isinstance(status, dict) else None


def forked(head: Head, why: str) -> Integrity:
    """Return the error of two trees that contradict each other."""
    return Integrity(
        "ledger.forked",
        why,
        subject=f"tree of {head.size} entries",
        expected=f"root {head.root.hex()}",
        hint="nothing was published; run `qcos ledger fsck`",
    )
