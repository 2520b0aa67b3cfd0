"""What lies in a WORM store is not believed: whatever is planted there is told, never followed, waited for or read whole (R5.6)."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcos.base.clock import now
from qcos.base.errors import Integrity, NotFound, Unavailable
from qcos.base.limits import WORM_COPY_BYTES, WORM_ON_TOP
from qcos.ledger.fsck import fsck
from qcos.worm import files
from qcos.worm.files import FileStore, _set_immutable
from qcos.worm.model import Item, Kept
from qcos.worm.restore import restore
from qcos.worm.s3 import S3Store

from .conftest import bucket_of
from .site import SIGNERS, Site

DUE = now().replace(microsecond=0) + dt.timedelta(days=1)
NAME = "evidence/a/b"


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "made-by-following")


def _link_to_folder(path: Path) -> None:
    path.symlink_to("/etc")


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero: it never ends
    except PermissionError:
        pytest.skip("no device can be made here")


PLANTS: list[Callable[[Path], None]] = [
    _link,
    _dangling,
    _link_to_folder,
    os.mkfifo,
    Path.mkdir,
    _socket,
    _huge,
    _device,
]


def path_of(store: FileStore, name: str) -> Path:
    return Path(store.address.removeprefix("file:")) / name


@pytest.mark.parametrize("plant", PLANTS)
def test_what_lies_at_a_name_before_us(folder: FileStore, plant: Callable[[Path], None]) -> None:
    path = path_of(folder, NAME)
    path.parent.mkdir(parents=True)
    plant(path)
    with pytest.raises(Integrity) as refused:
        folder.keep(Item(NAME, b"evidence", DUE))
    assert refused.value.code == "worm.changed"
    assert refused.value.got
    with pytest.raises(Integrity) as unreadable:
        folder.read(NAME)
    assert unreadable.value.code == "worm.changed"
    assert not (path.parent / "made-by-following").exists()
    assert set(folder.names()) <= {NAME}


@pytest.mark.parametrize("plant", PLANTS)
def test_what_takes_a_copys_place(folder: FileStore, plant: Callable[[Path], None]) -> None:
    kept = folder.keep(Item(NAME, b"evidence", DUE))
    path = path_of(folder, NAME)
    _set_immutable(path, False)
    path.unlink()
    plant(path)
    for content in (False, True):
        assert "worm.changed" in [finding.code for finding in folder.examine(kept, content=content)]


@pytest.mark.parametrize("plant", [_link_to_folder, os.mkfifo, _huge])
def test_what_takes_a_folders_place(folder: FileStore, tmp_path: Path, plant: Callable[[Path], None]) -> None:
    """A link to a folder would have copies written, and made immutable, elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = path_of(folder, "evidence/a")
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere) if plant is _link_to_folder else plant(path)
    with pytest.raises(Integrity) as refused:
        folder.keep(Item(NAME, b"evidence", DUE))
    assert refused.value.code == "worm.changed"
    assert list(elsewhere.iterdir()) == []
    found = folder.examine(Kept(NAME, b"", 0, "", DUE, "read-only"), content=True)
    assert [finding.code for finding in found] == ["worm.changed"]


@pytest.mark.parametrize(
    ("name", "plant"),
    [(".making/lock", Path.mkdir)]
    + [(name, plant) for name in (".making", ".making/lock") for plant in (_link, _dangling, os.mkfifo)],
)
def test_what_takes_the_place_of_our_own_files(
    folder: FileStore, name: str, plant: Callable[[Path], None]
) -> None:
    path = path_of(folder, name)
    path.parent.mkdir(parents=True)
    plant(path)
    with pytest.raises(Unavailable) as refused:
        folder.keep(Item(NAME, b"evidence", DUE))
    assert refused.value.code == "worm.unavailable"
    assert "no " in refused.value.got
    assert not (path.parent / "made-by-following").exists()


