"""The envelope: what is sealed opens with its key, in its place, and as it was; nothing else opens."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Integrity
from qcos.secrecy.envelope import OVERHEAD, TenantKey, generation_of, is_sealed

MINE, THEIRS = UUID(int=1), UUID(int=2)
KEY = TenantKey(b"k" * 32, MINE, 7)
_NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
_PLACES = st.tuples(st.sampled_from([MINE, THEIRS]), _NAMES, _NAMES)


@given(_NAMES, _NAMES, st.binary(max_size=300))
def test_what_is_sealed_opens_again(owner: str, name: str, payload: bytes) -> None:
    key, wrapped = KEY.new_payload_key(owner)
    sealed = key.seal(name, payload)
    assert KEY.unwrap(wrapped, owner).open(name, sealed) == payload
    assert len(sealed) == len(payload) + OVERHEAD
    assert is_sealed(sealed) and generation_of(wrapped) == 7
    assert key.seal(name, payload) != sealed, "a fresh nonce each time"
    if len(payload) > 8:
        assert payload not in sealed


@given(st.data())
def test_a_flipped_bit_of_a_payload_is_found(data: st.DataObject) -> None:
    """Version, nonce, ciphertext, tag."""
    key, _ = KEY.new_payload_key("job-1")
    sealed = bytearray(key.seal("spec", data.draw(st.binary(max_size=60))))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Integrity) as refused:
        key.open("spec", bytes(sealed))
    assert refused.value.code == "payload.sealed"


def test_a_flipped_bit_of_a_wrapped_key_is_found() -> None:
    """Every bit: version, generation, nonce, key, tag."""
    _, wrapped = KEY.new_payload_key("job-1")
    for bit in range(8 * len(wrapped)):
        changed = bytearray(wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Integrity) as refused:
            KEY.unwrap(bytes(changed), "job-1")
        assert refused.value.code == "payload.key"


@given(st.data())
def test_what_was_cut_short_or_made_longer_does_not_open(data: st.DataObject) -> None:
    key, wrapped = KEY.new_payload_key("job-1")
    sealed = key.seal("spec", b"OPENQASM 3.0;")
    cut = data.draw(st.integers(0, len(sealed) - 1))
    for changed in (sealed[:cut], sealed + b"\0"):
        with pytest.raises(Integrity):
            key.open("spec", changed)
    for changed in (wrapped[: data.draw(st.integers(0, len(wrapped) - 1))], wrapped + b"\0"):
        with pytest.raises(Integrity):
            KEY.unwrap(changed, "job-1")


@given(_PLACES, _PLACES)
def test_nothing_opens_in_another_place(one: tuple[UUID, str, str], other: tuple[UUID, str, str]) -> None:
    """R10.1: the same bytes under another tenant, owner or name, with the same keys: as if somebody moved rows."""
    (tenant, owner, name), (elsewhere, other_owner, other_name) = one, other
    home, away = TenantKey(b"k" * 32, tenant, 1), TenantKey(b"k" * 32, elsewhere, 1)
    key, wrapped = home.new_payload_key(owner)
    sealed = key.seal(name, b"secret")
    if one == other:
        assert away.unwrap(wrapped, other_owner).open(other_name, sealed) == b"secret"
        return
    with pytest.raises(Integrity):
        away.unwrap(wrapped, other_owner).open(other_name, sealed)


def test_another_key_opens_nothing() -> None:
    key, wrapped = KEY.new_payload_key("job-1")
    sealed = key.seal("spec", b"secret")
    other, _ = KEY.new_payload_key("job-1")
    with pytest.raises(Integrity):
        other.open("spec", sealed)
    with pytest.raises(Integrity):
        TenantKey(b"l" * 32, MINE, 7).unwrap(wrapped, "job-1")
    with pytest.raises(Integrity):
        TenantKey(b"k" * 32, MINE, 8).unwrap(wrapped, "job-1")


def test_a_key_moves_to_the_next_generation_and_opens_the_same() -> None:
    key, wrapped = KEY.new_payload_key("job-1")
    sealed = key.seal("spec", b"secret")
    newer = TenantKey(b"n" * 32, MINE, 8)
    moved = newer.rewrap(KEY, wrapped, "job-1")
    assert generation_of(moved) == 8
    assert newer.unwrap(moved, "job-1").open("spec", sealed) == b"secret"
    with pytest.raises(Integrity):
        KEY.unwrap(moved, "job-1")


def test_keys_do_not_show_in_text() -> None:
    key, _ = KEY.new_payload_key("job-1")
    assert repr(key) == "<payload key>" and repr(KEY) == "<tenant key, generation 7>"


def test_json_never_looks_sealed() -> None:
    assert not is_sealed(b'{"counts":{}}') and not is_sealed(b"")
