"""Amounts go to text and back without loss; nothing else is an amount."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Invalid
from qcos.base.limits import MAX_MICRO
from qcos.metering import money


@given(st.integers(0, MAX_MICRO))
def test_an_amount_survives_its_text(amount: int) -> None:
    assert money.parse_amount(money.format_amount(amount)) == amount


@given(st.integers(1, MAX_MICRO))
def test_a_negative_amount_shows_its_sign(amount: int) -> None:
    assert money.format_amount(-amount) == "-" + money.format_amount(amount)


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0.00"), (1, "0.000001"), (2_500, "0.0025"), (5_000_000_000, "5000.00"), (1_100_000, "1.10")],
)
def test_it_reads_as_people_write_it(amount: int, text: str) -> None:
    assert money.format_amount(amount) == text


@pytest.mark.parametrize(
    "wrong", ["", "-1", "+1", "1e3", "1.0000001", "1,00", ".5", "1.", "NaN", "٣", "9007199255", " 1"]
)
def test_other_texts_are_refused(wrong: str) -> None:
    with pytest.raises(Invalid) as caught:
        money.parse_amount(wrong)
    assert caught.value.code == "money.amount"


def test_a_currency_is_three_capital_letters() -> None:
    assert money.check_currency("USD") == "USD"
    for wrong in ("usd", "US", "USDT", "", "USD\n"):
        with pytest.raises(Invalid):
            money.check_currency(wrong)
