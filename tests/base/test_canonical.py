"""Canonical bytes are RFC 8785's; strict reading refuses what two readers could understand differently."""

from __future__ import annotations

import hashlib
import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.canonical import canonical, digest, digest_of, loads_strict
from qcos.base.errors import Invalid
from qcos.base.limits import MAX_JSON_DEPTH

_TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


def test_the_example_of_the_standard() -> None:
    """RFC 8785, section 3.2.2 and 3.2.4 (without its non-integral numbers, of which we hash none)."""
    value = {
        "numbers": [333333333, 4.5, 0],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert (
        canonical(value)
        == (
            '{"literals":[null,true,false],"numbers":[333333333,4.5,0],'
            '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )


@given(st.recursive(JSON | st.floats(allow_nan=False, allow_infinity=False), st.lists, max_leaves=20))
def test_the_quick_way_gives_the_bytes_of_the_standard(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)


def test_members_are_sorted_by_utf_16() -> None:
    """RFC 8785, section 3.2.3."""
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = list(json.loads(canonical(dict.fromkeys(names, 0))))
    assert ordered == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@given(JSON)
def test_reading_gives_back_what_was_written(value: object) -> None:
    assert loads_strict(canonical(value)) == value
    assert canonical(loads_strict(canonical(value))) == canonical(value)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(0, 9), min_size=2))
def test_the_order_of_members_changes_nothing(value: dict[str, int]) -> None:
    assert digest_of(dict(reversed(value.items()))) == digest_of(value)


def test_a_digest_says_its_algorithm() -> None:
    assert digest(b"") == "sha256:" + hashlib.sha256(b"").hexdigest()
    assert digest_of({"b": 1, "a": 2}) == digest(b'{"a":2,"b":1}')


@pytest.mark.parametrize("number", [2**53, -(2**53), float("nan"), float("inf")])
def test_numbers_that_cannot_be_carried_are_refused(number: float) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        canonical({"n": number})
    assert isinstance(caught.value, (Invalid, ValueError))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"a": 1, "a": 2}', "json.duplicate"),
        (b'{"o": [{"a": 1, "\\u0061": 2}]}', "json.duplicate"),
        (b'{"a": NaN}', "json.syntax"),
        (b"-Infinity", "json.syntax"),
        (b"{", "json.syntax"),
        (b"", "json.syntax"),
        (b"{} {}", "json.syntax"),
        (b"\xff", "json.syntax"),
        (b'{"a": "\x01"}', "json.syntax"),
        (b"9" * 5_000, "json.syntax"),
        (b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1), "json.depth"),
        (b'{"a":' * 100_000, "json.depth"),
        (b'["\\"[", ' + b"[" * 100_000, "json.depth"),
        (b'{"a": "\\ud800"}', "json.syntax"),
        (b'{"\\uDFFF\\ud800": 1}', "json.syntax"),
        (b'{"a": "\xed\xa0\x80"}', "json.syntax"),
    ],
)
def test_what_is_refused(text: bytes, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        loads_strict(text, subject="the test")
    assert caught.value.code == code
    assert caught.value.subject == "the test"


def test_brackets_in_strings_do_not_nest() -> None:
    text = json.dumps(["[" * 1_000, '"[{\\', {"{": "{" * 1_000}])
    assert loads_strict(text) == json.loads(text)
    deep = "[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH
    assert loads_strict(deep) == json.loads(deep)


@given(st.text() | st.binary())
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        loads_strict(text)
    except Invalid as error:
        assert error.code.startswith("json.")


def test_halves_of_characters_are_refused_and_pairs_are_not() -> None:
    """What no reader can print or hash is no text."""
    for text in ('"\ud800"', '{"\udc00": 1}'):
        with pytest.raises(Invalid) as caught:
            loads_strict(text)
        assert caught.value.code == "json.syntax"
    assert loads_strict('"\\ud83d\\ude00"') == loads_strict('"\U0001f600"') == "\U0001f600"
    assert loads_strict('"\\\\ud800"') == "\\ud800"
