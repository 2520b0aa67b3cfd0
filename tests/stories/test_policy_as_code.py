"""Policy is code: uploaded, tested, activated as governed acts, and in force from the next decision on (R3.1)."""

from __future__ import annotations

import pytest

from qcos.base.errors import Denied, Invalid, NotFound

from .house import House

NO_FRIDAYS = """package qcos.jobs.freeze

deny contains {"code": "freeze.active", "message": sprintf("no jobs of %v during the freeze", [input.job.project]), "hint": "wait"} if {
	input.job.purpose != "emergency"
}
"""
NO_FRIDAYS_TEST = """package qcos.jobs.freeze_test

import data.qcos.jobs.freeze

test_refused if {
	some reason in freeze.deny with input as {"job": {"project": "p", "purpose": "research"}}
	reason.code == "freeze.active"
}

test_emergency if count(freeze.deny) == 0 with input as {"job": {"project": "p", "purpose": "emergency"}}
"""
RED_TEST = NO_FRIDAYS_TEST.replace('"freeze.active"', '"another.code"')


def bundle_with(house: House, **files: str) -> dict[str, str]:
    """Return the active bundle's files with more of them."""
    return dict(house.admin.client.policies.get("active")["files"]) | {
        f"jobs/{name}.rego": text for name, text in files.items()
    }


def test_a_bundle_is_uploaded_tested_and_activated(house: House) -> None:
    """R3.1: it decides nothing before its activation, and everything after it, from the next decision on."""
    policies = house.admin.client.policies
    before = policies.list()["active"]
    files = bundle_with(house, freeze=NO_FRIDAYS, freeze_test=NO_FRIDAYS_TEST)
    tested = policies.test(files)
    assert tested["ok"] is True and tested["failed"] == 0 and tested["passed"] >= 2

    uploaded = policies.upload(files, note="Change freeze, CHG-12")
    version = uploaded["version"]
    assert version.startswith("sha256:") and uploaded["added"] is True
    assert house.run()["decision"]["policy_version"] == before, "an uploaded bundle decides nothing"

    policies.activate(version, note="approved by the board")
    with pytest.raises(Denied) as caught:
        house.engineer.client.jobs.submit(house.spec())
    assert caught.value.code == "freeze.active"
    assert caught.value.message == f"no jobs of {house.project} during the freeze"
    assert caught.value.details["decision"]["policy_version"] == version
    job = house.run(house.spec(governance={"purpose": "emergency"}))
    assert job["decision"]["policy_version"] == version
    assert "qcos.jobs.freeze" in job["decision"]["policies"]

    policies.activate(before, note="the freeze is over")
    assert house.run()["decision"]["policy_version"] == before
    listed = {item["version"]: item["active"] for item in policies.list()["items"]}
    assert listed == {before: True, version: False}

    upload, *rest = house.records(object=version)[::-1]
    assert (upload["act"], upload["actor"], upload["reason"]) == (
        "policy.uploaded",
        house.admin.id,
        "Change freeze, CHG-12",
    )
    assert [(r["act"], r["reason"], r["details"]["before"]) for r in rest] == [
        ("policy.activated", "approved by the board", before)
    ]


def test_a_bundle_with_red_tests_is_refused(house: House) -> None:
    """R3.1: what does not pass its own tests is not kept, and the failing test is named."""
    files = bundle_with(house, freeze=NO_FRIDAYS, freeze_test=RED_TEST)
    with pytest.raises(Invalid) as caught:
        house.admin.client.policies.upload(files)
    assert caught.value.code == "policy.tests_failed"
    assert "test_refused" in caught.value.got
    with pytest.raises(NotFound):
        house.admin.client.policies.activate(caught.value.subject)
    assert len(house.admin.client.policies.list()["items"]) == 1
    assert [r["act"] for r in house.records(act="policy.uploaded")] == []


def test_a_bundle_without_tests_or_with_faults_is_refused(house: House) -> None:
    """R3.1: no tests, or Rego that cannot be read: refused, the latter with file and line."""
    untested = {name: text for name, text in bundle_with(house).items() if not name.endswith("_test.rego")}
    with pytest.raises(Invalid) as caught:
        house.admin.client.policies.upload(untested)
    assert caught.value.code == "policy.tests_failed"
    with pytest.raises(Invalid) as caught:
        house.admin.client.policies.upload(
            bundle_with(house, broken="package qcos.jobs.broken\n\ndeny contains {")
        )
    assert caught.value.code == "policy.bundle"
    assert any("jobs/broken.rego" in problem.pointer + problem.message for problem in caught.value.problems)


def test_nobody_locks_himself_out(house: House) -> None:
    """R3.1: a bundle under which its activator could not activate another one is not activated."""
    no = '{"code": "nothing.goes", "message": "no", "hint": ""}'
    acts = f'package qcos.acts.nothing\n\ndeny contains {no} if input.act == "policy.activate"\n'
    test = (
        "package qcos.acts.nothing_test\n\nimport data.qcos.acts.nothing\n\n"
        'test_no if count(nothing.deny) == 1 with input as {"act": "policy.activate"}\n'
    )
    files = bundle_with(house) | {"acts/nothing.rego": acts, "acts/nothing_test.rego": test}
    version = house.admin.client.policies.upload(files)["version"]
    active = house.admin.client.policies.list()["active"]
    with pytest.raises(Invalid) as caught:
        house.admin.client.policies.activate(version)
    assert caught.value.code == "policy.lockout"
    assert house.admin.client.policies.list()["active"] == active


def test_a_policy_that_runs_away_denies_its_job_and_nothing_else(house: House) -> None:
    """R3.1, R3.6: the deadline is enforced: denial `policy.timeout` for that job; other jobs go on at once."""
    endless = """package qcos.jobs.endless

deny contains {"code": "endless", "message": "never", "hint": ""} if {
	input.job.purpose == "endless"
	count([1 | some a in numbers.range(1, 4000); some b in numbers.range(1, 4000); a * b == 0]) > 0
}
"""
    test = """package qcos.jobs.endless_test

import data.qcos.jobs.endless

test_other if count(endless.deny) == 0 with input as {"job": {"purpose": "research"}}
"""
    policies = house.admin.client.policies
    policies.activate(policies.upload(bundle_with(house, endless=endless, endless_test=test))["version"])
    with pytest.raises(Denied) as caught:
        house.engineer.client.jobs.submit(house.spec(governance={"purpose": "endless"}))
    assert caught.value.code == "policy.timeout"
    assert house.run()["state"] == "completed"


def test_attributes_reach_policies(house: House) -> None:
    """R3.1, R11.5: "users from the research department can only submit benchmark jobs"."""
    policy = """package qcos.jobs.research

deny contains {"code": "research.benchmark_only", "message": "research submits benchmarks only", "hint": ""} if {
	input.principal.attributes.department == "research"
	not contains(input.job.purpose, "benchmark")
}
"""
    test = """package qcos.jobs.research_test

import data.qcos.jobs.research

test_other if count(research.deny) == 1 with input as {"principal": {"attributes": {"department": "research"}}, "job": {"purpose": "x"}}
"""
    policies = house.admin.client.policies
    policies.activate(policies.upload(bundle_with(house, research=policy, research_test=test))["version"])
    erin = house.person("user:erin", "quantum-user", attributes={"department": "research"})
    with pytest.raises(Denied) as caught:
        erin.client.jobs.submit(house.spec())
    assert caught.value.code == "research.benchmark_only"
    assert house.run(house.spec(governance={"purpose": "benchmark"}), erin)["state"] == "completed"
    assert house.run(house.spec(), house.user)["state"] == "completed"
