"""R10.5: keys are rotated and revoked while jobs run; old evidence verifies, what a revoked key signs does not."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from qcos.client import Client
from qcos.evidence.verify import verify
from qcos.ledger.note import parse
from qcos.ledger.verify import verify_checkpoint

from .house import PATIENT_S, House, furnish
from .installation import QCOS, Installation, running


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation of these stories' own: its keys are changed."""
    with running(tmp_path_factory.mktemp("keys") / "data", "aer") as ready:
        yield ready


@pytest.fixture(scope="module")
def operator(own: Installation) -> Client:
    """The administrator of the tenant that the installation was set up with."""
    return Client(own.url, own.admin_token, PATIENT_S)


@pytest.fixture(scope="module")
def tenant(own: Installation) -> Iterator[House]:
    with furnish(own) as made:
        yield made


def trust_of(own: Installation) -> dict[str, Any]:
    return dict(httpx.get(f"{own.url}/v1/trust", timeout=PATIENT_S, trust_env=False).json())


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def signers(bundle: dict[str, Any]) -> list[str]:
    return [one["keyid"] for one in bundle["proof"]["envelope"]["signatures"]]


def in_force(operator: Client, role: str) -> dict[str, str]:
    return {
        key["algorithm"]: key["key_id"]
        for key in operator.keys.list()["items"]
        if key["role"] == role and key["state"] == "active"
    }


def sealed_by(tenant: House, key_ids: set[str], *, all_good: bool = True) -> dict[str, Any]:
    """Run jobs until one is sealed by these keys; every bundle on the way must verify, unless keys were revoked since earlier."""
    deadline = time.monotonic() + 120
    while True:
        bundle = tenant.bundle(tenant.run()["job_id"])
        report = verify(bundle, trust_of(tenant.qcos))
        mine = set(signers(bundle)) == key_ids
        assert report.ok or not (mine or all_good), report.reason
        if mine:
            return bundle
        assert time.monotonic() < deadline, "the worker does not sign with the keys in force"
        time.sleep(0.3)


def test_evidence_keys_are_rotated_while_jobs_run(own: Installation, operator: Client, tenant: House) -> None:
    before = tenant.bundle(tenant.run()["job_id"])
    worker, first = own.process("worker-aer").pid, in_force(operator, "evidence")
    made = operator.keys.rotate("evidence", reason="yearly")["made"]
    assert [(key["algorithm"], key["generation"]) for key in made] == [("ML-DSA-65", 2), ("Ed25519", 2)]
    assert in_force(operator, "evidence") == {key["algorithm"]: key["key_id"] for key in made}
    after = sealed_by(tenant, {key["key_id"] for key in made})
    assert own.process("worker-aer").pid == worker, "without a restart"

    new = trust_of(own)
    for bundle in (before, after):
        report = verify(bundle, new)
        assert report.ok, report.reason
    until(lambda: own.trust == new)  # the file of `qcos up` follows
    states = {key["key_id"]: key["state"] for key in operator.keys.list()["items"]}
    assert {states[key_id] for key_id in first.values()} == {"retiring"}
    assert not verify(after, {**new, "evidence": new["evidence"][:1] + new["evidence"][2:3]}).ok

    rotated = list(operator.ledger.each(act="key.rotated"))
    assert {record["object"] for record in rotated} == {key["key_id"] for key in made}
    assert {record["details"]["before"]["key_id"] for record in rotated} == set(first.values())
    assert all(record["reason"] == "yearly" and record["details"]["decision"] for record in rotated)
    until(
        lambda: (
            {key["key_id"] for key in made} <= {r["object"] for r in operator.ledger.each(act="key.in_use")}
        )
    )


