"""Reserve, then settle, release or expire, each at most once (R3.2, R3.5; law 3)."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from uuid import UUID

import pytest
import sqlalchemy as sa

from qcos.base.errors import Conflict, Invalid
from qcos.db.engine import scope
from qcos.metering import audit, store
from qcos.metering.model import Overrun, Settlement

from .asks import AT, ask, budget_of, money_of, quota_of, shots_of

TENANT = uuid.uuid4()


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A scope of a tenant whose project alpha has 100 µ a month and whose team physics 1,000 shots a day."""
    with scope(engine, TENANT) as connection:
        store.set_budget(connection, TENANT, "alpha", 100, "USD", AT)
        store.set_quota(connection, TENANT, "physics", 1_000, AT)
        yield connection
        assert [d for d in audit.check_books(connection, TENANT) if "charges" not in d.what] == []


def _statements(connection: sa.Connection) -> list[str]:
    seen: list[str] = []
    sa.event.listen(connection, "before_cursor_execute", lambda *call: seen.append(call[2]))
    return seen


def test_what_is_reserved_is_not_available(connection: sa.Connection) -> None:
    """R3.2, R3.5."""
    assert store.reserve(connection, TENANT, ask("a", 60, 400)) is True
    funds = store.funds(connection, TENANT, "alpha", "physics", AT)
    assert funds.budget is not None and funds.quota is not None
    assert funds.budget.as_dict() == {
        "project": "alpha",
        "month": "2026-11",
        "currency": "USD",
        "limit": 100,
        "reserved": 60,
        "settled": 0,
        "available": 40,
    }
    assert funds.quota.as_dict() == {
        "team": "physics",
        "day": "2026-11-30",
        "limit": 1_000,
        "reserved": 400,
        "used": 0,
        "available": 600,
    }


def test_the_limit_can_be_reached_but_not_passed(connection: sa.Connection) -> None:
    """R3.2: project X cannot exceed its month."""
    assert store.reserve(connection, TENANT, ask("a", 60))
    assert not store.reserve(connection, TENANT, ask("b", 41))
    assert store.reserve(connection, TENANT, ask("c", 40))
    assert not store.reserve(connection, TENANT, ask("d", 1))
    assert money_of(connection, TENANT) == (100, 0)
    assert store.reserve(connection, TENANT, ask("free", 0))


def test_money_without_shots_reserves_neither(connection: sa.Connection) -> None:
    """R3.5: the second guard fails, the first leaves no trace."""
    assert not store.reserve(connection, TENANT, ask("a", 60, 1_001))
    assert (money_of(connection, TENANT), shots_of(connection, TENANT)) == ((0, 0), (0, 0))
    assert not store.reserve(connection, TENANT, ask("b", 101, 10))
    assert (money_of(connection, TENANT), shots_of(connection, TENANT)) == ((0, 0), (0, 0))
    assert connection.execute(sa.select(store.RESERVATION)).all() == []


def test_reserving_settling_releasing_and_asking_are_one_statement_each(connection: sa.Connection) -> None:
    store.reserve(connection, TENANT, ask("warm"))
    seen = _statements(connection)
    store.funds(connection, TENANT, "alpha", "physics", AT)
    store.reserve(connection, TENANT, ask("a"))
    store.reserve(connection, TENANT, ask("too much", 1_000))
    store.reserve_all(connection, TENANT, [ask("b"), ask("c")])
    store.settle(connection, TENANT, [Settlement("a", 5, 50), Settlement("b", 5, 50)], AT)
    store.release(connection, TENANT, ["c", "warm"], AT)
    assert len(seen) == 6


def test_a_project_without_budget_runs_what_is_free_only(connection: sa.Connection) -> None:
    assert not store.reserve(connection, TENANT, ask("a", 1, project="beta"))
    assert store.reserve(connection, TENANT, ask("b", 0, project="beta"))
    assert store.settle(connection, TENANT, [Settlement("b", 0, 100)], AT) == {"b"}
    assert shots_of(connection, TENANT) == (0, 100)
    assert store.funds(connection, TENANT, "beta", "physics", AT).budget is None


def test_a_team_without_quota_takes_any_number_of_shots(connection: sa.Connection) -> None:
    assert store.reserve(connection, TENANT, ask("a", 10, 10**9, team="chemistry"))
    assert store.release(connection, TENANT, ["a"], AT) == {"a"}
    assert store.funds(connection, TENANT, "alpha", "chemistry", AT).quota is None
    assert store.reserve(connection, TENANT, ask("b", 0, 10**9, team="chemistry", project="beta"))
    assert money_of(connection, TENANT) == (0, 0)


