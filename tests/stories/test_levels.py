"""The level a job asks for decides what its evidence holds, and the documents it names can be fetched (R1.1 to R1.7, R12.5)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from qcos.base.errors import Denied, NotFound
from qcos.evidence.verify import verify

from .house import BELL, GHZ3, House, base64_of
from .installation import QCOS
from .test_keys import until

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"


def _job(house: House, level: str, **execution: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A finished job of a level, its bundle and the predicate that was signed."""
    spec = house.spec(GHZ3, shots=200, execution=execution, evidence_requirements={"level": level})
    job = house.run(spec)
    bundle = house.bundle(job["job_id"])
    statement = json.loads(base64.b64decode(bundle["proof"]["envelope"]["payload"]))
    return job, bundle, statement


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _names(statement: dict[str, Any]) -> set[str]:
    return {subject["name"] for subject in statement["subject"]}


def test_basic_is_the_record_with_digests(shared_house: House) -> None:
    """R1.1 to R1.7: all of Table 1, and nothing above it."""
    job, bundle, statement = _job(shared_house, "basic")
    report = verify(bundle, shared_house.qcos.trust)
    assert report.ok, report.reason
    assert report.facts["level"] == "basic"
    assert _names(statement) == {"input", "output", "circuit/0", "policy-bundle"}
    predicate = statement["predicate"]
    assert predicate["evidence"] == {"level": "basic"}
    assert predicate["governance"]["decisionId"] == job["decision_id"]
    assert predicate["result"]["charge"]["amount"] == job["charge"]["micro"]
    assert predicate["result"]["usage"]["shots"] == 200
    assert shared_house.engineer.client.jobs.get(job["job_id"])["outcome"].get("provenance") is None


def test_standard_commits_to_the_decision_and_the_charge(shared_house: House) -> None:
    """R3.6, R12.5: digest of all that policy saw, the ledger's record of it, every line of the charge."""
    house = shared_house
    job, bundle, statement = _job(house, "standard")
    assert verify(bundle, house.qcos.trust, level="standard").ok
    predicate = statement["predicate"]
    (told,) = [
        record
        for record in house.records(object=job["decision_id"])
        if record["id"] == predicate["evidence"]["decision"]["record"]
    ]
    assert told["act"] == "policy.decided"
    assert told["object"] == job["decision_id"]
    assert told["details"]["input"] == predicate["governance"]["decisionDigest"]
    assert predicate["result"]["charge"]["lines"]
    assert predicate["where"]["placement"]["scores"]
    assert "simulator" in predicate["evidence"]["absent"]["calibration"]
    data = house.engineer.client.jobs.material(job["job_id"], "decision-input")
    assert _sha256(data) == predicate["governance"]["decisionDigest"]
    assert json.loads(data)["principal"]["id"] == house.engineer.id


@pytest.mark.parametrize("backend", ["aer-ideal", "aer-fake-manila"])
def test_full_holds_everything_and_it_can_be_fetched(shared_house: House, backend: str) -> None:
    """R1.1, R12.5: toolchain with seeds and settings, the program as executed, the calibration, the raw answer."""
    house, jobs = shared_house, shared_house.engineer.client.jobs
    job, bundle, statement = _job(house, "full", backend=backend, seed=7)
    predicate = statement["predicate"]
    toolchain = predicate["evidence"]["toolchain"]
    assert toolchain["driver"] == "aer"
    assert {"qcos", "qiskit", "qiskit-aer", "numpy"} <= set(toolchain["packages"])
    assert toolchain["python"]["version"].startswith("3.")
    assert (toolchain["seeds"]["simulator"], toolchain["seeds"]["transpiler"]) == (7, 0)
    assert toolchain["settings"]["noise_model"] == (backend == "aer-fake-manila")
    listed = {item["name"]: item for item in jobs.materials(job["job_id"])}
    assert all(item["kept"] for item in listed.values())
    materials = {name: jobs.material(job["job_id"], name) for name in listed}
    assert {name: _sha256(data) for name, data in materials.items()} == {
        name: item["digest"] for name, item in listed.items()
    }
    report = verify(bundle, house.qcos.trust, materials=materials, level="full")
    assert report.ok, report.reason
    assert materials["circuit/0"] == GHZ3.encode()
    executed = materials["transpiled/0"].decode()
    assert executed.startswith("OPENQASM 3.0;")
    assert ("sx $" in executed) == (backend == "aer-fake-manila"), "compiled for the device's own gates"
    (answer,) = json.loads(materials["vendor-response"])
    counts = json.loads(materials["output"])["circuits"][0]["counts"]
    assert sum(answer["results"][0]["data"]["counts"].values()) == sum(counts.values()) == 200
    if backend == "aer-fake-manila":
        properties = json.loads(materials["calibration"])
        assert properties["backend_name"] == "ibmq_manila" and properties["qubits"]
        assert predicate["where"]["calibration"] == listed["calibration"]["digest"]
        assert "calibration" not in predicate["evidence"]["absent"]
    else:
        assert set(predicate["evidence"]["absent"]) == {"calibration"}


