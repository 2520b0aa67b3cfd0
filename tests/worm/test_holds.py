"""A legal hold reaches the WORM copies: while it covers a job they stay locked well ahead (R4.3, R5.6)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError

from evidence.conftest import Instance, facts
from faults.world import PROJECT, World
from qcos.administration import archive_evidence
from qcos.administration.archive import Archive
from qcos.administration.installation import create_tenant
from qcos.base.clock import now
from qcos.base.errors import Unavailable
from qcos.base.limits import WORM_HELD_DAYS, WORM_HELD_STEP_DAYS
from qcos.db.engine import scope
from qcos.db.queue import Task
from qcos.evidence import materials
from qcos.evidence.materials import StoredMaterial
from qcos.evidence.model import SealFacts
from qcos.ledger import store as ledger
from qcos.ledger.files import LogFolder
from qcos.retention import store as retention
from qcos.retention.model import Hold
from qcos.worm import store as noted
from qcos.worm.files import FileStore, _set_immutable
from qcos.worm.model import Kept, WormStore

from .conftest import bucket_of
from .site import Site, statements

DAY = dt.timedelta(days=1)


@pytest.fixture
def archive(world: World, folder: FileStore) -> Archive:
    return archive_of(world, folder)


def archive_of(world: World, store: WormStore) -> Archive:
    return Archive(world.engine, LogFolder(world.keys / "log"), store, days=30)


def with_materials(world: World, task: Task) -> int:
    """Give a job materials as the spine seals them; returns how many."""
    rows = [
        StoredMaterial(task.job, name, "sha256:00", "text/plain", b"\x01") for name in ("a", "transpiled/0")
    ]
    with scope(world.engine, world.tenant) as connection:
        materials.insert(connection, world.tenant, rows)
    return len(rows)


def hold(world: World, kind: str, subject: str) -> str:
    made = Hold(f"hold-{kind}-{subject}", kind, subject, "a dispute", "user:carol", now())
    with scope(world.engine, world.tenant) as connection:
        retention.place(connection, world.tenant, made)
    return made.id


def release(world: World, hold_id: str) -> None:
    with scope(world.engine, world.tenant) as connection:
        assert retention.release(connection, world.tenant, hold_id, "user:carol", now(), "closed")


def dates(world: World, archive: Archive, task: Task) -> list[dt.datetime]:
    """Return until when the copies of a job's bundle are noted to be locked: materials first."""
    name = f"evidence/{world.tenant}/{world.job(task).bundle}"
    with scope(world.engine, None) as connection:
        kept = noted.with_parts(connection, archive.store.address, [name])
    return [one.retain_until for one in sorted(kept, key=lambda one: one.name, reverse=True)]


def violations(world: World) -> list[str]:
    with scope(world.engine, world.tenant) as connection:
        found = ledger.search(connection, world.tenant, act="archive.violated")
    return [str(item.record["object"]) for item in found.items]


def are_ahead(copies: list[dt.datetime]) -> bool:
    return (
        min(copies) >= now() + WORM_HELD_DAYS * DAY and max(copies) <= now() + (WORM_HELD_STEP_DAYS + 1) * DAY
    )


@pytest.mark.parametrize("kind", ["job", "project", "tenant"])
def test_a_hold_lengthens_the_locks_of_all_copies(
    world: World, work: Callable[..., None], archive: Archive, kind: str
) -> None:
    """Bundle and materials, once; releasing it only stops that; another job's copies stay as they are."""
    short, long = (
        world.submit(retention_days=10),
        world.submit(retention_days=1000),
    )
    work(short, long)
    count = 1 + with_materials(world, short)
    copied = archive.round()
    assert (copied.bundles, copied.lengthened) == (count + 1, 0)
    own = dates(world, archive, short)
    assert len(own) == count
    assert max(own) < now() + 10 * DAY
    as_it_was = dates(world, archive, long)

    placed = hold(world, kind, {"job": short.job, "project": PROJECT, "tenant": "*"}[kind])
    assert archive.round().lengthened == len(own)
    lengthened = dates(world, archive, short)
    assert are_ahead(lengthened)
    assert dates(world, archive, long) == as_it_was, "later already"
    assert archive.round().lengthened == 0
    assert archive_of(world, archive.store).round().lengthened == 0, "after a restart"
    assert archive.verify(content=True)[1] == []

    release(world, placed)
    assert archive.round().lengthened == 0
    assert dates(world, archive, short) == lengthened


