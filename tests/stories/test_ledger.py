"""The audit ledger holds every act with a proof, and is append-only to anybody who watches it (R5.1 to R5.5)."""

from __future__ import annotations

import base64
import json
import subprocess
from decimal import Decimal
from typing import Any

import jsonschema_rs
import pytest

from qcos.base.canonical import digest_of
from qcos.base.errors import Integrity, Unavailable
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.ledger.fsck import fsck
from qcos.ledger.verify import verify_checkpoint, verify_consistency, verify_proof

from .house import BELL, House, Person
from .installation import QCOS


def proof_of(house: House, record: dict[str, Any], who: Person | None = None) -> dict[str, Any]:
    """Return a record's proof as soon as a checkpoint covers it; the server says when to ask again, and the client does."""
    for _ in range(10):
        try:
            return (who or house.auditor).client.ledger.proof(record["id"])
        except Unavailable as error:
            assert error.code == "ledger.pending"
    raise AssertionError("no checkpoint covers the record")


def proved(house: House, **filters: Any) -> dict[str, Any]:
    """Return the newest such record, which the trust root alone must prove to be in the ledger."""
    record = house.records(**filters)[0]
    verified = verify_proof(
        proof_of(house, record), house.qcos.vkeys, {"act": record["act"], "object": record["object"]}
    )
    assert {k: v for k, v in record.items() if k != "index"} == {
        k: v for k, v in verified.record.items() if k in record
    }
    return verified.record


def test_submissions_and_decisions_are_proved(house: House) -> None:
    """R5.1: job submissions and policy decisions, with who, what and why."""
    document = house.spec(shots=300, governance={"justification": "ticket 77"})
    job = house.run(document)
    submitted = proved(house, object=job["job_id"], act="job.submitted")
    assert submitted["actor"] == house.engineer.id
    assert submitted["project"] == house.project
    assert submitted["reason"] == "ticket 77"
    assert submitted["details"] == {
        "spec": job["spec_digest"],
        "classification": "internal",
        "shots": 300,
        "state": "queued",
        "change": {"before": None, "after": job["spec_digest"]},
    }
    decided = proved(house, object=job["decision_id"])
    assert decided["act"] == "policy.decided"
    assert decided["details"]["allow"] is True
    assert decided["details"]["policy_version"] == job["decision"]["policy_version"]
    assert decided["details"]["reserved"] == job["price"]["micro"]


def _own(details: dict[str, Any]) -> dict[str, Any]:
    """Return the details of an act without the decision that permitted it, and without the digests of what it changed."""
    general = ("decision", "policy_version", "change")
    return {name: value for name, value in details.items() if name not in general}


def test_administrative_acts_are_proved(house: House) -> None:
    """R5.2: tenants, users, roles, tokens and policies."""
    dora = house.person("user:dora", "quantum-user")
    assert proved(house, object="user:dora", act="principal.created")["actor"] == house.admin.id
    granted = proved(house, object="user:dora", act="role.granted")
    assert _own(granted["details"]) == {"role": "quantum-user"}
    decision = house.admin.http.get(f"/decisions/{granted['details']['decision']}").json()
    assert decision["allow"] is True and decision["policy_version"] == granted["details"]["policy_version"]
    assert proved(house, object=dora.token_id, act="token.created")["details"]["principal"] == "user:dora"
    house.admin.client.identity.revoke_role("user:dora", "quantum-user")
    assert proved(house, object="user:dora", act="role.revoked")["details"]["role"] == "quantum-user"
    house.admin.client.identity.revoke_token(dora.token_id)
    assert proved(house, object=dora.token_id, act="token.revoked")["actor"] == house.admin.id
    active = house.admin.client.policies.list()["active"]
    assert proved(house, object=active)["act"] == "policy.activated"
    assert _own(proved(house, act="tenant.created")["details"]) == {"tenant": str(house.tenant)}
    assert _own(proved(house, object=house.project, act="project.created")["details"]) == {
        "team": house.team,
        "cost_center": house.cost_center,
    }


def test_evidence_creation_is_proved(house: House) -> None:
    """R5.3: the bundle's creation, committing to the very statement that was signed; the bundle carries the same proof."""
    job = house.run()
    bundle = house.bundle(job["job_id"])
    sealed = proved(house, object=bundle["bundle_id"])
    assert sealed["act"] == "evidence.sealed"
    assert sealed["details"]["job"] == job["job_id"]
    carried = verify_proof(
        bundle["proof"]["ledger"], house.qcos.vkeys, {"act": "evidence.sealed", "object": bundle["bundle_id"]}
    )
    assert carried.record == sealed


