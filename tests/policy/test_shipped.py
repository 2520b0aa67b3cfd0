"""The policies that are shipped: their own Rego tests, and what they decide about whole requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcos.policy import bundle, check
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.model import Verdict
from qcos.policy.samples import sample

ACTS = [
    "job.submit",
    "job.read",
    "job.cancel",
    "evidence.read",
    "decision.read",
    "budget.set",
    "budget.read",
    "quota.set",
    "usage.read",
    "charge.read",
    "project.create",
    "project.read",
    "principal.create",
    "principal.read",
    "principal.disable",
    "principal.enable",
    "role.grant",
    "role.revoke",
    "token.create",
    "token.revoke",
    "token.read",
    "policy.upload",
    "policy.activate",
    "policy.read",
    "policy.test",
    "ledger.read",
    "backend.read",
    "whoami.read",
    "estimate.create",
    "tenant.create",
    "hold.place",
    "hold.release",
    "hold.read",
    "retention.read",
    "evidence.erase",
    "erasure.resume",
    "evidence.renew",
]
HOLDING = {"hold.place", "hold.release"}


def ask(engine: PolicyEngine, **changes: dict[str, Any] | None) -> Verdict:
    document = sample("jobs")
    for part, members in changes.items():
        document[part] = None if members is None else {**document[part], **members}
    return engine.evaluate(bundle.shipped(), "jobs", document)


def act(
    engine: PolicyEngine,
    act: str,
    roles: list[str],
    *,
    own: bool = False,
    everywhere: bool = True,
    role: str = "auditor",
    early: bool = False,
) -> Verdict:
    """Ask about an act of somebody whose roles hold everywhere, or in the project only."""
    document = sample("acts")
    document["act"], document["own"], document["principal"]["roles"] = act, own, roles
    document["principal"]["tenant_roles"] = roles if everywhere else []
    if act.startswith("role."):
        document["details"] = {"role": role}
    if act == "evidence.erase":
        document["details"] = {"early": early}
    return engine.evaluate(bundle.shipped(), "acts", document)


def test_own_tests_pass_and_reach_every_line() -> None:
    """R3.1: the shipped policies carry tests, which reach every line."""
    report = check.run_tests(bundle.shipped())
    assert [result for result in report.results if not result.passed] == []
    assert report.ok and report.passed >= 60
    assert {file.path: file.not_covered for file in report.coverage if file.not_covered} == {}
    assert {file.path for file in report.coverage} == {
        path for path in bundle.shipped().files if not path.endswith("_test.rego")
    }


def test_bundle_is_valid_and_annotated() -> None:
    """R3.1: each policy has a title that explanations use."""
    facts = check.validate(bundle.shipped())
    assert facts.policies["jobs"] == (
        "qcos.jobs.access",
        "qcos.jobs.budget",
        "qcos.jobs.classification",
        "qcos.jobs.cost_center",
        "qcos.jobs.quota",
        "qcos.jobs.retention",
    )
    assert facts.policies["acts"] == ("qcos.acts.permissions", "qcos.acts.retention")
    assert set(facts.titles) == {*facts.policies["jobs"], *facts.policies["acts"], *facts.libraries}


def test_sample_is_allowed(policy_engine: PolicyEngine) -> None:
    verdict = ask(policy_engine)
    assert verdict.allow and verdict.reasons == () and verdict.excluded == ()
    assert len(verdict.policies) == 6 and verdict.duration_us > 0


def test_budget_excludes_what_is_too_dear(policy_engine: PolicyEngine) -> None:
    """R3.2: project X cannot exceed its monthly budget; what it can pay for is left."""
    verdict = ask(policy_engine, budget={"available": 3_200_000})
    assert verdict.allow
    assert verdict.excluded_backends == {"qpu-1"}
    (reason,) = verdict.excluded
    assert (reason.policy, reason.code) == ("qcos.jobs.budget", "budget.exceeded")
    assert reason.message == "price 12.500000 USD exceeds 3.200000 USD left of 5000.000000 USD for 2026-11"


def test_budget_denies_when_nothing_is_left(policy_engine: PolicyEngine) -> None:
    """R3.2: with only dear backends to choose from, the job is denied, with the budget's reason."""
    document = sample("jobs")
    document["candidates"] = document["candidates"][1:]
    document["budget"]["available"] = 3_200_000
    verdict = policy_engine.evaluate(bundle.shipped(), "jobs", document)
    assert not verdict.allow
    assert [(r.code, r.backend) for r in verdict.reasons] == [("budget.exceeded", "qpu-1")]


def test_no_budget_lets_free_backends_only(policy_engine: PolicyEngine) -> None:
    """R3.2: without a budget nothing that costs money is used."""
    verdict = ask(policy_engine, budget=None)
    assert verdict.allow and [(r.code, r.backend) for r in verdict.excluded] == [("budget.missing", "qpu-1")]


