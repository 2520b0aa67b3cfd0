"""``qcos job`` against a server that speaks the documented wire format (R8.2)."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from client.wire import END, Wire, problem, step, stream, told

from .answers import DENIED, DONE, JOB, PLACEMENT, RESULT
from .conftest import Run

ID = JOB["job_id"]


def test_submit_sends_a_job_spec_and_tells_the_decision(run: Run, wire: Wire, bell: Path) -> None:
    wire.on("POST", "jobs", told(JOB, 201))
    ran = run(
        "job",
        "submit",
        bell,
        "-p",
        "material",
        "--shots",
        500,
        "--provider",
        "a",
        "--provider",
        "b",
        "--param",
        "x=0.5",
    )
    assert ran.code == 0
    spec = wire.asked[0].json()
    assert base64.b64decode(spec["circuit"]["source"]) == bell.read_bytes()
    assert spec["circuit"]["parameters"] == {"x": 0.5}
    assert spec["execution"] == {"shots": 500, "backend_constraints": {"allowed_providers": ["a", "b"]}}
    assert spec["governance"] == {
        "project": "material",
        "classification": "internal",
        "purpose": "exploration",
    }
    for text in (
        ID,
        "allowed",
        "braket-sv1: 12.50 of 3.00 USD",
        "aer-ideal",
        "has 5 of 12 qubits",
        "0.000123 USD",
    ):
        assert text in ran.out


def test_submit_with_json_writes_the_job_and_nothing_else(run: Run, wire: Wire, bell: Path) -> None:
    wire.on("POST", "jobs", told(JOB, 201))
    ran = run("job", "submit", bell, "-p", "material", "--key", "k", "--json")
    assert ran.json() == JOB
    assert ran.err == ""
    assert wire.asked[0].headers["idempotency-key"] == "k"


def test_a_denial_shows_every_reason_and_ends_with_3(run: Run, wire: Wire, bell: Path) -> None:
    """R3.6: a refusal says why."""
    answer = problem(
        403,
        family="denied",
        code="quota.exceeded",
        message="no",
        subject=ID,
        job_id=ID,
        decision=DENIED,
        hint="wait",
    )
    wire.on("POST", "jobs", answer)
    ran = run("job", "submit", bell, "-p", "material")
    assert ran.code == 3
    assert ran.out == ""
    for text in (
        "5000 of 100 shots left",
        "quota.exceeded",
        "production needs quantum-engineer",
        "dec-2026-01-09-aa",
    ):
        assert text in ran.err
    ran = run("job", "submit", bell, "-p", "material", "--json")
    assert ran.code == 3
    assert ran.error()["decision"] == DENIED
    assert ran.error()["code"] == "quota.exceeded"


def test_every_fault_of_a_spec_is_shown_with_its_pointer(run: Run, wire: Wire, bell: Path) -> None:
    found = [
        {
            "pointer": "/execution/shots",
            "message": "too many",
            "expected": "at most 10",
            "got": "11",
            "hint": "ask for less",
        },
        {"pointer": "/governance/project", "message": "missing"},
    ]
    wire.on(
        "POST",
        "jobs/validate",
        problem(400, family="invalid", code="spec.invalid", message="2 problems", problems=found),
    )
    ran = run("job", "validate", bell)
    assert ran.code == 2
    for text in (
        "/execution/shots",
        "too many; expected at most 10; got 11; hint: ask for less",
        "/governance/project",
    ):
        assert text in ran.err
    assert run("job", "validate", bell, "--json").error()["problems"] == found


def test_submit_and_wait_follows_the_steps_and_draws_the_counts(run: Run, wire: Wire, bell: Path) -> None:
    wire.on("POST", "jobs", told(JOB, 201))
    wire.on("GET", f"jobs/{ID}/events", stream(step(1, "authenticated"), step(10, "exported"), END))
    wire.on("GET", f"jobs/{ID}", told(DONE))
    wire.on("GET", f"jobs/{ID}/result", told(RESULT))
    ran = run("job", "submit", bell, "-p", "material", "--wait")
    assert ran.code == 0
    assert " 1/10 authenticated" in ran.out
    assert "10/10 exported" in ran.out
    bars = {line.split()[0]: line.count("█") for line in ran.out.splitlines() if "█" in line}
    assert bars == {"00": 40, "11": 38}
    for text in ("507", "50.7 %", "493", "evidence-2026-01-09-xyz", "0.0001 USD"):
        assert text in ran.out


@pytest.mark.parametrize(
    ("state", "code"), [("completed", 0), ("failed", 1), ("cancelled", 1), ("denied", 3)]
)
def test_watch_ends_as_the_job_did(run: Run, wire: Wire, state: str, code: int) -> None:
    wire.on("GET", f"jobs/{ID}/events", stream(step(1, "authenticated"), step(2, "submitted"), END))
    wire.on("GET", f"jobs/{ID}", told(DONE | {"state": state}))
    wire.on("GET", f"jobs/{ID}/result", told(RESULT))
    ran = run("job", "watch", ID, "--json")
    assert ran.code == code
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line.get("step") for line in lines] == ["authenticated", "submitted", None]
    assert lines[-1]["state"] == state
    ran = run("job", "watch", ID)
    assert ran.code == code
    assert "authenticated" in ran.out


def test_list_shows_jobs_and_the_way_on(run: Run, wire: Wire) -> None:
    wire.on("GET", "jobs", told({"items": [JOB, DONE], "next": "c1"}))
    ran = run("job", "list", "--state", "queued", "-n", 2)
    assert ran.code == 0
    assert wire.asked[0].query == {"state": "queued", "limit": "2"}
    assert ran.out.count(ID) == 2
    assert "--after c1" in ran.out
    assert run("job", "list", "--json").json()["next"] == "c1"


def test_estimate_shows_each_backend_and_why_not(run: Run, wire: Wire, bell: Path) -> None:
    price = {"micro": 1_500_000, "currency": "USD", "amount": "1.500000"}
    excluded = {"code": "budget.exceeded", "message": "over budget"}
    estimate = {
        "allow": True,
        "reasons": [],
        "backend": "aer-ideal",
        "placement": PLACEMENT,
        "candidates": [
            {"backend": "aer-ideal", "provider": "qiskit-aer", "price": price, "excluded": None},
            {"backend": "braket-sv1", "provider": "aws-braket", "price": price, "excluded": excluded},
        ],
        "dropped": [],
    }
    wire.on("POST", "estimates", told(estimate))
    ran = run("job", "estimate", bell, "-p", "material")
    assert ran.code == 0
    for text in ("1.50 USD", "over budget", "runs on aer-ideal", "has 5 of 12 qubits"):
        assert text in ran.out
    assert run("job", "estimate", bell, "--json").json() == estimate


def test_cancel_and_result(run: Run, wire: Wire) -> None:
    wire.on("POST", f"jobs/{ID}/cancel", told(JOB | {"state": "cancelled"}))
    wire.on("GET", f"jobs/{ID}/result", told(RESULT))
    assert "cancelled" in run("job", "cancel", ID).out
    assert run("job", "result", ID, "--json").json() == RESULT
    assert "507" in run("job", "result", ID).out


@pytest.mark.parametrize(
    ("status", "family", "code"),
    [
        (400, "invalid", 2),
        (403, "denied", 3),
        (404, "not_found", 4),
        (409, "conflict", 5),
        (422, "limit", 5),
        (502, "driver", 6),
        (500, "integrity", 1),
    ],
)
def test_exit_codes(
    run: Run, wire: Wire, status: int, family: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcos.client.retry.CLIENT_ATTEMPTS", 1)
    wire.on("POST", f"jobs/{ID}/cancel", problem(status, family=family, code="a.b", message="m"))
    ran = run("job", "cancel", ID, "--json")
    assert ran.code == code
    assert ran.error()["code"] == "a.b"


def test_text_of_the_server_cannot_steer_the_terminal(run: Run, wire: Wire) -> None:
    evil = JOB | {
        "actor": "\x1b]0;title\x07[bold red]eve[/]\u202e",
        "error": {"message": "\x1b[2Jgone"},
        "state": "failed",
    }
    wire.on("GET", f"jobs/{ID}", told(evil))
    ran = run("job", "show", ID)
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert "\u202e" not in ran.out
    assert "[bold red]eve[/]" in ran.out
    assert "\\x1b[2Jgone" in ran.out


def test_wrong_parameters_and_files_are_usage_errors(run: Run, bell: Path, tmp_path: Path) -> None:
    for arguments in (
        ["submit", bell, "--param", "x"],
        ["submit", bell, "--param", "x=y"],
        ["submit", tmp_path / "none"],
        ["submit"],
    ):
        ran = run("job", *arguments, "--json")
        assert ran.code == 2
        assert ran.error()["code"] in ("cli.param", "spec.file", "cli.usage")


def test_the_project_may_be_configured(
    run: Run, wire: Wire, bell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCOS_PROJECT", "of the environment")
    wire.on("POST", "jobs", told(JOB, 201))
    run("job", "submit", bell)
    run("job", "submit", bell, "-p", "given")
    assert [asked.json()["governance"]["project"] for asked in wire.asked] == ["of the environment", "given"]
