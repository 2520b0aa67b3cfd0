"""Budgets, quotas, usage, people, policies, the ledger, backends on the command line."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from client.wire import Told, Wire, problem, told

from .answers import DECISION
from .conftest import Run


def money(micro: int) -> dict[str, object]:
    return {"amount": f"{micro / 1e6:.6f}", "currency": "USD", "micro": micro}


def test_budgets_are_exact(run: Run, wire: Wire) -> None:
    """No float touches money: 2^53 - 1 micro-units keep their last digit."""
    row = {
        "project": "p",
        "month": "2026-11",
        "limit": money(9_007_199_254_740_991),
        "reserved": money(1),
        "settled": money(0),
        "available": money(5_000_000_000),
    }
    wire.on("GET", "budgets", told({"items": [row], "next": None}))
    ran = run("budget", "list")
    for text in ("9,007,199,254.740991 USD", "0.000001 USD", "0.00 USD", "5,000.00 USD"):
        assert text in ran.out


@pytest.mark.parametrize(
    ("text", "sent"), [("5000.00", "5000.00"), ("1e3", "1000"), ("0", "0"), ("0.000001", "0.000001")]
)
def test_a_budget_is_sent_as_decimal_text(run: Run, wire: Wire, text: str, sent: str) -> None:
    wire.on("PUT", "projects/p/budget", told({"project": "p", "monthly_limit": sent, "currency": "EUR"}))
    assert run("budget", "set", "p", text, "--currency", "EUR").code == 0
    assert wire.asked[0].json() == {"monthly_limit": sent, "currency": "EUR"}


@pytest.mark.parametrize("text", ["much", "NaN", "inf", "0.0000001", "--", "1e-9"])
def test_what_is_no_amount_is_not_sent(run: Run, wire: Wire, text: str) -> None:
    assert run("budget", "set", "p", text, "--json").code == 2
    assert wire.asked == []


def test_quotas(run: Run, wire: Wire) -> None:
    row = {"team": "t", "day": "2026-11-23", "limit": 50000, "reserved": 7, "used": 11, "available": 49982}
    wire.on("GET", "quotas", told({"items": [row], "next": None}))
    wire.on("PUT", "teams/t/quota", told({"team": "t", "daily_shots": 50000}))
    assert "49982" in run("quota", "list").out
    assert run("quota", "set", "t", 50000).code == 0
    assert wire.asked[1].json() == {"daily_shots": 50000}


def test_usage_and_charges(run: Run, wire: Wire) -> None:
    rows = [
        {"group": "p", "jobs": 3, "cost": money(2_500_000), "meters": {"shots": 3000}},
        {"group": "q", "jobs": 1, "cost": money(500_000), "meters": {"shots": 10, "cpu_time_us": 5}},
    ]
    wire.on("GET", "usage", told({"group_by": "team", "items": rows, "next": None}))
    line = {
        "job_id": "j",
        "project": "p",
        "cost_center": "CC",
        "item": "per_shot",
        "quantity": 3000,
        "unit": "shot",
        "amount": money(30),
        "at": "2026-01-09T10:30:00Z",
    }
    wire.on("GET", "charges", told({"items": [line], "next": None}))
    ran = run("usage", "show", "--by", "team")
    assert wire.asked[0].query == {"group_by": "team"}
    for text in ("2.50 USD", "83.3 %", "cpu_time_us", "3000"):
        assert text in ran.out
    ran = run("usage", "charges", "--job", "j")
    assert wire.asked[1].query == {"job": "j", "limit": "50"}
    assert "0.00003 USD" in ran.out


def test_people(run: Run, wire: Wire) -> None:
    grants = [{"role": "auditor", "project": None}, {"role": "quantum-user", "project": "p"}]
    person = {
        "id": "user:a@b.c",
        "kind": "user",
        "team": "t",
        "roles": grants,
        "attributes": {},
        "disabled_at": None,
    }
    wire.on("GET", "principals", told({"items": [person], "next": None}))
    wire.on("POST", "principals", told(person, 201))
    wire.on("POST", "principals/user:a@b.c/roles", told({"changed": True}))
    wire.on("DELETE", "principals/user:a@b.c/roles", told({"changed": True}))
    wire.on("POST", "projects", told({"id": "p"}, 201))
    assert "auditor, quantum-user in p" in run("principal", "list").out
    assert run("role", "list", "user:a@b.c", "--json").json() == grants
    assert run("principal", "create", "user:a@b.c", "--team", "t", "--attribute", "dept=research").code == 0
    assert wire.asked[-1].json() == {"id": "user:a@b.c", "team": "t", "attributes": {"dept": "research"}}
    assert run("role", "grant", "user:a@b.c", "auditor").code == 0
    assert wire.asked[-1].json() == {"role": "auditor"}
    assert run("role", "revoke", "user:a@b.c", "auditor", "-p", "p").code == 0
    assert wire.asked[-1].query == {"role": "auditor", "project": "p"}
    for verb in ("disable", "enable"):
        wire.on("POST", f"principals/user:a@b.c/{verb}", told(person))
        assert f"user:a@b.c is {verb}d" in run("principal", verb, "user:a@b.c").out
        assert run("principal", verb, "user:a@b.c", "--json").json() == person
    wire.on("DELETE", "tokens/tok-1", told({"id": "tok-1", "revoked": True, "ended": 3}))
    assert "tok-1 is revoked; 3 ended with all that were made with it" in run("token", "revoke", "tok-1").out
    assert run("project", "create", "p", "--team", "t", "--cost-center", "CC").code == 0
    assert wire.asked[-1].json() == {"id": "p", "team": "t", "cost_center": "CC"}


def test_a_new_token_goes_to_a_file_of_its_owner_alone(run: Run, wire: Wire, tmp_path: Path) -> None:
    wire.on(
        "POST",
        "tokens",
        told({"token": "qcos_new", "id": "tok-1", "principal": "service:ci", "expires_at": "x"}, 201),
    )
    file = tmp_path / "token"
    ran = run("token", "create", "service:ci", "--days", 7, "-o", file)
    assert ran.code == 0
    assert "qcos_new" not in ran.out + ran.err
    assert file.read_text() == "qcos_new\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert wire.asked[0].json() == {"principal": "service:ci", "days": 7}
    assert run("token", "create", "service:ci", "-o", file).code == 5
    assert run("token", "create", "service:ci", "--json").json()["token"] == "qcos_new"


def test_backends(run: Run, wire: Wire) -> None:
    backend = {
        "name": "aer-ideal",
        "provider": "qiskit-aer",
        "qubits": 29,
        "online": True,
        "zone": "sovereign",
    }
    wire.on("GET", "backends", told({"items": [backend], "next": None}))
    ran = run("backend", "list")
    assert "aer-ideal" in ran.out
    assert "yes" in ran.out


def test_policies_on_the_server(run: Run, wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "mine.rego").write_text("package qcos.jobs.mine\n")
    wire.on("POST", "policies", told({"version": "sha256:a", "added": True}, 201))
    wire.on("POST", "policies/sha256:a/activate", told({"version": "sha256:a", "active": True}))
    wire.on(
        "GET",
        "policies",
        told({"active": "sha256:a", "items": [{"version": "sha256:a", "active": True}], "next": None}),
    )
    wire.on(
        "GET", "policies/sha256:a", told({"version": "sha256:a", "files": {"jobs/mine.rego": "package x"}})
    )
    assert run("policy", "upload", tmp_path, "--note", "why").code == 0
    assert wire.asked[0].json() == {"files": {"jobs/mine.rego": "package qcos.jobs.mine\n"}, "note": "why"}
    assert run("policy", "activate", "sha256:a", "--note", "because").code == 0
    assert wire.asked[1].json() == {"note": "because"}
    assert "sha256:a" in run("policy", "list").out
    assert "package x" in run("policy", "show", "sha256:a").out


def test_a_decision_is_explained_by_its_id_or_its_jobs(run: Run, wire: Wire) -> None:
    """R3.6"""
    wire.on("GET", "decisions/dec-1", told(DECISION))
    wire.on("GET", "jobs/job-1/decision", told(DECISION))
    wire.on("GET", "jobs/dec-2/decision", told(DECISION))
    for name in ("dec-1", "job-1", "dec-2"):
        assert "12.50 of 3.00 USD" in run("policy", "explain", name).out
    assert run("policy", "explain", "dec-1", "--json").json() == DECISION


def test_the_ledger_is_searched(run: Run, wire: Wire) -> None:
    record = {
        "id": "rec-1",
        "time": "2026-01-09T10:30:00Z",
        "act": "budget.set",
        "actor": "user:a@b.c",
        "object": "p",
    }
    wire.on("GET", "ledger/records", told({"items": [record], "next": None}))
    wire.on("GET", "ledger/checkpoint", Told(200, (b"qcos.local/ledger\n3\nAAAA\n\n- sig\n",)))
    ran = run("ledger", "search", "--act", "budget.set", "--since", "2026-01-01T00:00:00Z")
    assert wire.asked[0].query == {"act": "budget.set", "since": "2026-01-01T00:00:00Z", "limit": "50"}
    assert "budget.set" in ran.out
    assert run("ledger", "checkpoint").out == "qcos.local/ledger\n3\nAAAA\n\n- sig\n"


def test_whoami_and_unknown_tokens(run: Run, wire: Wire) -> None:
    wire.on(
        "GET",
        "whoami",
        told({"id": "user:a@b.c", "roles": []}),
        problem(401, family="denied", code="auth.unknown", message="unknown token"),
    )
    assert "user:a@b.c" in run("whoami").out
    ran = run("whoami")
    assert ran.code == 3
    assert "unknown token" in ran.err