def test_settling_turns_reserved_into_spent_and_gives_the_rest_back(connection: sa.Connection) -> None:
    store.reserve(connection, TENANT, ask("a", 60, 400))
    assert store.settle(connection, TENANT, [Settlement("a", 25, 300)], AT) == {"a"}
    assert (money_of(connection, TENANT), shots_of(connection, TENANT)) == ((0, 25), (0, 300))
    assert budget_of(connection, TENANT).available == 75


@pytest.mark.parametrize("first", ["settle", "release", "expire"])
@pytest.mark.parametrize("second", ["settle", "release", "expire"])
def test_a_reservation_ends_once(connection: sa.Connection, first: str, second: str) -> None:
    """Law 3: a retry, or another ending, changes nothing and says so."""

    def end(how: str) -> frozenset[str]:
        if how == "settle":
            return store.settle(connection, TENANT, [Settlement("a", 25, 300)], AT)
        act = store.release if how == "release" else store.expire
        return act(connection, TENANT, ["a"], AT)

    store.reserve(connection, TENANT, ask("a", 60, 400))
    store.reserve(connection, TENANT, ask("other", 30, 100))
    assert end(first) == {"a"}
    after = money_of(connection, TENANT), shots_of(connection, TENANT)
    assert end(second) == frozenset()
    assert (money_of(connection, TENANT), shots_of(connection, TENANT)) == after


def test_what_was_never_reserved_cannot_be_settled(connection: sa.Connection) -> None:
    assert store.settle(connection, TENANT, [Settlement("ghost", 25, 300)], AT) == frozenset()
    assert money_of(connection, TENANT) == (0, 0)


def test_the_same_ask_again_reserves_nothing_more(connection: sa.Connection) -> None:
    for _ in range(3):
        assert store.reserve(connection, TENANT, ask("a", 60, 400)) is True
    assert (money_of(connection, TENANT), shots_of(connection, TENANT)) == ((60, 0), (400, 0))


@pytest.mark.parametrize(
    "other",
    [
        ask("a", 60, 400, id="r-2"),
        ask("a", 61, 400),
        ask("a", 60, 399),
        ask("b", 60, 400, id="r-a"),
        ask("a", 60, 400, currency="EUR"),
    ],
)
def test_another_ask_for_the_job_or_under_the_id_is_a_conflict(
    engine: sa.Engine, connection: sa.Connection, other: object
) -> None:
    store.reserve(connection, TENANT, ask("a", 60, 400))
    store.set_budget(connection, TENANT, "alpha", 1_000, "USD", AT)
    with pytest.raises(Conflict) as caught:
        store.reserve(connection, TENANT, other)  # type: ignore[arg-type]
    assert caught.value.code == "reservation.exists"
    assert (money_of(connection, TENANT), shots_of(connection, TENANT)) == ((60, 0), (400, 0))


def test_a_job_that_ended_cannot_reserve_again(connection: sa.Connection) -> None:
    store.reserve(connection, TENANT, ask("a"))
    store.release(connection, TENANT, ["a"], AT)
    with pytest.raises(Conflict):
        store.reserve(connection, TENANT, ask("a"))


def test_a_job_of_november_settles_in_november(connection: sa.Connection) -> None:
    """The month's and the day's boundary: two seconds to midnight."""
    later = AT + dt.timedelta(seconds=3)
    store.reserve(connection, TENANT, ask("old", 60, 400))
    store.reserve(connection, TENANT, ask("new", 90, 900, at=later))
    assert store.settle(
        connection, TENANT, [Settlement("old", 50, 300), Settlement("new", 80, 800)], later
    ) == {"old", "new"}
    assert (money_of(connection, TENANT), shots_of(connection, TENANT)) == ((0, 50), (0, 300))
    assert money_of(connection, TENANT, later) == (0, 80)
    assert shots_of(connection, TENANT, later) == (0, 800)
    assert budget_of(connection, TENANT, at=later).month == "2026-12"


def test_an_overrun_is_recorded_not_hidden(connection: sa.Connection) -> None:
    store.reserve(connection, TENANT, ask("a", 60, 400))
    assert store.settle(connection, TENANT, [Settlement("a", 150, 1_200)], AT) == {"a"}
    assert (money_of(connection, TENANT), shots_of(connection, TENANT)) == ((0, 150), (0, 1_200))
    assert budget_of(connection, TENANT).available == 0
    assert quota_of(connection, TENANT).available == 0
    assert audit.overruns(connection, TENANT, AT) == [Overrun("a", "alpha", 60, 150, 400, 1_200)]
    assert not store.reserve(connection, TENANT, ask("b", 1, 0))
    assert store.reserve(connection, TENANT, ask("free", 0, 0))