def test_full_of_several_circuits_names_each(shared_house: House) -> None:
    """R1.1: each program as it was executed, and one answer for each."""
    house, jobs = shared_house, shared_house.engineer.client.jobs
    spec = house.spec(shots=10, evidence_requirements={"level": "full"})
    spec["circuits"] = [spec.pop("circuit"), {"format": "QASM3", "source": base64_of(GHZ3)}]
    job = house.run(spec)
    assert verify(house.bundle(job["job_id"]), house.qcos.trust, level="full").ok
    assert jobs.material(job["job_id"], "transpiled/1").count(b"cx ") == 2
    assert len(json.loads(jobs.material(job["job_id"], "vendor-response"))) == 2
    assert jobs.material(job["job_id"], "circuit/0") == BELL.encode()


def test_only_who_may_read_the_evidence_gets_its_documents(shared_house: House) -> None:
    """R11.4: and nobody finds out that there are any."""
    house = shared_house
    job, _, _ = _job(house, "full")
    outsider = house.person("service:outsider", None)
    for what in (lambda: outsider.client.jobs.materials(job["job_id"]),
                 lambda: outsider.client.jobs.material(job["job_id"], "vendor-response")):  # fmt: skip
        with pytest.raises((NotFound, Denied)):
            what()
    jobs = house.engineer.client.jobs
    for name in ("nothing", "transpiled/7", "circuit/x"):
        with pytest.raises(NotFound):
            jobs.material(job["job_id"], name)


def test_the_command_line_fetches_and_verifies_all_of_it(
    shared_house: House, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    """R4.2: with a folder of documents and a demanded level, offline."""
    house = shared_house
    job, _, _ = _job(house, "full")
    environment = clean_environment | {"QCOS_URL": house.qcos.url, "QCOS_TOKEN": house.engineer.token}
    bundle, folder = tmp_path / "bundle.json", tmp_path / "materials"

    def run(*arguments: object, **offline: str) -> subprocess.CompletedProcess[str]:
        command = [QCOS, "evidence", *map(str, arguments)]
        return subprocess.run(command, env=environment | offline, capture_output=True, text=True, timeout=60)

    done = run("get", job["job_id"], "-o", bundle, "--materials", folder, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["not_kept"] == []
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()} == {
        *(
            "input",
            "output",
            "circuit/0",
            "policy-bundle",
            "decision-input",
            "transpiled/0",
            "vendor-response",
        )
    }
    check = (
        "verify",
        bundle,
        "--trust",
        house.qcos.trust_file,
        "--materials",
        folder,
        "--level",
        "full",
        "--json",
    )
    done = run(*check, QCOS_URL="http://127.0.0.1:9")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["facts"]["level"] == "full"
    (folder / "vendor-response").write_text("[]")
    done = run(*check, QCOS_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    failed = [check["name"] for check in json.loads(done.stdout)["checks"] if not check["ok"]]
    assert failed == ["material vendor-response"]
    done = run(
        "verify",
        bundle,
        "--trust",
        house.qcos.trust_file,
        "--material",
        f"transpiled/0={folder / 'input'}",
        "--json",
    )
    assert [c["name"] for c in json.loads(done.stdout)["checks"] if not c["ok"]] == ["material transpiled/0"]


def test_the_page_on_exports_does_what_it_says(
    shared_house: House, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    """R4.2: every export of a real bundle by the commands of the page, and its own check of the COSE statement."""
    house = shared_house
    job, _, _ = _job(house, "full")
    text = (GUIDES / "export-evidence.md").read_text()
    shell, python, stamp, find, committed = re.findall(r"```(?:sh|python).*?\n(.*?)```", text, re.DOTALL)
    environment = clean_environment | {"QCOS_URL": house.qcos.url, "QCOS_TOKEN": house.engineer.token}
    environment["PATH"] = f"{Path(QCOS).parent}:{environment['PATH']}"

    def run(command: str) -> str:
        done = subprocess.run(
            ["sh", "-ec", command], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    (tmp_path / "trust.json").write_bytes(house.qcos.trust_file.read_bytes())
    run(f"qcos evidence get {job['job_id']} -o bundle.json --materials documents")
    (tmp_path / "check.py").write_text(python)
    run(shell)
    said = run("python -W ignore check.py").splitlines()
    assert said == [
        f"signed by {house.qcos.trust['origin']} for {job['bundle_id']}",
        "the bundle's statement: True",
    ]
    assert "Verification: OK" in run(stamp)
    (record,) = house.records(object=job["bundle_id"], act="evidence.signed")
    assert record["details"]["document"] == _sha256((tmp_path / "statement.scitt").read_bytes())
    assert record["actor"] == house.engineer.id
    until(lambda: house.admin.http.get(f"/ledger/proofs/{record['id']}").status_code == 200)
    environment["QCOS_TOKEN"] = house.admin.token
    run(find)
    (tmp_path / "committed.py").write_text(committed)
    assert run("python committed.py") == "evidence.signed commits to this file: True\n"
    by_hand = (GUIDES / "verify-the-ledger-by-hand.md").read_text()
    (inclusion,) = re.findall(r"```python run=inclusion\n(.*?)```", by_hand, re.DOTALL)
    (tmp_path / "by_hand.py").write_text(inclusion)
    assert run("python by_hand.py").startswith("in the ledger: True\nevidence.signed by ")
    with zipfile.ZipFile(tmp_path / "crate.zip") as crate:
        assert "documents/transpiled/0" in crate.namelist()
    environment["QCOS_URL"] = "http://127.0.0.1:9"
    run("\n".join(line for line in shell.splitlines() if "cose" not in line))  # offline
