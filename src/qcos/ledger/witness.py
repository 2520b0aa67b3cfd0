"""A witness: cosigns a log's checkpoints as long as each continues the last (C2SP tlog-witness).

Whoever demands a quorum of witnesses cannot be shown a history of his own: it would have to be cosigned, and a
witness cosigns one. The witness needs no trust in the log and no entry of it, only its verifier keys.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from qcos.base.errors import Integrity, Invalid, Unavailable
from qcos.base.limits import MAX_CLOCK_DRIFT_S
from qcos.ledger.checkpoint import Checkpoint, parse_body
from qcos.ledger.note import Line, Vkey, join, parse, verify
from qcos.ledger.submission import SIZE_TYPE, Submission, origin_hash, read_submission
from qcos.ledger.tree import EMPTY_ROOT, verify_consistency
from qcos.ledger.witness_state import WitnessFolder, WitnessKeys

Stage = Literal["checked", "kept"]
TEXT: Final = "text/plain; charset=utf-8"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a log or a monitor: HTTP status, body, media type."""

    status: int
    body: str
    kind: str = TEXT


@dataclass(frozen=True, slots=True)
class _Last:
    """The last checkpoint cosigned of a log, and the time stated then."""

    checkpoint: Checkpoint
    time: int


class Witness:
    """One witness. Safe for many threads, and for other processes on the same folder.

    Args:
        folder: What it keeps.
        keys: Its keys.
        logs: Verifier keys of the logs it witnesses; several of one log (its name is the origin) are welcome.
        clock: POSIX seconds.
        on_stage: Told before and after the write; for tests that end the process there.

    Raises:
        Invalid: ``witness.logs`` when there are none, or one is the witness itself.
    """

    def __init__(
        self,
        folder: WitnessFolder,
        keys: WitnessKeys,
        logs: Iterable[Vkey],
        *,
        clock: Callable[[], float] = time.time,
        on_stage: Callable[[Stage], None] = lambda stage: None,
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._clock = clock
        self._on_stage = on_stage
        self._logs: dict[str, list[Vkey]] = {}
        for vkey in logs:
            self._logs.setdefault(vkey.name, []).append(vkey)
            if vkey.public in {own.public for own in keys.vkeys}:
                raise Invalid("witness.logs", "a log with the witness's own key", subject=vkey.name)
        if not self._logs:
            raise Invalid(
                "witness.logs", "a witness needs the verifier key of a log", hint="give --log or --trust"
            )

    @property
    def origins(self) -> tuple[str, ...]:
        """Return the names of the logs."""
        return tuple(self._logs)

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer an add-checkpoint request; what is cosigned is on the disk before the answer exists."""
        try:
            given = read_submission(body)
        except Integrity as error:
            return _refusal(400, error.message)
        origin = given.checkpoint.origin
        if origin not in self._logs:
            return _refusal(404, "this witness does not know the log")
        try:
            _, signed = verify(given.note, self._logs[origin])
        except Integrity as error:
            return _refusal(403, str(error))
        if given.old > given.checkpoint.size:
            return _refusal(400, "the old size is larger than the checkpoint's")
        trusted = {(held.vkey.name, held.vkey.key_id) for held in signed}
        lines = tuple(line for line in given.lines if (line.name, line.key_id) in trusted)
        try:
            with self._folder.locked(origin):
                return self._advance(given, lines)
        except Integrity as error:
            _log.critical("what this witness keeps is damaged: %s", error)
            return _refusal(500, "this witness's state is damaged")
        except Unavailable as error:
            _log.error("%s", error)
            return _refusal(503, error.message)
        except OSError as error:
            _log.error("the witness cannot write: %s", error)
            return _refusal(503, "this witness cannot write")

    def monitored(self, hashed: str) -> Answer:
        """Answer a request for the last cosigned checkpoint of a log, named by the hash of its origin."""
        known = {origin_hash(origin) for origin in self._logs}
        try:
            note = self._folder.checkpoint(hashed) if hashed in known else None
        except Integrity as error:
            _log.critical("%s", error)
            return _refusal(500, "this witness's state is damaged")
        return Answer(200, note) if note else _refusal(404, "no checkpoint of that log was cosigned")

    def _advance(self, given: Submission, lines: tuple[Line, ...]) -> Answer:
        """Check against the last checkpoint and replace it. The log's lock is held."""
        last = self._last(given.checkpoint.origin)
        size = last.checkpoint.size if last else 0
        root = last.checkpoint.root if last else EMPTY_ROOT
        new = given.checkpoint
        if last and new.size == size and new.root != root:
            self._fork(given, last)
        if given.old != size:
            return Answer(409, f"{size}\n", SIZE_TYPE)
        if new.size == 0 and new.root != EMPTY_ROOT:
            return _refusal(422, "the root of an empty tree is the hash of nothing")
        try:
            verify_consistency(given.old, new.size, given.proof, root, new.root)
        except Integrity as error:
            _log.warning("refused a checkpoint of %s with %d entries: %s", new.origin, new.size, error)
            return _refusal(422, error.message)
        self._on_stage("checked")
        text = parse(given.note)[0]
        cosignatures = self._keys.cosign(text, self._now(last))
        self._folder.keep(new.origin, join(text, [*lines, *cosignatures]))
        self._on_stage("kept")
        return Answer(200, "".join(str(line) for line in cosignatures))

    def _last(self, origin: str) -> _Last | None:
        note = self._folder.checkpoint(origin_hash(origin))
        if note is None:
            return None
        text, signed = verify(note, self._keys.vkeys)  # nobody else can have changed it
        checkpoint = parse_body(text)
        if checkpoint.origin != origin:
            raise Integrity("witness.state", "the kept checkpoint is of another log", got=checkpoint.origin)
        return _Last(checkpoint, max(held.time or 0 for held in signed))

    def _now(self, last: _Last | None) -> int:
        """Return the time to state: never before the last, for that would contradict it."""
        now, before = max(1, int(self._clock())), last.time if last else 0
        if now + MAX_CLOCK_DRIFT_S < before:
            raise Unavailable(
                "witness.clock",
                "the witness's clock is behind what it stated last",
                expected=f"at least {before}",
                got=str(now),
                hint="set the clock",
            )
        return max(now, before)

    def _fork(self, given: Submission, last: _Last) -> None:
        """Keep the proof that the log signed two trees of one size."""
        _log.critical(
            "SPLIT VIEW: %s signed two roots for %d entries: %s, before %s",
            given.checkpoint.origin,
            given.checkpoint.size,
            given.checkpoint.root.hex(),
            last.checkpoint.root.hex(),
        )
        self._folder.keep_refused(given.checkpoint.origin, given.note)


def _refusal(status: int, why: str) -> Answer:
    return Answer(status, why + "\n")
