"""How rounds of copying went is noted: a store that has been away is seen, also after a restart (R5.6)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from opentelemetry.metrics import CallbackOptions

from qcos.administration.archive import Archive
from qcos.base.clock import now
from qcos.base.errors import Invalid, Unavailable
from qcos.db.engine import make_engine, scope
from qcos.ledger.files import LogFolder
from qcos.telemetry import instruments
from qcos.worm import store as noted
from qcos.worm.files import FileStore
from qcos.worm.model import Protection, Rounds, WormStore

from .conftest import bucket_of
from .site import Site


def archive_of(site: Site, store: WormStore) -> Archive:
    return Archive(site.engine, LogFolder(site.folder), store, days=30)


def rounds(site: Site, store: WormStore) -> Rounds:
    with scope(site.engine, None) as connection:
        return noted.rounds(connection, store.address)


def test_a_store_that_is_away_and_back(site: Site, tmp_path: Path) -> None:
    """Since when it fails stays the same until a round succeeds; the last failure remains to be seen after that."""
    root = tmp_path / "away"
    store = FileStore(root / "worm")
    assert rounds(site, store) == Rounds()
    root.write_text("no folder")
    with pytest.raises(Unavailable):
        archive_of(site, store).round()
    first = rounds(site, store)
    assert first.succeeded_at is None
    assert first.failing_since == first.failed_at is not None
    assert "WORM folder cannot be used" in first.failure
    with pytest.raises(Unavailable):
        archive_of(site, store).round()
    second = rounds(site, store)
    assert second.failing_since == first.failing_since
    assert second.failed_at is not None
    assert first.failed_at is not None
    assert second.failed_at > first.failed_at

    root.unlink()
    archive = archive_of(site, store)
    archive.round()
    well = rounds(site, store)
    assert (well.failing_since, well.failed_at, well.failure) == (None, second.failed_at, second.failure)
    assert well.succeeded_at is not None
    assert well.succeeded_at > second.failed_at

    site.act(1)
    (root / "worm" / "ledger").write_text("a file where the folder should be")
    assert archive.round().size == 0
    assert site.violations(), "what was found is told, and the round goes on"
    stopped = rounds(site, store)
    assert stopped.failing_since is not None and "ledger" in stopped.failure, (
        "the ledger is not copied any more"
    )
    (root / "worm" / "ledger").unlink()
    assert archive.round().size > 1
    assert rounds(site, store).failing_since is None


def test_a_store_that_does_not_protect_is_handed_nothing(site: Site, moto: str) -> None:
    site.act(1)
    store = bucket_of(moto, lock=False)
    with pytest.raises(Invalid):
        archive_of(site, store).round()
    assert list(store.names()) == []
    assert "does not protect" in rounds(site, store).failure


def test_a_database_that_is_away_is_told_as_itself(site: Site, folder: FileStore) -> None:
    gone = make_engine("postgresql+psycopg://nobody@127.0.0.1:9/nothing")
    archive = Archive(gone, LogFolder(site.folder), folder, days=30)
    with pytest.raises(Unavailable) as refused:
        archive.round()
    assert refused.value.code == "database.unavailable"
    gone.dispose()


def test_a_round_that_hangs_is_seen_as_it_goes_on(site: Site, folder: FileStore) -> None:
    """The metric counts from its beginning: no end tells it."""
    seen: list[float] = []

    class Watched(FileStore):
        def check(self) -> Protection:
            while not seen or not seen[-1]:  # until time has passed
                time.sleep(0.001)
                seen.extend(one.value for one in instruments._observe_archive(CallbackOptions()))
            return super().check()

    began = now()
    archive_of(site, Watched(Path(folder.address.removeprefix("file:")))).round()
    assert 0 < seen[-1] <= (now() - began).total_seconds()
    (after,) = instruments._observe_archive(CallbackOptions())
    assert after.value == 0
