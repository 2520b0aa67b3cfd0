"""The archive: what is in the ledger and in evidence stands in the store too, and comes back without a database (R5.6)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from evidence.conftest import Instance, facts
from qcos.administration.archive import Archive
from qcos.administration.installation import create_tenant
from qcos.base.errors import Conflict, NotFound, Unavailable
from qcos.db.engine import scope
from qcos.evidence import materials
from qcos.evidence import store as evidence
from qcos.evidence.materials import StoredMaterial
from qcos.ledger.files import LogFolder
from qcos.ledger.fsck import fsck
from qcos.ledger.pieces import pieces
from qcos.ledger.tile import Address
from qcos.worm.files import FileStore, _set_immutable
from qcos.worm.model import Item, Kept
from qcos.worm.restore import restore

from .conftest import bucket_of
from .site import SIGNERS, Site, statements


def opened(site: Site, tmp_path: Path) -> Path:
    """Restore the ledger into a new folder, from the store alone."""
    target = tmp_path / "restored"
    shutil.rmtree(target, ignore_errors=True)
    restore(site.store, target, lambda done, total: None)
    return target


def test_the_ledger_comes_back_from_the_store_alone_and_holds(site: Site, tmp_path: Path) -> None:
    """R5.6: rounds over tile borders; what comes back passes the whole check and has the published root."""
    for count in (1, 300, 0, 700):
        site.act(count)
        site.archive.round()
    restored = opened(site, tmp_path)
    report = fsck(restored, SIGNERS.vkeys)
    assert report.ok, report.problems
    assert report.size == site.sequencer.step().size
    assert report.root == site.sequencer.step().root
    assert (restored / "checkpoint").read_bytes() == (site.folder / "checkpoint").read_bytes()


def test_a_round_without_news_copies_nothing(site: Site) -> None:
    site.act(5)
    assert site.archive.round().copies > 0
    again = site.archive.round()
    assert (again.copies, again.findings) == (0, ())
    assert again.size == site.sequencer.step().size


def test_bundles_are_copied_once_with_their_own_date(site: Site, instance: Instance) -> None:
    rows = [site.seal(instance, f"job-{n}") for n in range(3)]
    site.act(1)
    assert site.archive.round().bundles == 3
    rows.append(site.seal(instance, "job-3"))
    assert site.archive.round().bundles == 1
    other = Archive(site.engine, LogFolder(site.folder), site.store, days=30)  # after a restart
    assert other.round().bundles == 0
    for row in rows:
        assert site.store.read(f"evidence/{site.tenant}/{row.id}") == row.document
    with scope(site.engine, None) as connection:
        kept = connection.exec_driver_sql(
            "select name, retain_until from qcos.worm_copy where name like 'evidence/%%'"
        ).all()
    assert {row.name: row.retain_until for row in kept} == {
        f"evidence/{site.tenant}/{row.id}": row.retain_until for row in rows
    }


def test_a_bundle_that_was_copied_is_not_read_again(site: Site, instance: Instance) -> None:
    """Those of the last day are looked at in each round: their names, not their bytes."""
    site.seal(instance, "job-1")
    assert site.archive.round().bundles == 1
    assert not any("evidence_bundle.document" in asked for asked in statements(site.engine, site.archive))


def test_materials_are_copied_before_their_bundle(site: Site, instance: Instance) -> None:
    """R5.6: what a bundle commits to comes back with it, as sealed as it is kept; each name is a file of its own."""
    names = ("calibration", "transpiled/0", "transpiled_0", "..")
    with scope(site.engine, site.tenant) as connection:
        for job in ("job-1", "job-2"):
            rows = [
                StoredMaterial(job, name, "sha256:00", "text/plain", b"\x01" + name.encode())
                for name in names
            ]
            materials.insert(connection, site.tenant, rows)
    row = site.seal(instance, "job-1")
    site.act(1)
    assert site.archive.round().bundles == 1 + len(names)
    assert site.archive.round().bundles == 0
    folder = f"evidence/{site.tenant}/{row.id}.materials"
    kept = {name for name in site.store.names() if name.startswith("evidence/")}
    assert kept == {f"evidence/{site.tenant}/{row.id}"} | {
        f"{folder}/{name}" for name in ("calibration", "transpiled_2f0", "transpiled_5f0", "_2e_2e")
    }
    assert site.store.read(f"{folder}/transpiled_2f0") == b"\x01transpiled/0"
    died = [Dying(site.store, after) for after in range(len(names))]
    second = site.seal(instance, "job-2")
    for store in died:
        with pytest.raises(Unavailable):
            Archive(site.engine, LogFolder(site.folder), store, days=30).round()  # type: ignore[arg-type]
        assert f"evidence/{site.tenant}/{second.id}" not in set(site.store.names())


def test_a_bundle_of_before_encryption_waits_until_it_is_encrypted(site: Site, instance: Instance) -> None:
    """Nobody could erase a plain copy."""
    row = site.seal(instance, "job-1")
    with scope(site.engine, site.tenant) as connection:
        plain = replace(row, id="qev-plain", job="job-2", document=b"{}")
        evidence.insert_bundles(connection, site.tenant, [plain])
    assert site.archive.round().bundles == 1
    with scope(site.engine, site.tenant) as connection:
        connection.exec_driver_sql(
            "update qcos.evidence_bundle set document = '\\x0102'::bytea where id = 'qev-plain'"
        )
    assert site.archive.round().bundles == 1
    assert site.store.read(f"evidence/{site.tenant}/qev-plain") == b"\x01\x02"


class Dying:
    """A store that loses its connection after some copies."""

    def __init__(self, store: FileStore, after: int) -> None:
        self.store, self.left = store, after
        self.address = store.address
        self.check = store.check

    def keep(self, item: Item) -> Kept:
        if not self.left:
            raise Unavailable("worm.unavailable", "gone")
        self.left -= 1
        return self.store.keep(item)


@pytest.mark.parametrize("after", [0, 1, 2, 5, 7])
def test_a_round_that_broke_off_is_done_again(site: Site, tmp_path: Path, after: int) -> None:
    """The checkpoint goes out after everything it needs: the store is never caught with one that cannot be proved."""
    site.act(600)
    broken = Archive(site.engine, LogFolder(site.folder), Dying(site.store, after), days=30)  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        broken.round()
    with pytest.raises(NotFound):
        opened(site, tmp_path)
    site.archive.round()
    assert fsck(opened(site, tmp_path), SIGNERS.vkeys).ok


def test_tampering_is_reported_once_and_recorded_in_the_ledger(site: Site) -> None:
    """R5.6: a round looks at what was kept before; a finding is an event of the ledger."""
    site.act(300)
    site.archive.round()
    path = Path(site.store.address.removeprefix("file:")) / "ledger/tile/0/000"
    _set_immutable(path, False)
    path.unlink()
    found = site.archive.round().findings
    assert [(finding.code, finding.name) for finding in found] == [("worm.missing", "ledger/tile/0/000")]
    assert site.violations() == ["ledger/tile/0/000"]
    assert site.archive.round().findings == (), "known already"
    assert site.violations() == ["ledger/tile/0/000"]
    done, all_of_it = site.archive.verify(content=True)
    assert done > 3
    assert [finding.code for finding in all_of_it] == ["worm.missing"]


def test_a_name_taken_by_somebody_else_is_found_and_bundles_go_on(site: Site, instance: Instance) -> None:
    planted = Path(site.store.address.removeprefix("file:")) / "ledger/tile/entries/000.p"
    site.act(3)
    size = site.sequencer.step().size
    planted.mkdir(parents=True)
    (planted / str(size)).write_bytes(b"planted")
    site.seal(instance, "job-1")
    done = site.archive.round()
    assert done.bundles == 1
    assert len(site.violations()) == 1
    with pytest.raises(NotFound):
        restore(site.store, Path("/nonexistent"), lambda done, total: None)


def test_what_was_done_to_a_tenants_copy_is_an_event_of_that_tenant(site: Site, instance: Instance) -> None:
    """Names of its bundles are none of another's business."""
    first, site.tenant = site.tenant, create_tenant(site.engine, "zoo").tenant
    site.archive.round()
    names = []
    for job in ("job-1", "job-2"):
        names.append(f"evidence/{site.tenant}/{site.seal(instance, job).id}")
    (taken, removed) = (Path(site.store.address.removeprefix("file:")) / name for name in names)
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"planted")
    assert site.archive.round().bundles == 1
    _set_immutable(removed, False)
    removed.unlink()
    site.archive.round()
    assert len(site.violations()) == 2
    site.tenant = first
    assert site.violations() == []