def test_one_algorithm_alone_and_nobody_twice(own: Installation, operator: Client) -> None:
    before = in_force(operator, "evidence")
    operator.keys.rotate("evidence", algorithm="Ed25519")
    after = in_force(operator, "evidence")
    assert after["ML-DSA-65"] == before["ML-DSA-65"]
    assert after["Ed25519"] != before["Ed25519"]
    for role, options in (
        ("tokens", {}),
        ("evidence", {"algorithm": "RSA"}),
        ("evidence", {"store": "moon"}),
    ):
        response = httpx.post(
            f"{own.url}/v1/keys/{role}/rotate",
            json=options,
            headers={"Authorization": f"Bearer {own.admin_token}"},
            timeout=PATIENT_S,
            trust_env=False,
        )
        assert response.status_code == 400, response.text
    assert in_force(operator, "evidence") == after


def test_ledger_keys_are_rotated_and_the_log_goes_on(
    own: Installation, operator: Client, tenant: House
) -> None:
    old = trust_of(own)
    bundle = tenant.bundle(tenant.run()["job_id"])
    made = operator.keys.rotate("ledger")["made"]
    assert len(made) == 3
    new = trust_of(own)
    assert len(new["ledger"]) == 6
    fresh = {key["vkey"] for key in new["ledger"]} - {key["vkey"] for key in old["ledger"]}

    def signed_by_new() -> bool:
        note = httpx.get(f"{own.url}/v1/ledger/checkpoint", timeout=PATIENT_S, trust_env=False).text
        claimed = {line.key_id.hex() for line in parse(note)[1]}
        if not {vkey.split("+")[1] for vkey in fresh} <= claimed:
            return False
        return {str(one.vkey) for one in verify_checkpoint(note, sorted(fresh))[1]} == fresh

    until(signed_by_new)  # although nobody works: the ledger tells of the new keys, under the new keys
    again = tenant.bundle(bundle["job_id"])
    for shown in (bundle, again):
        report = verify(shown, new)
        assert report.ok, report.reason
    assert not verify(again, old).ok, "whoever pinned the old document has to take the new one"
    assert own.trust["origin"] == new["origin"]


def test_the_authority_is_rotated_with_its_certificate(
    own: Installation, operator: Client, tenant: House
) -> None:
    before = tenant.bundle(tenant.run()["job_id"])
    operator.keys.rotate("tsa")
    new = trust_of(own)
    assert len(new["timestamp"]) == 2
    after = tenant.bundle(tenant.run()["job_id"])
    assert verify(before, new).ok and verify(after, new).ok
    old_only = {**new, "timestamp": new["timestamp"][:1]}
    until(lambda: not verify(tenant.bundle(tenant.run()["job_id"]), old_only).ok)
    operator.keys.rotate("tsa-ca")
    assert len(trust_of(own)["timestamp"]) == 3
    assert verify(tenant.bundle(tenant.run()["job_id"]), trust_of(own)).ok


def test_a_revoked_key_counts_for_nothing_from_then_on(
    own: Installation, operator: Client, tenant: House
) -> None:
    """No job's evidence is lost by it: processes notice before the revocation takes effect."""
    before = tenant.bundle(tenant.run()["job_id"])
    stolen = in_force(operator, "evidence")["ML-DSA-65"]
    answer = operator.keys.revoke(stolen, reason="its disk was stolen")
    assert answer["revoked"] == [stolen]
    successor = in_force(operator, "evidence")["ML-DSA-65"]
    assert successor != stolen
    after = sealed_by(tenant, set(in_force(operator, "evidence").values()))

    new = trust_of(own)
    entry = next(key for key in new["evidence"] if key["keyId"] == stolen)
    assert entry["reason"] == "its disk was stolen"
    report = verify(before, new)
    assert report.ok, report.reason
    assert "was revoked later" in "".join(report.lines())
    assert verify(after, new).ok
    (record,) = [r for r in operator.ledger.each(act="key.revoked") if r["object"] == stolen]
    assert record["details"]["successor"] == successor
    assert operator.keys.revoke(stolen, reason="again")["revoked"] == [], "once is enough"


