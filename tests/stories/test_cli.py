"""The command line, as programs use it: JSON out, exit codes that tell how it went (R2.1, R4.2, R3.1, R12.1)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import qcos.policy
import qcos.policy.bundle

from .house import BELL, House, Person
from .installation import QCOS


def run(person: Person, environment: dict[str, str], *arguments: str, code: int = 0) -> list[Any]:
    """Run a command as somebody; return the JSON lines it printed."""
    known = environment | {"QCOS_URL": str(person.http.base_url), "QCOS_TOKEN": person.token}
    done = subprocess.run(
        [QCOS, *arguments, "--json"], env=known, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    lines = (done.stdout if code == 0 else done.stdout or done.stderr).splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def bell(tmp_path: Path) -> str:
    file = tmp_path / "bell.qasm"
    file.write_text(BELL)
    return str(file)


def test_a_job_from_file_to_verified_evidence(
    house: House, clean_environment: dict[str, str], bell: str, tmp_path: Path
) -> None:
    """R2.1, R8.2, R4.2: submit, wait, show, list, get the evidence, verify it without the server."""
    options = [
        "--project",
        house.project,
        "--shots",
        "250",
        "--seed",
        "3",
        "--backend",
        "aer-ideal",
        "--wait",
    ]
    told = run(house.engineer, clean_environment, "job", "submit", bell, *options)
    job = told[-1].get("job", told[-1])
    job_id = job["job_id"]
    (shown,) = run(house.engineer, clean_environment, "job", "show", job_id)
    assert shown["state"] == "completed" and shown["shots"] == 250
    listed = run(house.engineer, clean_environment, "job", "list")
    assert [item["job_id"] for page in listed for item in page.get("items", [page])] == [job_id]
    bundle, trust = tmp_path / "bundle.json", tmp_path / "trust.json"
    run(house.engineer, clean_environment, "evidence", "get", job_id, "--output", str(bundle), "--wait", "60")
    shutil.copy(house.qcos.trust_file, trust)
    verify = [QCOS, "evidence", "verify", str(bundle), "--trust", str(trust)]
    offline = clean_environment | {"QCOS_URL": "http://127.0.0.1:9"}
    done = subprocess.run(verify, env=offline, capture_output=True, text=True)
    assert done.returncode == 0 and "VERIFIED" in done.stdout
    bundle.write_text(bundle.read_text().replace("250", "251", 1))
    done = subprocess.run(verify, env=offline, capture_output=True, text=True)
    assert done.returncode == 1
    assert "NOT VERIFIED" in done.stdout and "/execution_metadata/shots_executed" in done.stdout


def test_a_refusal_is_an_exit_code_and_a_problem(
    house: House, clean_environment: dict[str, str], bell: str
) -> None:
    """R3.3: the reason is there for programs, and for people."""
    arguments = ["job", "submit", bell, "--project", house.project, "--purpose", "production"]
    known = clean_environment | {"QCOS_URL": house.qcos.url, "QCOS_TOKEN": house.user.token}
    done = subprocess.run([QCOS, *arguments, "--json"], env=known, capture_output=True, text=True, timeout=60)
    assert done.returncode not in (0, 2)
    assert json.loads(done.stderr or done.stdout)["code"] == "access.production"
    people = subprocess.run([QCOS, *arguments], env=known, capture_output=True, text=True, timeout=60)
    assert people.returncode == done.returncode
    assert "may not submit production jobs" in " ".join((people.stdout + people.stderr).split())


def test_an_estimate_and_a_budget(house: House, clean_environment: dict[str, str], bell: str) -> None:
    """R12.1, R3.2: what it would cost; what may be spent."""
    (estimate,) = run(house.user, clean_environment, "job", "estimate", bell, "--project", house.project)
    assert estimate["allow"] is True
    run(house.admin, clean_environment, "budget", "set", house.project, "12.50")
    assert house.budget()["limit"]["micro"] == 12_500_000


def test_the_shipped_policies_pass_their_tests(clean_environment: dict[str, str], tmp_path: Path) -> None:
    """R3.1: `qcos policy test` needs no server; a red test is exit code 1 and is named."""
    shipped = Path(str(qcos.policy.__file__)).parent / "shipped"
    done = subprocess.run(
        [QCOS, "policy", "test", str(shipped), "--json"],
        env=clean_environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True and report["passed"] > 30 and report["failed"] == 0
    broken = tmp_path / "policies"
    shutil.copytree(shipped, broken)
    quota = broken / "jobs" / "quota.rego"
    quota.write_text(quota.read_text().replace("quota.exceeded", "quota.overrun"))
    done = subprocess.run(
        [QCOS, "policy", "test", str(broken), "--json"], env=clean_environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    report = json.loads(done.stdout or done.stderr)
    assert report["failed"] >= 1 and "quota" in json.dumps(report)


def test_without_a_server_the_reason_is_told(clean_environment: dict[str, str]) -> None:
    """R12.9: nothing configured, nobody there, a token that is none: each says so."""
    told = {}
    for name, more in {
        "nothing": {},
        "nobody": {"QCOS_URL": "http://127.0.0.1:9", "QCOS_TOKEN": "qcos_x"},
    }.items():
        done = subprocess.run(
            [QCOS, "job", "list", "--json"],
            env=clean_environment | more,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode not in (0, 2) or (name == "nothing" and done.returncode != 0)
        told[name] = json.loads(done.stderr or done.stdout)["code"]
    assert told == {"nothing": "client.not_configured", "nobody": "client.unreachable"}
    assert "QCOS_TOKEN" not in os.environ


def test_a_decision_is_explained_by_the_id_that_a_job_names(
    house: House, clean_environment: dict[str, str]
) -> None:
    """R3.6."""
    job = house.run()
    decision = job["decision"]["decision_id"]
    for name in (decision, job["job_id"]):
        (told,) = run(house.engineer, clean_environment, "policy", "explain", name)
        assert told["decision_id"] == decision


def test_the_policies_of_a_release_are_uploaded_without_a_copy_of_them(
    house: House, clean_environment: dict[str, str]
) -> None:
    """R3.1: an upgraded tenant gets those that a new one starts with."""
    (uploaded,) = run(house.admin, clean_environment, "policy", "upload", "--note", "as shipped")
    assert uploaded["version"] == qcos.policy.bundle.shipped().version