def test_a_hold_on_another_job_lengthens_nothing(
    world: World, work: Callable[..., None], archive: Archive
) -> None:
    task = world.submit(retention_days=10)
    work(task)
    archive.round()
    hold(world, "job", "another")
    hold(world, "project", "another")
    assert archive.round().lengthened == 0
    assert dates(world, archive, task)[0] < now() + 10 * DAY


def test_what_is_copied_under_a_hold_is_locked_ahead_from_the_beginning(
    world: World, work: Callable[..., None], archive: Archive
) -> None:
    """Also what nobody would have to keep any more: the database keeps it, too."""
    hold(world, "project", PROJECT)
    tasks = [world.submit(retention_days=days) for days in (1, 10)]
    work(*tasks)
    done = archive.round()
    assert (done.bundles, done.lengthened) == (2, 0)
    for task in tasks:
        assert are_ahead(dates(world, archive, task))


def test_what_was_not_worth_a_copy_is_copied_once_it_is_held(
    database: Any, world: World, work: Callable[..., None], archive: Archive
) -> None:
    over, task = world.submit(retention_days=1), world.submit(retention_days=10)
    work(over, task)
    count = 1 + with_materials(world, over)
    owner = sa.create_engine(database.admin_url, poolclass=sa.NullPool)
    with owner.begin() as connection:
        connection.execute(
            sa.text("update qcos.evidence_bundle set retain_until = :at where job = :job"),
            {"at": now() - DAY, "job": over.job},
        )
    assert archive.round().bundles == 1
    assert dates(world, archive, over) == []
    hold(world, "job", over.job)
    assert archive.round().bundles == count
    assert are_ahead(dates(world, archive, over))
    assert archive.store.read(f"evidence/{world.tenant}/{world.job(over).bundle}")


def test_a_copy_that_is_gone_is_a_finding_and_the_others_are_lengthened(
    world: World, work: Callable[..., None], moto: str
) -> None:
    tasks = [world.submit(retention_days=10) for _ in range(2)]
    work(*tasks)
    store = bucket_of(moto)
    archive = archive_of(world, store)
    assert archive.round().bundles == 2
    name = f"evidence/{world.tenant}/{world.job(tasks[0]).bundle}"
    for version in store._client.list_object_versions(Bucket=store._place.bucket, Prefix=f"qcos/{name}")[
        "Versions"
    ]:
        store._client.put_object_retention(
            Bucket=store._place.bucket,
            Key=version["Key"],
            VersionId=version["VersionId"],
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": now() + DAY},
        )
        store._client.delete_object(
            Bucket=store._place.bucket,
            Key=version["Key"],
            VersionId=version["VersionId"],
            BypassGovernanceRetention=True,
        )
    hold(world, "tenant", "*")
    assert archive.round().lengthened == 1
    assert violations(world) == [name]
    assert are_ahead(dates(world, archive, tasks[1]))


def test_the_same_on_object_lock(world: World, work: Callable[..., None], localstack: str) -> None:
    """The server's own dates are later, and what is noted agrees with them."""
    task = world.submit(retention_days=10)
    work(task)
    with_materials(world, task)
    store = bucket_of(localstack)
    archive = archive_of(world, store)
    copies = archive.round().bundles
    hold(world, "job", task.job)
    assert archive.round().lengthened == copies
    locked = [
        store._client.head_object(Bucket=store._place.bucket, Key=f"qcos/{name}")["ObjectLockRetainUntilDate"]
        for name in store.names()
    ]
    assert are_ahead(locked)
    assert sorted(locked) == sorted(dates(world, archive, task))
    assert archive.verify(content=True) == (copies, [])