def test_a_key_revoked_since_it_was_stolen_takes_its_evidence_along(
    own: Installation, operator: Client, tenant: House
) -> None:
    early = tenant.bundle(tenant.run()["job_id"])
    late = tenant.bundle(tenant.run()["job_id"])
    at = verify(late, trust_of(own)).facts["trustedTime"]
    ed25519 = in_force(operator, "evidence")["Ed25519"]
    operator.keys.revoke(ed25519, reason="on a public server", since=at)
    new = trust_of(own)
    assert verify(early, new).ok
    report = verify(late, new)
    assert not report.ok
    assert "signed after its key was revoked (on a public server)" in report.reason
    sealed_by(tenant, set(in_force(operator, "evidence").values()), all_good=False)


def test_a_revoked_authority_is_believed_where_the_ledger_is_older(
    own: Installation, operator: Client, tenant: House
) -> None:
    before = tenant.bundle(tenant.run()["job_id"])
    tsa = in_force(operator, "tsa")["ECDSA-P384"]
    operator.keys.revoke(tsa, reason="copied")
    meanwhile = []
    for _ in range(4):
        meanwhile.append(tenant.bundle(tenant.run()["job_id"]))
        time.sleep(0.5)
    assert verify(before, trust_of(own)).ok
    # What was stamped until everybody had noticed counts when the document says what the ledger had by then.
    until(lambda: all(verify(bundle, trust_of(own)).ok for bundle in meanwhile))
    report = verify(before, trust_of(own))
    assert report.ok, report.reason
    assert {check.name for check in report.checks} >= {"revoked authority"}


def test_all_ledger_keys_are_revoked_and_proofs_are_given_anew(
    own: Installation, operator: Client, tenant: House
) -> None:
    bundle = tenant.bundle(tenant.run()["job_id"])
    for key_id in in_force(operator, "ledger").values():
        operator.keys.revoke(key_id, reason="server room was open")
    new = trust_of(own)
    report = verify(bundle, new)
    assert not report.ok
    assert "the key is revoked" in report.reason
    until(lambda: verify(tenant.bundle(bundle["job_id"]), new).ok)


def test_only_the_installations_own_administrators_touch_its_keys(
    own: Installation, operator: Client, tenant: House
) -> None:
    """The administrator of another tenant rules there; the keys belong to all."""
    key = in_force(operator, "tsa")["ECDSA-P384"]
    for person in tenant.people.values():
        asked = [
            person.http.get("/keys"),
            person.http.post("/keys/evidence/rotate", json={}),
            person.http.post(f"/keys/{key}/revoke", json={"reason": "mischief"}),
        ]
        assert [response.status_code for response in asked] == [403, 403, 403], person.role
    assert in_force(operator, "tsa")["ECDSA-P384"] == key
    refused = [record["details"] for record in tenant.records(act="access.denied", actor=tenant.admin.id)]
    assert {details["act"] for details in refused} >= {"key.read", "key.rotate", "key.revoke"}
    assert {code for details in refused for code in details["codes"]} == {"access.installation"}


def test_the_command_line_does_the_same(
    own: Installation, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    environment = clean_environment | {"QCOS_URL": own.url, "QCOS_TOKEN": own.admin_token}

    def qcos(*words: str) -> Any:
        done = subprocess.run([QCOS, *words, "--json"], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    listed = qcos("key", "list")["items"]
    made = qcos(
        "key", "rotate", "evidence", "--algorithm", "Ed25519", "--overlap", "60", "--reason", "drill"
    )["made"]
    assert len(qcos("key", "list")["items"]) == len(listed) + 1
    revoked = qcos("key", "revoke", made[0]["key_id"], "--reason", "drill")
    assert revoked["revoked"] == [made[0]["key_id"]]
    text = subprocess.run([QCOS, "key", "list"], env=environment, capture_output=True, text=True).stdout
    assert "revoked" in text and "drill" in text
