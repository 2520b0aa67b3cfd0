"""The bundle is Listing 2, its statement holds Table 1, and others' tools can read its signatures."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from qcos.base.canonical import digest
from qcos.base.errors import Integrity, Invalid, Limit
from qcos.evidence.bundle import attach, seal
from qcos.evidence.drift import check_times
from qcos.evidence.envelope import from_base64, pae
from qcos.evidence.model import Sealed, SealFacts
from qcos.evidence.verify import verify
from qcos.keys.certify import to_pem

from .conftest import JOB_SPEC, NOW, OUTPUT, Instance, facts, full_facts


def test_the_bundle_has_exactly_the_fields_of_listing_2(bundle: dict[str, Any]) -> None:
    """R4.1."""
    assert list(bundle) == [
        "bundle_id",
        "job_id",
        "input_hash",
        "output_hash",
        "execution_metadata",
        "governance_record",
        "signatures",
        "proof",
    ]
    assert set(bundle["execution_metadata"]) == {
        "backend",
        "start_time",
        "end_time",
        "shots_executed",
        "queue_time_ms",
    }
    assert set(bundle["governance_record"]) == {
        "actor",
        "project",
        "policies_applied",
        "policy_decisions",
    }
    assert set(bundle["signatures"]) == {"qcos_signature", "timestamp_authority"}
    assert set(bundle["proof"]) == {"envelope", "timestamp", "ledger"}
    assert bundle["bundle_id"].startswith("evidence-")
    assert bundle["input_hash"] == digest(JOB_SPEC)
    assert bundle["output_hash"] == digest(OUTPUT)
    assert bundle["signatures"]["qcos_signature"].startswith("ML-DSA-65:")
    assert bundle["signatures"]["timestamp_authority"].startswith("RFC3161:")


def _statement(bundle: dict[str, Any]) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(base64.b64decode(bundle["proof"]["envelope"]["payload"]))
    return payload


def test_the_statement_holds_every_row_of_table_1(bundle: dict[str, Any]) -> None:
    """R1.1 to R1.6."""
    statement = _statement(bundle)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    predicate = statement["predicate"]
    assert predicate["what"]["circuits"][0]["parameters"] == {"theta": 0.5}
    assert predicate["what"]["compiler"] == "qiskit-2.6.2"
    assert predicate["what"]["seed"] == 42
    assert predicate["when"]["queueTimeMs"] == 2300
    assert predicate["when"]["sealedAt"].endswith("Z")
    assert {k: predicate["where"][k] for k in ("backend", "provider", "region", "zone")} == {
        "backend": "aer-ideal",
        "provider": "qiskit-aer",
        "region": "local",
        "zone": "sovereign",
    }
    assert predicate["who"]["actor"] == "user:alice@company.com"
    assert predicate["who"]["delegation"] == ["service:ci"]
    assert predicate["who"]["team"] == "chemistry"
    assert predicate["who"]["tenant"] == "11111111-2222-4333-8444-555555555555"
    assert predicate["why"] == {
        "purpose": "production-benchmark",
        "classification": "internal-restricted",
        "costCenter": "CC-RD-42",
        "justification": "quarterly benchmark",
    }
    assert predicate["result"]["usage"] == {"shots": 1000, "cpu_time_us": 73_000}
    assert predicate["governance"]["policyVersion"] == digest(b"policies")
    assert [subject["name"] for subject in statement["subject"]] == [
        "input",
        "output",
        "circuit/0",
        "policy-bundle",
        "calibration",
        "decision-input",
    ]


def test_every_fact_reaches_the_statement() -> None:
    """A fact added to the model must be committed to: change each, and the statement changes."""
    from qcos.evidence.statement import compose

    base = full_facts()
    plain = compose(base, "evidence-1", NOW)
    for section in dataclasses.fields(base):
        part = getattr(base, section.name)
        if not dataclasses.is_dataclass(part):
            continue
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            changed: Any = "standard" if field.name == "evidence_level" else _other(value)
            altered = dataclasses.replace(part, **{field.name: changed})  # type: ignore[type-var]
            other = compose(dataclasses.replace(base, **{section.name: altered}), "evidence-1", NOW)
            assert other != plain, f"{section.name}.{field.name} is not in the statement"


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return value + b" "
    if isinstance(value, str):
        return digest(value.encode()) if value.startswith("sha256:") else value + "x"
    if isinstance(value, dt.datetime):
        return value + dt.timedelta(milliseconds=1)
    if isinstance(value, tuple):
        return value[:-1]
    if isinstance(value, dict):
        return {**value, "more": 1}
    return type(value)(int=value.int + 1)  # the tenant's UUID


def test_pae_is_that_of_the_specification() -> None:
    """The example of secure-systems-lab/dsse, protocol.md."""
    assert (
        pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("", b"") == b"DSSEv1 0  0 "
    assert pae("é", b"\xff") == b"DSSEv1 2 \xc3\xa9 1 \xff"


def test_any_dsse_verifier_checks_the_classical_signature(bundle: dict[str, Any], instance: Instance) -> None:
    """Written from the DSSE specification alone, with nothing of ours but the published key."""
    envelope = bundle["proof"]["envelope"]
    (entry,) = [e for e in instance.trust["evidence"] if e["algorithm"] == "Ed25519"]
    (given,) = [s for s in envelope["signatures"] if s["keyid"] == entry["keyId"]]
    key = serialization.load_der_public_key(base64.b64decode(entry["publicKey"]))
    assert isinstance(key, ed25519.Ed25519PublicKey)
    body = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    message = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(body)).encode(), body])
    key.verify(base64.b64decode(given["sig"]), message)


def test_openssl_checks_the_token_over_the_raw_signature(
    bundle: dict[str, Any], instance: Instance, tmp_path: Path
) -> None:
    """R1.2: over the bytes of the ML-DSA-65 signature, not over its base64."""
    signature = bundle["signatures"]["qcos_signature"].removeprefix("ML-DSA-65:")
    token = bundle["signatures"]["timestamp_authority"].removeprefix("RFC3161:")
    (tmp_path / "signature").write_bytes(base64.b64decode(signature))
    (tmp_path / "token").write_bytes(base64.b64decode(token))
    (tmp_path / "ca.pem").write_text(to_pem(instance.keyring.tsa_chain[1]))
    done = subprocess.run(
        ["openssl", "ts", "-verify", "-in", "token", "-token_in", "-data", "signature", "-CAfile", "ca.pem"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert "Verification: OK" in done.stdout + done.stderr
    assert len(base64.b64decode(signature)) == 3309


def test_two_seals_of_the_same_facts_are_two_bundles(instance: Instance) -> None:
    one, two = instance.seal(), instance.seal()
    assert one.bundle_id != two.bundle_id
    assert one.document_digest != two.document_digest


def test_drift_between_the_clocks_is_measured(instance: Instance) -> None:
    """R1.2: the trusted time minus the system's."""
    # Not NOW: minutes may have passed since this file was read.
    behind = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=90)
    given = facts()
    given = dataclasses.replace(
        given, when=dataclasses.replace(given.when, started=behind, ended=behind, submitted=behind)
    )
    keys = instance.keyring
    sealed = seal(given, keys.evidence, instance.authority, at=behind)
    assert 90_000 <= sealed.drift_ms <= 290_000
    report = verify(attach(sealed.document, instance.prove(sealed)), instance.trust)
    assert report.ok, report.reason
    assert report.facts["clockDriftMs"] == sealed.drift_ms
    assert any(f"{sealed.drift_ms} ms off" in line for line in report.lines())
    assert sealed.ledger_details["clockDriftMs"] == sealed.drift_ms