def test_much_that_is_held_is_lengthened_in_several_rounds(
    world: World, work: Callable[..., None], archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [world.submit(retention_days=10) for _ in range(3)]
    work(*tasks)
    archive.round()
    monkeypatch.setattr(archive_evidence, "WORM_LENGTHENED", 1)
    monkeypatch.setattr(archive_evidence, "PAGE_MAX", 1)
    hold(world, "tenant", "*")
    assert [archive.round().lengthened for _ in range(5)] == [1, 1, 1, 0, 0]
    assert are_ahead([date for task in tasks for date in dates(world, archive, task)])


def test_without_holds_a_round_asks_for_no_more_the_more_copies_there_are(
    world: World, work: Callable[..., None], archive: Archive
) -> None:
    work(world.submit(retention_days=10))
    archive.round()
    few = statements(world.engine, archive)
    many = [
        Kept(f"evidence/{world.tenant}/x{number}", b"\0" * 32, 1, "", now() + DAY, "read-only")
        for number in range(1000)
    ]
    archive._examined = "f"  # what is looked at is bounded, too, and those are no files
    with scope(world.engine, None) as connection:
        noted.insert_copies(connection, archive.store.address, many, now())
    assert statements(world.engine, archive) == few
    assert not any("unnest" in statement or "legal_hold h" in statement for statement in few)


def test_a_noted_date_is_never_shortened(world: World, work: Callable[..., None], archive: Archive) -> None:
    """Not even by somebody who writes as the application: the server's shortened date would not be found then."""
    task = world.submit(retention_days=10)
    work(task)
    archive.round()
    before = dates(world, archive, task)
    for change in ("retain_until = now()", "digest = ''", "version = ''"):
        with (
            pytest.raises(ProgrammingError),
            scope(world.engine, None) as connection,
        ):
            connection.exec_driver_sql(f"update qcos.worm_copy set {change}")
    assert dates(world, archive, task) == before


class WithoutTheRight:
    """A store that takes copies and lets nobody lengthen their locks, as S3 without s3:PutObjectRetention."""

    def __init__(self, store: FileStore) -> None:
        self.address, self.check, self.keep, self.examine = (
            store.address,
            store.check,
            store.keep,
            store.examine,
        )

    def lengthen(self, kept: Kept, until: dt.datetime) -> Kept:
        raise Unavailable("worm.unavailable", "the object store refuses", subject=kept.name)


def test_locks_that_cannot_be_lengthened_hold_up_no_other_tenant(site: Site, instance: Instance) -> None:
    """Nor the look at older copies; the round fails all the same, so that somebody gets the right."""
    store = WithoutTheRight(site.store)
    archive = Archive(site.engine, LogFolder(site.folder), store, days=30)  # type: ignore[arg-type]
    site.seal(instance, "job-1", short_lived("job-1"))
    archive.round()
    made = Hold("hold-1", "job", "job-1", "a dispute", "user:carol", now())
    with scope(site.engine, site.tenant) as connection:
        retention.place(connection, site.tenant, made)
    other = create_tenant(site.engine, "zoo").tenant
    first, site.tenant = site.tenant, other
    row = site.seal(instance, "job-2")
    removed = Path(site.store.address.removeprefix("file:")) / f"evidence/{first}"
    (copy,) = removed.iterdir()
    _set_immutable(copy, False)
    copy.unlink()
    with pytest.raises(Unavailable, match="refuses"):
        archive.round()
    assert site.store.read(f"evidence/{other}/{row.id}")
    site.tenant = first
    assert site.violations() == [f"evidence/{first}/{copy.name}"]


def short_lived(job: str) -> SealFacts:
    base = facts(job)
    return replace(base, governance=replace(base.governance, retention_days=1))
