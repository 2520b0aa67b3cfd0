"""What works without a server: evidence, ledger proofs, policy tests (R4.2, R5.5, R3.1)."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from client.wire import Told, Wire, told
from evidence.conftest import NOW, ORIGIN, OUTPUT, Instance, make_instance  # a whole instance, small
from evidence.test_erased import prove_both
from qcos.evidence.bundle import attach
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.tree import leaf_hash, node_hash

from .conftest import Run

RULE = """package qcos.jobs.mine
import rego.v1

deny contains {"code": "a.b", "message": "m"} if input.job.shots > 5
"""
TEST = """package qcos.jobs.mine_test
import rego.v1
import data.qcos.jobs.mine

test_many if count(mine.deny) == {} with input as {"job": {"shots": 6}}
"""


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    return make_instance(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def proof(instance: Instance) -> dict[str, Any]:
    return instance.prove(instance.seal())


@pytest.fixture
def trust(instance: Instance, tmp_path: Path) -> Path:
    file = tmp_path / "trust.json"
    file.write_text(json.dumps(instance.trust))
    return file


@pytest.fixture
def bundle(instance: Instance, tmp_path: Path) -> Path:
    sealed = instance.seal()
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(attach(sealed.document, instance.prove(sealed))))
    return file


@pytest.fixture
def offline(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """No server is configured, and nobody may open a socket."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.delenv("QCOS_URL")
    monkeypatch.delenv("QCOS_TOKEN")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return run


def test_a_bundle_verifies_offline(offline: Run, bundle: Path, trust: Path, tmp_path: Path) -> None:
    """R4.2: with the trust document alone."""
    output = tmp_path / "result.json"
    output.write_bytes(OUTPUT)
    ran = offline("evidence", "verify", bundle, "--trust", trust, "--result", output)
    assert ran.code == 0
    assert "VERIFIED: all" in ran.out
    assert "✗" not in ran.out
    report = offline("evidence", "verify", bundle, "--trust", trust, "--json").json()
    assert report["ok"] is True
    assert {check["name"] for check in report["checks"]} >= {
        "signature ML-DSA-65",
        "timestamp",
        "ledger inclusion",
    }
    output.write_bytes(OUTPUT + b" ")
    assert offline("evidence", "verify", bundle, "--trust", trust, "--result", output).code == 1


def test_a_changed_bundle_fails_with_the_place_of_the_change(offline: Run, bundle: Path, trust: Path) -> None:
    document = json.loads(bundle.read_text())
    document["execution_metadata"]["shots_executed"] += 1
    bundle.write_text(json.dumps(document))
    ran = offline("evidence", "verify", bundle, "--trust", trust)
    assert ran.code == 1
    assert "NOT VERIFIED" in ran.out
    assert "/execution_metadata/shots_executed" in ran.out
    report = offline("evidence", "verify", bundle, "--trust", trust, "--json").json()
    assert "/execution_metadata/shots_executed" in report["reason"]


