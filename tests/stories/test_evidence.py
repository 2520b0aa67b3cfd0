"""Evidence: exactly Listing 2 for the reader, and verifiable by anybody with the trust root alone (R4.1, R4.2)."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qcos.evidence.verify import verify

from .house import House
from .installation import QCOS

LISTING_2 = {
    "bundle_id": str,
    "job_id": str,
    "input_hash": str,
    "output_hash": str,
    "execution_metadata": {
        "backend": str,
        "start_time": str,
        "end_time": str,
        "shots_executed": int,
        "queue_time_ms": int,
    },
    "governance_record": {"actor": str, "project": str, "policies_applied": list, "policy_decisions": list},
    "signatures": {"qcos_signature": str, "timestamp_authority": str},
}


@pytest.fixture(scope="module")
def sealed(shared_house: House) -> tuple[House, dict[str, Any], dict[str, Any]]:
    """A completed job and its bundle."""
    job = shared_house.run(shared_house.spec(shots=1000))
    return shared_house, job, shared_house.bundle(job["job_id"])


def _shape(value: Any) -> Any:
    return {k: _shape(v) for k, v in value.items()} if isinstance(value, dict) else type(value)


def test_the_bundle_has_exactly_the_fields_of_listing_2(sealed: Any) -> None:
    """R4.1: names and kinds of every field as printed; beside them only `proof`."""
    house, job, bundle = sealed
    reader = {k: v for k, v in bundle.items() if k != "proof"}
    assert _shape(reader) == LISTING_2
    assert list(reader) == list(LISTING_2)
    assert bundle["bundle_id"] == job["bundle_id"]
    assert bundle["job_id"] == job["job_id"]
    jobs = house.engineer.client.jobs
    assert bundle["input_hash"] == "sha256:" + hashlib.sha256(jobs.spec_document(job["job_id"])).hexdigest()
    assert (
        bundle["output_hash"] == "sha256:" + hashlib.sha256(jobs.result_document(job["job_id"])).hexdigest()
    )
    assert bundle["execution_metadata"]["backend"] == "aer-ideal"
    assert bundle["execution_metadata"]["shots_executed"] == 1000
    assert bundle["governance_record"]["actor"] == house.engineer.id
    assert bundle["governance_record"]["project"] == house.project
    assert bundle["governance_record"]["policies_applied"] == job["decision"]["policies"]
    assert bundle["governance_record"]["policy_decisions"] == ["allow"]
    kind, _, text = bundle["signatures"]["qcos_signature"].partition(":")
    assert kind == "ML-DSA-65"
    assert len(base64.b64decode(text, validate=True)) == 3309, "FIPS 204"
    assert bundle["signatures"]["timestamp_authority"].startswith("RFC3161:")


def test_the_bundle_stays_as_it_is(sealed: Any) -> None:
    """R4.1: immutable: asked again, it is the same; only the ledger's proof may be of a later checkpoint."""
    house, job, bundle = sealed
    again = house.bundle(job["job_id"])
    for document in (again, copied := copy.deepcopy(bundle)):
        document["proof"].pop("ledger")
    assert again == copied


