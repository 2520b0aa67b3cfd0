"""Price books, and prices and charges made with them. Pure, integers only.

A price book is a JSON document: a version, a currency, and for each *price key* (``aws/garnet``) its rates
in micro-units, with where they are from. `estimate` multiplies rates with bounds, `charges` with usages;
both round up once, at the sum, so that usage within the bounds can never cost more than the estimate. A key
that is not in the book has an unknown price, not a price of zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from qcos.base.canonical import digest_of, loads_strict
from qcos.base.errors import Invalid, Limit, Problem, Unavailable
from qcos.base.limits import MAX_BOOK_BYTES, MAX_MICRO, MAX_NAME
from qcos.metering.model import ChargeLine, Price, Usage

SCHEMA: Final = "qcos.pricebook/v1"
_SECOND: Final = 1_000_000  # microseconds
_SHIPPED: Final = "2026-11.json"

# rate in the book -> item, meter, unit, units that the rate is for
_RATES: Final[Mapping[str, tuple[str, str, str, int]]] = {
    "per_task": ("task", "tasks", "task", 1),
    "per_shot": ("shot", "shots", "shot", 1),
    "per_qpu_second": ("qpu_time", "qpu_time_us", "us", _SECOND),
    "per_cpu_second": ("cpu_time", "cpu_time_us", "us", _SECOND),
}
_TEXTS: Final = ("source", "as_of", "confidence")
_HEAD: Final = {"schema", "version", "currency", "effective", "prices"}
_KEY = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9.-]*\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_CURRENCY = re.compile(r"[A-Z]{3}\Z")


@dataclass(frozen=True, slots=True)
class Rates:
    """What one price key costs.

    Attributes:
        rates: Micro-units by rate (``per_task``, ``per_shot``, ``per_qpu_second``, ``per_cpu_second``).
        minimum: Micro-units that every task costs at least.
        capped: Whether a job is never charged more than was reserved for it. True for what we run ourselves;
            a vendor charges what he charges.
        source: Where the price is from.
        as_of: When it was seen there.
        confidence: How sure that is.
    """

    rates: Mapping[str, int]
    minimum: int
    capped: bool
    source: str
    as_of: str
    confidence: str


@dataclass(frozen=True, slots=True)
class PriceBook:
    """A price book.

    Attributes:
        version: Its name.
        digest: ``sha256:`` of its canonical JSON.
        currency: Of all its prices.
        effective: First day (``2026-11-01``) it is meant for.
        prices: Rates by price key.
    """

    version: str
    digest: str
    currency: str
    effective: str
    prices: Mapping[str, Rates]

    @property
    def id(self) -> str:
        """Return version and digest in one text, which every charge carries."""
        return f"{self.version}@{self.digest}"

    @classmethod
    def load(cls, data: bytes) -> PriceBook:
        """Read a price book.

        Raises:
            Invalid: ``pricebook.invalid`` with every problem and its JSON pointer; ``json.*`` when it is no
                JSON.
            Limit: ``pricebook.size``.
        """
        if len(data) > MAX_BOOK_BYTES:
            raise Limit(
                "pricebook.size",
                "the price book is too large",
                expected=f"{MAX_BOOK_BYTES} bytes",
                got=str(len(data)),
            )
        value = loads_strict(data, subject="price book")
        problems = _check(value)
        if problems:
            raise Invalid("pricebook.invalid", "not a price book", subject="price book", problems=problems)
        prices = {key: _rates(entry) for key, entry in sorted(value["prices"].items())}
        return cls(value["version"], digest_of(value), value["currency"], value["effective"], prices)

    def rates(self, price_key: str) -> Rates:
        """Return the rates of a price key.

        Raises:
            Invalid: ``price.unknown``.
        """
        found = self.prices.get(price_key)
        if found is None:
            raise Invalid(
                "price.unknown",
                "the price book has no price for this",
                subject=price_key[:MAX_NAME],
                expected=f"one of the keys of price book {self.version}",
                hint="an unknown price is not zero: add the key to the price book before using the backend",
            )
        return found


def shipped_book() -> PriceBook:
    """Return the price book that comes with this release."""
    return PriceBook.load(resources.files("qcos.metering").joinpath("books", _SHIPPED).read_bytes())


def find_book(book_id: str) -> PriceBook:
    """Return the price book of an id (`PriceBook.id`) from those that came with this release or an earlier one.

    Raises:
        Unavailable: ``pricebook.missing``.
    """
    for file in resources.files("qcos.metering").joinpath("books").iterdir():
        if file.name.endswith(".json"):
            book = PriceBook.load(file.read_bytes())
            if book.id == book_id:
                return book
    raise Unavailable(
        "pricebook.missing",
        "this release does not have the price book",
        subject=book_id[:MAX_NAME],
        hint="put the book's file back among qcos/metering/books: books are kept, never changed",
    )


def estimate(book: PriceBook, price_key: str, shots: int, circuits: int, seconds_us: int) -> Price:
    """Return what a job costs at most, if it stays within these bounds (R12.1).

    Args:
        book: The price book.
        price_key: The backend's key.
        shots: Shots over all circuits.
        circuits: Number of circuits.
        seconds_us: Bound, in microseconds, on QPU time and on CPU time.

    Raises:
        Invalid: ``price.unknown``.
        Limit: ``price.amount`` when the amount is more than can be carried.
    """
    rates = book.rates(price_key)
    bounds = {"tasks": circuits, "shots": shots, "qpu_time_us": seconds_us, "cpu_time_us": seconds_us}
    lines = _lines(rates, bounds)
    amount = sum(line.amount for line in lines)
    if amount > MAX_MICRO:
        raise Limit(
            "price.amount", "the job would cost more than can be counted", subject=price_key, got=str(amount)
        )
    return Price(amount, book.currency, lines, price_key, book.id, rates.capped)


def charges(
    book: PriceBook, price_key: str, usages: Sequence[Usage], reserved: int
) -> tuple[ChargeLine, ...]:
    """Return the charge lines of a job: at least one, and their amounts add up to what it costs.

    Args:
        book: The price book that made the estimate.
        price_key: The backend's key.
        usages: All meters (see `measure`).
        reserved: Micro-units reserved for the job; a capped key is charged no more, the difference is a line
            ``cap``.

    Raises:
        Invalid: ``price.unknown``, or ``usage.missing`` when a priced meter is not among the usages.
    """
    rates = book.rates(price_key)
    lines = _lines(rates, {usage.meter: usage.quantity for usage in usages})
    total = sum(line.amount for line in lines)
    if rates.capped and total > reserved:
        lines += (_whole("cap", reserved - total),)
    return lines


def _lines(rates: Rates, quantities: Mapping[str, int]) -> tuple[ChargeLine, ...]:
    """Price quantities; the sum is rounded up to a whole micro-unit once, lines by largest remainder."""
    exact: list[tuple[str, int, str, int, int, int]] = []
    for name, (item, meter, unit, per) in _RATES.items():
        unit_price = rates.rates.get(name, 0)
        if unit_price == 0:
            continue
        if meter not in quantities:
            raise Invalid("usage.missing", "a meter that has a price was not read", subject=meter)
        if quantities[meter]:
            exact.append(
                (
                    item,
                    quantities[meter],
                    unit,
                    unit_price,
                    per,
                    quantities[meter] * unit_price * (_SECOND // per),
                )
            )
    total = -(-sum(line[-1] for line in exact) // _SECOND)
    amounts = [line[-1] // _SECOND for line in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (-(exact[i][-1] % _SECOND), i))
    for i in by_remainder[: total - sum(amounts)]:
        amounts[i] += 1
    lines = [ChargeLine(*line[:-1], amount) for line, amount in zip(exact, amounts, strict=True)]
    if (floor := rates.minimum * quantities.get("tasks", 1)) > total:
        lines.append(_whole("minimum", floor - total))
    return tuple(lines) or (_whole("free", 0),)


def _whole(item: str, amount: int) -> ChargeLine:
    return ChargeLine(item, 1, "job", amount, 1, amount)


def _rates(entry: dict[str, Any]) -> Rates:  # Any: checked JSON
    return Rates(
        {name: entry[name] for name in _RATES if name in entry},
        entry.get("minimum", 0),
        entry.get("capped", False),
        entry["source"],
        entry["as_of"],
        entry["confidence"],
    )


def _check(value: Any) -> list[Problem]:  # Any: any JSON value
    if not isinstance(value, dict):
        return [Problem("", "not an object", expected="an object")]
    problems = [Problem(f"/{_escape(name)}", "unknown member") for name in value if name not in _HEAD]
    patterns = {
        "schema": re.compile(re.escape(SCHEMA) + r"\Z"),
        "version": _VERSION,
        "currency": _CURRENCY,
        "effective": _DATE,
    }
    for name, pattern in patterns.items():
        text = value.get(name)
        if not isinstance(text, str) or not pattern.match(text):
            problems.append(
                Problem(
                    f"/{name}", "missing or not well formed", expected=pattern.pattern[:-2], got=_shown(text)
                )
            )
    prices = value.get("prices")
    if not isinstance(prices, dict) or not prices:
        return [
            *problems,
            Problem("/prices", "missing or empty", expected="an object of price keys", got=_shown(prices)),
        ]
    for key, entry in prices.items():
        pointer = f"/prices/{_escape(key)}"
        if not _KEY.match(key) or len(key) > MAX_NAME:
            problems.append(
                Problem(
                    pointer, "not a price key", expected="provider/device in small letters", got=_shown(key)
                )
            )
        problems += _check_entry(pointer, entry)
    return problems


def _check_entry(pointer: str, entry: Any) -> list[Problem]:  # Any: any JSON value
    if not isinstance(entry, dict):
        return [Problem(pointer, "not an object", expected="an object of rates", got=_shown(entry))]
    problems: list[Problem] = []
    for name, given in entry.items():
        where = f"{pointer}/{_escape(name)}"
        if name in _RATES or name == "minimum":
            if type(given) is not int or not 0 <= given <= MAX_MICRO:
                problems.append(
                    Problem(where, "not an amount", expected="micro-units, an integer", got=_shown(given))
                )
        elif name == "capped":
            if not isinstance(given, bool):
                problems.append(
                    Problem(where, "not a truth value", expected="true or false", got=_shown(given))
                )
        elif name not in _TEXTS:
            problems.append(
                Problem(where, "unknown member", expected=", ".join((*_RATES, "minimum", "capped", *_TEXTS)))
            )
    for name in _TEXTS:
        if not isinstance(entry.get(name), str) or not entry[name]:
            problems.append(Problem(f"{pointer}/{name}", "missing", hint="say where the price is from"))
    if not any(name in entry for name in _RATES):
        problems.append(
            Problem(pointer, "no rate", expected=", ".join(_RATES), hint="state 0 for what is free")
        )
    return problems


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")[:MAX_NAME]


def _shown(value: Any) -> str:  # Any: any JSON value
    return repr(value)[:80]
