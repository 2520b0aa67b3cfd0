"""Copy evidence to a WORM store, and keep its copies locked while a legal hold covers it (R5.6, R4.3)."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

import sqlalchemy as sa

from qcos.base.clock import now
from qcos.base.errors import Integrity, NotFound
from qcos.base.limits import (
    PAGE_MAX,
    WORM_BATCH,
    WORM_HELD_DAYS,
    WORM_HELD_LOOK_S,
    WORM_HELD_STEP_DAYS,
    WORM_LENGTHENED,
    WORM_RENEWED,
)
from qcos.db.engine import scope
from qcos.evidence import materials
from qcos.evidence import store as evidence
from qcos.evidence.store import Renewed, StoredBundle
from qcos.jobs import payloads
from qcos.retention import store as holds
from qcos.secrecy.envelope import is_sealed
from qcos.timestamp.archive import ArchiveStamp
from qcos.timestamp.tree import unpack
from qcos.worm import store as noted
from qcos.worm.model import Finding, Item, Kept, WormStore

T = TypeVar("T")
_FIRST: Final = ("", 0)
_SPARE: Final = dt.timedelta(minutes=5)  # a date that is nearly past is not worth locking
_DAY: Final = dt.timedelta(days=1)
_LATE: Final = _DAY  # a bundle is committed within a day of its sealing, or never
_HELD: Final = dt.timedelta(days=WORM_HELD_DAYS) + dt.timedelta(seconds=WORM_HELD_LOOK_S)
_HELD_STEP: Final = dt.timedelta(days=WORM_HELD_STEP_DAYS)


@dataclass(slots=True)
class EvidenceCopies:
    """Copies of evidence in one store.

    Attributes:
        engine: As the application's role.
        store: Where copies go.
        report: Told of copies that are not as they were kept.
    """

    engine: sa.Engine
    store: WormStore
    report: Callable[[list[Finding]], object]
    _sealed: dict[UUID, dt.datetime] = field(default_factory=dict, init=False)
    _held: dict[UUID, _Look] = field(default_factory=dict, init=False)
    _renewed: dict[UUID, _Stamped] = field(default_factory=dict, init=False)

    def copy(self, tenant: UUID) -> int:
        """Copy bundles as they are stored: who may read the store may read no more than who may read the database.

        One of before there was encryption waits until it is encrypted: nobody could erase a plain copy.
        """
        since = self._sealed.get(tenant)
        copied, plain = 0, False
        while True:
            with scope(self.engine, tenant) as connection:
                rows = evidence.sealed_since(connection, tenant, since, PAGE_MAX)
                names = [_name(tenant, row.id) for row in rows]
                new = noted.missing(connection, self.store.address, names)
                here = [row for row in rows if _name(tenant, row.id) in new]
                held = payloads.held(connection, tenant, [row.id for row in here])
            wanted = [row.job for row in here if row.id in held or row.retain_until > now() + _SPARE]
            count, waits = self._copy(tenant, wanted, held)
            copied, plain = copied + count, plain or waits
            if len(rows) < PAGE_MAX or rows[-1].sealed_at == since:
                break
            since = rows[-1].sealed_at
        if rows and not plain:
            self._sealed[tenant] = rows[-1].sealed_at - _LATE
        return copied

    def mind_holds(self, tenant: UUID) -> tuple[int, int]:
        """Lengthen the locks of what a hold covers, and copy what of it was not worth it before; returns copies and lengthened locks.

        Looks when the holds are others than before, else once an hour: a lock has `WORM_HELD_DAYS` ahead. Goes on in the
        next round when there is much to do.
        """
        with scope(self.engine, tenant) as connection:
            active = holds.held_now(connection, tenant)
        look = self._held.get(tenant)
        if look is None or look.holds != active:
            look = self._held[tenant] = _Look(active)
            self._renewed.pop(tenant, None)
        if not active or (look.done is not None and time.monotonic() - look.done < WORM_HELD_LOOK_S):
            return 0, 0
        look.done = None
        copied = lengthened = tried = 0
        while tried < WORM_LENGTHENED:
            with scope(self.engine, tenant) as connection:
                some = payloads.held_after(connection, tenant, look.after, PAGE_MAX)
                names = {_name(tenant, bundle): job for bundle, job in some.items()}
                kept = noted.with_parts(connection, self.store.address, list(names))
            there = {one.name for one in kept}
            missing = [job for name, job in names.items() if name not in there]
            short = [one for one in kept if one.retain_until < now() + _HELD]
            copied += self._copy(tenant, missing, some)[0]
            lengthened += self._lengthen(short)
            tried += len(missing) + len(short)
            look.after = next(reversed(some), "")
            if not some:
                look.done = time.monotonic()
                break
        return copied, lengthened

    def _copy(self, tenant: UUID, jobs: Iterable[str], held: Collection[str]) -> tuple[int, bool]:
        """Copy the bundles of jobs; returns copies, and whether one is plain and waits."""
        copied, plain = 0, False
        for some in batches(jobs):
            with scope(self.engine, tenant) as connection:
                rows = evidence.of_jobs(connection, tenant, some).values()
                named = materials.names_of(connection, tenant, some)
            plain |= any(row.document is not None and not is_sealed(row.document) for row in rows)
            copied += self._keep(self._items(tenant, row, named, held=row.id in held) for row in rows)
        return copied, plain

    def _lengthen(self, kept: Iterable[Kept]) -> int:
        """Lengthen locks; a copy that is not as it was is a finding."""
        lengthened = 0
        for batch in batches(kept):
            done = []
            for one in batch:
                try:
                    done.append(self.store.lengthen(one, _held_until()))
                except (Integrity, NotFound) as error:
                    seen = self.store.examine(one, content=False)
                    self.report(seen or [Finding(error.code, one.name, str(error))])
            with scope(self.engine, None) as connection:
                noted.lengthen(connection, self.store.address, done)
            lengthened += len(done)
        return lengthened

    def copy_renewals(self, tenant: UUID) -> int:
        """Copy later time stamps of bundles, each beside its bundle and locked as long; returns copies.

        Looks when there are others than before. Goes on in the next round when there is much to do.
        """
        with scope(self.engine, tenant) as connection:
            there = evidence.renewal_ids(connection, tenant)
        look = self._renewed.setdefault(tenant, _Stamped())
        look.under_way = look.under_way or there - look.copied
        copied = tried = 0
        while look.under_way and tried < WORM_RENEWED:
            with scope(self.engine, tenant) as connection:
                some = evidence.renewed_by(connection, tenant, look.under_way, look.after, PAGE_MAX)
                new = self._new_renewals(connection, tenant, some)
            copied += self._keep(self._stamps(tenant, bundle, parts) for bundle, parts in new.items())
            tried += sum(map(len, new.values()))
            if some:
                look.after = (some[-1].bundle, some[-1].position)
            else:
                look.copied |= look.under_way
                look.under_way, look.after = frozenset(), _FIRST
        return copied

    def _new_renewals(
        self, connection: sa.Connection, tenant: UUID, some: Sequence[Renewed]
    ) -> dict[str, dict[int, dt.datetime]]:
        """Return positions that are worth a copy and have none, by bundle, with until when each is locked."""
        names = {_renewal(tenant, one.bundle, one.position): one for one in some}
        missing = noted.missing(connection, self.store.address, list(names))
        new = [one for name, one in names.items() if name in missing]
        bundles = list(dict.fromkeys(one.bundle for one in new))
        held = payloads.held(connection, tenant, bundles)
        copies = noted.find(connection, self.store.address, [_name(tenant, bundle) for bundle in bundles])
        found: dict[str, dict[int, dt.datetime]] = {}
        for one in new:
            if one.bundle not in held and one.retain_until <= now() + _SPARE:
                continue
            until = _held_until() if one.bundle in held else one.retain_until
            beside = copies.get(_name(tenant, one.bundle))
            until = max(until, one.retain_until, beside.retain_until if beside is not None else until)
            found.setdefault(one.bundle, {})[one.position] = until
        return found

    def _stamps(self, tenant: UUID, bundle: str, wanted: Mapping[int, dt.datetime]) -> Iterator[Item]:
        """Yield a bundle's later time stamps in their order, each as a DER ArchiveTimeStamp (RFC 4998)."""
        with scope(self.engine, tenant) as connection:
            stamps = evidence.renewals_of(connection, tenant, bundle)
        for position, (token, tree) in enumerate(stamps, 1):
            if position in wanted:
                data = ArchiveStamp(token, unpack(tree)).encode()
                yield Item(_renewal(tenant, bundle, position), data, wanted[position])

    def _items(
        self, tenant: UUID, row: StoredBundle, named: Mapping[str, Sequence[str]], *, held: bool
    ) -> Iterator[Item]:
        """Yield a bundle after its materials: one that is noted is complete."""
        if row.document is None or not is_sealed(row.document):
            return
        name = _name(tenant, row.id)
        until = max(row.retain_until, _held_until()) if held else row.retain_until
        for material in named.get(row.job, ()):
            with scope(self.engine, tenant) as connection:
                kept = materials.get(connection, tenant, row.job, material)
            if kept is not None:  # else it was erased meanwhile
                yield Item(f"{name}.materials/{_plain_name(material)}", kept.payload, until)
        yield Item(name, row.document, until)

    def _keep(self, bundles: Iterable[Iterable[Item]]) -> int:
        """Keep what belongs to each bundle; a name of one that holds other bytes is a finding, and the others go on."""
        count, kept = 0, list[Kept]()
        for items in bundles:
            try:
                for item in items:
                    kept.append(self.store.keep(item))  # noted also when the next one's name is taken
            except Integrity as error:
                if error.code != "worm.changed":
                    raise
                self.report([Finding(error.code, error.subject, str(error))])
            if len(kept) >= WORM_BATCH:
                count += self._note(kept)
                kept = []
        return count + self._note(kept)

    def _note(self, kept: Sequence[Kept]) -> int:
        if kept:
            with scope(self.engine, None) as connection:
                noted.insert_copies(connection, self.store.address, kept, now())
        return len(kept)


