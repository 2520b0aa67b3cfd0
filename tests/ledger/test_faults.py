"""The sequencer dies after each of its writes; two run at once; folders and databases are damaged."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from qcos.base.errors import Integrity, Unavailable
from qcos.db.engine import make_engine, scope
from qcos.ledger import prove, store
from qcos.ledger.files import LogFolder
from qcos.ledger.fsck import Report, fsck
from qcos.ledger.sequence import Sequencer
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.verify import verify_consistency, verify_proof

from .conftest import ORIGIN, make_signers, record_acts

STAGES = ("numbered", "written", "signed", "published")
SEED = bytes(range(32))


class Killed(BaseException):
    """As sudden as a kill, for everything but the operating system."""


def ends_at(deadly: str) -> Callable[[str], None]:
    def on_stage(stage: str) -> None:
        if stage == deadly:
            raise Killed

    return on_stage


def check(directory: Path, signers: LedgerSigners, engine: sa.Engine, tenants: list[UUID]) -> Report:
    report = fsck(directory, signers.vkeys, engine, tenants=tenants)
    assert report.ok, report.problems
    return report


@pytest.mark.parametrize("deadly", STAGES)
def test_a_killed_process_loses_nothing_and_the_next_one_goes_on(
    database, engine: sa.Engine, tmp_path: Path, tenant: UUID, deadly: str
) -> None:
    """R5.5: kill -9 after each write of a step; the next sequencer repairs it."""
    signers = make_signers(seed=SEED)
    log = tmp_path / "log"
    acts = record_acts(engine, tenant, 300)
    done = subprocess.run(
        [sys.executable, "-m", "ledger.dying", database.app_url, str(log), SEED.hex(), deadly],
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    acts += record_acts(engine, tenant, 5)
    assert Sequencer(engine, log, signers, ORIGIN).step().size == 305
    report = check(log, signers, engine, [tenant])
    assert (report.size, report.records) == (305, 305)
    with scope(engine, tenant) as connection:
        proofs = prove.proofs_of(connection, tenant, [act.record_id for act in acts])
    assert sorted(proof.index for proof in proofs.values()) == list(range(305))


def test_steps_that_end_anywhere_in_any_order_leave_one_consistent_log(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    total, notes = 0, []
    for deadly in (*STAGES, *reversed(STAGES), "numbered", "numbered", "written", "numbered"):
        record_acts(engine, tenant, 70)
        total += 70
        with pytest.raises(Killed):
            Sequencer(engine, tmp_path, signers, ORIGIN, on_stage=ends_at(deadly)).step()
        with scope(engine, None) as connection:
            latest = store.latest_checkpoint(connection)
        if latest is not None:
            notes.append(latest)
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    assert sequencer.step().size == total
    check(tmp_path, signers, engine, [tenant])
    with scope(engine, None) as connection:
        for size, note in notes:
            shown = prove.consistency(connection, size, total).as_dict()
            verify_consistency(note, shown["newCheckpoint"], shown["hashes"], signers.vkeys)


def test_the_same_sequencer_goes_on_after_it_failed(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    """What it holds in memory may be ahead of the database after an error: it must be read again."""
    fails = iter((True, True, False, True, False))

    def on_stage(stage: str) -> None:
        if stage == "written" and next(fails, False):
            raise Unavailable("test", "the disk is full")

    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN, on_stage=on_stage)
    failures = 0
    for _ in range(6):
        record_acts(engine, tenant, 130)
        try:
            sequencer.step()
        except Unavailable:
            failures += 1
    assert failures == 3
    assert sequencer.step().size == 780
    check(tmp_path, signers, engine, [tenant])


def test_an_entry_that_cannot_be_committed_does_not_spoil_the_tree_in_memory(
    database, engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    record_acts(engine, tenant, 3)
    sequencer.step()
    record_acts(engine, tenant, 400)
    admin = sa.create_engine(database.admin_url, poolclass=sa.NullPool)
    with admin.begin() as connection:
        connection.exec_driver_sql("revoke insert on qcos.ledger_node from qcos_app")
    with pytest.raises(sa.exc.ProgrammingError):
        sequencer.step()
    with admin.begin() as connection:
        connection.exec_driver_sql("grant insert on qcos.ledger_node to qcos_app")
    assert sequencer.step().size == 403
    check(tmp_path, signers, engine, [tenant])


@pytest.mark.parametrize("shared", [True, False])
def test_sequencers_at_once_make_one_log(
    database, engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, shared: bool
) -> None:
    """Two sequencers run while three writers record; on one folder, and each on its own."""
    folders = [tmp_path / "a", tmp_path / ("a" if shared else "b")]
    engines = [make_engine(database.app_url, pool_size=3) for _ in folders]
    tenants = [uuid4() for _ in range(3)]
    stop, errors = threading.Event(), []

    def sequence(own: sa.Engine, folder: Path) -> None:
        sequencer = Sequencer(own, folder, signers, ORIGIN, batch=50)
        try:
            while not stop.is_set():
                sequencer.step()
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=sequence, args=pair) for pair in zip(engines, folders, strict=True)]
    writers = [
        threading.Thread(target=lambda t=t: [record_acts(engine, t, n % 17) for n in range(60)])
        for t in tenants
    ]
    for thread in (*running, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in running:
        thread.join()
    assert errors == []
    total = 3 * sum(n % 17 for n in range(60))
    for own, folder in zip(engines, folders, strict=True):
        last = Sequencer(own, folder, signers, ORIGIN)
        assert last.step().size == total
        check(folder, signers, engine, tenants)
        own.dispose()


def test_a_lost_folder_is_written_again_from_the_database(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    sequencer = Sequencer(engine, tmp_path / "a", signers, ORIGIN)
    for count in (200, 100, 50, 300, 7, 9):
        record_acts(engine, tenant, count)
        sequencer.step()
    Sequencer(engine, tmp_path / "b", signers, ORIGIN, batch=100).step()
    check(tmp_path / "b", signers, engine, [tenant])
    for path in (tmp_path / "a").glob("tile/**/*"):
        full = path.parent.with_name(path.parent.name.removesuffix(".p"))
        if path.is_file() and (full == path.parent or not full.exists()):
            assert (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes() == path.read_bytes()
    assert (tmp_path / "a/checkpoint").read_bytes() == (tmp_path / "b/checkpoint").read_bytes()


def test_a_database_restored_from_an_old_copy_stops_the_log(
    database, engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    """Signing on would show two different logs to two readers."""
    record_acts(engine, tenant, 10)
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    sequencer.step()
    admin = sa.create_engine(database.admin_url, poolclass=sa.NullPool)
    with admin.begin() as connection:
        for table in ("entry", "record", "run", "checkpoint"):
            connection.exec_driver_sql(f"delete from qcos.ledger_{table}")
        connection.exec_driver_sql("update qcos.ledger_state set size = 0, root = sha256(''), seen = 0")
    published = (tmp_path / "checkpoint").read_bytes()
    record_acts(engine, tenant, 3)
    for one in (sequencer, Sequencer(engine, tmp_path, signers, ORIGIN)):
        with pytest.raises(Integrity) as caught:
            one.step()
        assert caught.value.code == "ledger.rolled_back"
    with scope(engine, None) as connection:
        assert store.glance(connection).head.size == 0  # nor is anything numbered
    record_acts(engine, tenant, 12)
    Sequencer(engine, tmp_path / "other", signers, ORIGIN).step()
    with pytest.raises(Integrity) as caught:
        Sequencer(engine, tmp_path, signers, ORIGIN).step()
    assert caught.value.code == "ledger.forked"
    assert (tmp_path / "checkpoint").read_bytes() == published


def test_an_entry_changed_in_the_database_stops_the_log_and_fsck_names_it(
    database, engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    record_acts(engine, tenant, 10)
    Sequencer(engine, tmp_path, signers, ORIGIN).step()
    admin = sa.create_engine(database.admin_url, poolclass=sa.NullPool)
    with admin.begin() as connection:
        connection.exec_driver_sql("update qcos.ledger_entry set digest = sha256('forged') where seq = 5")
    record_acts(engine, tenant, 1)
    with pytest.raises(Integrity) as caught:
        Sequencer(engine, tmp_path, signers, ORIGIN).step()
    assert caught.value.code == "ledger.forked"
    report = fsck(tmp_path, signers.vkeys, engine, tenants=[tenant])
    assert {found.code for found in report.problems} == {
        "ledger.entry_differs",
        "ledger.forked",
        "ledger.record_differs",
    }


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (
            "update qcos.ledger_record set record = "
            "replace(convert_from(record, 'UTF8'), 'alice', 'eve')::bytea where object = 'job-3'",
            "ledger.record_differs",
        ),
        (
            "update qcos.ledger_record set actor = 'user:mallory' where object = 'job-3'",
            "ledger.record_columns",
        ),
        ("delete from qcos.ledger_record where object = 'job-3'", "ledger.record_missing"),
        ("delete from qcos.ledger_entry where seq = 7", "ledger.entry_missing"),
        ("update qcos.ledger_node set hash = sha256('')", "ledger.node_differs"),
        ("update qcos.ledger_checkpoint set root = sha256('')", "ledger.checkpoint"),
        (
            "update qcos.ledger_checkpoint set note = replace(note, chr(10) || '300', chr(10) || '301')",
            "ledger.signature",
        ),
        ("update qcos.ledger_state set size = 299", "ledger.rolled_back"),
    ],
)
def test_fsck_finds_what_an_owner_of_the_database_changed(
    database,
    engine: sa.Engine,
    tmp_path: Path,
    signers: LedgerSigners,
    tenant: UUID,
    statement: str,
    code: str,
) -> None:
    """R5.5: tamper-evident."""
    record_acts(engine, tenant, 300)
    Sequencer(engine, tmp_path, signers, ORIGIN).step()
    check(tmp_path, signers, engine, [tenant])
    admin = sa.create_engine(database.admin_url, poolclass=sa.NullPool)
    with admin.begin() as connection:
        assert connection.exec_driver_sql(statement).rowcount == 1
    report = fsck(tmp_path, signers.vkeys, engine, tenants=[tenant])
    assert code in {found.code for found in report.problems}


def test_fsck_finds_every_changed_file(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    """One byte changed in any file of the log, or the file removed, or a file that does not belong there."""
    sequencer = Sequencer(engine, tmp_path / "log", signers, ORIGIN)
    for count in (200, 100, 1):
        record_acts(engine, tenant, count)
        sequencer.step()
    names = [
        path.relative_to(tmp_path / "log")
        for path in (tmp_path / "log").glob("**/*")
        if path.is_file() and path.name != "lock"
    ]
    assert len(names) == 10
    seen: list[tuple[int, int]] = []
    fsck(tmp_path / "log", signers.vkeys, progress=lambda done, size: seen.append((done, size)))
    assert seen == [(256, 301), (301, 301)]
    for name in names:
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "log", copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        assert not fsck(copy, signers.vkeys).ok, name
        partial_of_older_size = str(name).endswith((".p/200", ".p/44"))
        (copy / name).unlink()
        assert fsck(copy, signers.vkeys).ok is partial_of_older_size, name
        shutil.rmtree(copy)
    (tmp_path / "log/tile/0/notes.txt").write_text("x")
    assert [found.code for found in fsck(tmp_path / "log", signers.vkeys).problems] == ["ledger.stray"]
    assert [found.code for found in fsck(tmp_path / "nothing", signers.vkeys).problems] == [
        "ledger.no_checkpoint"
    ]


def test_a_changed_tile_is_never_overwritten(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    record_acts(engine, tenant, 10)
    with pytest.raises(Killed):
        Sequencer(engine, tmp_path, signers, ORIGIN, on_stage=ends_at("written")).step()
    tile = tmp_path / "tile/0/000.p/10"
    tile.write_bytes(bytes(320))
    with pytest.raises(Integrity) as caught:
        Sequencer(engine, tmp_path, signers, ORIGIN).step()
    assert caught.value.code == "ledger.tile_changed"
    assert tile.read_bytes() == bytes(320)
    assert not (tmp_path / "checkpoint").exists()


def test_partial_tiles_go_once_their_tile_is_full_and_proofs_still_work(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    acts = record_acts(engine, tenant, 100)
    sequencer.step()
    acts += record_acts(engine, tenant, 200)
    sequencer.step()
    assert (tmp_path / "tile/0/000.p/100").exists()
    folder = LogFolder(tmp_path)
    for _, address in sequencer._partials:
        folder.drop_partials(address)
    assert not (tmp_path / "tile/0/000.p").exists()
    assert not (tmp_path / "tile/entries/000.p").exists()
    check(tmp_path, signers, engine, [tenant])
    with scope(engine, tenant) as connection:
        proof = prove.proof_of(connection, tenant, acts[5].record_id, folder)
        shown = prove.consistency(connection, 100, 300, folder).as_dict()
    assert proof is not None
    verify_proof(proof, signers.vkeys)
    verify_consistency(shown["oldCheckpoint"], shown["newCheckpoint"], shown["hashes"], signers.vkeys)


def test_the_loop_covers_an_entry_and_ends_when_told(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    published, stop = threading.Event(), threading.Event()
    total = 0

    def on_stage(stage: str) -> None:
        if stage == "published" and (tmp_path / "checkpoint").read_text().split("\n")[1] == "4":
            published.set()

    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN, on_stage=on_stage)
    thread = threading.Thread(target=sequencer.run, args=(stop,))
    thread.start()
    total += len(record_acts(engine, tenant, 4))
    assert published.wait(60)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    check(tmp_path, signers, engine, [tenant])
