"""Sealed documents of every form that the verifier takes, two of each, with what they are verified with."""

from __future__ import annotations

import copy
import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evidence.conftest import ORIGIN, Instance, at_level, facts, make_instance
from evidence.test_erased import prove_both
from evidence.test_renewal import FIRST, SECOND, attach_renewals
from evidence.test_witnesses import VKEYS, witnessed
from qcos.base.clock import now
from qcos.base.errors import Integrity
from qcos.evidence.bundle import attach, record_of, seal, seal_all
from qcos.evidence.envelope import from_base64
from qcos.evidence.report import Report
from qcos.evidence.trust import Trust
from qcos.evidence.verify import verify
from qcos.keys.file import COUNTERSIGNER, FileKeyring
from qcos.keys.signer import GENERATORS, PrivateKeySigner
from qcos.keys.trust import trust_document
from qcos.ledger.proof import read_proof
from qcos.ledger.sign import LedgerSigners
from qcos.timestamp.archive import ArchiveStamp, hash_to_rehash, hash_to_renew
from qcos.timestamp.authority import LocalAuthority
from qcos.timestamp.tree import grow

NAMES = (
    "basic",
    "standard",
    "full",
    "batch",
    "countersigned",
    "witnessed",
    "pending",
    "renewed",
    "rehashed",
    "erased",
)


@dataclass(frozen=True)
class Form:
    """Two documents of one form, and the verification that both pass."""

    one: dict[str, Any] = field(repr=False)
    two: dict[str, Any] = field(repr=False)
    trust: Trust = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict)

    def verify(self, given: Any) -> Report:
        return verify(given, self.trust, **self.options)


def make_form(name: str, folder: Path) -> Form:
    """Make one form with keys of its own."""
    house = countersigning(folder) if name == "countersigned" else make_instance(folder)
    jobs = ("job-one", "job-two")
    document = copy.deepcopy(house.trust)
    options: dict[str, Any] = {}
    if name in ("batch", "renewed", "rehashed"):
        authority = house.authority if name == "batch" else FIRST.at(0)
        given = [at_level(facts(job), "standard") for job in jobs]
        made = [house.bundle(one) for one in seal_all(given, house.keyring.evidence, authority)]
        if name != "batch":
            made = renew(made) if name == "renewed" else rehash(made)
            options = {"at": now() + dt.timedelta(days=60)}  # the first authority's days are over
            document["timestamp"] = [FIRST.entry(), SECOND.entry()]
    else:
        level = name if name in ("basic", "full") else "full" if name == "countersigned" else "standard"
        signers = house.keyring.evidence_signers if name == "countersigned" else house.keyring.evidence
        sealed = [seal(at_level(facts(job), level), signers, house.authority) for job in jobs]
        if name == "witnessed":
            document["witnesses"] = {"quorum": 2, "keys": [{"vkey": str(vkey)} for vkey in VKEYS]}
            made = [witnessed(one, house.prove(one), 2, 3) for one in sealed]
        elif name == "pending":
            options = {"allow_pending": True}
            made = [attach(one.document, None) for one in sealed]
        elif name == "erased":
            options = {"allow_erased": True}
            made = [prove_both(house, one) for one in sealed]
        else:
            made = [house.bundle(one) for one in sealed]
    return Form(made[0], made[1], Trust.load(document), options)


def renew(bundles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the bundles with one more time stamp, which both share, by a second authority."""
    root, trees = grow([hash_to_renew(record_of(bundle)) for bundle in bundles])
    token = SECOND.at(20).stamp_digest(root)
    stamps = [ArchiveStamp(token, tree) for tree in trees]
    return [attach_renewals(bundle, [stamp]) for bundle, stamp in zip(bundles, stamps, strict=True)]


def rehash(bundles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the bundles with a new chain of another hash (RFC 4998, 5.2), whose time stamp both share."""
    leaves = [
        hash_to_rehash(
            record_of(bundle).chains,
            from_base64(bundle["proof"]["envelope"]["signatures"][0]["sig"], ""),
            "sha3_512",
        )
        for bundle in bundles
    ]
    root, trees = grow(leaves, "sha3_512")
    token = SECOND.at(20).stamp_digest(root, "sha3_512")
    stamps = [ArchiveStamp(token, tree) for tree in trees]
    return [attach_renewals(bundle, [stamp]) for bundle, stamp in zip(bundles, stamps, strict=True)]


def countersigning(folder: Path) -> Instance:
    held = {COUNTERSIGNER: PrivateKeySigner(GENERATORS["ECDSA-P384"]())}
    keyring = FileKeyring(folder / "keys", held=held).open_or_create()
    ledger = LedgerSigners(*keyring.ledger, name=ORIGIN)
    trust = trust_document(keyring, ORIGIN, ledger.vkeys)
    return Instance(keyring, LocalAuthority(keyring.tsa_key, keyring.tsa_chain), ledger, trust)


def in_step(document: Any) -> Any:
    """Return a document in which what repeats another member says the same, so that a change reaches the check behind."""
    changed = copy.deepcopy(document)
    proof: Any = changed.get("proof") if isinstance(changed, dict) else None
    for part in ("ledger", "sealed", "erased"):
        if isinstance(proof, dict) and isinstance(proof.get(part), dict):
            _restate(proof[part])
    try:
        signatures, token = proof["envelope"]["signatures"], proof["timestamp"]
        changed["signatures"]["qcos_signature"] = "ML-DSA-65:" + signatures[0]["sig"]
        changed["signatures"]["timestamp_authority"] = "RFC3161:" + token
    except (KeyError, TypeError, IndexError):
        pass
    return changed


def _restate(proof: dict[str, Any]) -> None:
    try:
        proof["tlogProof"] = read_proof({k: v for k, v in proof.items() if k != "tlogProof"}).tlog_proof
    except Integrity:  # not readable after the change: it stays as it is
        return