@dataclass(slots=True)
class _Stamped:
    """Which renewals were copied, and how far the others are: up to which bundle and position."""

    copied: frozenset[str] = frozenset()
    under_way: frozenset[str] = frozenset()
    after: tuple[str, int] = _FIRST


@dataclass(slots=True)
class _Look:
    """How far a look at held copies is.

    Attributes:
        holds: What held when it began.
        after: The last bundle that was looked at.
        done: When it ended, in monotonic seconds; None: it goes on.
    """

    holds: frozenset[str]
    after: str = ""
    done: float | None = None


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield what is noted at once."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, WORM_BATCH)):
        yield batch


def _name(tenant: UUID, bundle: str) -> str:
    return f"evidence/{tenant}/{bundle}"


def _renewal(tenant: UUID, bundle: str, position: int) -> str:
    return f"{_name(tenant, bundle)}.renewals/{position}"


def _held_until() -> dt.datetime:
    """Return until when a held copy is locked now: the end of a day, the same for two processes that lengthen at once."""
    return (now() + _HELD_STEP + _DAY).replace(hour=0, minute=0, second=0, microsecond=0)


def _plain_name(name: str) -> str:
    """Return a material's name as a file's: other bytes than letters, digits and '-' become ``_xx``."""
    kept = (chr(b) if (chr(b).isalnum() and b < 128) or b == ord("-") else f"_{b:02x}" for b in name.encode())
    return "".join(kept)
