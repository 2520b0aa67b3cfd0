"""Later time stamps of bundles stand in the WORM store, too: what comes back from it verifies as long as the bundle does (R4.3, R5.6)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from faults.world import World, keys_of
from jobs.test_restamp import LONG, SHORT, _rehash, _trust
from qcos.administration import archive_evidence
from qcos.administration.archive import Archive
from qcos.administration.restore import restored_bundle
from qcos.base.clock import now
from qcos.base.errors import Integrity, Invalid, NotFound
from qcos.db.engine import scope
from qcos.db.queue import Task
from qcos.evidence import store as evidence
from qcos.evidence.verify import verify
from qcos.jobs.erase import erase_due
from qcos.jobs.restamp import EVERYTHING, Restamper
from qcos.keys.file import FileKeyring
from qcos.worm.files import FileStore, _set_immutable
from qcos.worm.model import WormStore

from .conftest import bucket_of
from .site import statements
from .test_holds import DAY, archive_of, are_ahead, dates, hold

LATER = now() + 15 * 365 * DAY


@pytest.fixture
def restamper(world: World) -> Restamper:
    keyring = FileKeyring(world.keys).open_or_create()
    trusted = (*keyring.tsa_chain, LONG.der, SHORT.der)
    return Restamper(world.engine, keys_of(world.engine, world.keys), LONG.at(1), trusted)


@pytest.fixture(params=["file", "s3"])
def archive(request: pytest.FixtureRequest, world: World) -> Archive:
    if request.param == "file":
        return archive_of(world, request.getfixturevalue("folder"))
    return archive_of(world, bucket_of(request.getfixturevalue("localstack")))


@pytest.fixture
def in_folder(world: World, folder: FileStore) -> Archive:
    return archive_of(world, folder)


def name_of(world: World, task: Task) -> str:
    return f"evidence/{world.tenant}/{world.job(task).bundle}"


def restored(world: World, store: WormStore, task: Task) -> dict[str, Any]:
    keys = keys_of(world.engine, world.keys)
    return restored_bundle(world.engine, keys, store, name_of(world, task)).bundle


def verified(world: World, bundle: dict[str, Any], at: dt.datetime) -> Any:
    return verify(bundle, _trust(world), allow_pending=True, at=at)


def path_of(archive: Archive, name: str) -> Path:
    return Path(archive.store.address.removeprefix("file:")) / name


def test_a_restored_bundle_has_its_renewals_and_outlives_the_certificate(
    world: World, work: Callable[..., None], restamper: Restamper, archive: Archive
) -> None:
    """R4.3: sealed alone and in a batch, renewed twice and hashed anew, each copied once, when it is made."""
    tasks = [world.submit() for _ in range(3)]
    work(*tasks)
    work(alone := world.submit())
    tasks.append(alone)
    assert archive.round().bundles == 4
    assert not verified(world, restored(world, archive.store, alone), LATER).ok
    assert restamper.renew_due(EVERYTHING) == 4
    assert archive.round().bundles == 4
    assert archive.round().bundles == 0
    assert archive_of(world, archive.store).round().bundles == 0, "after a restart"
    assert restamper.renew_due(EVERYTHING) == 4
    assert _rehash(world, restamper) == 4
    assert archive.round().bundles == 8
    for task in tasks:
        report = verified(world, restored(world, archive.store, task), LATER)
        assert report.ok, report.reason
        assert [renewal["hash"] for renewal in report.facts["renewals"]] == ["sha512", "sha512", "sha3-512"]
    assert archive.verify(content=True) == (16, [])


def test_renewals_are_locked_as_long_as_their_bundle(
    world: World, work: Callable[..., None], restamper: Restamper, in_folder: Archive
) -> None:
    """Also where the bundle was held; a hold that comes later lengthens them, too."""
    held, free = world.submit(retention_days=10), world.submit(retention_days=20)
    work(held, free)
    hold(world, "job", held.job)
    in_folder.round()
    assert restamper.renew_due(EVERYTHING) == 2
    in_folder.round()
    first, second = dates(world, in_folder, held)
    assert abs(first - second) <= DAY, "the end of a day, which may be over between two rounds"
    assert are_ahead(dates(world, in_folder, held))
    assert len(dates(world, in_folder, free)) == 2
    assert len(set(dates(world, in_folder, free))) == 1
    hold(world, "job", free.job)
    assert in_folder.round().lengthened == 2
    assert are_ahead(dates(world, in_folder, free))


def test_much_that_is_renewed_is_copied_in_several_rounds(
    world: World,
    work: Callable[..., None],
    restamper: Restamper,
    in_folder: Archive,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks = [world.submit() for _ in range(3)]
    work(*tasks)
    in_folder.round()
    assert restamper.renew_due(EVERYTHING) == 3
    monkeypatch.setattr(archive_evidence, "WORM_RENEWED", 1)
    monkeypatch.setattr(archive_evidence, "PAGE_MAX", 1)
    assert sum(in_folder.round().bundles for _ in range(4)) == 3
    assert restamper.renew_due(EVERYTHING) == 3
    assert sum(in_folder.round().bundles for _ in range(5)) == 3
    for task in tasks:
        assert len(verified(world, restored(world, in_folder.store, task), LATER).facts["renewals"]) == 2


def test_a_renewal_that_is_gone_or_altered_is_told(
    world: World, work: Callable[..., None], restamper: Restamper, in_folder: Archive
) -> None:
    """A bundle without one in the middle would fail without a reason; what somebody planted there is not attached."""
    task = world.submit()
    work(task)
    restamper.renew_due(EVERYTHING)
    restamper.renew_due(EVERYTHING)
    in_folder.round()
    first = f"{name_of(world, task)}.renewals/1"
    path = path_of(in_folder, first)
    kept = path.read_bytes()
    _set_immutable(path, False)
    path.unlink()
    with pytest.raises(NotFound) as gone:
        restored(world, in_folder.store, task)
    assert gone.value.subject.endswith(first)
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    report = verified(world, restored(world, in_folder.store, task), LATER)
    assert not report.ok
    path.write_bytes(b"planted")
    with pytest.raises(Integrity) as altered:
        restored(world, in_folder.store, task)
    assert (altered.value.code, altered.value.subject) == ("timestamp.record", first)
    assert {finding.name for finding in in_folder.verify(content=True)[1]} == {first}


def test_a_name_that_somebody_took_holds_up_no_other_bundle(
    world: World, work: Callable[..., None], restamper: Restamper, in_folder: Archive
) -> None:
    """Names of renewals can be told before they are made."""
    tasks = [world.submit() for _ in range(2)]
    work(*tasks)
    in_folder.round()
    path = path_of(in_folder, f"{name_of(world, tasks[0])}.renewals/1")
    path.parent.mkdir()
    path.write_bytes(b"planted before us")
    restamper.renew_due(EVERYTHING)
    assert in_folder.round().bundles == 1
    assert verified(world, restored(world, in_folder.store, tasks[1]), LATER).ok
    assert path.read_bytes() == b"planted before us"


def test_a_time_stamp_before_one_whose_name_is_taken_is_noted(
    world: World, work: Callable[..., None], restamper: Restamper, in_folder: Archive
) -> None:
    """What is locked and not noted is never looked at, nor lengthened under a hold."""
    task = world.submit()
    work(task)
    restamper.renew_due(EVERYTHING)
    restamper.renew_due(EVERYTHING)
    path = path_of(in_folder, f"{name_of(world, task)}.renewals/2")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"planted before us")
    assert in_folder.round().bundles == 2
    assert len(dates(world, in_folder, task)) == 2


def test_an_erased_bundle_is_not_restored_nor_its_renewals_copied(
    world: World, work: Callable[..., None], restamper: Restamper, in_folder: Archive
) -> None:
    task = world.submit(retention_days=1)
    work(task)
    in_folder.round()
    restamper.renew_due(EVERYTHING)
    assert erase_due(world.engine, at=now()).erased == 0
    assert [erase_due(world.engine, at=now() + days * DAY).erased for days in (5, 9)] == [0, 1]
    assert in_folder.round().bundles == 0
    with pytest.raises(NotFound) as gone:
        restored(world, in_folder.store, task)
    assert gone.value.code == "payload.erased"


@pytest.mark.parametrize("name", ["", "evidence/x/y", "ledger/tile/0/000", "evidence/../../etc/passwd"])
def test_other_names_are_refused(world: World, folder: FileStore, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        restored_bundle(world.engine, keys_of(world.engine, world.keys), folder, name)
    assert refused.value.code == "worm.name"


def test_without_renewals_a_round_reads_none(
    world: World, work: Callable[..., None], restamper: Restamper, in_folder: Archive
) -> None:
    """Once they are copied, too: the more there are, the less they may cost."""
    work(world.submit())
    restamper.renew_due(EVERYTHING)
    in_folder.round()
    assert not any("evidence_archive" in statement for statement in statements(world.engine, in_folder))


def test_a_page_of_much_that_was_renewed_reads_that_page(
    database: Any, world: World, work: Callable[..., None], restamper: Restamper
) -> None:
    """After a restart all pages are looked at: were each to read all there is, ten times as much would take a hundred times as long."""
    work(task := world.submit())
    restamper.renew_due(EVERYTHING)
    owner = sa.create_engine(
        database.admin_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT"
    )  # a superuser: no row is hidden
    with owner.connect() as connection:
        for table, own in (("evidence_bundle", "id, job"), ("evidence_archive", "bundle")):
            kept = connection.exec_driver_sql(
                "select string_agg(quote_ident(attname), ', ') from pg_attribute where attrelid = %(table)s::regclass"
                " and attnum > 0 and not attname = any(%(own)s)",
                {"table": f"qcos.{table}", "own": own.split(", ")},
            ).scalar_one()
            made = ", ".join(f"md5({name} || n)" for name in own.split(", "))
            connection.exec_driver_sql(
                f"insert into qcos.{table} ({own}, {kept}) select {made}, {kept} from qcos.{table}, generate_series(1, 20000) n"
            )
        connection.exec_driver_sql("analyze")
    with scope(world.engine, world.tenant) as connection:
        renewals = evidence.renewal_ids(connection, world.tenant)
        connection.exec_driver_sql(
            "set local max_parallel_workers_per_gather = 0"
        )  # what others read is not counted
        page = evidence.renewed_by(connection, world.tenant, renewals, (world.job(task).bundle or "", 1), 500)
        read = connection.exec_driver_sql(
            "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'evidence_bundle'"
        ).scalar_one()
    assert len(page) == 500
    assert read < 2000