@pytest.mark.parametrize(
    ("started", "ended", "sealed_at", "token_time"),
    [(10, 5, 20, 20), (0, 0, 0, 301), (0, 0, 301, 0), (0, 400, 50, 50)],
)
def test_impossible_times_are_refused(started: int, ended: int, sealed_at: int, token_time: int) -> None:
    times = [NOW + dt.timedelta(seconds=s) for s in (started, ended, sealed_at, token_time)]
    with pytest.raises(Integrity) as refused:
        check_times(*times)
    assert refused.value.code == "evidence.time"


def test_clocks_too_far_apart_stop_the_sealing(instance: Instance) -> None:
    with pytest.raises(Integrity) as refused:
        # Not NOW: a thousand seconds after this file was read they would be together again.
        ahead = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1000)
        seal(facts(), instance.keyring.evidence, instance.authority, at=ahead)
    assert refused.value.code == "evidence.time"


def test_the_bundle_is_kept_as_long_as_was_asked(sealed: Sealed) -> None:
    """R4.3."""
    assert sealed.retain_until - sealed.sealed_at == dt.timedelta(days=2555)


def _with_metadata(metadata: dict[str, Any]) -> SealFacts:
    given = facts()
    return dataclasses.replace(given, result=dataclasses.replace(given.result, metadata=metadata))


@pytest.mark.parametrize("bad", [{"x": math.nan}, {"x": math.inf}, {"x": b"bytes"}, {"x": "\ud800"}])
def test_facts_that_are_not_json_are_refused(instance: Instance, bad: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        instance.seal(_with_metadata(bad))
    assert refused.value.code == "evidence.facts"


def test_facts_that_are_no_digests_are_refused(instance: Instance) -> None:
    given = facts()
    for wrong in ("", "md5:00", "sha256:" + "0" * 63, "sha256:" + "G" * 64):
        governance = dataclasses.replace(given.governance, policy_version=wrong)
        with pytest.raises(Invalid) as refused:
            instance.seal(dataclasses.replace(given, governance=governance))
        assert refused.value.code == "evidence.facts"


def test_facts_too_large_for_a_bundle_are_refused(instance: Instance) -> None:
    with pytest.raises(Limit) as refused:
        instance.seal(_with_metadata({"x": "y" * 3_000_000}))
    assert refused.value.code == "evidence.size"


def test_the_largest_bundle_that_is_sealed_verifies(instance: Instance) -> None:
    sealed = instance.seal(_with_metadata({"x": "y" * 2_850_000}))
    report = verify(json.dumps(attach(sealed.document, instance.prove(sealed))), instance.trust)
    assert report.ok, report.reason


def test_only_the_two_keys_of_evidence_sign(instance: Instance) -> None:
    keys = instance.keyring
    for wrong in (keys.evidence[::-1], (keys.ledger[1], keys.evidence[1])):
        with pytest.raises(Invalid) as refused:
            seal(facts(), wrong, instance.authority)  # type: ignore[arg-type]
        assert refused.value.code == "evidence.signers"


def test_what_is_no_bundle_is_not_attached_to() -> None:
    for document in (b"{}", b"[]", b'{"proof":1}'):
        with pytest.raises(Integrity):
            attach(document, None)


@pytest.mark.parametrize("text", ["A", "AA", "AA=", "AB==", "A A==", "AA==\n", "-_==", "ÄA=="])
def test_base64_has_one_text(text: str) -> None:
    with pytest.raises(Integrity) as refused:
        from_base64(text, "/here")
    assert refused.value.subject == "/here"