def test_a_folder_that_somebody_holds_is_waited_for_with_an_end(
    folder: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WORM_LOCK_S", 0.1)
    folder.keep(Item(NAME, b"evidence", DUE))
    with path_of(folder, ".making/lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unavailable) as refused:
            folder.keep(Item("evidence/a/c", b"evidence", DUE))
    assert "locked by another process" in refused.value.got


def test_a_file_that_is_longer_than_a_copy_can_be(folder: FileStore) -> None:
    folder.keep(Item(NAME, b"evidence", DUE))
    assert folder.read(NAME, limit=8) == b"evidence"
    with pytest.raises(Integrity) as refused:
        folder.read(NAME, limit=7)
    assert refused.value.got == "longer than 7 bytes"


@pytest.mark.parametrize("plant", [_link, os.mkfifo, _huge])
def test_a_round_tells_it_and_goes_on(site: Site, plant: Callable[[Path], None]) -> None:
    site.act(300)
    site.archive.round()
    tile = "ledger/tile/0/000"
    path = path_of(site.store, tile)
    _set_immutable(path, False)
    path.unlink()
    plant(path)
    assert {(finding.code, finding.name) for finding in site.archive.round().findings} >= {
        ("worm.changed", tile)
    }
    site.act(300)
    assert site.archive.round().size == site.sequencer.step().size
    assert {finding.name for finding in site.archive.verify(content=True)[1]} == {tile}


def test_what_is_planted_does_not_keep_the_ledger_from_coming_back(site: Site, tmp_path: Path) -> None:
    """Whoever can add to a store, and lock what he adds, must not be able to make it useless."""
    site.act(300)
    site.archive.round()
    root = path_of(site.store, "ledger")
    (root / "checkpoint").mkdir()
    for name in ("checkpoints/x", "checkpoints/\u0661", "checkpoint/x", "tile/0/a b", "tile/0/..x", "other"):
        (root / name).write_bytes(b"planted")
    (root / os.fsdecode(b"tile/0/\xff")).write_bytes(b"planted")
    (root / "tile/0/x999").mkdir()
    os.mkfifo(root / "tile/0/x999/000")
    _huge(root / "tile/0/x999/001")
    os.mkfifo(root / "checkpoints/99999999999999999999")
    done = restore(site.store, tmp_path / "restored", lambda done, total: None)
    assert len(done.refused) == 10
    assert all(line.isascii() for line in done.refused)
    assert any("longer than" in line for line in done.refused)
    report = fsck(tmp_path / "restored", SIGNERS.vkeys)
    assert report.ok, report.problems
    assert report.size == done.entries


class TestS3:
    """In a bucket that others may write to."""

    @pytest.fixture
    def store(self, moto: str) -> S3Store:
        return bucket_of(moto)

    def put(self, store: S3Store, name: str, data: bytes) -> None:
        store._client.put_object(Bucket=store._place.bucket, Key=f"qcos/{name}", Body=data)

    def test_a_large_object_before_us_is_not_read_whole(self, store: S3Store) -> None:
        self.put(store, NAME, b"\0" * (WORM_COPY_BYTES + 1))
        with pytest.raises(Integrity) as refused:
            store.keep(Item(NAME, b"evidence", DUE))
        assert (refused.value.code, refused.value.got) == ("worm.changed", "longer than 8 bytes")
        with pytest.raises(Integrity) as unreadable:
            store.read(NAME)
        assert unreadable.value.got == f"longer than {WORM_COPY_BYTES} bytes"

    def test_a_planted_tile_is_told_and_the_others_come_back(self, store: S3Store, tmp_path: Path) -> None:
        for name in ("ledger/checkpoints/00000000000000000001", "ledger/tile/0/000.p/1"):
            store.keep(Item(name, b"kept", DUE))
        self.put(store, "ledger/tile/0/000", b"\0" * (WORM_COPY_BYTES + 1))
        self.put(store, "ledger/tile/0/000/x", b"a key below a key")
        done = restore(store, tmp_path / "restored", lambda done, total: None)
        assert (done.files, done.entries, len(done.refused)) == (2, 1, 2)

    def test_a_deletion_of_what_never_was_does_not_keep_the_others_from_coming_back(
        self, localstack: str, tmp_path: Path
    ) -> None:
        """It leaves a marker at a name that no version has."""
        store = bucket_of(localstack)
        for name in ("ledger/checkpoints/00000000000000000001", "ledger/tile/0/000.p/1"):
            store.keep(Item(name, b"kept", DUE))
        for name in ("ledger/checkpoints/99999999999999999999", "ledger/tile/9/999"):
            store._client.delete_object(Bucket=store._place.bucket, Key=f"qcos/{name}")
        done = restore(store, tmp_path / "restored", lambda done, total: None)
        assert (done.files, done.entries, len(done.refused)) == (2, 1, 2)

    def test_an_object_that_nobody_can_read_holds_up_nothing(self, store: S3Store, tmp_path: Path) -> None:
        """Put into an archive's storage class at a name that can be foreseen, it would make each round, and each restore, fail."""
        for name in ("ledger/checkpoints/00000000000000000001", "ledger/tile/0/000.p/1"):
            store.keep(Item(name, b"kept", DUE))
        for name in (NAME, "ledger/tile/0/000"):
            store._client.put_object(
                Bucket=store._place.bucket, Key=f"qcos/{name}", Body=b"planted", StorageClass="GLACIER"
            )
        with pytest.raises(Integrity) as refused:
            store.keep(Item(NAME, b"evidence", DUE))
        assert (refused.value.code, refused.value.got) == ("worm.changed", "not readable: InvalidObjectState")
        done = restore(store, tmp_path / "restored", lambda done, total: None)
        assert (done.files, done.refused) == (
            2,
            ("ledger/tile/0/000: not readable: InvalidObjectState",),
        )

    def test_names_that_begin_with_a_copys_are_not_all_listed(self, store: S3Store) -> None:
        """A million of them would keep each look at the copy busy."""
        kept = store.keep(Item(NAME, b"evidence", DUE))
        self.put(store, NAME, b"forged")
        for number in range(7):
            self.put(store, f"{NAME}.{number}", b"planted")
        asked: list[str] = []

        def note(params: dict[str, Any], **_: Any) -> None:  # Any: botocore's own
            params["MaxKeys"] = 2
            asked.append(params["Prefix"])

        store._client.meta.events.register("provide-client-params.s3.ListObjectVersions", note)
        assert [finding.code for finding in store.examine(kept, content=True)] == ["worm.overwritten"]
        assert store.read(NAME) == b"evidence"
        assert len(asked) <= 4
        assert len(list(store.names())) == 8

    def test_very_many_attempts_are_told_as_some(self, store: S3Store) -> None:
        kept = store.keep(Item(NAME, b"evidence", DUE))
        for number in range(WORM_ON_TOP + 20):
            self.put(store, NAME, str(number).encode())
        found = store.examine(kept, content=True)
        assert len(found) == WORM_ON_TOP
        assert store.read(NAME) == b"evidence"

    def test_a_copy_that_goes_while_it_is_examined_is_missing(self, store: S3Store) -> None:
        kept = store.keep(Item(NAME, b"evidence", DUE))
        other = Kept(NAME, kept.digest, kept.size, "none", DUE, "compliance")
        assert [finding.code for finding in store.examine(other, content=True)] == ["worm.missing"]
        with pytest.raises(NotFound):
            store.read(NAME, "none")
