"""Exports: what other tools read, checked with nothing of QCOS but the published keys."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import cbor2
import pytest
from asn1crypto import tsp
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from rocrate.rocrate import ROCrate

from qcos.base.errors import Integrity, Invalid
from qcos.evidence import cose
from qcos.evidence.bundle import payload_of, seal_all
from qcos.evidence.crate import to_ro_crate
from qcos.evidence.export import to_dsse, to_in_toto, to_sigstore

from .conftest import CALIBRATION, JOB_SPEC, NOW, OUTPUT, RESPONSE, TRANSPILED, Instance, facts, full_facts

MATERIALS = {
    "input": JOB_SPEC,
    "output": OUTPUT,
    "transpiled/0": TRANSPILED,
    "calibration": CALIBRATION,
    "vendor-response": RESPONSE,
}


@pytest.fixture(scope="module")
def full(instance: Instance) -> dict[str, Any]:
    return instance.bundle(instance.seal(full_facts()))


def _keys(instance: Instance) -> dict[str, Any]:
    """The published keys by id, as the trust document has them."""
    return {
        entry["keyId"]: load_der_public_key(base64.b64decode(entry["publicKey"]))
        for entry in instance.trust["evidence"]
    }


def _check_dsse(envelope: dict[str, Any], keys: dict[str, Any]) -> int:
    """Check every signature, from the DSSE specification alone; returns how many held."""
    body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    message = b" ".join([b"DSSEv1", b"%d" % len(kind), kind, b"%d" % len(body), body])
    for one in envelope["signatures"]:
        keys[one["keyid"]].verify(base64.b64decode(one["sig"]), message)
    return len(envelope["signatures"])


def test_the_dsse_envelope_stands_alone(full: dict[str, Any], instance: Instance) -> None:
    envelope = json.loads(to_dsse(full))
    assert set(envelope) == {"payloadType", "payload", "signatures"}
    assert _check_dsse(envelope, _keys(instance)) == 2
    changed = {**envelope, "payload": base64.b64encode(b"{}").decode()}
    with pytest.raises(InvalidSignature):
        _check_dsse(changed, _keys(instance))


def test_in_toto_is_one_envelope_a_line(full: dict[str, Any], instance: Instance) -> None:
    (line,) = to_in_toto(full).splitlines()
    envelope = json.loads(line)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert _check_dsse(envelope, _keys(instance)) == 2
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert all(len(subject["digest"]["sha256"]) == 64 for subject in statement["subject"])


def test_sigstore_has_the_classical_signature_and_says_why_no_time(
    full: dict[str, Any], instance: Instance
) -> None:
    data, without = to_sigstore(full)
    view = json.loads(data)
    assert view["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert "ML-DSA-65" in without
    material = view["verificationMaterial"]
    assert set(material) == {"publicKey", "tlogEntries"} and material["tlogEntries"] == []
    envelope = view["dsseEnvelope"]
    assert _check_dsse(envelope, _keys(instance)) == 1, "exactly one signature, as its clients want"
    assert material["publicKey"]["hint"] == envelope["signatures"][0]["keyid"]
    (key,) = [e for e in instance.trust["evidence"] if e["keyId"] == material["publicKey"]["hint"]]
    assert key["algorithm"] == "Ed25519"


def test_sigstores_time_stamp_is_over_the_signature_in_the_bundle(
    full: dict[str, Any], instance: Instance, tmp_path: Path
) -> None:
    """As sigstore_bundle.proto demands: and it is a TimeStampResp, which openssl reads as such."""
    data, without = to_sigstore(full, "ML-DSA-65")
    assert without == ""
    view = json.loads(data)
    assert _check_dsse(view["dsseEnvelope"], _keys(instance)) == 1
    signature = base64.b64decode(view["dsseEnvelope"]["signatures"][0]["sig"])
    assert len(signature) == 3309
    (stamp,) = view["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    (tmp_path / "response").write_bytes(base64.b64decode(stamp["signedTimestamp"]))
    (tmp_path / "signature").write_bytes(signature)
    (tmp_path / "ca.pem").write_text(instance.trust["timestamp"][0]["chain"])
    command = ["openssl", "ts", "-verify", "-in", "response", "-data", "signature", "-CAfile", "ca.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "Verification: OK" in done.stdout + done.stderr


def test_a_shared_time_stamp_does_not_go_along(instance: Instance) -> None:
    first = seal_all([facts("a"), facts("b")], instance.keyring.evidence, instance.authority)[0]
    data, without = to_sigstore(instance.bundle(first), "ML-DSA-65")
    assert "not over this signature alone" in without
    assert "timestampVerificationData" not in json.loads(data)["verificationMaterial"]
    with pytest.raises(Invalid):
        to_sigstore(instance.bundle(first), "RSA")


def test_a_signed_statement_is_cose_sign1(instance: Instance, tmp_path: Path) -> None:
    """RFC 9052, 9964, 9597, 9943, 9921: read with cbor2, checked with the published key and openssl."""
    payload = payload_of(instance.seal(full_facts()).document)
    key = instance.keyring.evidence[0]
    data = cose.signed_statement(
        payload, key, instance.authority, issuer="qcos.test/ledger", subject="evidence-1", at=NOW
    )
    message = cbor2.loads(data)
    assert message.tag == 18
    protected, unprotected, body, signature = message.value
    assert body == payload
    header = cbor2.loads(protected)
    assert header[1] == -49, "ML-DSA-65"
    assert header[3] == "application/vnd.in-toto+json"
    assert header[15] == {1: "qcos.test/ledger", 2: "evidence-1", 6: int(NOW.timestamp())}
    public = _keys(instance)[header[4].decode()]
    public.verify(signature, cbor2.dumps(["Signature1", protected, b"", payload]))
    with pytest.raises(InvalidSignature):
        public.verify(signature, cbor2.dumps(["Signature1", protected, b"", payload + b" "]))
    token = tsp.ContentInfo.load(unprotected[270])
    imprint = token["content"]["encap_content_info"]["content"].parsed["message_imprint"]["hashed_message"]
    assert imprint.native == hashlib.sha512(cbor2.dumps(signature)).digest(), (
        "with the head of the byte string"
    )
    (tmp_path / "token").write_bytes(unprotected[270])
    (tmp_path / "signature.cbor").write_bytes(cbor2.dumps(signature))
    (tmp_path / "ca.pem").write_text(instance.trust["timestamp"][0]["chain"])
    command = [
        "openssl",
        "ts",
        "-verify",
        "-in",
        "token",
        "-token_in",
        "-data",
        "signature.cbor",
        "-CAfile",
        "ca.pem",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "Verification: OK" in done.stdout + done.stderr


def test_only_the_post_quantum_key_signs_statements(instance: Instance) -> None:
    with pytest.raises(Invalid):
        cose.signed_statement(
            b"{}", instance.keyring.evidence[1], instance.authority, issuer="i", subject="s", at=NOW
        )


@pytest.fixture
def crate(full: dict[str, Any], instance: Instance, tmp_path: Path) -> ROCrate:
    data = to_ro_crate(json.dumps(full).encode(), full, MATERIALS, json.dumps(instance.trust).encode())
    (tmp_path / "crate.zip").write_bytes(data)
    return ROCrate(str(tmp_path / "crate.zip"))


def test_the_crate_is_a_process_run_crate(crate: ROCrate, full: dict[str, Any]) -> None:
    """Read by the library that the format's authors publish."""
    root = crate.root_dataset
    assert root["conformsTo"].id == "https://w3id.org/ro/wfrun/process/0.5"
    assert root["identifier"] == full["bundle_id"]
    (run,) = [root["mentions"]] if not isinstance(root["mentions"], list) else root["mentions"]
    assert run.type == "CreateAction"
    assert run["startTime"] == full["execution_metadata"]["start_time"]
    assert run["endTime"] == full["execution_metadata"]["end_time"]
    assert run["agent"].type == "Person" and run["agent"]["name"] == "alice@company.com"
    assert run["instrument"]["name"] == "aer-ideal"
    assert (
        {one["name"] for one in run["instrument"]["softwareRequirements"]} == {"qiskit"}
        if isinstance(run["instrument"]["softwareRequirements"], list)
        else run["instrument"]["softwareRequirements"]["name"] == "qiskit"
    )
    used, made = ([one["name"] for one in run[name]] for name in ("object", "result"))
    assert used == ["input", "circuit/0", "policy-bundle", "calibration", "decision-input"]
    assert made == ["output", "transpiled/0", "vendor-response", "bundle.json"]


