"""Acts of administration: permitted by policy, recorded in the same scope, or not done (laws 1 and 4, R5.2, R5.4)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from qcos.administration import funds, installation, people, policies
from qcos.administration.act import Act, Authority, acting
from qcos.administration.funds import micros
from qcos.base.clock import now
from qcos.base.errors import Conflict, Denied, Invalid, NotFound, QcosError
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.identity import tokens
from qcos.policy.bundle import shipped
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.store import ActiveBundles

Doing = Callable[[Act], Any]


class Office:
    """A fresh tenant with its administrator, and an auditor who may change nothing."""

    def __init__(self, engine: sa.Engine, policy: PolicyEngine) -> None:
        made = installation.create_tenant(engine, "office")
        self.engine, self.tenant = engine, made.tenant
        self.authority = Authority(engine, policy, ActiveBundles())
        self.admin = tokens.read(made.token)[1]
        self.auditor = self.token_of("user:carol", "auditor")

    def token_of(self, principal: str, role: str, days: float = 1) -> bytes:
        minted = tokens.mint(self.tenant)
        with scope(self.engine, self.tenant) as connection:
            identity.create_principal(connection, self.tenant, principal)
            identity.grant_role(connection, self.tenant, principal, role)
            identity.create_token(
                connection, self.tenant, principal, minted.hash, minted.id, now() + dt.timedelta(days=days)
            )
        return minted.hash

    def do(self, doing: Doing, token: bytes | None = None) -> Any:
        with acting(self.authority, self.tenant, token or self.admin) as opened:
            return doing(opened)

    def acts(self) -> list[str]:
        with scope(self.engine, self.tenant) as connection:
            rows = connection.exec_driver_sql("select act from qcos.ledger_record order by time, seq")
            return [row[0] for row in rows]


@pytest.fixture
def office(engine: sa.Engine) -> Iterator[Office]:
    with PolicyEngine(1, 10.0) as policy:
        yield Office(engine, policy)


def test_the_first_tenant_is_recorded(office: Office) -> None:
    """R5.2: also what nobody was there to permit."""
    assert office.acts() == [
        "tenant.created",
        "principal.created",
        "role.granted",
        "token.created",
        "policy.activated",
    ]
    assert installation.has_tenants(office.engine)
    with pytest.raises(Conflict):
        installation.create_tenant(office.engine, "office")


def test_whoever_holds_the_folder_gets_a_new_token(office: Office) -> None:
    """R11.8: the administrator's token can be made anew; the act is recorded with its reason."""
    text = installation.new_administrator_token(office.engine)
    assert office.do(lambda a: a.principal.id, tokens.read(text)[1]) == installation.ADMINISTRATOR
    assert office.acts()[-1] == "token.created"


ACTS: dict[str, tuple[Doing, str]] = {
    "project": (lambda a: people.create_project(a, "p", "t", "c"), "project.created"),
    "principal": (
        lambda a: people.create_principal(a, "user:new", None, {"department": "research"}),
        "principal.created",
    ),
    "role": (lambda a: people.grant_role(a, "user:carol", "quantum-user", None), "role.granted"),
    "token": (lambda a: people.create_token(a, installation.ADMINISTRATOR, 1), "token.created"),
    "quota": (lambda a: funds.set_quota(a, "t", 5), "quota.set"),
    "bundle": (
        lambda a: policies.upload(
            a, *policies.check(dict(shipped().files) | {"x.txt.rego": "package qcos.lib.x\n"}), "why"
        ),
        "policy.uploaded",
    ),
}


@pytest.mark.parametrize(("doing", "act"), ACTS.values(), ids=list(ACTS))
def test_an_act_is_done_with_its_record_or_refused_without(office: Office, doing: Doing, act: str) -> None:
    """Laws 1 and 4: the administrator's act leaves exactly one record; the auditor's leaves none and changes nothing."""
    before = office.acts()
    with pytest.raises(Denied) as caught:
        office.do(doing, office.auditor)
    assert caught.value.code == "access.denied"
    assert caught.value.details["reasons"] and caught.value.details["policy_version"] == shipped().version
    assert office.acts() == before
    office.do(doing)
    assert office.acts() == [*before, act]


