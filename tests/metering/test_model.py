"""Budgets and quotas behave as a plain model does, in any order of acts, retries and dying scopes (law 3)."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from qcos.base.errors import Conflict
from qcos.db.engine import scope
from qcos.metering import audit, store
from qcos.metering.model import Ask, Settlement

from .asks import AT, ask

PROJECTS = ("alpha", "beta", "unfunded")
TEAMS = ("physics", "unlimited")
INSTANTS = (
    AT,
    AT + dt.timedelta(seconds=2),
    AT + dt.timedelta(days=3),
)  # November, December, a later day of it
JOBS = [f"job-{n}" for n in range(8)]


@dataclass
class Held:
    """A reservation of the model."""

    ask: Ask
    budgeted: bool
    limited: bool
    state: str = "reserved"
    amount: int = 0
    shots: int = 0


@dataclass
class Model:
    """What the tables should hold, in the plainest form: everything is counted anew each time."""

    budgets: dict[str, int] = field(default_factory=dict)
    quotas: dict[str, int] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)

    def money(self, project: str, at: dt.datetime) -> tuple[int, int]:
        """(reserved, settled) of a project's month."""
        mine = [
            h
            for h in self.held.values()
            if h.budgeted and h.ask.project == project and f"{h.ask.at:%Y-%m}" == f"{at:%Y-%m}"
        ]
        return sum(h.ask.amount for h in mine if h.state == "reserved"), sum(h.amount for h in mine)

    def taken(self, team: str, at: dt.datetime) -> tuple[int, int]:
        """(reserved, used) of a team's day."""
        mine = [
            h for h in self.held.values() if h.limited and h.ask.team == team and h.ask.at.date() == at.date()
        ]
        return sum(h.ask.shots for h in mine if h.state == "reserved"), sum(h.shots for h in mine)

    def fits(self, asks: list[Ask], last: Ask) -> bool:
        """Whether an ask fits together with those before it."""
        amount = sum(
            a.amount for a in asks if (a.project, f"{a.at:%Y-%m}") == (last.project, f"{last.at:%Y-%m}")
        )
        shots = sum(a.shots for a in asks if (a.team, a.at.date()) == (last.team, last.at.date()))
        limit = self.budgets.get(last.project, 0)
        enough_money = last.amount == 0 or amount <= limit - sum(self.money(last.project, last.at))
        if last.shots == 0 or last.team not in self.quotas:
            return enough_money
        return enough_money and shots <= self.quotas[last.team] - sum(self.taken(last.team, last.at))


asks = st.builds(
    lambda job, amount, shots, project, team, at: ask(job, amount, shots, project=project, team=team, at=at),
    st.sampled_from(JOBS),
    st.integers(0, 60),
    st.integers(0, 500),
    st.sampled_from(PROJECTS),
    st.sampled_from(TEAMS),
    st.sampled_from(INSTANTS),
)