def test_nothing_is_restored_over_something(site: Site, tmp_path: Path) -> None:
    (tmp_path / "restored").mkdir()
    (tmp_path / "restored" / "precious").write_text("x")
    with pytest.raises(Conflict):
        restore(site.store, tmp_path / "restored", lambda done, total: None)


def test_the_same_on_object_lock(engine: sa.Engine, tmp_path: Path, localstack: str) -> None:
    """R5.6: on an S3 wire server, from copying to the ledger that comes back."""
    site = Site(engine, tmp_path, bucket_of(localstack))  # type: ignore[arg-type]
    for days in (30, 31):  # on the next day the date is a later one
        site.act(300)
        site.archive.days = days
        assert site.archive.round().findings == ()
        assert site.archive.round().copies == 0
    assert fsck(opened(site, tmp_path), SIGNERS.vkeys).ok
    assert site.archive.verify(content=True)[1] == []


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 1), (0, 256), (255, 257), (256, 256), (1000, 70_000)])
def test_pieces_are_those_that_are_missing(old: int, new: int) -> None:
    had = {place for place in _all(old) if place.width == 256}
    assert set(pieces(old, new)) == set(_all(new)) - had


def _all(size: int) -> Iterator[Address]:
    return iter(pieces(0, size))


def test_what_nobody_has_to_keep_any_more_is_not_locked(site: Site, instance: Instance) -> None:
    base = facts("job-1")
    over = replace(base, governance=replace(base.governance, retention_days=0))
    site.seal(instance, "job-2", over)
    site.seal(instance, "job-3")
    assert site.archive.round().bundles == 1
