"""Signed notes: what is signed verifies, what is changed does not, and no input crashes the reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Integrity, Invalid
from qcos.base.limits import MAX_NOTE_BYTES
from qcos.ledger.checkpoint import Checkpoint, encode, parse_body
from qcos.ledger.note import COSIGNATURE_ED25519, ED25519, Vkey, join, parse, parse_vkey, sign_line, verify
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.tree import EMPTY_ROOT

from .conftest import ORIGIN, Key, make_signers

# The example of C2SP signed-note.md (C2SP/C2SP@5ba5ee83, section Example).
EXAMPLE_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = (
    "This is an example message.\n\n"
    "\u2014 example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
CHECKPOINT = Checkpoint(ORIGIN, 7, bytes(range(32)))


def test_the_published_example_verifies() -> None:
    vkey = parse_vkey(EXAMPLE_VKEY)
    assert str(vkey) == EXAMPLE_VKEY
    text, held = verify(EXAMPLE_NOTE, [vkey])
    assert text == "This is an example message.\n"
    assert [signed.vkey for signed in held] == [vkey]


@given(st.data())
def test_no_changed_character_of_a_signed_note_passes(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(EXAMPLE_NOTE) - 1))
    other = data.draw(st.characters(codec="utf-8"))
    mutated = EXAMPLE_NOTE[:position] + other + EXAMPLE_NOTE[position + 1 :]
    if mutated != EXAMPLE_NOTE:
        with pytest.raises(Integrity):
            verify(mutated, [parse_vkey(EXAMPLE_VKEY)])


def test_each_of_the_three_signatures_is_checked(signers: LedgerSigners) -> None:
    note = signers.sign(CHECKPOINT, 1_767_953_400)
    vkeys = [parse_vkey(vkey) for vkey in signers.vkeys]
    text, held = verify(note, vkeys)
    assert parse_body(text) == CHECKPOINT
    assert [signed.time for signed in held] == [None, 1_767_953_400, None]
    _, lines = parse(note)
    for wrong in range(3):
        bad = [
            line
            if n != wrong
            else type(line)(line.name, line.key_id, line.signature[:-1] + bytes([line.signature[-1] ^ 1]))
            for n, line in enumerate(lines)
        ]
        with pytest.raises(Integrity) as caught:
            verify(join(text, bad), vkeys)
        assert caught.value.code == "ledger.signature"
        assert vkeys[wrong].algorithm in caught.value.subject


def test_signatures_of_unknown_keys_are_ignored_but_one_known_is_needed(signers: LedgerSigners) -> None:
    vkeys = [parse_vkey(vkey) for vkey in signers.vkeys]
    text, ours = parse(signers.sign(CHECKPOINT, 1))
    _, theirs = parse(make_signers().sign(CHECKPOINT, 1))
    assert len(verify(join(text, [*theirs, *ours]), vkeys)[1]) == 3
    with pytest.raises(Integrity) as caught:
        verify(join(text, theirs), vkeys)
    assert caught.value.code == "ledger.unsigned"


def test_a_witness_cosignature_of_ed25519_states_its_time() -> None:
    """C2SP tlog-cosignature, type 0x04."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = Key("Ed25519", ed25519.Ed25519PrivateKey.generate())
    vkey = Vkey("witness.test", COSIGNATURE_ED25519, key.public_bytes)
    line = sign_line(vkey, CHECKPOINT.body, key.sign, 1_700_000_000)
    assert len(line.signature) == 72
    _, held = verify(join(CHECKPOINT.body, [line]), [parse_vkey(str(vkey))])
    assert held[0].time == 1_700_000_000
    late = type(line)(line.name, line.key_id, b"\xff" + line.signature[1:])
    with pytest.raises(Integrity):
        verify(join(CHECKPOINT.body, [late]), [vkey])