def machine(engine: sa.Engine) -> type[RuleBasedStateMachine]:
    """The machine over one database; every run is a tenant of its own."""

    class Money(RuleBasedStateMachine):
        @initialize(budget=st.integers(0, 150), quota=st.integers(0, 1_500))
        def limits(self, budget: int, quota: int) -> None:
            self.tenant = uuid.uuid4()
            self.model = Model({"alpha": budget, "beta": 100}, {"physics": quota})
            with scope(engine, self.tenant) as connection:
                for project, limit in self.model.budgets.items():
                    store.set_budget(connection, self.tenant, project, limit, "USD", AT)
                store.set_quota(connection, self.tenant, "physics", quota, AT)

        @rule(wanted=st.lists(asks, min_size=1, max_size=4, unique_by=lambda a: a.job), dies=st.booleans())
        def reserve(self, wanted: list[Ask], dies: bool) -> None:
            fresh = [a for a in wanted if a.job not in self.model.held]
            expected = tuple(self.model.fits(fresh[: n + 1], a) for n, a in enumerate(fresh))
            with scope(engine, self.tenant) as connection:
                assert store.reserve_all(connection, self.tenant, fresh) == expected
                if dies:
                    connection.rollback()
                    return
            for one, won in zip(fresh, expected, strict=True):
                if won:
                    self.model.held[one.job] = Held(
                        one, one.project in self.model.budgets, one.team in self.model.quotas
                    )

        @rule(job=st.sampled_from(JOBS))
        def retry(self, job: str) -> None:
            if (held := self.model.held.get(job)) is None:
                return
            with scope(engine, self.tenant) as connection:
                if held.state == "reserved":
                    assert store.reserve(connection, self.tenant, held.ask) is True
                    return
                try:
                    store.reserve(connection, self.tenant, held.ask)
                except Conflict as error:
                    assert error.code == "reservation.exists"
                else:
                    raise AssertionError("an ended job reserved again")

        @rule(job=st.sampled_from(JOBS), other=asks)
        def double(self, job: str, other: Ask) -> None:
            if (held := self.model.held.get(job)) is None:
                return
            wrong = Ask(
                "r-other", job, held.ask.project, held.ask.team, other.amount, "USD", other.shots, other.at
            )
            with scope(engine, self.tenant) as connection:
                try:
                    store.reserve(connection, self.tenant, wrong)
                except Conflict as error:
                    assert error.code == "reservation.exists"
                else:
                    raise AssertionError("a job reserved under another id")

        @rule(
            figures=st.dictionaries(
                st.sampled_from(JOBS), st.tuples(st.integers(0, 80), st.integers(0, 600)), min_size=1
            ),
            dies=st.booleans(),
        )
        def settle(self, figures: dict[str, tuple[int, int]], dies: bool) -> None:
            settlements = [Settlement(job, amount, shots) for job, (amount, shots) in figures.items()]
            expected = self._open(set(figures))
            with scope(engine, self.tenant) as connection:
                assert store.settle(connection, self.tenant, settlements, AT) == expected
                if dies:
                    connection.rollback()
                    return
            for job in expected:
                held = self.model.held[job]
                held.state, held.amount, held.shots = "settled", *figures[job]

        @rule(jobs=st.sets(st.sampled_from(JOBS)), lost=st.booleans())
        def give_back(self, jobs: set[str], lost: bool) -> None:
            expected = self._open(jobs)
            with scope(engine, self.tenant) as connection:
                act = store.expire if lost else store.release
                assert act(connection, self.tenant, sorted(jobs), AT) == expected
            for job in expected:
                self.model.held[job].state = "expired" if lost else "released"

        @rule(limit=st.integers(0, 200), shots=st.integers(0, 2_000))
        def set_limits(self, limit: int, shots: int) -> None:
            with scope(engine, self.tenant) as connection:
                before = store.set_budget(connection, self.tenant, "alpha", limit, "USD", AT)
                assert before == {"monthly_limit": self.model.budgets["alpha"], "currency": "USD"}
                store.set_quota(connection, self.tenant, "physics", shots, AT)
            self.model.budgets["alpha"], self.model.quotas["physics"] = limit, shots

        @invariant()
        def tables_are_as_the_model(self) -> None:
            with scope(engine, self.tenant) as connection:
                assert [
                    d for d in audit.check_books(connection, self.tenant) if "charges" not in d.what
                ] == []
                for at in INSTANTS:
                    for project in PROJECTS:
                        self._compare(connection, project, "physics", at)

        def _compare(self, connection: sa.Connection, project: str, team: str, at: dt.datetime) -> None:
            funds = store.funds(connection, self.tenant, project, team, at)
            if project in self.model.budgets:
                assert funds.budget is not None
                assert (funds.budget.reserved, funds.budget.settled) == self.model.money(project, at)
                assert funds.budget.limit == self.model.budgets[project]
            else:
                assert funds.budget is None
            assert funds.quota is not None
            assert (funds.quota.reserved, funds.quota.used) == self.model.taken(team, at)
            assert funds.quota.limit == self.model.quotas[team]

        def _open(self, jobs: set[str]) -> frozenset[str]:
            return frozenset(
                j for j in jobs if j in self.model.held and self.model.held[j].state == "reserved"
            )

    return Money


def test_the_tables_behave_as_the_model(engine: sa.Engine) -> None:
    """R3.2, R3.5: reserving, ending, retries, doubles and dying scopes in any order, over a month's end."""
    run_state_machine_as_test(
        machine(engine),
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
