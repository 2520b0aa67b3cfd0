"""Amounts as text, without a float on the way. Pure."""

from __future__ import annotations

import re

from qcos.base.errors import Invalid
from qcos.base.limits import MAX_MICRO

_AMOUNT = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,6}))?\Z")
_CURRENCY = re.compile(r"[A-Z]{3}\Z")


def parse_amount(text: str) -> int:
    """Return the micro-units of ``5000.00``.

    Raises:
        Invalid: ``money.amount`` for anything but digits with at most six decimals, or too much.
    """
    match = _AMOUNT.match(text)
    amount = int(match[1]) * 1_000_000 + int((match[2] or "").ljust(6, "0")) if match else MAX_MICRO + 1
    if amount > MAX_MICRO:
        raise Invalid(
            "money.amount",
            "not an amount of money",
            expected=f"digits with at most six decimals, as 5000.00, at most {format_amount(MAX_MICRO)}",
            got=text[:40],
        )
    return amount


def format_amount(amount: int) -> str:
    """Return micro-units as ``5000.00``: at least two decimals, as many as are needed."""
    whole, fraction = divmod(abs(amount), 1_000_000)
    decimals = f"{fraction:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}{whole}.{decimals}"


def check_currency(code: str) -> str:
    """Return a currency code of the form of ISO 4217.

    Raises:
        Invalid: ``money.currency``.
    """
    if not _CURRENCY.match(code):
        raise Invalid(
            "money.currency", "not a currency", expected="three capital letters, as USD", got=code[:40]
        )
    return code