def test_many_asks_are_decided_together_and_never_pass_the_limit(connection: sa.Connection) -> None:
    asks = [
        ask("a", 60, 1),
        ask("b", 50, 1),
        ask("c", 0, 1),
        ask("d", 0, 999),
        ask("e", 5, 1, project="beta"),
    ]
    assert store.reserve_all(connection, TENANT, asks) == (True, False, True, False, False)
    assert (money_of(connection, TENANT), shots_of(connection, TENANT)) == ((60, 0), (2, 0))
    assert store.reserve_all(connection, TENANT, []) == ()
    assert store.reserve_all(connection, TENANT, [ask("f", 1), ask("f", 1)]) == (True, True)
    assert money_of(connection, TENANT) == (61, 0)


def test_many_jobs_settle_over_many_periods_at_once(connection: sa.Connection) -> None:
    later = AT + dt.timedelta(days=1)
    for project in ("beta", "gamma"):
        store.set_budget(connection, TENANT, project, 1_000, "USD", AT)
    asks = [
        ask(f"{p}{n}", 10, 1, project=p, at=AT if n else later)
        for p in ("gamma", "beta", "alpha")
        for n in range(3)
    ]
    assert all(store.reserve_all(connection, TENANT, asks))
    ended = store.settle(connection, TENANT, [Settlement(a.job, 7, 1) for a in asks] * 2, later)
    assert ended == {a.job for a in asks}
    for project in ("alpha", "beta", "gamma"):
        assert budget_of(connection, TENANT, project).settled == 14
        assert budget_of(connection, TENANT, project, later).settled == 7


def test_figures_that_contradict_each_other_are_refused(connection: sa.Connection) -> None:
    store.reserve(connection, TENANT, ask("a"))
    with pytest.raises(Invalid) as caught:
        store.settle(connection, TENANT, [Settlement("a", 1, 1), Settlement("a", 2, 1)], AT)
    assert caught.value.code == "settlement.twice"
    for amount, shots in ((-1, 1), (1, -1), (2**53, 1)):
        with pytest.raises(Invalid):
            store.settle(connection, TENANT, [Settlement("a", amount, shots)], AT)
        with pytest.raises(Invalid):
            store.reserve(connection, TENANT, ask("b", amount, shots))
    assert store.settle(connection, TENANT, [], AT) == frozenset()


def test_a_budget_in_another_currency_pays_nothing(connection: sa.Connection) -> None:
    with pytest.raises(Conflict) as caught:
        store.reserve(connection, TENANT, ask("a", 1, currency="EUR"))
    assert caught.value.code == "budget.currency"
    assert store.reserve(connection, TENANT, ask("b", 0, currency="EUR"))
    assert money_of(connection, TENANT) == (0, 0)


def test_the_database_itself_refuses_to_change_an_ended_reservation(engine: sa.Engine) -> None:
    tenant = uuid.uuid4()
    with scope(engine, tenant) as connection:
        store.reserve(connection, tenant, ask("a", 0))
        store.settle(connection, tenant, [Settlement("a", 0, 1)], AT)
    changes = (
        "settled_amount = 1",
        "state = 'reserved', ended_at = null, settled_amount = null, settled_shots = null",
    )
    for change in changes:
        with pytest.raises(sa.exc.IntegrityError, match="has ended"), scope(engine, tenant) as connection:
            connection.exec_driver_sql(f"update qcos.reservation set {change}")
    for change in ("amount = 0", "project = 'beta'", "month = '2026-10'"):
        with (
            pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
            scope(engine, tenant) as connection,
        ):
            connection.exec_driver_sql(f"update qcos.reservation set {change}")


def test_another_tenant_has_its_own_month(engine: sa.Engine, connection: sa.Connection) -> None:
    other: UUID = uuid.uuid4()
    store.reserve(connection, TENANT, ask("a", 60))
    with scope(engine, other) as theirs:
        store.set_budget(theirs, other, "alpha", 100, "USD", AT)
        assert store.reserve(theirs, other, ask("a", 100))
        assert store.settle(theirs, TENANT, [Settlement("a", 1, 1)], AT) == frozenset()
    assert money_of(connection, TENANT) == (60, 0)
