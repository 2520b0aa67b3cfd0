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
from qcos.base.canonical import digest_of
from qcos.base.clock import now
from qcos.base.errors import Conflict, Denied, Invalid, NotFound, QcosError, Unavailable
from qcos.base.limits import PAGE_MAX
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.identity import tokens
from qcos.policy.bundle import shipped
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.model import Decision
from qcos.policy.store import ActiveBundles, get_decision, list_decisions

Doing = Callable[[Act], Any]


class Office:
    """A fresh tenant with its administrator, and an auditor who may change nothing."""

    def __init__(self, engine: sa.Engine, policy: PolicyEngine) -> None:
        made = installation.create_tenant(engine, "office")
        self.engine, self.tenant = engine, made.tenant
        self.authority = Authority(engine, policy, ActiveBundles())
        self.admin = tokens.read(made.token)[1]
        self.auditor = self.token_of("user:carol", "auditor")

    def token_of(
        self, principal: str, role: str | None, days: float = 1, *, project: str | None = None
    ) -> bytes:
        minted = tokens.mint(self.tenant)
        with scope(self.engine, self.tenant) as connection:
            identity.create_principal(connection, self.tenant, principal)
            if role is not None:
                identity.grant_role(connection, self.tenant, principal, role, project)
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

    def records(self) -> list[Any]:
        with scope(self.engine, self.tenant) as connection:
            rows = connection.exec_driver_sql(
                "select convert_from(record, 'utf8')::json from qcos.ledger_record order by time, seq"
            )
            return [row[0] for row in rows]

    def decision(self, id: str) -> Decision:
        with scope(self.engine, self.tenant) as connection:
            return get_decision(connection, self.tenant, id)

    def decisions(self) -> int:
        with scope(self.engine, self.tenant) as connection:
            return len(list_decisions(connection, self.tenant))


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
    """Laws 1 and 4: the administrator's act leaves exactly one record; the auditor's leaves that it was refused."""
    before = office.acts()
    with pytest.raises(Denied) as caught:
        office.do(doing, office.auditor)
    assert caught.value.code == "access.denied"
    assert caught.value.details["reasons"] and caught.value.details["policy_version"] == shipped().version
    assert office.acts() == [*before, "access.denied"]
    office.do(doing)
    assert office.acts() == [*before, "access.denied", act]


@pytest.mark.parametrize("doing", [doing for doing, _ in ACTS.values()], ids=list(ACTS))
def test_the_decision_stands_in_the_record(office: Office, doing: Doing) -> None:
    """R3.6, R5.2: who asks why it was permitted finds the decision with all that policy saw."""
    office.do(doing)
    details = office.records()[-1]["details"]
    decision = office.decision(details["decision"])
    assert decision.allow and decision.entrypoint == "acts"
    assert details["policy_version"] == decision.bundle_version == shipped().version
    assert decision.input_digest == digest_of(decision.input)
    assert decision.input["principal"]["id"] == installation.ADMINISTRATOR


@pytest.mark.parametrize("what", ["budget.set", "ledger.read", "token.read"])
def test_a_refusal_is_kept_with_its_decision(office: Office, what: str) -> None:
    """R3.6, R5.2: of reads too, in a scope of its own; the caller's own scope leaves nothing."""
    stranger = office.token_of("user:mallory", None)

    def tries(act: Act) -> None:
        identity.create_project(act.connection, act.tenant, "p", team="t", cost_center="c")
        act.permit(what, "it", project="p")

    with pytest.raises(Denied) as caught:
        office.do(tries, stranger)
    last = office.records()[-1]
    assert (last["act"], last["actor"], last["object"], last["project"]) == (
        "access.denied",
        "user:mallory",
        "it",
        "p",
    )
    decision = office.decision(last["details"]["decision"])
    assert (decision.allow, decision.subject, decision.input["act"]) == (False, "it", what)
    assert last["details"] == {
        "act": what,
        "codes": ["access.denied"],
        "decision": caught.value.details["decision_id"],
        "input": decision.input_digest,
        "policy_version": shipped().version,
    }
    with pytest.raises(NotFound):
        office.do(lambda a: identity.get_project(a.connection, a.tenant, "p"))


def test_a_refusal_that_cannot_be_recorded_is_told_as_such(office: Office, database: Any) -> None:
    """Law 1: without its record there is not even a refusal, only "try again"."""
    before = office.acts()
    owner = sa.create_engine(database.admin_url)
    with owner.begin() as connection:
        connection.exec_driver_sql("revoke insert on qcos.ledger_entry from qcos_app")
    try:
        with pytest.raises(Unavailable) as caught:
            office.do(lambda a: a.permit("budget.set", "p"), office.auditor)
    finally:
        with owner.begin() as connection:
            connection.exec_driver_sql("grant insert on qcos.ledger_entry to qcos_app")
        owner.dispose()
    assert (caught.value.code, caught.value.got) == ("access.unrecorded", "ledger.unavailable")
    assert office.acts() == before and office.decisions() == 0


def test_a_refusal_of_an_impossible_name_is_recorded_too(office: Office) -> None:
    """R5.2: nobody hides behind an object that the database could not keep."""
    with pytest.raises(Denied):
        office.do(lambda a: a.permit("budget.set", "p\0\ud800" + "x" * 100_000), office.auditor)
    assert office.records()[-1]["object"].startswith("p\ufffd?xxx")