def test_charges_and_budget_changes_are_proved(house: House) -> None:
    """R5.4: cost allocations, budget and quota changes, with the value before and after."""
    job = house.run()
    charged = proved(house, object=job["job_id"], act="cost.charged")
    assert charged["details"]["amount"] == job["charge"]["micro"]
    assert charged["details"]["currency"] == "USD"
    assert charged["details"]["cost_center"] == house.cost_center
    assert charged["details"]["reserved"] == job["price"]["micro"]
    house.admin.client.metering.set_budget(house.project, Decimal("6000.50"), "USD")
    changed = proved(house, object=house.project, act="budget.set")["details"]
    assert changed["after"] == {"monthly_limit": 6_000_500_000, "currency": "USD"}
    assert changed["before"] is not None
    assert changed["change"] == {name: digest_of(changed[name]) for name in ("before", "after")}
    house.admin.client.metering.set_quota(house.team, 7)
    assert proved(house, object=house.team, act="quota.set")["details"]["after"] == {"daily_shots": 7}


def test_a_record_changed_by_one_byte_is_not_in_the_ledger(house: House) -> None:
    """R5.5: tampering is evident: the proof of a changed record fails, and says why."""
    proof = proof_of(house, house.records(act="budget.set")[0])
    verify_proof(proof, house.qcos.vkeys)
    raw = base64.b64decode(proof["record"])
    forged = raw.replace(b'"monthly_limit":5000000000', b'"monthly_limit":6000000000')
    assert len(forged) == len(raw) and forged != raw
    with pytest.raises(Integrity) as caught:
        verify_proof(proof | {"record": base64.b64encode(forged).decode()}, house.qcos.vkeys)
    assert caught.value.code.startswith("ledger.")


def test_the_checkpoint_is_signed_by_every_algorithm(house: House) -> None:
    """R5.5: Ed25519, ML-DSA-44 and ML-DSA-65; the checkpoint is public."""
    response = house.qcos_get("/v1/ledger/checkpoint")
    checkpoint, signatures = verify_checkpoint(response.text, house.qcos.vkeys)
    assert checkpoint.origin == "qcos.local/ledger"
    assert len({s.vkey.algorithm for s in signatures}) == len(house.qcos.vkeys) == 3
    with pytest.raises(Integrity):
        verify_checkpoint(
            response.text.replace(f"\n{checkpoint.size}\n", f"\n{checkpoint.size + 1}\n"), house.qcos.vkeys
        )


def test_a_watcher_sees_that_the_ledger_only_grows(house: House) -> None:
    """R5.5: the consistency of two signed checkpoints is proved, and a proof for others is refused."""
    old = house.auditor.client.ledger.checkpoint().decode()
    proof_of(house, house.records(object=house.run()["job_id"])[0])
    new = house.auditor.client.ledger.checkpoint().decode()
    sizes = [verify_checkpoint(note, house.qcos.vkeys)[0].size for note in (old, new)]
    assert sizes[0] < sizes[1]
    hashes = house.auditor.client.ledger.consistency(*sizes)["hashes"]
    verify_consistency(old, new, hashes, house.qcos.vkeys)
    with pytest.raises(Integrity):
        verify_consistency(old, new, [*hashes[:-1], hashes[0]] if len(hashes) > 1 else [], house.qcos.vkeys)


def test_fsck_finds_the_data_folder_clean(house: House) -> None:
    """R5.5: entries, tiles, checkpoints, and the records of all tenants agree, and `qcos ledger fsck` says the same."""
    proof_of(house, house.records(object=house.run(house.spec(BELL))["job_id"])[0])
    with scope(house.qcos.engine, None) as connection:
        tenants = [tenant for tenant, _ in identity.tenants(connection)]
    report = fsck(house.qcos.data / "ledger", house.qcos.vkeys, house.qcos.engine, tenants=tenants)
    assert report.ok, report.problems
    assert report.size > 0 and report.records > 0
    command = [
        QCOS,
        "ledger",
        "fsck",
        str(house.qcos.data / "ledger"),
        "--trust",
        str(house.qcos.trust_file),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["records"] == 0
    url = house.qcos.engine.url.render_as_string(hide_password=False)
    done = subprocess.run([*command, "--database", url], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["records"] >= report.records


def test_records_are_found_by_actor_object_act_and_time(house: House) -> None:
    """R5.1: the audit questions: who did what to which object, when."""
    job = house.run()
    records = house.records()
    assert {r["act"] for r in records if r["object"] == job["job_id"]} == {"job.submitted", "cost.charged"}
    assert all(r["actor"] == house.engineer.id for r in house.records(actor=house.engineer.id))
    instant = next(r["time"] for r in records if r["act"] == "job.submitted")
    since = {r["id"] for r in house.admin.client.ledger.records(since=instant)["items"]}
    until = {r["id"] for r in house.admin.client.ledger.records(until=instant)["items"]}
    assert since | until == {r["id"] for r in records}
    assert not since & until


def test_the_schema_of_records_is_published(house: House) -> None:
    """R5.1 to R5.4: every act with its details, and what is not recorded, for anybody without a token."""
    response = house.qcos_get("/v1/schemas/ledger-record.json")
    assert response.headers["content-type"] == "application/schema+json"
    published = response.json()
    validator = jsonschema_rs.Draft202012Validator(published)
    house.run()
    for record in house.records():
        assert validator.is_valid({name: value for name, value in record.items() if name != "index"})
        assert not validator.is_valid(
            {name: value for name, value in record.items() if name != "index"} | {"act": "none"}
        )
    assert "healthz" in str(published["x-not-recorded"])
