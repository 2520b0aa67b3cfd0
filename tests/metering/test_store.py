"""Budgets, quotas, usages, charges and who pays for what (R3.2, R3.5, R5.4, R6.1, R6.3, R8.9)."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
import sqlalchemy as sa

from qcos.base.errors import Conflict, Integrity, Invalid
from qcos.db.engine import scope
from qcos.metering import audit, store
from qcos.metering.measure import METERS
from qcos.metering.model import Bill, Settlement, Usage
from qcos.metering.price import charges, shipped_book

from .asks import AT, ask, budget_of, money_of, quota_of

TENANT = uuid.uuid4()
BOOK = shipped_book()


def _bill(job: str, shots: int = 1_000, at: dt.datetime = AT, **changes: str) -> Bill:
    quantities = {
        "tasks": 1,
        "shots": shots,
        "circuit_depth": shots // 100,
        "cpu_time_us": 2_000,
        "memory_peak_bytes": shots,
    }
    usages = tuple(Usage(meter, quantities.get(meter, 0), unit) for meter, unit in METERS.items())
    given = {"project": "alpha", "team": "physics", "cost_center": "CC-1", "backend": "aer-ideal"}
    return Bill(
        job=job,
        **{**given, **changes},
        currency="USD",
        price_key="local/aer",
        price_book=BOOK.id,
        usages=usages,
        lines=charges(BOOK, "local/aer", usages, 10**9),
        at=at,
    )


def _settle(connection: sa.Connection, *bills: Bill) -> None:
    asks = [ask(b.job, b.amount + 5, 5_000, project=b.project, team=b.team) for b in bills]
    assert all(store.reserve_all(connection, TENANT, asks))
    settled = store.settle(connection, TENANT, [Settlement(b.job, b.amount, 1_000) for b in bills], AT)
    assert settled == {b.job for b in bills}
    store.record_usage(connection, TENANT, bills)
    store.record_charges(connection, TENANT, bills)


def test_a_charge_says_who_pays_for_what_and_by_which_book(engine: sa.Engine) -> None:
    """R8.9: metering and attribution to the cost center."""
    with scope(engine, TENANT) as connection:
        store.set_budget(connection, TENANT, "alpha", 10**7, "USD", AT)
        bill = _bill("a", at=AT + dt.timedelta(days=1))
        _settle(connection, bill)
        kept = store.list_charges(connection, TENANT, job="a")
        assert sum(charge.amount for charge in kept) == bill.amount == money_of(connection, TENANT)[1]
        assert {charge.item for charge in kept} == {"task", "shot", "cpu_time"}
        for charge in kept:
            assert (charge.project, charge.team, charge.cost_center, charge.backend) == (
                "alpha",
                "physics",
                "CC-1",
                "aer-ideal",
            )
            assert (charge.price_book, charge.price_key, charge.currency) == (BOOK.id, "local/aer", "USD")
            assert (charge.month, charge.at) == ("2026-11", AT + dt.timedelta(days=1))
        assert audit.check_books(connection, TENANT) == []


def test_all_meters_of_a_job_are_kept(engine: sa.Engine) -> None:
    """R6.1."""
    with scope(engine, TENANT) as connection:
        store.set_budget(connection, TENANT, "alpha", 10**7, "USD", AT)
        _settle(connection, _bill("a"))
        rows = connection.execute(sa.select(store.USAGE)).all()
        assert {(row.meter, row.unit) for row in rows} == set(METERS.items())


def test_records_take_one_statement_for_many_jobs(engine: sa.Engine) -> None:
    with scope(engine, TENANT) as connection:
        store.set_budget(connection, TENANT, "alpha", 10**7, "USD", AT)
        bills = [_bill(f"j{n}") for n in range(20)]
        store.reserve_all(connection, TENANT, [ask(b.job, b.amount) for b in bills])
        store.settle(connection, TENANT, [Settlement(b.job, b.amount, 1_000) for b in bills], AT)
        seen: list[str] = []
        sa.event.listen(connection, "before_cursor_execute", lambda *call: seen.append(call[2]))
        store.record_usage(connection, TENANT, bills)
        store.record_charges(connection, TENANT, bills)
        assert len(seen) == 2
        store.record_usage(connection, TENANT, [])
        store.record_charges(connection, TENANT, [])
        assert len(seen) == 2
        assert audit.check_books(connection, TENANT) == []


def test_nothing_is_charged_twice_nor_before_it_is_settled(engine: sa.Engine) -> None:
    """Law 3."""
    bill = _bill("a")
    with scope(engine, TENANT) as connection:
        store.set_budget(connection, TENANT, "alpha", 10**7, "USD", AT)
        _settle(connection, bill)
        with pytest.raises(Integrity) as caught:
            store.record_charges(connection, TENANT, [bill])
        assert caught.value.code == "charge.twice"
        with pytest.raises(Integrity) as caught:
            store.record_usage(connection, TENANT, [bill])
        assert caught.value.code == "usage.twice"
        store.reserve(connection, TENANT, ask("b"))
        for job in ("b", "ghost"):
            with pytest.raises(Integrity):
                store.record_charges(connection, TENANT, [_bill(job)])
        assert audit.check_books(connection, TENANT) == []


@pytest.mark.parametrize("table", ["usage", "charge"])
@pytest.mark.parametrize(
    "change", ["update qcos.{} set at = now()", "delete from qcos.{}", "truncate qcos.{}"]
)
def test_what_was_recorded_stays(engine: sa.Engine, table: str, change: str) -> None:
    """R5.4: the application cannot rewrite it."""
    with (
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
        scope(engine, TENANT) as connection,
    ):
        connection.exec_driver_sql(change.format(table))


def test_charges_are_listed_newest_first_page_by_page(engine: sa.Engine) -> None:
    with scope(engine, TENANT) as connection:
        for project in ("alpha", "beta"):
            store.set_budget(connection, TENANT, project, 10**7, "USD", AT)
        _settle(connection, _bill("a"), _bill("b", project="beta"))
        everything = store.list_charges(connection, TENANT)
        assert len(everything) == 6
        assert [c.n for c in everything] == sorted((c.n for c in everything), reverse=True)
        first = store.list_charges(connection, TENANT, limit=4)
        assert first + store.list_charges(connection, TENANT, before=first[-1].n) == everything
        assert {c.job for c in store.list_charges(connection, TENANT, project="beta")} == {"b"}


@pytest.mark.parametrize("group", ["project", "team", "cost_center", "backend"])
def test_showback_adds_up_to_what_was_charged(engine: sa.Engine, group: str) -> None:
    """R6.3: cost per team and project."""
    other = {"project": "beta", "team": "chemistry", "cost_center": "CC-2", "backend": "cirq-simulator"}
    bills = [_bill("a", 1_000), _bill("b", 3_000), _bill("c", 2_000, **other)]
    late = _bill("late", 9_000, at=AT + dt.timedelta(days=40))
    with scope(engine, TENANT) as connection:
        for project in ("alpha", "beta"):
            store.set_budget(connection, TENANT, project, 10**7, "USD", AT)
        _settle(connection, *bills, late)
        until = AT + dt.timedelta(days=1)
        totals = {total.group: total for total in store.showback(connection, TENANT, group, AT, until)}
        assert store.showback(connection, TENANT, group, until, until) == []
        assert sum(t.jobs for t in store.showback(connection, TENANT, group)) == 4
    mine, theirs = totals[getattr(bills[0], group)], totals[other[group]]
    assert (mine.currency, mine.amount, mine.jobs) == ("USD", bills[0].amount + bills[1].amount, 2)
    assert (theirs.currency, theirs.amount, theirs.jobs) == ("USD", bills[2].amount, 1)
    assert mine.meters["shots"] == 4_000
    assert mine.meters["cpu_time_us"] == 4_000
    assert mine.meters["circuit_depth"] == 30, "depths are not added"
    assert mine.meters["memory_peak_bytes"] == 3_000, "peaks are not added"


def test_showback_knows_its_groups(engine: sa.Engine) -> None:
    with scope(engine, TENANT) as connection, pytest.raises(Invalid) as caught:
        store.showback(connection, TENANT, "job; drop table qcos.charge")
    assert caught.value.code == "showback.group"


def test_limits_are_set_changed_and_listed(engine: sa.Engine) -> None:
    """R3.2, R3.5."""
    later = AT + dt.timedelta(days=1)
    with scope(engine, TENANT) as connection:
        assert store.set_budget(connection, TENANT, "alpha", 100, "USD", AT) is None
        assert store.set_budget(connection, TENANT, "alpha", 70, "USD", AT) == {
            "monthly_limit": 100,
            "currency": "USD",
        }
        assert store.set_quota(connection, TENANT, "physics", 1_000, AT) is None
        assert store.set_quota(connection, TENANT, "physics", 500, AT) == {"daily_shots": 1_000}
        assert store.reserve(connection, TENANT, ask("a", 60, 400))
        (budget,) = store.list_budgets(connection, TENANT, AT)
        assert budget == budget_of(connection, TENANT)
        assert (budget.limit, budget.reserved, budget.available) == (70, 60, 10)
        (quota,) = store.list_quotas(connection, TENANT, AT)
        assert quota == quota_of(connection, TENANT)
        assert (quota.limit, quota.reserved, quota.available) == (500, 400, 100)
        (next_month,) = store.list_budgets(connection, TENANT, later)
        assert (next_month.month, next_month.limit, next_month.reserved) == ("2026-12", 70, 0)
        (next_day,) = store.list_quotas(connection, TENANT, later)
        assert (next_day.day, next_day.limit, next_day.reserved) == ("2026-12-01", 500, 0)


def test_a_limit_below_what_was_spent_stops_new_jobs_only(engine: sa.Engine) -> None:
    with scope(engine, TENANT) as connection:
        store.set_budget(connection, TENANT, "alpha", 100, "USD", AT)
        store.reserve(connection, TENANT, ask("a", 60))
        store.set_budget(connection, TENANT, "alpha", 50, "USD", AT)
        assert budget_of(connection, TENANT).available == 0
        assert not store.reserve(connection, TENANT, ask("b", 1))
        assert store.settle(connection, TENANT, [Settlement("a", 20, 1)], AT) == {"a"}
        assert store.reserve(connection, TENANT, ask("c", 30))


def test_a_month_keeps_its_currency(engine: sa.Engine) -> None:
    with scope(engine, TENANT) as connection:
        store.set_budget(connection, TENANT, "alpha", 100, "USD", AT)
        store.set_budget(connection, TENANT, "alpha", 100, "EUR", AT)
        assert store.reserve(connection, TENANT, ask("a", 60, currency="EUR"))
    with pytest.raises(Conflict) as caught, scope(engine, TENANT) as connection:
        store.set_budget(connection, TENANT, "alpha", 100, "USD", AT)
    assert caught.value.code == "budget.currency"
    with scope(engine, TENANT) as connection:
        assert budget_of(connection, TENANT).currency == "EUR"


@pytest.mark.parametrize("limit", [-1, 2**53])
def test_limits_have_limits(engine: sa.Engine, limit: int) -> None:
    with scope(engine, TENANT) as connection:
        with pytest.raises(Invalid) as caught:
            store.set_budget(connection, TENANT, "alpha", limit, "USD", AT)
        assert caught.value.code == "budget.limit"
        with pytest.raises(Invalid) as caught:
            store.set_quota(connection, TENANT, "physics", limit, AT)
        assert caught.value.code == "quota.limit"


_REST = (
    "item, quantity, unit, unit_price, per, amount, currency, price_key, price_book, project, team, "
    "cost_center, backend, month, at"
)
_COPY = f"insert into qcos.charge (tenant, job, line, {_REST}) select tenant, %s, {_REST} from qcos.charge"
_TAMPERINGS = {
    "update qcos.budget_period set reserved = reserved + 1": "reserved of a budget",
    "update qcos.budget_period set settled = settled - 1": "settled of a budget",
    "update qcos.quota_period set reserved = reserved + 1": "reserved of a quota",
    "update qcos.quota_period set used = used + 1": "used of a quota",
    "update qcos.reservation set state = 'released', ended_at = now(), settled_amount = 0, settled_shots = 0 "
    "where job = 'open'": "reserved of a budget",
    _COPY % "'ghost', line": "charges without a reservation",
    _COPY % "job, line + 9": "charges of a job",
}


@pytest.mark.parametrize(("change", "found"), _TAMPERINGS.items(), ids=lambda text: text[:40])
def test_books_that_were_changed_by_hand_do_not_agree(engine: sa.Engine, change: str, found: str) -> None:
    with scope(engine, TENANT) as connection:
        store.set_budget(connection, TENANT, "alpha", 10**7, "USD", AT)
        store.set_quota(connection, TENANT, "physics", 10**6, AT)
        _settle(connection, _bill("a"))
        store.reserve(connection, TENANT, ask("open"))
        assert audit.check_books(connection, TENANT) == []
        connection.exec_driver_sql(change)
        assert found in {discrepancy.what for discrepancy in audit.check_books(connection, TENANT)}