def _offline(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Verify in a process that has no server to ask and, where the machine allows it, no network at all."""
    command = [
        QCOS,
        "evidence",
        "verify",
        str(folder / "bundle.json"),
        "--trust",
        str(folder / "trust.json"),
        "--json",
    ]
    unshare = shutil.which("unshare")
    if unshare and subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode == 0:
        command = [unshare, "-rn", *command]  # a network namespace without any interface
    return subprocess.run(
        command,
        env=environment | {"QCOS_URL": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def _put(folder: Path, bundle: bytes, trust: bytes) -> None:
    (folder / "bundle.json").write_bytes(bundle)
    (folder / "trust.json").write_bytes(trust)


def test_anybody_verifies_offline(sealed: Any, tmp_path: Path, clean_environment: dict[str, str]) -> None:
    """R4.2: bundle and trust root suffice: no server, no database, no network."""
    house, _, bundle = sealed
    _put(tmp_path, json.dumps(bundle).encode(), house.qcos.trust_file.read_bytes())
    done = _offline(tmp_path, clean_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True and report["pending"] is False
    assert all(check["ok"] for check in report["checks"])


def test_the_trust_root_of_the_api_is_that_of_the_folder(sealed: Any) -> None:
    """R4.2: the trust root is published, and it is public."""
    house, _, _ = sealed
    response = house.qcos_get("/v1/trust")
    assert response.status_code == 200
    assert response.json() == house.qcos.trust


CHANGES = {
    "shots": ('"shots_executed": 1000', '"shots_executed": 1001', "/execution_metadata/shots_executed"),
    "backend": ('"backend": "aer-ideal"', '"backend": "aer-idea1"', "/execution_metadata/backend"),
    "decision": (
        '"policy_decisions": ["allow"]',
        '"policy_decisions": ["allox"]',
        "/governance_record/policy_decisions",
    ),
}


@pytest.mark.parametrize(("old", "new", "pointer"), CHANGES.values(), ids=list(CHANGES))
def test_one_byte_changed_is_found_and_named(
    sealed: Any, tmp_path: Path, clean_environment: dict[str, str], old: str, new: str, pointer: str
) -> None:
    """R4.2: one byte is changed; verification fails with exit code 1 and says where, what was signed and what is shown."""
    house, _, bundle = sealed
    text = json.dumps(bundle)
    assert text.count(old) == 1
    changed = text.replace(old, new)
    assert sum(a != b for a, b in zip(text, changed, strict=True)) == 1
    _put(tmp_path, changed.encode(), house.qcos.trust_file.read_bytes())
    done = _offline(tmp_path, clean_environment)
    assert done.returncode == 1
    failed = {check["name"]: check for check in json.loads(done.stdout)["checks"] if not check["ok"]}
    shown = failed["reader's fields"]
    assert shown["pointer"].startswith(pointer)
    assert shown["code"] == "evidence.field"


def _flipped(text: str, at: int) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[at % len(raw)] ^= 1
    return base64.b64encode(raw).decode()


def test_a_bit_of_any_proof_changed_is_found_and_named(sealed: Any) -> None:
    """R4.2: signature, statement, timestamp, ledger proof: a flipped bit fails exactly the check that is about it."""
    house, _, bundle = sealed
    cases = {
        "signature ML-DSA-65": ("proof", "envelope", "signatures", 0, "sig"),
        "signature Ed25519": ("proof", "envelope", "signatures", 1, "sig"),
        "timestamp": ("proof", "timestamp"),
        "ledger inclusion": ("proof", "ledger", "hashes", 0),
    }
    for name, path in cases.items():
        changed = copy.deepcopy(bundle)
        node: Any = changed
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = _flipped(node[path[-1]], -1)
        report = verify(changed, house.qcos.trust)
        assert not report.ok
        assert name in {check.name for check in report.checks if not check.ok}, f"{name}: {report.lines()}"


def test_another_installations_trust_root_trusts_nothing_here(
    sealed: Any, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    """R4.2: keys that are not pinned verify nothing."""
    _, _, bundle = sealed
    script = (
        "import json, sys; from pathlib import Path; from qcos.app import open_keyring; from qcos.settings import Settings;"
        "from qcos.keys.trust import trust_document; from qcos.ledger.sign import LedgerSigners;"
        "s = Settings(data=Path(sys.argv[1])); k = open_keyring(s); a, b, c = k.ledger;"
        "print(json.dumps(trust_document(k, s.origin, LedgerSigners(ed25519=a, mldsa44=b, mldsa65=c, name=s.origin).vkeys)))"
    )
    made = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "other")],
        env=clean_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    report = verify(bundle, json.loads(made.stdout))
    assert not report.ok
    held = {check.name for check in report.checks if check.ok}
    assert not held & {"signature ML-DSA-65", "signature Ed25519", "timestamp", "ledger checkpoint"}
