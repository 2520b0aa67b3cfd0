"""Prices are integers, known or refused; an estimate is never too low for what stays within it (R12.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.canonical import digest_of
from qcos.base.errors import Invalid, Limit
from qcos.base.limits import MAX_MICRO
from qcos.metering.model import ChargeLine, Usage
from qcos.metering.price import PriceBook, charges, estimate, shipped_book

BOOK = shipped_book()
RATES = ("per_task", "per_shot", "per_qpu_second", "per_cpu_second")


def _document(**entry: Any) -> dict[str, Any]:
    texts = {"source": "s", "as_of": "2026", "confidence": "c"}
    head = {"schema": "qcos.pricebook/v1", "version": "v", "currency": "EUR", "effective": "2026-11-01"}
    return {**head, "prices": {"a/b": {**texts, **entry}}}


def _book(**entry: Any) -> PriceBook:
    return PriceBook.load(json.dumps(_document(**entry)).encode())


def _usages(tasks: int, shots: int, qpu_us: int = 0, cpu_us: int = 0) -> tuple[Usage, ...]:
    return (
        Usage("tasks", tasks, "task"),
        Usage("shots", shots, "shot"),
        Usage("qpu_time_us", qpu_us, "us"),
        Usage("cpu_time_us", cpu_us, "us"),
    )


def _sum(lines: tuple[ChargeLine, ...]) -> int:
    return sum(line.amount for line in lines)


entries = st.builds(
    lambda rates, minimum, capped: {**rates, "minimum": minimum, "capped": capped},
    st.dictionaries(st.sampled_from(RATES), st.integers(0, 2_000_000), min_size=1),
    st.integers(0, 5_000_000),
    st.booleans(),
)
quantities = st.tuples(
    st.integers(0, 100), st.integers(0, 10_000_000), st.integers(0, 10**9), st.integers(0, 10**9)
)


@given(entries, quantities, st.data())
def test_usage_within_the_bounds_never_costs_more_than_the_estimate(
    entry: dict[str, Any], used: tuple[int, int, int, int], data: st.DataObject
) -> None:
    """R12.1."""
    book = _book(**entry)
    tasks, shots, qpu_us, cpu_us = used
    bound = estimate(
        book,
        "a/b",
        shots=data.draw(st.integers(shots, shots + 100)),
        circuits=data.draw(st.integers(tasks, tasks + 5)),
        seconds_us=data.draw(st.integers(max(qpu_us, cpu_us), max(qpu_us, cpu_us) + 10_000)),
    )
    lines = charges(book, "a/b", _usages(*used), bound.amount)
    assert 0 <= _sum(lines) <= bound.amount
    assert bound.amount == _sum(bound.lines)
    assert all(line.item != "cap" for line in lines)


@given(entries, quantities, st.integers(0, 10_000_000))
def test_a_capped_key_never_charges_more_than_was_reserved_and_others_hide_nothing(
    entry: dict[str, Any], used: tuple[int, int, int, int], reserved: int
) -> None:
    lines = charges(_book(**entry), "a/b", _usages(*used), reserved)
    uncapped = charges(_book(**{**entry, "capped": False}), "a/b", _usages(*used), reserved)
    if entry["capped"]:
        assert _sum(lines) == min(_sum(uncapped), reserved)
    else:
        assert lines == uncapped


@given(entries, quantities)
def test_the_sum_is_exact_but_for_one_rounding_up(
    entry: dict[str, Any], used: tuple[int, int, int, int]
) -> None:
    tasks, shots, qpu_us, cpu_us = used
    lines = charges(_book(**{**entry, "minimum": 0, "capped": False}), "a/b", _usages(*used), 0)
    pico = (tasks * entry.get("per_task", 0) + shots * entry.get("per_shot", 0)) * 1_000_000
    pico += qpu_us * entry.get("per_qpu_second", 0) + cpu_us * entry.get("per_cpu_second", 0)
    assert _sum(lines) == -(-pico // 1_000_000)
    assert len(lines) >= 1
    for line in lines:
        exact = line.quantity * line.unit_price
        assert abs(line.amount * line.per - exact) < line.per
        assert type(line.amount) is int


def test_the_parts_of_a_microunit_are_added_before_they_are_rounded() -> None:
    book = _book(per_qpu_second=500_000, per_cpu_second=500_000)
    lines = charges(book, "a/b", _usages(1, 1, 1, 1), 10)
    assert [line.amount for line in lines] == [1, 0]
    assert lines == charges(book, "a/b", _usages(1, 1, 1, 1)[::-1], 10)


def test_a_bell_job_on_a_local_simulator_costs_a_fraction_of_a_cent() -> None:
    """A demo budget has to move visibly."""
    for key in ("local/aer", "local/braket", "local/cirq"):
        price = estimate(BOOK, key, 1_000, 1, 60_000)
        assert 1_000 <= price.amount <= 10_000
        assert price.capped and price.currency == "USD" and price.price_book == BOOK.id


@pytest.mark.parametrize(
    ("key", "shots", "circuits", "seconds_us", "amount"),
    [
        ("aws/garnet", 100, 1, 0, 445_000),  # qBraid's example: 44.5 credits of 0.01 USD
        ("aws/ibex-q1", 1_000, 1, 0, 23_800_000),  # qBraid's example: 2,380 credits
        ("aws/sv1", 1_000, 1, 1_000_000, 3_750),  # 3 s at least
        ("aws/sv1", 1_000, 1, 60_000_000, 75_000),  # 0.075 USD a minute
        ("ibm/payg", 4_000, 1, 2_500_000, 4_000_000),  # 1.60 USD a second
        ("local/free", 10_000, 5, 1_000_000, 0),
    ],
)
def test_shipped_prices_agree_with_published_examples(
    key: str, shots: int, circuits: int, seconds_us: int, amount: int
) -> None:
    assert estimate(BOOK, key, shots, circuits, seconds_us).amount == amount


def test_a_free_job_still_has_a_line() -> None:
    (line,) = charges(BOOK, "local/free", _usages(1, 1_000, 0, 5_000), 0)
    assert (line.item, line.amount) == ("free", 0)


def test_an_unknown_price_is_not_zero() -> None:
    for act in (lambda: estimate(BOOK, "acme/x", 1, 1, 1), lambda: charges(BOOK, "acme/x", _usages(1, 1), 5)):
        with pytest.raises(Invalid) as caught:
            act()
        assert caught.value.code == "price.unknown"
        assert caught.value.subject == "acme/x"


def test_a_priced_meter_must_be_read() -> None:
    with pytest.raises(Invalid) as caught:
        charges(BOOK, "local/aer", _usages(1, 1)[:2], 5)
    assert caught.value.code == "usage.missing"


def test_an_amount_that_cannot_be_carried_is_refused() -> None:
    with pytest.raises(Limit) as caught:
        estimate(_book(per_shot=MAX_MICRO), "a/b", 2, 1, 0)
    assert caught.value.code == "price.amount"


def test_a_book_is_named_by_version_and_content() -> None:
    document = _document(per_shot=1)
    same = PriceBook.load(json.dumps(document, indent=3).encode())
    assert same == PriceBook.load(json.dumps(document).encode())
    assert same.id == "v@" + digest_of(document)
    assert _book(per_shot=2).id != same.id
    assert BOOK.id.startswith("2026-11@sha256:")


def test_all_problems_of_a_book_are_told_at_once() -> None:
    document = _document(per_shot=1.5, per_task=True, per_lightyear=1, minimum=-1, capped="yes", source="")
    document |= {"currency": "usd", "extra": 1}
    document["prices"]["NoSlash"] = {"source": "s", "as_of": "2026", "confidence": "c"}
    with pytest.raises(Invalid) as caught:
        PriceBook.load(json.dumps(document).encode())
    assert {problem.pointer for problem in caught.value.problems} == {
        "/currency",
        "/extra",
        "/prices/a~1b/per_shot",
        "/prices/a~1b/per_task",
        "/prices/a~1b/per_lightyear",
        "/prices/a~1b/minimum",
        "/prices/a~1b/capped",
        "/prices/a~1b/source",
        "/prices/NoSlash",
    }


@pytest.mark.parametrize(
    "data", [b"[]", b"{}", b"3", b"null", b'{"prices": {}}', b'{"prices": [1]}', b'{"prices": {"a/b": 1}}']
)
def test_what_is_no_book_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        PriceBook.load(data)
    assert caught.value.code == "pricebook.invalid"


def test_a_doubled_member_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        PriceBook.load(b'{"version": "a", "version": "b"}')
    assert caught.value.code == "json.duplicate"
