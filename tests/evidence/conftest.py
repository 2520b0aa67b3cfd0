"""A keyring, an authority, a small ledger in memory, and one sealed bundle with its ledger proof."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from qcos.base.canonical import canonical, digest
from qcos.evidence.bundle import attach, decision_record_of, seal
from qcos.evidence.model import (
    CircuitRun,
    Governance,
    Material,
    Provenance,
    Result,
    Sealed,
    SealFacts,
    What,
    When,
    Where,
    Who,
    Why,
)
from qcos.keys.file import FileKeyring
from qcos.keys.model import Keyring
from qcos.keys.trust import trust_document
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.proof import LedgerProof
from qcos.ledger.record import Appended, Record, prepare
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.tree import leaf_hash, node_hash
from qcos.timestamp.authority import LocalAuthority

ORIGIN = "qcos.test/ledger"
TENANT = UUID("11111111-2222-4333-8444-555555555555")
ACTOR = "user:alice@company.com"
PROJECT = "material-simulation-q1-2026"
NOW = dt.datetime.now(dt.UTC)
JOB_SPEC = canonical({"job_id": "qcos-job-2026-01-09-a7f3", "execution": {"shots": 1000}})
OUTPUT = canonical({"counts": [{"00": 498, "11": 502}]})


def decision(job: str) -> Appended:
    """The ledger's record that policy allowed a job."""
    if job not in _DECISIONS:
        details = {
            "job": job,
            "allow": True,
            "policy_version": digest(b"policies"),
            "input": digest(b"input"),
        }
        record = Record("policy.decided", ACTOR, "decision-1", PROJECT, details=details)
        _DECISIONS[job] = prepare(TENANT, record, NOW)
    return _DECISIONS[job]


_DECISIONS: dict[str, Appended] = {}
TRANSPILED = b"OPENQASM 3.0;\nh $0;\n"
CALIBRATION = b'{"t1":1}'
RESPONSE = b'[{"counts":{"0x0":498,"0x3":502}}]\n'


def full_facts(job: str = "qcos-job-2026-01-09-a7f3") -> SealFacts:
    """The same facts, of level ``full``."""
    return at_level(facts(job), "full")


def at_level(given: SealFacts, level: str) -> SealFacts:
    return dataclasses.replace(given, governance=dataclasses.replace(given.governance, evidence_level=level))


def facts(job: str = "qcos-job-2026-01-09-a7f3") -> SealFacts:
    """Facts of one job with every row of Table 1 and every member of every level; it claims ``standard``."""
    decided = decision(job)
    return SealFacts(
        job_id=job,
        what=What(
            job_spec=JOB_SPEC,
            circuits=(CircuitRun(digest(b"OPENQASM 3.0;"), "QASM3", 2, 3, {"theta": 0.5}, 4),),
            shots=1000,
            compiler="qiskit-2.6.2",
            compiler_requested="qiskit-1.0.0",
            seed=42,
            options={"method": "statevector"},
        ),
        when=When(
            submitted=NOW - dt.timedelta(seconds=3),
            started=NOW - dt.timedelta(seconds=2),
            ended=NOW - dt.timedelta(seconds=1),
            queue_time_ms=2300,
        ),
        where=Where(
            backend="aer-ideal",
            provider="qiskit-aer",
            region="local",
            zone="sovereign",
            on_premise=True,
            remote_id="run-1",
            calibration=digest(CALIBRATION),
            placement={"scores": [{"backend": "aer-ideal", "total": 1000000}]},
        ),
        who=Who(
            tenant=TENANT,
            actor=ACTOR,
            project=PROJECT,
            team="chemistry",
            roles=("quantum-engineer",),
            delegation=("service:ci",),
            token_id="tok-1",
        ),
        why=Why("production-benchmark", "internal-restricted", "CC-RD-42", "quarterly benchmark"),
        result=Result(
            output=OUTPUT,
            shots_executed=1000,
            usage={"shots": 1000, "cpu_time_us": 73_000},
            charge={"micro": 123, "currency": "USD", "lines": [{"sku": "shots", "amount": 123}]},
            metadata={"simulator": "aer"},
        ),
        governance=Governance(
            policies_applied=("budget-check", "classification-enforcement"),
            policy_decisions=("allow",),
            decision_id="decision-1",
            policy_version=digest(b"policies"),
            decision_digest=digest(b"input"),
            price_book="2026-11",
            reservation={"micro": 200, "currency": "USD"},
            decision_record=decided.record_id,
            decision_record_digest=digest(decided.record_bytes),
            evidence_level="standard",
            retention_days=2555,
        ),
        provenance=Provenance(
            toolchain={
                "driver": "aer",
                "packages": {"qiskit": "2.6.2"},
                "python": {"version": "3.11.2"},
                "seeds": {"simulator": 42, "transpiler": 0},
                "settings": {"optimization_level": 1},
            },
            materials=(
                Material("transpiled/0", digest(TRANSPILED), len(TRANSPILED), "text/x-openqasm"),
                Material("calibration", digest(CALIBRATION), len(CALIBRATION), "application/json"),
                Material("vendor-response", digest(RESPONSE), len(RESPONSE), "application/json", kept=False),
            ),
        ),
    )


