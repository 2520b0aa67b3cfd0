"""Attempts to alter or delete what was kept fail, and are reported (R5.6)."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from qcos.base.clock import now
from qcos.base.errors import Integrity, Invalid
from qcos.worm.files import FileStore, _set_immutable
from qcos.worm.model import Item
from qcos.worm.s3 import S3Store

from .conftest import bucket_of


def soon(days: int = 1) -> dt.datetime:
    return now().replace(microsecond=0) + dt.timedelta(days=days)


DUE = soon()  # one date for all: a copy kept again is the same copy


def put(store: S3Store | FileStore, name: str = "evidence/a", data: bytes = b"evidence"):  # type: ignore[no-untyped-def]
    return store.keep(Item(name, data, DUE))


def codes(found: list[object]) -> list[str]:
    return [finding.code for finding in found]  # type: ignore[attr-defined]


class TestS3:
    """On a server that does what S3 documents."""

    @pytest.fixture
    def store(self, localstack: str) -> S3Store:
        return bucket_of(localstack)

    def test_nobody_deletes_the_version(self, store: S3Store) -> None:
        kept = put(store)
        target = {"Bucket": store._place.bucket, "Key": "qcos/evidence/a", "VersionId": kept.version}
        for attempt in (
            lambda: store._client.delete_object(**target),
            lambda: store._client.delete_object(**target, BypassGovernanceRetention=True),
            lambda: store._client.put_object_retention(
                **target, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": soon(0) + dt.timedelta(hours=1)}
            ),
            lambda: store._client.put_object_retention(
                **target, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": soon(3)}
            ),
        ):
            with pytest.raises(ClientError) as refused:
                attempt()
            assert refused.value.response["Error"]["Code"] == "AccessDenied"
        assert store.examine(kept, content=True) == []

    def test_a_delete_marker_is_reported_and_the_copy_survives(self, store: S3Store) -> None:
        kept = put(store)
        store._client.delete_object(Bucket=store._place.bucket, Key="qcos/evidence/a")
        assert codes(store.examine(kept, content=True)) == ["worm.deleted"]
        assert store.read("evidence/a", kept.version) == store.read("evidence/a") == b"evidence"
        assert list(store.names()) == ["evidence/a"]

    def test_a_version_on_top_is_reported_and_the_copy_survives(self, store: S3Store) -> None:
        kept = put(store)
        store._client.put_object(Bucket=store._place.bucket, Key="qcos/evidence/a", Body=b"forged")
        assert codes(store.examine(kept, content=True)) == ["worm.overwritten"]
        assert store.read("evidence/a") == b"evidence"
        assert put(store) == kept

    def test_a_bucket_without_lock_is_refused_before_anything_is_put(self, localstack: str) -> None:
        store = bucket_of(localstack, lock=False)
        with pytest.raises(Invalid) as refused:
            store.check()
        assert refused.value.code == "worm.unprotected"
        assert "Object Lock off" in refused.value.got


class TestLaxServer:
    """On a server that lets happen what S3 refuses: our own looking finds it."""

    @pytest.fixture
    def store(self, moto: str) -> S3Store:
        return bucket_of(moto)

    def test_a_shortened_date_is_found(self, store: S3Store) -> None:
        kept = put(store)
        assert store.examine(kept, content=True) == []
        store._client.put_object_retention(
            Bucket=store._place.bucket,
            Key="qcos/evidence/a",
            VersionId=kept.version,
            Retention={"Mode": "COMPLIANCE", "RetainUntilDate": soon(0) + dt.timedelta(hours=1)},
        )
        assert codes(store.examine(kept, content=True)) == ["worm.unprotected"]

    def test_a_weaker_mode_is_found(self, store: S3Store) -> None:
        kept = put(store)
        store._client.put_object_retention(
            Bucket=store._place.bucket,
            Key="qcos/evidence/a",
            VersionId=kept.version,
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": soon()},
        )
        found = store.examine(kept, content=True)
        assert codes(found) == ["worm.unprotected"]
        assert "GOVERNANCE" in found[0].message

    def test_a_version_destroyed_after_versioning_was_suspended_is_found(self, store: S3Store) -> None:
        kept = put(store)
        bucket = store._place.bucket
        store._client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
        with pytest.raises(Invalid):
            store.check()
        store._client.put_object(Bucket=bucket, Key="qcos/evidence/a", Body=b"forged")
        assert codes(store.examine(kept, content=True)) != []


class TestFolder:
    """On this machine's file system."""

    def test_root_itself_can_neither_write_nor_rename_nor_remove(self, folder: FileStore) -> None:
        if folder.check() != "immutable":
            pytest.skip("files cannot be made immutable here: no right, or a file system without the flag")
        kept = put(folder)
        path = Path(folder.address.removeprefix("file:")) / kept.name
        for attempt in (
            lambda: path.write_bytes(b"forged"),
            lambda: path.unlink(),
            lambda: path.rename(path.with_name("b")),
            lambda: os.link(path, path.with_name("b")),
            lambda: path.chmod(0o666),
            lambda: os.truncate(path, 0),
        ):
            with pytest.raises(PermissionError):
                attempt()
        assert folder.examine(kept, content=True) == []

    def test_a_flag_taken_away_is_reported(self, folder: FileStore) -> None:
        if folder.check() != "immutable":
            pytest.skip("files cannot be made immutable here: no right, or a file system without the flag")
        kept = put(folder)
        _set_immutable(Path(folder.address.removeprefix("file:")) / kept.name, False)
        assert codes(folder.examine(kept, content=True)) == ["worm.unprotected"]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            (lambda path: path.unlink(), "worm.missing"),
            (lambda path: path.write_bytes(b"forgery."), "worm.changed"),
            (lambda path: path.write_bytes(b"longer than it was"), "worm.changed"),
            (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "worm.changed"),
        ],
    )
    def test_what_a_powerful_hand_changes_is_reported(self, folder: FileStore, change, code: str) -> None:  # type: ignore[no-untyped-def]
        kept = put(folder)
        path = Path(folder.address.removeprefix("file:")) / kept.name
        _set_immutable(path, False)
        path.chmod(0o644)
        change(path)
        assert code in codes(folder.examine(kept, content=True))

    def test_what_a_killed_process_left_unprotected_is_protected_the_next_time(
        self, folder: FileStore
    ) -> None:
        protection = folder.check()
        kept = put(folder)
        path = Path(folder.address.removeprefix("file:")) / kept.name
        _set_immutable(path, False)
        path.chmod(0o600)
        assert put(folder).protection == protection
        assert folder.examine(kept, content=True) == []

    def test_bytes_of_somebody_else_are_not_taken_for_ours(self, folder: FileStore) -> None:
        path = Path(folder.address.removeprefix("file:")) / "evidence/a"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"planted before us")
        with pytest.raises(Integrity) as refused:
            put(folder)
        assert refused.value.code == "worm.changed"
        assert path.read_bytes() == b"planted before us"