def test_what_is_permitted_to_read_or_only_asked_leaves_nothing(office: Office) -> None:
    """A listing asks what it may show; a permitted read costs no write."""
    before = office.acts()
    office.do(lambda a: a.permit("ledger.read"), office.auditor)
    assert office.do(lambda a: a.may("job.read", project="p"), office.auditor) is True
    assert office.do(lambda a: a.may("budget.set", "p", project="p"), office.auditor) is False
    assert office.do(lambda a: a.may("budget.set", "p", project="p")) is True
    assert office.acts() == before and office.decisions() == 0


def test_the_administrator_of_a_project_stays_in_it(office: Office) -> None:
    """R11.4: he neither raises its budget nor makes another administrator; he gives the roles below his."""
    office.do(lambda a: people.create_project(a, "p", "t", "c"))
    head = office.token_of("user:head", "quantum-admin", project="p")
    refused: list[Doing] = [
        lambda a: funds.set_budget(a, "p", "9000", "USD"),
        lambda a: people.grant_role(a, "user:carol", "quantum-admin", "p"),
        lambda a: people.grant_role(a, "user:head", "quantum-admin", None),
        lambda a: people.revoke_role(a, "user:head", "quantum-admin", "p"),
        lambda a: people.create_token(a, "user:carol", 1),
        lambda a: people.disable_principal(a, "user:carol"),
    ]
    for doing in refused:
        with pytest.raises(Denied):
            office.do(doing, head)
    assert office.do(lambda a: people.grant_role(a, "user:carol", "quantum-user", "p"), head) is True


def test_a_leaked_token_ends_with_all_that_were_made_with_it(office: Office) -> None:
    """R11.8, R8.1: whoever found it cannot keep what he made meanwhile; each end is recorded."""
    first = office.do(lambda a: people.create_token(a, installation.ADMINISTRATOR, 9))[0]
    second = office.do(lambda a: people.create_token(a, installation.ADMINISTRATOR, 9), first.hash)[0]
    third = office.do(lambda a: people.create_token(a, "user:carol", 9), second.hash)[0]
    aside = office.do(lambda a: people.create_token(a, "user:carol", 9))[0]
    before = len(office.acts())
    ended = office.do(lambda a: people.revoke_token(a, first.id))
    assert ended == [first.id, *sorted((second.id, third.id))]
    for minted in (first, second, third):
        with pytest.raises(Denied) as caught:
            office.do(lambda a: a.principal.id, minted.hash)
        assert caught.value.code == "auth.revoked"
    assert office.do(lambda a: a.principal.id, aside.hash) == "user:carol"
    records = office.records()[before:]
    assert {(r["act"], r["object"], r["details"]["root"]) for r in records} == {
        ("token.revoked", id, first.id) for id in ended
    }
    assert len(records) == 3


def test_a_token_is_revoked_once(office: Office) -> None:
    """R5.2: what was over already is not recorded as done."""
    made = office.do(lambda a: people.create_token(a, "user:carol", 1))[0]
    assert office.do(lambda a: people.revoke_token(a, made.id)) == [made.id]
    before = office.acts()
    assert office.do(lambda a: people.revoke_token(a, made.id)) == []
    assert office.acts() == before
    with pytest.raises(NotFound):
        office.do(lambda a: people.revoke_token(a, "tok-0"))


def test_everybody_ends_his_own_token_however_many_he_has(office: Office) -> None:
    """R11.8: it is looked up by its id, not on the first page of a listing."""
    with scope(office.engine, office.tenant) as connection:
        for _ in range(PAGE_MAX + 1):
            made = tokens.mint(office.tenant)
            ends = now() + dt.timedelta(days=1)
            identity.create_token(connection, office.tenant, "user:carol", made.hash, made.id, ends)
    assert office.do(lambda a: people.revoke_token(a, made.id), office.auditor) == [made.id]
    other = office.do(lambda a: a.principal.token_id)
    with pytest.raises(Denied):
        office.do(lambda a: people.revoke_token(a, other), office.auditor)


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
    """R8.1: with all his tokens, at once, until he is enabled; recorded when it changes something."""
    before = office.acts()
    shut = office.do(lambda a: people.disable_principal(a, "user:carol"))
    assert office.do(lambda a: people.disable_principal(a, "user:carol")) == shut
    assert shut.disabled is not None
    with pytest.raises(Denied) as caught:
        office.do(lambda a: a.principal.id, office.auditor)
    assert caught.value.code == "auth.disabled"
    for _ in range(2):
        assert office.do(lambda a: people.enable_principal(a, "user:carol")).disabled is None
    assert office.do(lambda a: a.principal.id, office.auditor) == "user:carol"
    assert office.acts() == [*before, "principal.disabled", "principal.enabled"]


def test_nobody_disables_himself_or_somebody_unknown(office: Office) -> None:
    """R8.1: somebody is left who can undo it."""
    before = office.acts()
    with pytest.raises(Conflict) as caught:
        office.do(lambda a: people.disable_principal(a, installation.ADMINISTRATOR))
    assert caught.value.code == "principal.self"
    for doing in (people.disable_principal, people.enable_principal):
        with pytest.raises(NotFound):
            office.do(lambda a, doing=doing: doing(a, "user:nobody"))
    assert office.acts() == before


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