@dataclass(frozen=True)
class Instance:
    """What one instance of QCOS seals and records with."""

    keyring: Keyring
    authority: LocalAuthority
    ledger: LedgerSigners
    trust: dict[str, Any]

    def seal(self, given: SealFacts | None = None) -> Sealed:
        return seal(given or facts(), self.keyring.evidence, self.authority)

    def prove(self, sealed: Sealed, **changes: Any) -> dict[str, Any]:
        """Return the proof of a log of two entries, the second of which records the sealing."""
        record = {"act": "evidence.sealed", "actor": ACTOR, "object": sealed.bundle_id, "project": PROJECT}
        appended = prepare(TENANT, Record(**{**record, "details": sealed.ledger_details, **changes}), NOW)
        return self._proofs(sealed, appended)[0]

    def bundle(self, sealed: Sealed) -> dict[str, Any]:
        """Return the bundle as the server gives it, with the proofs of its sealing and of the decision."""
        record = Record("evidence.sealed", ACTOR, sealed.bundle_id, PROJECT, details=sealed.ledger_details)
        own, decided = self._proofs(sealed, prepare(TENANT, record, NOW))
        named = decision_record_of(sealed.document)
        return attach(sealed.document, own, decided if named else None)

    def _proofs(self, sealed: Sealed, appended: Appended) -> list[dict[str, Any]]:
        decided = decision(sealed.job_id)
        first, second = leaf_hash(decided.entry_bytes), leaf_hash(appended.entry_bytes)
        head = Checkpoint(ORIGIN, 2, node_hash(first, second))
        note = self.ledger.sign(head, int(time.time()))  # not NOW: a long run makes its keys minutes later
        proofs = (
            LedgerProof(appended.record_bytes, 1, 2, (first,), note),
            LedgerProof(decided.record_bytes, 0, 2, (second,), note),
        )
        return [proof.as_dict() for proof in proofs]


def make_instance(folder: Any) -> Instance:
    keyring = FileKeyring(folder).open_or_create()
    ledger = LedgerSigners(*keyring.ledger, name=ORIGIN)
    trust = trust_document(keyring, ORIGIN, ledger.vkeys)
    for key in trust["ledger"]:  # older than NOW, however long the run took to come here
        key["notBefore"] = f"{NOW - dt.timedelta(days=1):%FT%TZ}"
    return Instance(keyring, LocalAuthority(keyring.tsa_key, keyring.tsa_chain), ledger, trust)


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    return make_instance(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def sealed(instance: Instance) -> Sealed:
    return instance.seal()


@pytest.fixture(scope="session")
def proof(instance: Instance, sealed: Sealed) -> dict[str, Any]:
    return instance.prove(sealed)


@pytest.fixture
def bundle(sealed: Sealed, proof: dict[str, Any]) -> dict[str, Any]:
    """A complete bundle; each test may change its own copy."""
    return attach(sealed.document, proof)
