"""Numbering: transactions end in any order, and every committed entry gets exactly one index."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcos.db import embedded
from qcos.db.engine import bind_tenant, make_engine, scope
from qcos.ledger import prove, store
from qcos.ledger.append import append
from qcos.ledger.fsck import fsck
from qcos.ledger.number import Gap, Run, left_open, runs_in
from qcos.ledger.record import Appended, Record
from qcos.ledger.sequence import Sequencer
from qcos.ledger.sign import LedgerSigners

from .conftest import ORIGIN, record_acts


class Writer:
    """A transaction that stays open for as long as a test likes."""

    def __init__(self, engine: sa.Engine, tenant: UUID) -> None:
        self.tenant = tenant
        self.connection = engine.connect()
        self.transaction = self.connection.begin()
        bind_tenant(self.connection, tenant)
        self.items: list[Appended] = []

    def write(self, count: int) -> None:
        records = [Record("job.submitted", "user:slow", f"job-{n}") for n in range(count)]
        self.items += append(self.connection, self.tenant, records)

    def commit(self) -> list[Appended]:
        self.transaction.commit()
        self.connection.close()
        return self.items

    def roll_back(self) -> None:
        self.transaction.rollback()
        self.connection.close()


def gaps(engine: sa.Engine) -> list[tuple[int, int]]:
    with scope(engine, None) as connection:
        rows = connection.execute(sa.select(store.gap_table).order_by(store.gap_table.c.first))
        return [(row.first, row.last) for row in rows]


def indices(engine: sa.Engine, tenant: UUID, items: list[Appended]) -> list[int | None]:
    with scope(engine, tenant) as connection:
        found = {p.record_id: p.index for p in store.placed(connection, tenant, [i.record_id for i in items])}
    return [found[item.record_id] for item in items]


def step_until_idle(sequencer: Sequencer) -> int:
    while sequencer.step().added:
        pass
    return sequencer.step().size


def test_an_entry_committed_late_is_numbered_late_and_others_do_not_wait(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    slow = Writer(engine, tenant)
    slow.write(3)
    quick = record_acts(engine, tenant, 2)
    slow.write(2)
    quick += record_acts(engine, tenant, 1)
    assert sequencer.step().size == 3
    assert indices(engine, tenant, quick) == [0, 1, 2]
    for n in range(4):  # however often the sequencer looks meanwhile
        record_acts(engine, tenant, 1)
        assert sequencer.step().size == 4 + n
    assert gaps(engine) == [(1, 3), (6, 7)]
    late = slow.commit()
    assert sequencer.step().size == 12
    assert indices(engine, tenant, late) == [7, 8, 9, 10, 11]
    for _ in range(3):
        record_acts(engine, tenant, 1)
        sequencer.step()
    assert gaps(engine) == []
    with scope(engine, tenant) as connection:
        assert len(prove.proofs_of(connection, tenant, [item.record_id for item in late + quick])) == 8
    assert fsck(tmp_path, signers.vkeys, engine, tenants=[tenant]).ok


def test_fsck_finds_entries_that_were_held_back(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    """Whoever forgets a gap as the application hides what is committed into it; the count of entries tells."""
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    slow = Writer(engine, tenant)
    slow.write(2)
    record_acts(engine, tenant, 3)
    sequencer.step()
    with scope(engine, None) as connection:
        connection.exec_driver_sql("delete from qcos.ledger_gap")
    assert fsck(tmp_path, signers.vkeys, engine, tenants=[tenant]).ok
    slow.commit()
    record_acts(engine, tenant, 1)
    step_until_idle(sequencer)
    report = fsck(tmp_path, signers.vkeys, engine, tenants=[tenant])
    assert [(found.code, found.message[0]) for found in report.problems] == [("ledger.held_back", "2")]


def test_a_late_commit_alone_wakes_the_sequencer(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    slow = Writer(engine, tenant)
    slow.write(1)
    record_acts(engine, tenant, 1)
    step_until_idle(sequencer)
    slow.commit()
    assert sequencer.step().added == 1


def test_a_rolled_back_number_is_forgotten_once_nobody_can_fill_it(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    witness = Writer(engine, tenant)  # an older transaction still at work keeps the gap open, no more
    witness.connection.exec_driver_sql("select pg_current_xact_id()")
    failed = Writer(engine, tenant)
    failed.write(2)
    record_acts(engine, tenant, 1)
    failed.roll_back()
    for _ in range(4):
        sequencer.step()
        record_acts(engine, tenant, 1)
    assert gaps(engine) == [(1, 2)]
    witness.roll_back()
    sequencer.step()
    assert gaps(engine) == []


@pytest.mark.parametrize("guarded", [True, False])
def test_a_writer_that_stops_between_its_number_and_its_row_is_waited_for(
    database, engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID, guarded: bool
) -> None:
    """The narrowest place: a sequence number is taken, the row is not there. Without the trigger it would be lost."""
    owner = sa.create_engine(database.admin_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with owner.connect() as holder:
        holder.exec_driver_sql(
            """create function qcos.pause() returns trigger language plpgsql as $$ begin
               if current_setting('app.slow', true) = 'yes' then perform pg_advisory_lock(4711); end if;
               return new; end $$"""
        )
        holder.exec_driver_sql(
            "create trigger pause before insert on qcos.ledger_entry for each row execute function qcos.pause()"
        )
        if not guarded:
            holder.exec_driver_sql("drop trigger take_transaction_id on qcos.ledger_entry")
        holder.exec_driver_sql("select pg_advisory_lock(4711)")
        record_acts(
            engine, tenant, 1
        )  # the first number of 32 is logged, and that takes a transaction id anyhow
        kept: list[Appended] = []

        def write() -> None:
            with scope(engine, tenant) as connection:
                connection.exec_driver_sql("set local app.slow = 'yes'")
                kept.extend(append(connection, tenant, [Record("job.submitted", "user:slow", "job-1")]))

        thread = threading.Thread(target=write)
        thread.start()
        waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        while not holder.exec_driver_sql(waits).scalar():
            pass
        sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
        for _ in range(5):
            record_acts(engine, tenant, 1)
            sequencer.step()
        holder.exec_driver_sql("select pg_advisory_unlock(4711)")
        thread.join()
    sequencer.step()
    assert indices(engine, tenant, kept) == [6 if guarded else None]


def test_late_entries_take_no_more_than_a_batch(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN, batch=4)
    writers = [Writer(engine, tenant) for _ in range(3)]
    for writer in writers:
        writer.write(7)
    last = record_acts(engine, tenant, 3)
    assert sequencer.step().size == 3
    items = [item for writer in reversed(writers) for item in writer.commit()]
    more = record_acts(engine, tenant, 5)
    while (step := sequencer.step()).added:
        assert step.added <= 4
    assert step.size == 29
    assert sorted(indices(engine, tenant, last + items + more)) == list(range(29))
    for _ in range(3):
        record_acts(engine, tenant, 1)
        sequencer.step()
    assert gaps(engine) == []
    assert fsck(tmp_path, signers.vkeys, engine, tenants=[tenant]).ok


@pytest.fixture
def house(postgres: embedded.EmbeddedServer, database, tmp_path: Path):
    engine = make_engine(database.app_url)
    yield engine, tmp_path
    engine.dispose()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    acts=st.lists(
        st.tuples(
            st.sampled_from(["write", "commit", "roll back", "step"]), st.integers(0, 3), st.integers(1, 5)
        ),
        max_size=40,
    ),
    batch=st.integers(1, 6),
)
def test_any_interleaving_numbers_every_committed_entry_once(
    house, signers: LedgerSigners, acts: list[tuple[str, int, int]], batch: int
) -> None:
    """Four transactions, in any order of writing and ending, and a sequencer that looks at any time."""
    engine, base = house
    tenant = uuid4()
    sequencer = Sequencer(engine, base / "log", signers, ORIGIN, batch=batch)
    open_ones: dict[int, Writer] = {}
    committed: list[Appended] = []
    for act, who, count in acts:
        if act == "step":
            sequencer.step()
        elif act == "write":
            if who not in open_ones:
                open_ones[who] = Writer(engine, tenant)
            open_ones[who].write(count)
        elif who in open_ones:
            writer = open_ones.pop(who)
            if act == "commit":
                committed += writer.commit()
            else:
                writer.roll_back()
    for writer in open_ones.values():
        committed += writer.commit()
    step_until_idle(sequencer)
    with scope(engine, None) as connection:
        total = store.glance(connection).head.size
        entries = store.entries_between(connection, 0, total)
    assert len(entries) == len(set(entries)) == total
    places = indices(engine, tenant, committed)
    assert [entries[place] for place in places if place is not None] == [
        item.entry_bytes for item in committed
    ]


@given(st.sets(st.integers(1, 60), min_size=1))
def test_runs_and_what_they_leave_open_are_all_numbers(numbers: set[int]) -> None:
    seqs = sorted(numbers)
    runs = runs_in(seqs, b"".join(bytes([n]) * 32 for n in seqs))
    covered = [run.seq + n for run in runs for n in range(len(run.entries))]
    assert covered == seqs
    assert [run.entries for run in runs if not run.entries] == []
    holes = [n for gap in left_open(1, 60, runs) for n in range(gap.first, gap.last + 1)]
    assert sorted(covered + holes) == list(range(1, 61))
    assert all(b.seq > a.seq + len(a.entries) for a, b in itertools.pairwise(runs))


def test_nothing_found_leaves_the_whole_gap() -> None:
    assert left_open(3, 5, []) == [Gap(3, 5)]
    assert runs_in([], None) == []
    assert left_open(3, 3, [Run(3, [b""])]) == []
