"""R4.2: a signed checkpoint and a copied log with every part mutated: each change is found, but for those C2SP allows.

What is no mutation, by C2SP signed-note and tlog-tiles, is listed and tried too: see ``NEUTRAL`` and ``HARMLESS``.
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
from ledger.log import NOW, grow
from qcos.base.errors import QcosError
from qcos.ledger.audit import Report, audit
from qcos.ledger.edge import Edge
from qcos.ledger.note import COSIGNATURE_ED25519, Vkey, join, parse, sign_line
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.tile import WIDTH
from qcos.ledger.verify import verify_checkpoint

from .mutate import changed_bytes

SIZE = 2 * WIDTH + 44  # two full tiles, partial ones of two levels
LOOKALIKES = {
    "a": "\u0430",
    "e": "\u0435",
    "/": "\u2215",
    ".": "\u3002",
    "\u2014": "-",
    " ": "\u00a0",
    "0": "\uff10",
    "1": "l",
}


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


@pytest.fixture(scope="module")
def note(log: Path) -> str:
    return (log / "checkpoint").read_text()


def refused(note: str | bytes, signers: LedgerSigners, what: str) -> None:
    try:
        verify_checkpoint(note, signers.vkeys)
    except QcosError:
        return
    pytest.fail(f"a checkpoint passes: {what}")


def test_no_character_of_a_checkpoint_can_be_another(note: str, signers: LedgerSigners) -> None:
    """The whole text with its line ends and, of long signatures, both ends and places spread over them."""
    places = [place for place in range(len(note)) if place < 400 or place % 37 == 0 or place > len(note) - 60]
    near = [place + step for place, char in enumerate(note) if char in "\n\u2014" for step in (-1, 0, 1)]
    for place in sorted({*places, *(p for p in near if 0 <= p < len(note))}):
        char = note[place]
        others = {
            "\n" if char != "\n" else "\r\n",
            "",
            char + " ",
            char + char,
            LOOKALIKES.get(char, "A"),
            "\ufeff" + char,
        }
        others |= {chr(ord(char) ^ 1), "\0", "\x7f" + char, "\u2028", "\ud800"}
        for other in others - {char}:
            changed = note[:place] + other + note[place + 1 :]
            if changed != note:
                refused(changed, signers, f"{other!r} for {char!r} at {place}")


def test_no_line_of_a_checkpoint_can_be_missing_more_or_moved(note: str, signers: LedgerSigners) -> None:
    lines = note.splitlines(keepends=True)
    head, signatures = lines[:4], lines[4:]
    assert (len(signatures), head[3]) == (3, "\n")
    for n in range(len(lines)):
        refused("".join(lines[:n] + lines[n + 1 :]), signers, f"line {n} removed")
    for n in range(4):
        refused("".join([*lines[: n + 1], *lines[n:]]), signers, f"line {n} twice")
        refused("".join([*lines[:n], "more\n", *lines[n:]]), signers, f"a line before line {n}")
        refused(
            "".join([*head[:n], *reversed(head[n:]), *signatures]) if n < 3 else note[:-1],
            signers,
            f"lines from {n} turned",
        )
    for odd in (
        "\n",
        "more\n",
        "\u2014 \n",
        "\u2014 name\n",
        "\u2014 name AAAA\n",
        signatures[0][2:],
        signatures[0].rstrip(),
    ):
        refused(note + odd, signers, f"{odd!r} at the end")
    for bad in (
        note.replace("\n", "\r\n"),
        note.replace("\n", "\r"),
        note + note,
        note.rstrip(),
        " " + note,
        note.upper(),
    ):
        refused(bad, signers, repr(bad[:30]))
    refused(note.encode("utf-16"), signers, "UTF-16")
    refused(note.encode()[:-3] + b"\xff\n", signers, "no UTF-8")
    refused("".join(head + signatures * 40), signers, "120 signatures")
    refused("".join(head + signatures * 100_000)[:4_000_000], signers, "signatures without end")


def test_two_signatures_cannot_exchange_their_bytes(note: str, signers: LedgerSigners) -> None:
    text, lines = parse(note)
    for one in lines:
        for two in lines:
            if one is not two:
                mixed = type(one)(one.name, one.key_id, two.signature)
                refused(
                    join(text, [mixed if line is one else line for line in lines]),
                    signers,
                    "another's signature",
                )
                refused(join(text, [*lines, mixed]), signers, "a wrong signature beside the right ones")


def _reordered(text: str, lines: list[str]) -> str:
    return text + "\n" + "".join(reversed(lines))


NEUTRAL: dict[str, Callable[[str, list[str]], str]] = {
    "signatures in another order": _reordered,
    "a signature twice": lambda text, lines: text + "\n" + "".join([*lines, lines[0]]),
    "a signature by a key that nobody here knows": lambda text, lines: (
        text + "\n" + "".join([*lines, _unknown(text)])
    ),
}
"""What C2SP signed-note lets anybody do to a note: its text is signed, the list of signatures is not."""


def _unknown(text: str) -> str:
    vkey = Vkey("somebody.example", COSIGNATURE_ED25519, bytes(32))
    return str(sign_line(vkey, text, lambda _: bytes(64), NOW))


@pytest.mark.parametrize("name", NEUTRAL)
def test_what_signed_notes_allow_changes_nothing(note: str, signers: LedgerSigners, name: str) -> None:
    text, lines = parse(note)
    changed = NEUTRAL[name](text, [str(line) for line in lines])
    assert changed != note
    assert verify_checkpoint(changed, signers.vkeys) == verify_checkpoint(note, signers.vkeys)


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
    "a link to a pipe": lambda path: (os.mkfifo(path.with_name("pipe")), path.symlink_to("pipe"))[1],
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
