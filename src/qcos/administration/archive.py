"""Copy what must outlive this machine to a WORM store, and look whether somebody tampered there (R5.6).

Never in a job's path: a round copies what came since the last one. Copies go out before they are noted, and the
checkpoint goes out after all the tiles it needs, so that a round that died is simply done again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

import sqlalchemy as sa

from qcos.administration.archive_evidence import EvidenceCopies, batches
from qcos.base.clock import now
from qcos.base.errors import Integrity, Unavailable
from qcos.base.limits import PAGE_MAX, WORM_EXAMINED
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.ledger.append import append
from qcos.ledger.checkpoint import parse_body
from qcos.ledger.files import LogFolder
from qcos.ledger.note import parse
from qcos.ledger.pieces import pieces, read
from qcos.ledger.record import Record
from qcos.telemetry import instruments
from qcos.worm import store as noted
from qcos.worm.model import Finding, Item, Kept, WormStore

CHECKPOINTS: Final = "ledger/checkpoints/"
_ACTOR: Final = "service:qcos-archive"
_WHOSE: Final = re.compile(r"(?:^|/)evidence/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/", re.ASCII)
_FAILURE: Final = 500  # characters of why a round failed
_log = logging.getLogger("qcos.archive")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Round:
    """What a round did.

    Attributes:
        size: Entries of the newest checkpoint in the store.
        copies: Copies made.
        bundles: How many of them are evidence: bundles, their materials, their later time stamps.
        lengthened: Locks of older copies that were lengthened, for a legal hold covers them.
        findings: What is newly found to be wrong.
    """

    size: int
    copies: int
    bundles: int
    lengthened: int
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class Archive:
    """Copies of one installation in one store; for one thread. Two at once are harmless.

    Attributes:
        engine: As the application's role.
        log: The ledger's files.
        store: Where copies go.
        days: How long the ledger's files are protected; a bundle has its own date.
    """

    engine: sa.Engine
    log: LogFolder
    store: WormStore
    days: int
    _examined: str = field(default="", init=False)  # name up to which copies were looked at
    _evidence: EvidenceCopies = field(init=False)
    _checked: bool = field(default=False, init=False)
    _failing: dt.datetime | None = field(default=None, init=False)
    _stopped: str | None = field(default=None, init=False)  # why a round could not copy all there was

    def __post_init__(self) -> None:
        self._evidence = EvidenceCopies(self.engine, self.store, self._report)

    def round(self) -> Round:
        """Copy what is new, look at some of what is old.

        A name that holds other bytes, or a copy that the store does not protect, is a finding; what depends on it waits.

        How it went is noted, for `qcos worm status` and the metric ``qcos.worm.failing``; one that could not copy all there was has failed.

        Raises:
            Invalid: ``worm.unprotected``: the store would let copies be changed; nothing was handed to it.
            Unavailable: The store or the database does not answer; the next round goes on.
        """
        instruments.set_archive_failing(
            self._failing or now()
        )  # should it hang, nobody will tell it at its end
        self._stopped = None
        try:
            if not self._checked:
                self.store.check()
                self._checked = True
            done = self._round()
        except Exception as error:
            self._note(str(error)[:_FAILURE] or type(error).__name__)
            raise
        self._note(self._stopped)
        return done

    def _note(self, failure: str | None) -> None:
        """Note how a round went; where the database is away, too, the metric alone tells it."""
        at = now()
        try:
            with scope(self.engine, None) as connection:
                noted.note_round(connection, self.store.address, at, failure)
                self._failing = noted.rounds(connection, self.store.address).failing_since
        except Unavailable:
            self._failing = self._failing or (at if failure is not None else None)
        instruments.set_archive_failing(self._failing)

    def _round(self) -> Round:
        copies, bundles, lengthened = self._careful(self._copy_ledger, 0), 0, 0
        tenants, failed = self._tenants(), list[Unavailable]()
        for tenant in tenants:
            bundles += self._careful(partial(self._evidence.copy, tenant), 0)
        with _later(failed):  # a right to lengthen that is missing must not keep others from being copied
            for tenant in tenants:
                held, longer = self._careful(partial(self._evidence.mind_holds, tenant), (0, 0))
                bundles, lengthened = bundles + held, lengthened + longer
        with _later(failed):
            for tenant in tenants:
                bundles += self._careful(partial(self._evidence.copy_renewals, tenant), 0)
        with scope(self.engine, None) as connection:
            newest = noted.last_name(connection, self.store.address, CHECKPOINTS)
        found = self._look_at_some()
        if failed:
            raise failed[0]
        return Round(_size_of(newest), copies + bundles, bundles, lengthened, tuple(found))

    def verify(
        self, *, content: bool, progress: Callable[[int], None] = lambda done: None
    ) -> tuple[int, list[Finding]]:
        """Examine every copy that was noted; returns how many, and everything that is wrong."""
        done, found = 0, []
        for kept in self._noted():
            found += self.store.examine(kept, content=content)
            done += 1
            progress(done)
        self._report(found)
        return done, found

    def _careful(self, copy: Callable[[], T], nothing: T) -> T:
        try:
            return copy()
        except Integrity as error:
            self._stopped = self._stopped or str(error)[:_FAILURE]
            self._report([Finding(error.code, error.subject, str(error))])
            return nothing

    def _copy_ledger(self) -> int:
        note = self.log.checkpoint()
        if note is None:
            return 0
        size = parse_body(parse(note)[0]).size
        with scope(self.engine, None) as connection:
            had = _size_of(noted.last_name(connection, self.store.address, CHECKPOINTS))
        if size <= had:
            return 0
        until = now().replace(microsecond=0) + dt.timedelta(days=self.days)
        tiles = (Item(f"ledger/{place.path}", read(self.log, place), until) for place in pieces(had, size))
        checkpoint = Item(f"{CHECKPOINTS}{size:020d}", note.encode(), until)
        return self._keep(itertools.chain(tiles, [checkpoint]))

    def _keep(self, items: Iterable[Item]) -> int:
        count = 0
        for batch in batches(items):
            kept = [self.store.keep(item) for item in batch]
            with scope(self.engine, None) as connection:
                noted.insert_copies(connection, self.store.address, kept, now())
            count += len(kept)
        return count

    def _look_at_some(self) -> list[Finding]:
        with scope(self.engine, None) as connection:
            some = noted.page(connection, self.store.address, self._examined, WORM_EXAMINED)
        self._examined = some[-1].name if len(some) == WORM_EXAMINED else ""
        return self._report([finding for kept in some for finding in self.store.examine(kept, content=True)])

    def _report(self, found: list[Finding]) -> list[Finding]:
        """Note findings, and record each new one in the ledger: tampering there is an event here.

        One with a tenant's bundle is an event of that tenant, and none of another's business.
        """
        if not found:
            return []
        with scope(self.engine, None) as connection:
            first = identity.first_tenant(connection)
        if first is None:
            return found
        tenants, by_tenant = set(self._tenants()), dict[UUID, list[Finding]]()
        for one in found:
            whose = _tenant_of(one.name)
            by_tenant.setdefault(whose if whose in tenants else first, []).append(one)
        new = list(itertools.chain.from_iterable(itertools.starmap(self._record, by_tenant.items())))
        for one in new:
            _log.error(
                "a WORM copy was tampered with: %s: %s", one.name, one.message, extra={"code": one.code}
            )
        return new

    def _record(self, tenant: UUID, found: list[Finding]) -> list[Finding]:
        with scope(self.engine, tenant) as connection:
            new = noted.insert_findings(connection, self.store.address, found, now())
            append(
                connection,
                tenant,
                [
                    Record(
                        act="archive.violated",
                        actor=_ACTOR,
                        object=one.name,
                        reason=one.message,
                        details={"store": self.store.address, "code": one.code},
                    )
                    for one in new
                ],
            )
        return new

    def _noted(self) -> Iterator[Kept]:
        after = ""
        while True:
            with scope(self.engine, None) as connection:
                some = noted.page(connection, self.store.address, after, PAGE_MAX)
            yield from some
            if len(some) < PAGE_MAX:
                return
            after = some[-1].name

    def _tenants(self) -> list[UUID]:
        with scope(self.engine, None) as connection:
            return [tenant for tenant, _ in identity.tenants(connection)]


@contextlib.contextmanager
def _later(failed: list[Unavailable]) -> Iterator[None]:
    """Put a failure by for the end of the round."""
    try:
        yield
    except Unavailable as error:
        failed.append(error)


def _tenant_of(name: str) -> UUID | None:
    """Return whose bundle a copy belongs to, also by the whole address of it; None: it is the ledger's."""
    match = _WHOSE.search(name)
    return UUID(match[1]) if match else None


def _size_of(name: str | None) -> int:
    return int(name.removeprefix(CHECKPOINTS)) if name else 0
