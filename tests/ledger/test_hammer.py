"""Writers, verifying readers and two sequencers at once, for some seconds; then every entry is accounted for."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from uuid import UUID, uuid4

import sqlalchemy as sa

from qcos.base.errors import Invalid
from qcos.db.engine import make_engine, scope
from qcos.ledger import prove, store
from qcos.ledger.append import GroupAppender, append
from qcos.ledger.files import LogFolder
from qcos.ledger.fsck import fsck
from qcos.ledger.record import Appended, Record
from qcos.ledger.sequence import Sequencer
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.verify import verify_consistency, verify_proof

from .conftest import ORIGIN

SECONDS = 6.0


class Hammer:
    """What runs at once, and what came of it."""

    def __init__(self, url: str, directory: Path, signers: LedgerSigners) -> None:
        self.url, self.directory, self.signers = url, directory, signers
        self.writing, self.sequencing = threading.Event(), threading.Event()
        self.tenants = [uuid4() for _ in range(2)]
        self.kept: dict[str, tuple[UUID, bytes]] = {}  # committed: record id, whose, its entry
        self.lock = threading.Lock()
        self.given_up: list[str] = []
        self.errors: list[BaseException] = []
        self.verified = self.continued = 0

    def guarded(self, work, *args) -> threading.Thread:
        def run() -> None:
            try:
                work(*args)
            except BaseException as error:
                self.errors.append(error)
                self.writing.set()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def keep(self, tenant: UUID, items: list[Appended]) -> None:
        with self.lock:
            self.kept |= {item.record_id: (tenant, item.entry_bytes) for item in items}

    def enough(self) -> bool:
        """Tell whether it has done what the end is compared with; a slow machine takes longer."""
        return bool(len(self.kept) > 100 and self.verified and self.continued and self.given_up)

    def names(self, tenant: UUID) -> list[str]:
        with self.lock:
            return [name for name, (whose, _) in self.kept.items() if whose == tenant]

    def group_writer(self, appender: GroupAppender, seed: int) -> None:
        rng = random.Random(seed)
        while not self.writing.is_set():
            tenant = rng.choice(self.tenants)
            records = [Record("job.submitted", f"user:{seed}", f"job-{n}") for n in range(rng.randint(1, 40))]
            self.keep(tenant, appender.append(tenant, records))

    def slow_writer(self, seed: int) -> None:
        """Acts as they are: a scope that stays open for a while, and ends either way."""
        engine, rng = make_engine(self.url, pool_size=1), random.Random(seed)
        while not self.writing.is_set():
            tenant = rng.choice(self.tenants)
            try:
                with scope(engine, tenant) as connection:
                    items = append(
                        connection, tenant, [Record("budget.set", f"user:{seed}", "p")] * rng.randint(1, 3)
                    )
                    time.sleep(rng.random() * 0.2)
                    if rng.random() < 0.4:
                        raise Invalid("test", "the act failed")
            except Invalid:
                self.given_up += [item.record_id for item in items]
            else:
                self.keep(tenant, items)
        engine.dispose()

    def sequencer(self) -> None:
        engine = make_engine(self.url, pool_size=2)
        Sequencer(engine, self.directory, self.signers, ORIGIN, batch=700).run(self.sequencing)
        engine.dispose()

    def reader(self, seed: int) -> None:
        """Proves what it likes and follows the published checkpoints; whatever does not hold raises."""
        engine, rng, folder = (
            make_engine(self.url, pool_size=1),
            random.Random(seed),
            LogFolder(self.directory),
        )
        seen = None
        while not self.writing.is_set():
            tenant = rng.choice(self.tenants)
            with scope(engine, tenant) as connection:
                mine = self.names(tenant)
                for name in rng.sample(mine, min(len(mine), 5)):
                    if proof := prove.proof_of(connection, tenant, name, folder):
                        verify_proof(proof.as_dict(), self.signers.vkeys, {"id": name})
                        self.verified += 1
                note = folder.checkpoint()
                if note is not None and note != seen:
                    if seen is not None:
                        old, new = (int(one.split("\n")[1]) for one in (seen, note))
                        hashes = prove.consistency(connection, old, new, folder).as_dict()["hashes"]
                        verify_consistency(seen, note, hashes, self.signers.vkeys)
                        self.continued += 1
                    seen = note
            time.sleep(0.02)
        engine.dispose()


def test_nothing_is_lost_doubled_or_unprovable_under_the_hammer(
    database, engine: sa.Engine, tmp_path: Path, signers: LedgerSigners
) -> None:
    """R5.5: what was committed is in the log once, what was not is not, and every proof given on the way held."""
    hammer = Hammer(database.app_url, tmp_path, signers)
    appender = GroupAppender(engine)
    sequencers = [hammer.guarded(hammer.sequencer) for _ in range(2)]
    others = [
        *(hammer.guarded(hammer.group_writer, appender, n) for n in range(3)),
        *(hammer.guarded(hammer.slow_writer, n) for n in range(10, 13)),
        *(hammer.guarded(hammer.reader, n) for n in range(20, 22)),
    ]
    hammer.writing.wait(SECONDS)
    until = time.monotonic() + 100
    while not hammer.errors and not hammer.enough() and time.monotonic() < until:
        time.sleep(0.1)
    hammer.writing.set()
    for thread in others:
        thread.join()
    appender.close()
    hammer.sequencing.set()
    for thread in sequencers:
        thread.join()
    assert hammer.errors == []
    last = Sequencer(engine, tmp_path, signers, ORIGIN)
    while last.step().added:
        pass
    size = last.step().size
    assert size == len(hammer.kept) > 100
    assert hammer.enough()
    with scope(engine, None) as connection:
        entries = store.entries_between(connection, 0, size)
    assert sorted(entries) == sorted(entry for _, entry in hammer.kept.values())
    for tenant in hammer.tenants:
        names = hammer.names(tenant)
        with scope(engine, tenant) as connection:
            proofs = prove.proofs_of(connection, tenant, names)
            assert store.placed(connection, tenant, hammer.given_up) == []
        assert {name: entries[proof.index] for name, proof in proofs.items()} == {
            name: hammer.kept[name][1] for name in names
        }
    report = fsck(tmp_path, signers.vkeys, engine, tenants=hammer.tenants)
    assert report.ok, report.problems
