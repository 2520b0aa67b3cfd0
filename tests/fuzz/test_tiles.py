"""R4.2: a copied log with every part of its files mutated, and with other things in their places: each is found, and none holds the
check up.

What is no part of the signed tree is listed and tried too: see ``HARMLESS``.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.conftest import make_signers
from ledger.log import grow
from qcos.ledger.audit import Report, audit
from qcos.ledger.edge import Edge
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.tile import WIDTH

from .mutate import changed_bytes

SIZE = 2 * WIDTH + 44  # two full tiles, partial ones of two levels


@pytest.fixture(scope="module")
def signers() -> LedgerSigners:
    return make_signers()


@pytest.fixture(scope="module")
def log(signers: LedgerSigners, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose entries have lengths from nothing to some hundred bytes."""
    folder = tmp_path_factory.mktemp("log") / "log"
    grow(folder, Edge(), [bytes([n % 256]) * (n % 300) for n in range(SIZE)], signers)
    return folder


@pytest.fixture
def copy(log: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(log, tmp_path / "copy"))


def found(folder: Path, signers: LedgerSigners) -> Report:
    report = audit(folder, signers.vkeys)
    assert report.ok is not bool(report.problems)
    return report


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("**/*") if path.is_file() and ".making" not in path.parts)


def test_a_copy_is_whole(copy: Path, signers: LedgerSigners) -> None:
    assert found(copy, signers).ok
    names = {path.relative_to(copy).as_posix() for path in files(copy)}
    assert {"checkpoint", "tile/0/000", "tile/0/002.p/44", "tile/1/000.p/2", "tile/entries/002.p/44"} <= names


def test_every_part_of_every_file_counts(copy: Path, signers: LedgerSigners) -> None:
    """Bits at both ends and spread over all, lengths, hashes, entries; cut, emptied, longer, taken from another file."""
    chosen, count = random.Random(7), 0
    everything = files(copy)
    for file in everything:
        data = file.read_bytes()
        changes = [*changed_bytes(data, 4, chosen), ("emptied", b""), ("a tile more", data + data[-32:])]
        changes += [
            (f"taken from {other.name}", other.read_bytes())
            for other in everything
            if other.read_bytes() != data
        ]
        for what, changed in chosen.sample(changes, 14) if len(changes) > 14 else changes:
            if changed == data:
                continue
            file.write_bytes(changed)
            assert not found(copy, signers).ok, f"{file.relative_to(copy)}: {what}"
            count += 1
        file.write_bytes(data)
    assert found(copy, signers).ok
    assert count > 80


def test_an_entry_or_hash_more_than_a_partial_file_is_named_for_is_found(
    copy: Path, signers: LedgerSigners
) -> None:
    for name, more in (
        ("tile/0/002.p/44", bytes(32)),
        ("tile/1/000.p/2", bytes(32)),
        ("tile/entries/002.p/44", b"\0\0"),
    ):
        file = copy / name
        data = file.read_bytes()
        file.write_bytes(data + more)
        report = found(copy, signers)
        assert [one.code for one in report.problems] in (["ledger.tile"], ["ledger.bundle"]), name
        file.write_bytes(data)


def test_missing_files_and_strange_ones_are_found(copy: Path, signers: LedgerSigners) -> None:
    for file in files(copy):
        data = file.read_bytes()
        file.unlink()
        assert not found(copy, signers).ok, f"{file.relative_to(copy)} missing"
        file.write_bytes(data)
    strange = [
        "tile/0/x",
        "tile/0/0000",
        "tile/0/002.p/044",
        "tile/0/002.p/256",
        "tile/00/000",
        "tile/9/000",
        "tile/entries/000~",
    ]
    for name in [*strange, "tile/0/\udcff", "tile/0/\n", "tile/0/000.p/7", "tile/1/000.p/1"]:
        file = copy / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(b"x" * 32)
        report = found(copy, signers)
        assert not report.ok, f"{name!r} is taken for a file of the log"
        assert all(str(one).encode() for one in report.problems), "it can be printed"
        file.unlink()
    assert found(copy, signers).ok


HARMLESS = {
    "a tile ahead of the checkpoint": "tile/0/003",  # a sequencer writes tiles first: no checkpoint speaks of it
    "a file beside the log": "README",  # nothing of the log is read from it
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_part_of_the_tree_changes_nothing(copy: Path, signers: LedgerSigners, name: str) -> None:
    before = found(copy, signers)
    (copy / HARMLESS[name]).write_bytes(bytes(WIDTH * 32))
    assert found(copy, signers) == before


def _link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # such a name may have some hundred bytes only
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


KINDS: dict[str, Callable[[Path], None]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "a link to a pipe": _link_to_pipe,
    "a folder": lambda path: path.mkdir(),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a silent device": lambda path: path.symlink_to("/dev/null"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a socket": _socket,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["checkpoint", "tile/0/000", "tile/0/002.p/44", "tile/entries/001", "tile/1/000.p/2", "tile/0/002.p/7"],
)
def test_no_other_kind_of_file_holds_the_check_up(
    copy: Path, signers: LedgerSigners, name: str, kind: str
) -> None:
    """A pipe in a file's place would block whoever opens it."""
    (copy / name).unlink(missing_ok=True)
    KINDS[kind](copy / name)
    assert not found(copy, signers).ok


@pytest.mark.parametrize("name", ["tile", "tile/0", "tile/entries", "tile/0/002.p"])
def test_a_file_or_a_loop_in_the_place_of_a_folder_is_found(
    copy: Path, signers: LedgerSigners, name: str
) -> None:
    shutil.rmtree(copy / name)
    (copy / name).write_bytes(b"")
    assert not found(copy, signers).ok
    (copy / name).unlink()
    (copy / name).symlink_to(copy / name)
    assert not found(copy, signers).ok


def test_a_link_to_the_right_file_is_that_file(copy: Path, signers: LedgerSigners) -> None:
    """Whoever keeps tiles on another disk may link to them: the bytes are what counts."""
    (copy / "tile").rename(copy / "elsewhere")
    (copy / "tile").symlink_to("elsewhere")
    assert found(copy, signers).ok