def test_a_mldsa44_cosignature_of_something_else_than_a_checkpoint_is_refused(signers: LedgerSigners) -> None:
    vkeys = [parse_vkey(vkey) for vkey in signers.vkeys]
    _, lines = parse(signers.sign(CHECKPOINT, 1))
    with pytest.raises(Integrity) as caught:
        verify(join("no checkpoint\n", lines[1:2]), vkeys)
    assert caught.value.code == "ledger.signature"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        "text\n",
        "text\n\n",
        "text\n\n\u2014 name\n",
        "text\n\n\u2014 name AAAA\n",
        "text\n\n\u2014 name !!!!\n",
        "text\n\n- name AAAAAAAAAAA=\n",
        "text\n\n\u2014 na+me AAAAAAAAAAA=\n",
        "te\x00xt\n\n\u2014 name AAAAAAAAAAA=\n",
        "te\rxt\n\n\u2014 name AAAAAAAAAAA=\n",
        "text\n\n\u2014 name AAAAAAAAAAA=",
        "text\n\n" + "\u2014 name AAAAAAAAAAA=\n" * 101,
        "x" * (MAX_NOTE_BYTES + 1),
        "\ud800\n\n\u2014 name AAAAAAAAAAA=\n",
        b"\xff\xfe\n\n",
        "text\n\n\u2014 name AAAAAAAAAAB=\n",
    ],
)
def test_malformed_notes_are_refused(note: str | bytes) -> None:
    with pytest.raises(Integrity) as caught:
        parse(note)
    assert caught.value.code == "ledger.note"


@given(st.text() | st.binary())
def test_any_input_is_a_note_or_refused(note: str | bytes) -> None:
    try:
        text, lines = parse(note)
    except Integrity:
        return
    assert text.endswith("\n")
    assert lines


@given(st.text())
def test_any_text_is_a_checkpoint_body_or_refused(text: str) -> None:
    try:
        assert parse_body(text).body == text
    except Integrity as error:
        assert error.code == "ledger.checkpoint"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "o\n1\n",
        f"\n1\n{encode(EMPTY_ROOT)}\n",
        f"o\n01\n{encode(EMPTY_ROOT)}\n",
        f"o\n-1\n{encode(EMPTY_ROOT)}\n",
        f"o\n1\n{encode(EMPTY_ROOT[:31])}\n",
        f"o\n{2**63}\n{encode(EMPTY_ROOT)}\n",
        f"o\n1\n{encode(EMPTY_ROOT)}\n\n",
        f"o\n٣\n{encode(EMPTY_ROOT)}\n",
        f"o\n1\n{encode(EMPTY_ROOT)}",
        f"{'o' * 256}\n1\n{encode(EMPTY_ROOT)}\n",
    ],
)
def test_malformed_checkpoints_are_refused(body: str) -> None:
    with pytest.raises(Integrity):
        parse_body(body)


def test_a_checkpoint_may_have_extension_lines() -> None:
    body = f"o\n0\n{encode(EMPTY_ROOT)}\nsome extension\n"
    assert parse_body(body) == Checkpoint("o", 0, EMPTY_ROOT, ("some extension",))
    assert parse_body(body).body == body


@given(st.text())
def test_any_text_is_a_verifier_key_or_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_vkey(text)


@given(st.data())
def test_no_changed_verifier_key_is_taken_for_the_same_one(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(EXAMPLE_VKEY) - 1))
    mutated = EXAMPLE_VKEY[:position] + data.draw(st.characters()) + EXAMPLE_VKEY[position + 1 :]
    if mutated != EXAMPLE_VKEY:
        with pytest.raises(Invalid):
            parse_vkey(mutated)


def test_a_key_of_another_algorithm_or_a_bad_name_makes_no_signers(signers: LedgerSigners) -> None:
    with pytest.raises(Invalid):
        LedgerSigners(signers.mldsa44, signers.mldsa44, signers.mldsa65, ORIGIN)
    for name in ("", "two words", "a+b", "x" * 256):
        with pytest.raises(Invalid):
            LedgerSigners(signers.ed25519, signers.mldsa44, signers.mldsa65, name)


def test_the_key_id_is_that_of_the_specification() -> None:
    assert parse_vkey(EXAMPLE_VKEY).kind == ED25519
    assert parse_vkey(EXAMPLE_VKEY).key_id.hex() == "530d903a"
