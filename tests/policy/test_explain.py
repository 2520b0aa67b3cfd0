"""Explanations and replay."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcos.base.errors import Conflict, Integrity
from qcos.policy import bundle, check
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.explain import explain
from qcos.policy.explain import replay as decide_again
from qcos.policy.model import Reason
from qcos.policy.samples import sample


def test_denial_is_explained(policy_engine: PolicyEngine) -> None:
    """R3.6: outcome, reasons with remedy, the numbers that were used, the versions."""
    document = sample("jobs")
    document["principal"]["roles"] = ["quantum-user"]
    document["budget"]["available"] = 3_200_000
    decision = policy_engine.decide(bundle.shipped(), "jobs", "job-1", document)
    lines = explain(decision, check.validate(bundle.shipped()).titles)
    text = "\n".join(lines)
    assert lines[0] == f"{decision.id}: job.submit job-1 was denied at 2026-11-23T10:30:00Z"
    assert "no: user:alice@company.com may not submit production jobs" in text
    assert "[access.production, Who submits (qcos.jobs.access)]" in text
    assert "what helps: ask a quantum-engineer to submit it" in text
    assert "not on qpu-1: price 12.500000 USD exceeds 3.200000 USD left" in text
    assert "principal: id user:alice@company.com, team chemistry, roles quantum-user" in text
    assert "available 3200000, currency USD" in text
    assert bundle.shipped().version in text and decision.input_digest in text


def test_act_is_explained(policy_engine: PolicyEngine) -> None:
    decision = policy_engine.decide(bundle.shipped(), "acts", "job-1", sample("acts"))
    lines = explain(decision)
    assert lines[0].startswith(f"{decision.id}: job.read job-1 was allowed at ")
    assert "  asked: qcos.acts.permissions, qcos.acts.retention" in lines


@settings(max_examples=25, deadline=None)
@given(
    shots=st.integers(0, 100_000),
    left=st.integers(0, 100_000),
    role=st.sampled_from(["auditor", "quantum-user"]),
)
def test_decisions_replay(policy_engine: PolicyEngine, shots: int, left: int, role: str) -> None:
    """R3.6: the same policies say the same about the recorded input."""
    document = sample("jobs")
    document["job"]["total_shots"], document["quota"]["available"] = shots, left
    document["principal"]["roles"] = [role]
    decision = policy_engine.decide(bundle.shipped(), "jobs", "job-1", document)
    again = decide_again(policy_engine, bundle.shipped(), decision)
    assert again.same and again.differences == ()
    assert again.verdict.reasons == decision.reasons


def test_clock_does_not_change_a_replay(policy_engine: PolicyEngine) -> None:
    """R3.6: a policy that asks for the time sees the time of the decision."""
    text = 'package qcos.jobs.night\ndeny contains "at night" if time.clock(time.now_ns())[0] < 6\n'
    night = bundle.of({"jobs/night.rego": text})
    document = sample("jobs")
    for instant, allowed in (("2020-01-01T03:00:00Z", False), ("2020-01-01T12:00:00Z", True)):
        document["time"] = instant
        decision = policy_engine.decide(night, "jobs", "job-1", document)
        assert decision.allow == allowed
        assert decide_again(policy_engine, night, decision).same


def test_reasons_of_others_are_left_alone(policy_engine: PolicyEngine) -> None:
    """R3.6: a job that no backend can run was denied by routing; what policies said still replays."""
    document = sample("jobs")
    document["candidates"] = []
    made = policy_engine.decide(bundle.shipped(), "jobs", "job-1", document)
    assert made.allow
    routed = replace(made, allow=False, reasons=(Reason("routing", "routing.unsatisfiable", "none"),))
    assert decide_again(policy_engine, bundle.shipped(), routed).same
    assert not decide_again(policy_engine, bundle.shipped(), replace(routed, allow=True)).same


def test_false_record_is_found(policy_engine: PolicyEngine) -> None:
    """R3.6: a record that was altered does not replay."""
    document = sample("jobs")
    document["job"]["total_shots"] = 999_999
    decision = policy_engine.decide(bundle.shipped(), "jobs", "job-1", document)
    again = decide_again(policy_engine, bundle.shipped(), replace(decision, allow=True, reasons=()))
    assert not again.same
    assert again.differences[0] == "allow: recorded True, now False"
    altered = sample("jobs")
    with pytest.raises(Integrity) as wrong_input:
        decide_again(policy_engine, bundle.shipped(), replace(decision, input=altered))
    assert wrong_input.value.code == "decision.input"
    other = bundle.extend(
        bundle.shipped(), {"jobs/budget.rego": "package qcos.jobs.budget\ndeny contains 1 if false\n"}
    )
    with pytest.raises(Conflict) as wrong_version:
        decide_again(policy_engine, other, decision)
    assert wrong_version.value.code == "policy.version"
