"""Copy what must outlive this machine to a WORM store, and look whether somebody tampered there (R5.6).

Never in a job's path: a round copies what came since the last one. Copies go out before they are noted, and the
checkpoint goes out after all the tiles it needs, so that a round that died is simply done again.
"""

from __future__ import annotations

import datetime as dt
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from qcos.base.clock import now
from qcos.base.errors import Integrity
from qcos.base.limits import PAGE_MAX, WORM_BATCH, WORM_EXAMINED
from qcos.db.engine import scope
from qcos.evidence import materials
from qcos.evidence import store as evidence
from qcos.evidence.store import StoredBundle
from qcos.identity import store as identity
from qcos.ledger.append import append
from qcos.ledger.checkpoint import parse_body
from qcos.ledger.files import LogFolder
from qcos.ledger.note import parse
from qcos.ledger.pieces import pieces, read
from qcos.ledger.record import Record
from qcos.secrecy.envelope import is_sealed
from qcos.worm import store as noted
from qcos.worm.model import Finding, Item, Kept, WormStore

CHECKPOINTS: Final = "ledger/checkpoints/"
_ACTOR: Final = "service:qcos-archive"
_SPARE: Final = dt.timedelta(minutes=5)  # a date that is nearly past is not worth locking
_LATE: Final = dt.timedelta(days=1)  # a bundle is committed within a day of its sealing, or never
_log = logging.getLogger("qcos.archive")


@dataclass(frozen=True, slots=True)
class Round:
    """What a round did.

    Attributes:
        size: Entries of the newest checkpoint in the store.
        copies: Copies made.
        bundles: How many of them are evidence: bundles and their materials.
        findings: What is newly found to be wrong.
    """

    size: int
    copies: int
    bundles: int
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
    _sealed: dict[str, dt.datetime] = field(default_factory=dict, init=False)

    def round(self) -> Round:
        """Copy what is new, look at some of what is old.

        A name that holds other bytes, or a copy that the store does not protect, is a finding; what depends on it waits.

        Raises:
            Unavailable: The store or the database does not answer; the next round goes on.
        """
        copies = self._careful(self._copy_ledger)
        bundles = sum(self._careful(partial(self._copy_bundles, tenant)) for tenant in self._tenants())
        with scope(self.engine, None) as connection:
            newest = noted.last_name(connection, self.store.address, CHECKPOINTS)
        found = self._look_at_some()
        return Round(_size_of(newest), copies + bundles, bundles, tuple(found))

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

    def _careful(self, copy: Callable[[], int]) -> int:
        try:
            return copy()
        except Integrity as error:
            self._report([Finding(error.code, error.subject, str(error))])
            return 0

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

    def _copy_bundles(self, tenant: UUID) -> int:
        """Copy bundles as they are stored: who may read the store may read no more than who may read the database.

        One of before there was encryption waits until it is encrypted: nobody could erase a plain copy.
        """
        prefix, since = f"evidence/{tenant}/", self._sealed.get(str(tenant))
        copied, plain = 0, False
        while True:
            with scope(self.engine, tenant) as connection:
                rows = evidence.sealed_since(connection, tenant, since, PAGE_MAX)
                new = noted.missing(connection, self.store.address, [prefix + row.id for row in rows])
                wanted = [row for row in rows if prefix + row.id in new and row.retain_until > now() + _SPARE]
                named = materials.names_of(connection, tenant, [row.job for row in wanted])
            plain |= any(row.document is not None and not is_sealed(row.document) for row in wanted)
            copied += self._keep(self._evidence(tenant, wanted, named))
            if len(rows) < PAGE_MAX or rows[-1].sealed_at == since:
                break
            since = rows[-1].sealed_at
        if rows and not plain:
            self._sealed[str(tenant)] = rows[-1].sealed_at - _LATE
        return copied

    def _evidence(
        self, tenant: UUID, rows: Iterable[StoredBundle], named: Mapping[str, Sequence[str]]
    ) -> Iterator[Item]:
        """Yield bundles, each after its materials: one that is noted is complete."""
        for row in rows:
            if row.document is None or not is_sealed(row.document):
                continue
            name = f"evidence/{tenant}/{row.id}"
            for material in named.get(row.job, ()):
                with scope(self.engine, tenant) as connection:
                    kept = materials.get(connection, tenant, row.job, material)
                if kept is not None:  # else it was erased meanwhile
                    yield Item(f"{name}.materials/{_plain_name(material)}", kept.payload, row.retain_until)
            yield Item(name, row.document, row.retain_until)

    def _keep(self, items: Iterable[Item]) -> int:
        count = 0
        for batch in _batches(items):
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
        """Note findings, and record each new one in the ledger: tampering there is an event here."""
        if not found:
            return []
        tenant = next(iter(self._tenants()), None)
        if tenant is None:
            return found
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
        for one in new:
            _log.error(
                "a WORM copy was tampered with: %s: %s", one.name, one.message, extra={"code": one.code}
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


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, WORM_BATCH)):
        yield batch


def _plain_name(name: str) -> str:
    """Return a material's name as a file's: other bytes than letters, digits and '-' become ``_xx``."""
    kept = (chr(b) if (chr(b).isalnum() and b < 128) or b == ord("-") else f"_{b:02x}" for b in name.encode())
    return "".join(kept)


def _size_of(name: str | None) -> int:
    return int(name.removeprefix(CHECKPOINTS)) if name else 0
