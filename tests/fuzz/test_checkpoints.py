"""R4.2: a signed checkpoint with every character and line mutated: none passes, but for what C2SP signed-note allows (``NEUTRAL``)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger.conftest import ORIGIN, make_signers
from ledger.log import NOW
from qcos.base.errors import QcosError
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.note import COSIGNATURE_ED25519, Vkey, join, parse, sign_line
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.verify import verify_checkpoint

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
def note(signers: LedgerSigners) -> str:
    return signers.sign(Checkpoint(ORIGIN, 556, bytes(range(32))), NOW)


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