def test_only_engineers_submit_production_jobs(policy_engine: PolicyEngine) -> None:
    """R3.3: only role quantum-engineer can submit production jobs."""
    verdict = ask(policy_engine, principal={"roles": ["quantum-user"]})
    assert not verdict.allow
    assert [(r.policy, r.code) for r in verdict.reasons] == [("qcos.jobs.access", "access.production")]
    assert ask(policy_engine, principal={"roles": ["quantum-user"]}, job={"purpose": "research"}).allow
    assert not ask(policy_engine, principal={"roles": ["auditor"]}, job={"purpose": "research"}).allow


def test_classified_data_stays_in_house(policy_engine: PolicyEngine) -> None:
    """R3.4: classified data must only execute in sovereign on-premise backends."""
    verdict = ask(policy_engine, job={"classification": "classified"})
    assert verdict.allow and verdict.excluded_backends == {"qpu-1"}
    document = sample("jobs")
    document["job"]["classification"] = "top-secret"
    document["candidates"] = document["candidates"][1:]
    verdict = policy_engine.evaluate(bundle.shipped(), "jobs", document)
    assert not verdict.allow and [r.code for r in verdict.reasons] == ["classification.sovereign"]


def test_quota_of_shots(policy_engine: PolicyEngine) -> None:
    """R3.5: team Y is limited to 50,000 shots a day."""
    assert ask(policy_engine, job={"total_shots": 40_000}).allow
    verdict = ask(policy_engine, job={"total_shots": 40_001})
    assert not verdict.allow
    (reason,) = verdict.reasons
    assert reason.code == "quota.exceeded"
    assert reason.message == "40001 shots exceed the 40000 left of 50000 for team chemistry on 2026-11-23"
    assert ask(policy_engine, job={"total_shots": 9_999_999}, quota=None).allow


def test_a_job_is_charged_to_its_own_project(policy_engine: PolicyEngine) -> None:
    """R8.9: nobody spends another cost center's money by naming it in his Job Spec."""
    assert ask(policy_engine, job={"cost_center": "R&D-001"}).allow
    verdict = ask(policy_engine, job={"cost_center": "CC-BOARD"})
    assert not verdict.allow
    (reason,) = verdict.reasons
    assert (reason.policy, reason.code) == ("qcos.jobs.cost_center", "cost_center.foreign")
    assert reason.message == "cost center CC-BOARD is not that of project drug-discovery, which is R&D-001"
    assert "governance.cost_center" in reason.hint


def test_every_reason_is_told(policy_engine: PolicyEngine) -> None:
    """R3.6: all policies that say no are named, not only the first."""
    verdict = ask(
        policy_engine,
        principal={"roles": ["quantum-user"]},
        job={"total_shots": 40_001, "classification": "secret"},
        budget={"available": 0},
    )
    assert [r.code for r in verdict.reasons] == ["access.production", "quota.exceeded"]
    assert {r.code for r in verdict.excluded} == {"budget.exceeded", "classification.sovereign"}
    assert all(r.hint and r.message for r in (*verdict.reasons, *verdict.excluded))


@settings(max_examples=60, deadline=None)
@given(
    price=st.integers(0, 2**53 - 1),
    available=st.integers(-(2**53 - 1), 2**53 - 1),
    shots=st.integers(0, 2**53 - 1),
    left=st.integers(-(2**53 - 1), 2**53 - 1),
)
def test_numbers_decide_exactly(
    policy_engine: PolicyEngine, price: int, available: int, shots: int, left: int
) -> None:
    """R3.2, R3.5: no amount is rounded on its way, up to the largest exact integer."""
    document = sample("jobs")
    document["candidates"] = document["candidates"][1:]
    document["candidates"][0]["price"] = price
    document["budget"]["available"] = available
    document["job"]["total_shots"] = shots
    document["quota"]["available"] = left
    verdict = policy_engine.evaluate(bundle.shipped(), "jobs", document)
    assert bool(verdict.excluded) == (price != 0 and price > available)
    assert any(r.code == "quota.exceeded" for r in verdict.reasons) == (shots > left)
    for reason in verdict.excluded:
        assert reason.message.startswith(f"price {price // 10**6}.{price % 10**6:06d} USD exceeds ")


@pytest.mark.parametrize("name", ACTS)
def test_admin_may_do_every_act(policy_engine: PolicyEngine, name: str) -> None:
    """R11.4: quantum-admin may do everything but hold, and every act of the list is known."""
    assert act(policy_engine, name, ["quantum-admin"]).allow == (name not in HOLDING)


@pytest.mark.parametrize("name", ACTS)
def test_auditor_reads_and_holds_and_changes_nothing(policy_engine: PolicyEngine, name: str) -> None:
    """R11.4, R4.3: an auditor reads everything, places and releases legal holds, and changes nothing."""
    assert act(policy_engine, name, ["auditor"]).allow == (name.endswith(".read") or name in HOLDING)


