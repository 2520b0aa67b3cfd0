"""A ledger that does not come on refuses acts: nothing is done that could not be proved (R5.5)."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from qcos.base.errors import Limit, Unavailable
from qcos.base.limits import GROUP_RECORDS, MAX_BACKLOG_ENTRIES
from qcos.db import embedded
from qcos.db.engine import make_engine, scope
from qcos.db.migrate import migrate
from qcos.ledger import store
from qcos.ledger.append import GroupAppender, append
from qcos.ledger.fsck import fsck
from qcos.ledger.record import Record
from qcos.ledger.sequence import Sequencer
from qcos.ledger.sign import LedgerSigners

from .conftest import ORIGIN, record_acts

ACT = Record("budget.set", "user:a@example.com", "p1")


@pytest.fixture
def let_time_pass(database) -> Callable[[], None]:
    """Make everything in the ledger an hour older."""

    def run() -> None:
        owner = sa.create_engine(database.admin_url, poolclass=sa.NullPool)
        with owner.begin() as connection:
            connection.exec_driver_sql("update qcos.ledger_entry set at = at - interval '1 hour'")
            connection.exec_driver_sql("update qcos.ledger_state set moved = moved - interval '1 hour'")

    return run


def refused(engine: sa.Engine, tenant: UUID) -> Unavailable:
    with pytest.raises(Unavailable) as caught, scope(engine, tenant) as connection:
        append(connection, tenant, [ACT])
    return caught.value


def rows(engine: sa.Engine, tenant: UUID) -> tuple[int, int]:
    with scope(engine, tenant) as connection:
        count = sa.func.count()
        return (
            connection.execute(sa.select(count).select_from(store.record_table)).scalar_one(),
            connection.execute(sa.select(count).select_from(store.entry_table)).scalar_one(),
        )


def test_while_the_sequencer_is_dead_acts_go_on_for_a_while_and_then_are_refused(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID, let_time_pass: Callable[[], None]
) -> None:
    record_acts(engine, tenant, 3)
    record_acts(engine, tenant, 3)  # nothing was sequenced, and nothing has waited long
    let_time_pass()
    before = rows(engine, tenant)
    error = refused(engine, tenant)
    assert (error.code, error.family) == ("ledger.backlog", "unavailable")
    assert error.retry_after_s
    assert "nothing was done" in error.message and "6 entries waiting" in str(error.got)
    assert rows(engine, tenant) == before == (6, 6)
    Sequencer(engine, tmp_path, signers, ORIGIN).step()
    record_acts(engine, tenant, 1)


def test_an_idle_log_is_no_backlog(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID, let_time_pass: Callable[[], None]
) -> None:
    record_acts(engine, tenant, 3)
    Sequencer(engine, tmp_path, signers, ORIGIN).step()
    let_time_pass()
    assert record_acts(engine, tenant, 1)  # the first act after a quiet hour


def test_a_late_commit_in_a_busy_log_is_no_backlog(
    database, engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    """Its entry is old when it is seen, but the sequencer moved just now."""
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    record_acts(engine, tenant, 1)
    sequencer.step()
    record_acts(engine, tenant, 1)
    owner = sa.create_engine(database.admin_url, poolclass=sa.NullPool)
    with owner.begin() as connection:
        connection.exec_driver_sql("update qcos.ledger_entry set at = at - interval '1 hour' where seq = 2")
    assert record_acts(engine, tenant, 1)


def test_too_many_entries_are_a_backlog_however_young(engine: sa.Engine, database, tenant: UUID) -> None:
    record_acts(engine, tenant, 1)
    owner = sa.create_engine(database.admin_url, poolclass=sa.NullPool)
    with owner.begin() as connection:
        connection.exec_driver_sql(f"update qcos.ledger_state set seen = {1 - MAX_BACKLOG_ENTRIES}")
    record_acts(engine, tenant, 1)  # exactly as many as may wait
    assert refused(engine, tenant).code == "ledger.backlog"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 kB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "qcos-test", str(place)]
    if (
        os.geteuid() != 0
        or not shutil.which("mount")
        or subprocess.run(command, capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops_the_sequencer_then_the_acts_and_room_lets_all_go_on(
    engine: sa.Engine,
    signers: LedgerSigners,
    tenant: UUID,
    small_disk: Path,
    let_time_pass: Callable[[], None],
) -> None:
    directory = small_disk / "log"
    sequencer = Sequencer(engine, directory, signers, ORIGIN)
    record_acts(engine, tenant, 20)
    assert sequencer.step().size == 20
    ballast = small_disk / "ballast"
    with pytest.raises(OSError), ballast.open("wb") as handle:
        while True:
            handle.write(bytes(4096))
            handle.flush()
    published = (directory / "checkpoint").read_bytes()
    record_acts(engine, tenant, 300)
    for _ in range(3):  # it tries again and again: no file piles up, no more is numbered
        with pytest.raises(OSError) as caught:
            sequencer.step()
        assert caught.value.errno == errno.ENOSPC
        record_acts(engine, tenant, 1)
    with scope(engine, None) as connection:
        assert store.glance(connection).head.size == 320
    assert (directory / "checkpoint").read_bytes() == published
    assert [path.name for path in (directory / ".making").iterdir()] == ["lock"]
    let_time_pass()
    assert refused(engine, tenant).code == "ledger.backlog"
    ballast.unlink()
    while sequencer.step().added:
        pass
    record_acts(engine, tenant, 1)
    assert sequencer.step().size == 324
    assert fsck(directory, signers.vkeys, engine, tenants=[tenant]).ok


def test_a_database_that_is_gone_takes_no_act_and_comes_back_with_all_it_took(tmp_path: Path) -> None:
    server = embedded.start(tmp_path / "pg")
    try:
        migrate(server.admin_url, app_password=server.app_password)
        engine, tenant = make_engine(server.app_url), uuid4()
        record_acts(engine, tenant, 2)
        with ThreadPoolExecutor(1) as pool:
            ready, gone = threading.Event(), threading.Event()

            def half() -> None:
                with scope(engine, tenant) as connection:
                    append(connection, tenant, [ACT])
                    ready.set()
                    gone.wait(60)

            waiting = pool.submit(half)
            assert ready.wait(60)
            os.kill(server.pid, signal.SIGQUIT)  # as hard as it ends by itself: no checkpoint, no goodbye
            while embedded.running_pid(tmp_path / "pg") is not None:
                pass
            gone.set()
            with pytest.raises(Unavailable) as caught:
                waiting.result(60)
        assert caught.value.code == "database.unavailable"
        assert refused(engine, tenant).code == "database.unavailable"
        embedded.start(tmp_path / "pg", port=server.port)
        assert rows(engine, tenant) == (2, 2)
        record_acts(engine, tenant, 1)
        engine.dispose()
    finally:
        embedded.stop(tmp_path / "pg")


def test_many_callers_share_a_scope_and_each_gets_its_own(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners
) -> None:
    """`GroupAppender`: durable when it returns, in order, whole."""
    appender = GroupAppender(engine)
    tenants = [uuid4(), uuid4()]

    def call(n: int) -> list[str]:
        records = [Record("job.submitted", f"user:{n}", f"job-{n}-{i}") for i in range(5)]
        return [item.record_id for item in appender.append(tenants[n % 2], records)]

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(call, range(40)))
    appender.close()
    Sequencer(engine, tmp_path, signers, ORIGIN).step()
    for n, ids in enumerate(given):
        with scope(engine, tenants[n % 2]) as connection:
            found = {placed.record_id: placed for placed in store.placed(connection, tenants[n % 2], ids)}
            assert store.placed(connection, tenants[1 - n % 2], ids) == []
        assert [found[name].record["object"] for name in ids] == [f"job-{n}-{i}" for i in range(5)]
        places = [found[name].index for name in ids]
        assert places == list(range(places[0] or 0, (places[0] or 0) + 5))


def test_a_group_that_is_refused_leaves_nothing(
    engine: sa.Engine, tenant: UUID, let_time_pass: Callable[[], None]
) -> None:
    appender = GroupAppender(engine)
    with pytest.raises(Limit) as limit:
        appender.append(tenant, [ACT] * (GROUP_RECORDS + 1))
    assert limit.value.code == "ledger.group_size"
    appender.append(tenant, [ACT])
    let_time_pass()
    with pytest.raises(Unavailable) as caught:
        appender.append(tenant, [ACT, ACT])
    assert caught.value.code == "ledger.backlog"
    assert rows(engine, tenant) == (1, 1)
    appender.close()
