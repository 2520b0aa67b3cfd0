"""Every WORM store keeps the contract (R5.6): a folder, and S3 Object Lock on a real wire server."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qcos.base.clock import now
from qcos.base.errors import Integrity, Invalid, NotFound
from qcos.worm.files import FileStore
from qcos.worm.model import Item, WormStore

from .conftest import bucket_of


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest) -> WormStore:
    if request.param == "file":
        made: FileStore = request.getfixturevalue("folder")
        return made
    return bucket_of(request.getfixturevalue("localstack"))


def item(name: str = "ledger/tile/0/000", data: bytes = b"\1" * 32, days: int = 1) -> Item:
    return Item(name, data, now().replace(microsecond=0) + dt.timedelta(days=days))


def test_what_is_kept_is_there_protected_and_unchanged(store: WormStore) -> None:
    protection = store.check()
    one = item()
    kept = store.keep(one)
    assert (kept.name, kept.digest, kept.size) == (one.name, hashlib.sha256(one.data).digest(), 32)
    assert kept.protection == protection
    assert store.examine(kept, content=True) == []
    assert store.read(kept.name, kept.version) == store.read(kept.name) == one.data
    assert list(store.names()) == [one.name]


def test_the_same_bytes_again_are_the_same_copy(store: WormStore) -> None:
    one = item()
    first = store.keep(one)
    assert store.keep(one) == first
    assert store.examine(first, content=True) == []


def test_the_same_bytes_again_are_protected_until_the_later_date(store: WormStore) -> None:
    """A round that died is done again later, and a later checkpoint needs tiles that were copied before."""
    first = store.keep(item(days=1))
    longer = store.keep(item(days=3))
    assert (longer.version, longer.digest) == (first.version, first.digest)
    assert longer.retain_until > first.retain_until
    store.keep(item(days=2))
    for kept in (first, longer):
        assert store.examine(kept, content=True) == []


def test_a_copy_is_lengthened_and_never_shortened(store: WormStore) -> None:
    """R4.3: for legal holds."""
    first = store.keep(item(days=2))
    longer = store.lengthen(first, first.retain_until + dt.timedelta(days=3))
    assert longer == replace(first, retain_until=first.retain_until + dt.timedelta(days=3))
    assert store.examine(longer, content=True) == []
    assert store.lengthen(longer, first.retain_until) == longer
    assert store.lengthen(first, first.retain_until) == first, "by somebody who knows of the first date only"
    for kept in (first, longer):
        assert store.examine(kept, content=True) == []


def test_other_bytes_under_a_name_are_refused_and_nothing_is_lost(store: WormStore) -> None:
    kept = store.keep(item())
    with pytest.raises(Integrity) as refused:
        store.keep(item(data=b"other"))
    assert refused.value.code == "worm.changed"
    assert refused.value.expected == f"sha256:{hashlib.sha256(b'other').hexdigest()}"
    assert store.read(kept.name, kept.version) == b"\1" * 32
    assert store.examine(kept, content=True) == []


def test_empty_and_large_copies(store: WormStore) -> None:
    for number, data in enumerate((b"", b"\0" * 3_000_000)):
        kept = store.keep(item(f"evidence/{number}", data))
        assert store.read(kept.name, kept.version) == data
        assert store.examine(kept, content=True) == []


def test_what_was_never_kept(store: WormStore) -> None:
    store.check()
    with pytest.raises(NotFound) as missing:
        store.read("ledger/checkpoints/1")
    assert missing.value.code == "worm.missing"


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a b", "ä", "a/", ".making/x", "x" * 513]
)
def test_names_that_could_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        item(name)
    assert refused.value.code == "worm.name"


def test_many_at_once_keep_one_copy(store: WormStore, threads: Callable[..., list[object]]) -> None:
    one = item()
    copies = threads(8, lambda: store.keep(one))
    assert len({(copy.version, copy.digest) for copy in copies}) == 1  # type: ignore[attr-defined]
    assert store.examine(copies[0], content=True) == []  # type: ignore[arg-type]


@pytest.fixture
def threads() -> Iterator[Callable[..., list[object]]]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        yield lambda count, work: [future.result() for future in [pool.submit(work) for _ in range(count)]]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "worm").write_text("a file where the folder should be")
    with pytest.raises(Exception) as failed:
        FileStore(tmp_path / "worm").keep(item())
    assert getattr(failed.value, "code", "") == "worm.unavailable"