def test_an_act_that_fails_afterwards_leaves_no_record(office: Office) -> None:
    """Law 1: the record and the change are one scope."""
    before = office.acts()

    def fails(act: Act) -> None:
        people.create_project(act, "p", "t", "c")
        raise RuntimeError("the power fails")

    with pytest.raises(RuntimeError):
        office.do(fails)
    assert office.acts() == before
    with pytest.raises(NotFound):
        office.do(lambda a: identity.get_project(a.connection, a.tenant, "p"))


def test_what_changes_nothing_is_not_recorded(office: Office) -> None:
    """R5.2: a role held already, a bundle kept already."""
    before = office.acts()
    assert office.do(lambda a: people.grant_role(a, "user:carol", "auditor", None)) is False
    bundle, report = policies.check(shipped().files)
    assert office.do(lambda a: policies.upload(a, bundle, report, "")) is False
    assert office.acts() == before


def test_nobody_prolongs_his_own_access(office: Office) -> None:
    """R11.8: a token made by oneself ends with the one it was made with."""
    ends = office.do(lambda a: a.principal.token_expires, office.auditor)
    _, expires = office.do(lambda a: people.create_token(a, "user:carol", 366), office.auditor)
    assert expires == ends
    _, expires = office.do(lambda a: people.create_token(a, "user:carol", 366))
    assert expires > ends + dt.timedelta(days=300)
    with pytest.raises(Denied):
        office.do(lambda a: people.create_token(a, installation.ADMINISTRATOR, 1), office.auditor)


def test_a_disabled_principal_is_out(office: Office) -> None:
    """R8.1: with all his tokens, at once."""
    with scope(office.engine, office.tenant) as connection:
        identity.disable_principal(connection, office.tenant, "user:carol", now())
    with pytest.raises(Denied) as caught:
        office.do(lambda a: a.principal.id, office.auditor)
    assert caught.value.code == "auth.disabled"


def test_a_budget_needs_its_project_and_tells_what_was_before(office: Office) -> None:
    """R5.4: before and after stand in the record."""
    with pytest.raises(NotFound):
        office.do(lambda a: funds.set_budget(a, "p", "5", "USD"))
    office.do(lambda a: people.create_project(a, "p", "t", "c"))
    for limit in ("5.00", "7.250001"):
        office.do(lambda a, limit=limit: funds.set_budget(a, "p", limit, "USD"))
    with scope(office.engine, office.tenant) as connection:
        rows = connection.exec_driver_sql(
            "select convert_from(record, 'utf8')::json->'details' from qcos.ledger_record where act = 'budget.set' order by seq"
        )
        first, second = (row[0] for row in rows)
    assert first["before"] is None and first["after"] == {"monthly_limit": 5_000_000, "currency": "USD"}
    assert 5_000_000 in second["before"].values()
    assert second["after"] == {"monthly_limit": 7_250_001, "currency": "USD"}


@pytest.mark.parametrize(
    ("text", "micro"),
    [("0", 0), ("5000.00", 5_000_000_000), ("0.000001", 1), ("9000000000", 9 * 10**15), ("1e3", 10**9)],
)
def test_amounts_are_exact(text: str, micro: int) -> None:
    """R3.2: integers from text."""
    assert micros(text) == micro


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-0.01",
        "nan",
        "inf",
        "1e400",
        "0.0000001",
        "9000000000.000001",
        "1,5",
        "$5",
        "0x10",
        "١e999999999",
    ],
)
def test_what_is_no_amount(text: str) -> None:
    """R3.2: refused, whatever Python's decimals would make of it."""
    with pytest.raises(QcosError) as caught:
        micros(text)
    assert isinstance(caught.value, Invalid) and caught.value.code == "money.amount"