def test_nobody_both_holds_and_erases(policy_engine: PolicyEngine) -> None:
    """R4.3: one person alone cannot make evidence go away that somebody wants held."""
    both = ["quantum-admin", "auditor"]
    for name in ("hold.place", "hold.release", "evidence.erase"):
        verdict = act(policy_engine, name, both)
        assert [r.code for r in verdict.reasons] == ["access.separation"]
    assert [r.code for r in act(policy_engine, "evidence.erase", ["quantum-admin"], early=True).reasons] == [
        "access.early"
    ]


@pytest.mark.parametrize("days", [0, 36_501, None, "7"])
def test_a_job_says_how_long_it_is_kept_within_bounds(policy_engine: PolicyEngine, days: Any) -> None:
    """R4.3: the shipped bounds are those of the Job Spec; a tenant narrows them."""
    assert ask(policy_engine, job={"retention_days": 36_500}).allow
    (reason,) = ask(policy_engine, job={"retention_days": days}).reasons
    assert reason.policy == "qcos.jobs.retention"


def test_users_and_engineers(policy_engine: PolicyEngine) -> None:
    """R11.4: users work on their own jobs, engineers on all of the project, neither administers."""
    assert act(policy_engine, "job.cancel", ["quantum-user"], own=True).allow
    assert not act(policy_engine, "job.cancel", ["quantum-user"]).allow
    assert act(policy_engine, "job.cancel", ["quantum-engineer"]).allow
    for name in ("budget.set", "role.grant", "policy.activate", "ledger.read", "tenant.create"):
        assert not act(policy_engine, name, ["quantum-user", "quantum-engineer"], own=True).allow


REACHING = {
    "budget.set",
    "quota.set",
    "project.create",
    "principal.create",
    "principal.disable",
    "principal.enable",
    "token.create",
    "token.revoke",
    "policy.upload",
    "policy.activate",
    "tenant.create",
    "evidence.erase",
    "erasure.resume",
    "evidence.renew",
}


@pytest.mark.parametrize("name", ACTS)
def test_admin_of_a_project_stays_in_it(policy_engine: PolicyEngine, name: str) -> None:
    """R11.4, R5.4: he does not raise his own budget, make people and tokens, or choose the policies."""
    verdict = act(policy_engine, name, ["quantum-admin"], everywhere=False)
    assert verdict.allow == (name not in REACHING | HOLDING)
    codes = [r.code for r in verdict.reasons]
    assert codes == ([] if verdict.allow else ["access.denied"] + ["access.separation"] * (name in HOLDING))


@pytest.mark.parametrize("name", ["role.grant", "role.revoke"])
def test_admin_of_a_project_appoints_no_admin(policy_engine: PolicyEngine, name: str) -> None:
    """R11.4: he gives and takes the roles below his own."""
    for role in ("quantum-engineer", "quantum-user", "auditor"):
        assert act(policy_engine, name, ["quantum-admin"], everywhere=False, role=role).allow
    assert not act(policy_engine, name, ["quantum-admin"], everywhere=False, role="quantum-admin").allow
    assert act(policy_engine, name, ["quantum-admin"], role="quantum-admin").allow


@pytest.mark.parametrize("name", ["job.read", "job.cancel", "decision.read", "evidence.read"])
def test_everybody_sees_and_cancels_his_own(policy_engine: PolicyEngine, name: str) -> None:
    """R11.4: also when the role under which he submitted was taken back."""
    assert act(policy_engine, name, [], own=True).allow
    assert not act(policy_engine, name, []).allow


def test_denied_act_says_who_may(policy_engine: PolicyEngine) -> None:
    (reason,) = act(policy_engine, "budget.set", ["quantum-user"]).reasons
    assert reason.code == "access.denied"
    assert reason.message == (
        "user:alice@company.com may not do budget.set in project drug-discovery; "
        "roles for all projects: quantum-user"
    )
    assert reason.hint == "budget.set is for: quantum-admin (of all projects)"


def test_unknown_act_is_denied(policy_engine: PolicyEngine) -> None:
    assert [r.code for r in act(policy_engine, "x.y", ["quantum-admin"]).reasons] == ["access.unknown_act"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(
    part=st.sampled_from(["job", "principal", "project", "budget", "quota", "candidates", "time"]),
    member=st.none()
    | st.sampled_from(["roles", "id", "purpose", "available", "price", "currency", "limit", "zone"]),
    value=JSON,
)
def test_spoilt_input_never_opens_a_door(
    policy_engine: PolicyEngine, part: str, member: str | None, value: Any
) -> None:
    """R3.3, law 4: whatever one member is, nobody without a submitting role is allowed."""
    document = sample("jobs")
    document["principal"]["roles"] = ["auditor"]
    if member and isinstance(document[part], dict):
        document[part][member] = value
    else:
        document[part] = value
    roles = document["principal"].get("roles") if isinstance(document["principal"], dict) else None
    if isinstance(roles, list | dict) and "quantum" in str(roles):
        return
    assert not policy_engine.evaluate(bundle.shipped(), "jobs", document).allow
