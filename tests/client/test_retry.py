"""The arithmetic of patience."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.client.retry import Retry, again_after_status, retry_after_s


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_pauses_are_bounded_and_end(sent: int, chance: float) -> None:
    retry = Retry(attempts=100)
    pause = retry.pause_s(sent, None, lambda: chance)
    if sent >= 100:
        assert pause is None
    else:
        assert pause is not None
        assert 0 < pause <= retry.longest_s


@given(st.integers(1, 4))
def test_pauses_double(sent: int) -> None:
    retry = Retry(attempts=10)
    first, second = (retry.pause_s(n, None, lambda: 0.5) for n in (sent, sent + 1))
    assert first is not None
    assert second == pytest.approx(2 * first)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("5", 5.0),
        (" 0 ", 0.0),
        ("soon", None),
        ("-3", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 60.0),
        ("Wed, 21 Oct 2020 07:28:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read(value: str | None, seconds: float | None) -> None:
    """RFC 9110, 10.2.3: seconds or a date."""
    assert retry_after_s(value, 1792567620.0) == seconds


@pytest.mark.parametrize(
    ("status", "repeatable", "once"),
    [(429, 1, 1), (503, 1, 1), (502, 1, 0), (504, 1, 0), (500, 0, 0), (409, 0, 0)],
)
def test_statuses(status: int, repeatable: int, once: int) -> None:
    assert again_after_status(status, repeatable=True) == bool(repeatable)
    assert again_after_status(status, repeatable=False) == bool(once)