def test_files_of_the_crate_are_what_it_says(crate: ROCrate) -> None:
    given = {f"documents/{name}": data for name, data in MATERIALS.items()}
    for name, data in given.items():
        entity = crate.dereference(name)
        assert entity.type == "File"
        assert entity["sha256"] == hashlib.sha256(data).hexdigest()
        assert entity["contentSize"] == str(len(data))
    absent = next(e for e in crate.contextual_entities if e.get("name") == "circuit/0")
    assert absent.id.startswith("urn:sha256:"), "named by its digest, for its bytes were not given"
    assert crate.dereference("#licence")["description"].startswith("None was given")


def test_the_bundle_in_the_crate_is_the_bundle(full: dict[str, Any]) -> None:
    document = json.dumps(full, indent=3).encode()
    data = to_ro_crate(document, full, MATERIALS, licence="https://creativecommons.org/licenses/by/4.0/")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist()[:2] == ["ro-crate-metadata.json", "bundle.json"]
        assert archive.read("bundle.json") == document
        graph = {e["@id"]: e for e in json.loads(archive.read("ro-crate-metadata.json"))["@graph"]}
    assert graph["./"]["license"] == {"@id": "https://creativecommons.org/licenses/by/4.0/"}
    named = [e["@id"] for e in graph["./"]["hasPart"]]
    assert set(named) == {"bundle.json", *(f"documents/{name}" for name in MATERIALS)}
    again = to_ro_crate(document, full, MATERIALS, licence="https://creativecommons.org/licenses/by/4.0/")
    assert again == data, "the same input gives the same bytes"


@pytest.mark.parametrize("materials", [{"output": b"{}"}, {"unknown": b""}])
def test_a_document_that_the_bundle_does_not_name_stays_out(
    full: dict[str, Any], materials: dict[str, bytes]
) -> None:
    with pytest.raises(Integrity) as refused:
        to_ro_crate(b"{}", full, materials)
    assert refused.value.code == "evidence.material"


@pytest.mark.parametrize(
    "payload", [b"[]", b"{}", b'{"subject":[],"predicate":{}}', b'{"subject":[{"name":"../x"}]}']
)
def test_a_statement_of_another_kind_is_refused(full: dict[str, Any], payload: bytes) -> None:
    envelope = {**full["proof"]["envelope"], "payload": base64.b64encode(payload).decode()}
    with pytest.raises(Integrity):
        to_ro_crate(b"{}", {**full, "proof": {**full["proof"], "envelope": envelope}})
    with pytest.raises(Invalid):
        to_ro_crate(b"{}", full, licence="file:///etc/passwd")