@pytest.mark.parametrize("at", [0, 40, 500, -3000, -200, -1])
def test_one_changed_byte_is_enough(offline: Run, bundle: Path, trust: Path, at: int) -> None:
    data = bytearray(bundle.read_bytes())
    data[at] = data[at] ^ 1
    bundle.write_bytes(data)
    assert offline("evidence", "verify", bundle, "--trust", trust).code == 1


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{" * 100_000, b" " * (5 * 1024 * 1024)])
def test_what_is_no_bundle_fails(offline: Run, bundle: Path, trust: Path, data: bytes) -> None:
    bundle.write_bytes(data)
    assert offline("evidence", "verify", bundle, "--trust", trust).code == 1


def test_a_bundle_outside_the_ledger_passes_only_when_asked(
    offline: Run, bundle: Path, trust: Path, instance: Instance
) -> None:
    bundle.write_text(json.dumps(attach(instance.seal().document, None)))
    assert offline("evidence", "verify", bundle, "--trust", trust).code == 1
    ran = offline("evidence", "verify", bundle, "--trust", trust, "--allow-pending")
    assert ran.code == 0
    assert "the ledger does not cover it yet" in ran.out


def test_the_callers_own_mistakes_are_usage_errors(
    offline: Run, bundle: Path, trust: Path, tmp_path: Path
) -> None:
    assert offline("evidence", "verify", tmp_path / "none", "--trust", trust).code == 2
    assert offline("evidence", "verify", bundle, "--trust", tmp_path / "none").code == 2
    assert offline("evidence", "verify", bundle).code == 2
    trust.write_text("{}")
    assert offline("evidence", "verify", bundle, "--trust", trust).code == 2
    assert offline("ledger", "verify", bundle, "--trust", trust, "--json").error()["code"] == "cli.trust"


def test_a_record_is_proved_offline(offline: Run, proof: dict[str, Any], trust: Path, tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(proof))
    value = offline("ledger", "verify", file, "--trust", trust, "--json").json()
    assert (value["ok"], value["origin"], value["size"]) == (True, ORIGIN, 2)
    del proof["tlogProof"]
    file.write_text(json.dumps(proof | {"index": 0}))
    ran = offline("ledger", "verify", file, "--trust", trust)
    assert ran.code == 1
    assert "NOT VERIFIED" in ran.out


def test_a_ledger_that_forgot_something_is_found_out(
    run: Run, wire: Wire, trust: Path, tmp_path: Path, instance: Instance
) -> None:
    """R5.5: whoever keeps a checkpoint notices a rewritten log."""
    leaves = [leaf_hash(bytes([n])) for n in range(2)]
    at = int(NOW.timestamp())
    old = tmp_path / "old.note"
    old.write_text(instance.ledger.sign(Checkpoint(ORIGIN, 1, leaves[0]), at))
    grown = instance.ledger.sign(Checkpoint(ORIGIN, 2, node_hash(*leaves)), at)
    rewritten = instance.ledger.sign(Checkpoint(ORIGIN, 2, node_hash(leaves[1], leaves[1])), at)
    wire.on("GET", "ledger/checkpoint", Told(200, (grown.encode(),)), Told(200, (rewritten.encode(),)))
    wire.on("GET", "ledger/consistency", told({"hashes": [base64.b64encode(leaves[1]).decode()]}))
    ran = run("ledger", "consistency", old, "--trust", trust)
    assert ran.code == 0
    assert "the ledger only grew" in ran.out
    assert wire.asked[-1].query == {"old": "1", "new": "2"}
    ran = run("ledger", "consistency", old, "--trust", trust, "--json")
    assert ran.code == 1
    assert ran.json()["family"] == "integrity"


def test_an_empty_folder_is_no_sound_ledger(offline: Run, trust: Path, tmp_path: Path) -> None:
    ran = offline("ledger", "fsck", tmp_path, "--trust", trust, "--json")
    assert ran.code == 1
    assert ran.json()["problem_count"] > 0


def test_policies_are_tested_without_a_server(offline: Run, tmp_path: Path) -> None:
    """R3.1: policy as code, tested before it is uploaded."""
    assert offline("policy", "test", "--json").json()["failed"] == 0
    (tmp_path / "mine.rego").write_text(RULE)
    assert offline("policy", "test", tmp_path).code == 1  # no test at all
    (tmp_path / "mine_test.rego").write_text(TEST.replace("{}", "1", 1))
    ran = offline("policy", "test", tmp_path)
    assert ran.code == 0
    assert "1 passed, 0 failed" in ran.out
    (tmp_path / "mine_test.rego").write_text(TEST.replace("{}", "2", 1))
    ran = offline("policy", "test", tmp_path)
    assert ran.code == 1
    assert "test_many" in ran.out


@pytest.mark.parametrize("form", ["dsse", "in-toto", "sigstore"])
def test_exports_are_made_offline(offline: Run, bundle: Path, form: str) -> None:
    """R4.2: views of what the bundle holds."""
    ran = offline("evidence", "export", bundle, "--format", form)
    assert ran.code == 0
    envelope = json.loads(ran.out)
    envelope = envelope.get("dsseEnvelope", envelope)
    assert envelope["payload"] == json.loads(bundle.read_text())["proof"]["envelope"]["payload"]


def test_an_export_says_what_it_lacks(offline: Run, bundle: Path, tmp_path: Path) -> None:
    ran = offline("evidence", "export", bundle, "-f", "sigstore", "-o", tmp_path / "s.json", "--json")
    assert "time stamp is over the ML-DSA-65 signature" in ran.json()["note"]
    ran = offline("evidence", "export", bundle, "-f", "ro-crate", "-o", tmp_path / "crate.zip", "--json")
    assert ran.json()["bytes"] == (tmp_path / "crate.zip").stat().st_size


def test_exports_that_cannot_be_made_say_why(offline: Run, bundle: Path, tmp_path: Path) -> None:
    assert "cli.output" in offline("evidence", "export", bundle, "-f", "ro-crate", "--json").err
    assert (
        "client.not_configured"
        in offline("evidence", "export", bundle, "-f", "cose", "-o", tmp_path / "s", "--json").err
    )
    assert offline("evidence", "export", bundle, "-f", "pdf").code == 2
    bundle.write_text("{}")
    assert "evidence.document" in offline("evidence", "export", bundle, "-f", "dsse", "--json").err


def test_a_named_material_is_compared(offline: Run, bundle: Path, trust: Path, tmp_path: Path) -> None:
    """R4.2: and the caller's own slips are told apart from a bundle that is wrong."""
    file = tmp_path / "result"
    file.write_bytes(OUTPUT)
    check = ("evidence", "verify", bundle, "--trust", trust)
    assert offline(*check, "--material", f"output={file}", "--level", "standard").code == 0
    assert offline(*check, "--material", f"circuit/0={file}").code == 1
    assert offline(*check, "--level", "full").code == 1
    for wrong in (["--material", "output"], ["--material", f"={file}"], ["--level", "extreme"]):
        assert offline(*check, *wrong).code == 2


def test_an_erased_bundle_has_an_exit_code_of_its_own(
    offline: Run, bundle: Path, trust: Path, instance: Instance
) -> None:
    """R4.3: neither verified nor false; it passes only when asked to."""
    document = prove_both(instance, instance.seal())
    bundle.write_text(json.dumps(document))
    ran = offline("evidence", "verify", bundle, "--trust", trust)
    assert ran.code == 7
    assert "ERASED: payload erased on" in ran.out and "VERIFIED" not in ran.out
    assert offline("evidence", "verify", bundle, "--trust", trust, "--allow-erased").code == 0
    report = offline("evidence", "verify", bundle, "--trust", trust, "--json").json()
    assert (report["ok"], report["erased"]) == (False, True)
    bundle.write_text(json.dumps(document | {"job_id": "another"}))
    ran = offline("evidence", "verify", bundle, "--trust", trust, "--allow-erased")
    assert ran.code == 1 and "NOT VERIFIED" in ran.out


def test_an_anchor_is_worth_no_more_than_the_ledgers_keys(
    instance: Instance, proof: dict[str, Any], tmp_path: Path, offline: Run
) -> None:
    """R10.5: a revoked key does not count here either."""
    receipt = {"schema": "qcos.anchor/v1", "kind": "ethereum", "size": 1, "checkpoint": proof["checkpoint"]}
    (tmp_path / "receipt.json").write_text(json.dumps(receipt | {"proof": None}))
    revoked = [entry | {"revokedAt": "2020-01-01T00:00:00Z"} for entry in instance.trust["ledger"]]
    for ledger, code in ((instance.trust["ledger"], "anchor.pending"), (revoked, "ledger.key_validity")):
        (tmp_path / "trust.json").write_text(json.dumps(instance.trust | {"ledger": ledger}))
        told = offline(
            "anchor", "verify", tmp_path / "receipt.json", "--trust", tmp_path / "trust.json", "--json"
        )
        assert (told.code, told.json()["code"]) == (1, code)
