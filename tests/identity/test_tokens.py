"""API tokens are unguessable, stored as hashes only, and live for a stated time (R11.8)."""

from __future__ import annotations

import datetime as dt
import hashlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Denied, Invalid
from qcos.identity import tokens

AT = dt.datetime(2026, 11, 2, 10, tzinfo=dt.UTC)


@given(st.uuids())
def test_a_minted_token_names_its_tenant_and_its_hash(tenant: UUID) -> None:
    minted = tokens.mint(tenant)
    assert tokens.read(minted.text) == (tenant, minted.hash)
    assert minted.hash == hashlib.sha256(minted.text.encode()).digest()


def test_two_tokens_differ_and_none_shows_itself_in_a_log() -> None:
    tenant = UUID(int=1)
    one, other = tokens.mint(tenant), tokens.mint(tenant)
    assert one.text != other.text and one.hash != other.hash and one.id != other.id
    assert one.text not in repr(one)


@given(st.text(max_size=80))
def test_any_other_text_is_denied_and_not_repeated(text: str) -> None:
    with pytest.raises(Denied) as caught:
        tokens.read(text)
    assert caught.value.code == "auth.token"
    if len(text) > 10:
        assert text not in str(caught.value)


@pytest.mark.parametrize("change", ["\n", " ", "=", "A"])
def test_one_token_has_one_text(change: str) -> None:
    minted = tokens.mint(UUID(int=1))
    for text in (minted.text + change, change + minted.text, minted.text[:-1] + "\u00e9"):
        with pytest.raises(Denied):
            tokens.read(text)


def test_a_token_ends_after_90_days_or_as_asked_but_within_a_year() -> None:
    assert tokens.expiry(AT) == AT + dt.timedelta(days=90)
    assert tokens.expiry(AT, 366) == AT + dt.timedelta(days=366)
    for days in (0, -1, 367):
        with pytest.raises(Invalid) as caught:
            tokens.expiry(AT, days)
        assert caught.value.code == "token.days"
