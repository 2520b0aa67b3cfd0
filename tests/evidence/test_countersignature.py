"""R10.5: a key that never leaves its key store countersigns; who has only the files cannot make evidence that passes."""

from __future__ import annotations

import copy
import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity, Invalid
from qcos.evidence.bundle import attach, seal
from qcos.evidence.verify import REQUIRED, verify
from qcos.keys.file import COUNTERSIGNER, FileKeyring
from qcos.keys.signer import GENERATORS, PrivateKeySigner
from qcos.keys.trust import trust_document
from qcos.ledger.sign import LedgerSigners
from qcos.timestamp.authority import LocalAuthority

from .conftest import ORIGIN, Instance, facts


def _key() -> PrivateKeySigner:
    return PrivateKeySigner(GENERATORS["ECDSA-P384"]())


def _instance(folder: Path, held: PrivateKeySigner) -> Instance:
    keyring = FileKeyring(folder, held={COUNTERSIGNER: held}).open_or_create()
    ledger = LedgerSigners(*keyring.ledger, name=ORIGIN)
    document = trust_document(keyring, ORIGIN, ledger.vkeys)
    return Instance(keyring, LocalAuthority(keyring.tsa_key, keyring.tsa_chain), ledger, document)


@pytest.fixture(scope="module")
def held() -> PrivateKeySigner:
    return _key()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, held: PrivateKeySigner) -> Instance:
    return _instance(tmp_path_factory.mktemp("house") / "keys", held)


@pytest.fixture(scope="module")
def countersigned(house: Instance) -> dict[str, Any]:
    sealed = seal(facts(), house.keyring.evidence_signers, house.authority)
    return attach(sealed.document, house.prove(sealed))


def _failed(bundle: dict[str, Any], trust: dict[str, Any]) -> set[str]:
    report = verify(bundle, trust)
    assert not report.ok
    return {check.name for check in report.checks if not check.ok}


def test_a_countersigned_bundle_verifies_and_says_by_which_key(
    countersigned: dict[str, Any], house: Instance, held: PrivateKeySigner
) -> None:
    assert [key["algorithm"] for key in house.trust["evidence"]] == ["ML-DSA-65", "Ed25519", "ECDSA-P384"]
    signatures = countersigned["proof"]["envelope"]["signatures"]
    assert signatures[2]["keyid"] == held.key_id
    report = verify(countersigned, house.trust)
    assert report.ok, report.reason
    found = {check.name: check.detail for check in report.checks}
    assert found["countersignature"] == f"countersigned by key {held.key_id}"
    assert "signature ECDSA-P384" in found
    assert set(REQUIRED) < set(found)


def test_stripping_it_fails(countersigned: dict[str, Any], house: Instance) -> None:
    stripped = copy.deepcopy(countersigned)
    del stripped["proof"]["envelope"]["signatures"][2]
    assert _failed(stripped, house.trust) == {"countersignature", "ledger record"}


def test_whoever_has_every_file_but_not_the_key_store_cannot_make_evidence(house: Instance) -> None:
    forged = seal(facts(), house.keyring.evidence, house.authority)
    bundle = attach(forged.document, house.prove(forged))
    assert _failed(bundle, house.trust) == {"countersignature"}
    own = seal(facts(), (*house.keyring.evidence, _key()), house.authority)
    assert "envelope" in _failed(attach(own.document, house.prove(own)), house.trust)


def test_a_stolen_authority_cannot_date_evidence_before_the_key_store(house: Instance) -> None:
    """Its key lies in a file, too; 300 s are allowed to clocks, but not a time at which no key was there."""
    keyring = house.keyring
    early = LocalAuthority(
        keyring.tsa_key, keyring.tsa_chain, clock=lambda: keyring.created - dt.timedelta(seconds=60)
    )
    forged = seal(facts(), keyring.evidence, early)
    assert _failed(attach(forged.document, house.prove(forged)), house.trust) == {"countersignature"}


def test_a_signature_by_it_over_something_else_does_not_count(
    countersigned: dict[str, Any], house: Instance
) -> None:
    other = seal(facts("another-job"), house.keyring.evidence_signers, house.authority)
    changed = copy.deepcopy(countersigned)
    given = attach(other.document, None)["proof"]["envelope"]["signatures"][2]
    changed["proof"]["envelope"]["signatures"][2] = given
    assert "signature ECDSA-P384" in _failed(changed, house.trust)


@pytest.mark.parametrize("order", [(0, 2, 1), (2, 0, 1), (0, 1, 2, 2), (0, 1, 0), (2,)])
def test_the_three_keep_their_places(
    countersigned: dict[str, Any], house: Instance, order: tuple[int, ...]
) -> None:
    changed = copy.deepcopy(countersigned)
    signatures = changed["proof"]["envelope"]["signatures"]
    changed["proof"]["envelope"]["signatures"] = [signatures[index] for index in order]
    assert "envelope" in _failed(changed, house.trust)


def test_it_is_due_only_while_the_key_is_in_force(house: Instance) -> None:
    plain = seal(facts(), house.keyring.evidence, house.authority)
    bundle = attach(plain.document, house.prove(plain))
    stamped = dt.datetime.now(dt.UTC)
    for member, at, due in (
        ("notBefore", stamped + dt.timedelta(hours=1), False),
        ("notAfter", stamped - dt.timedelta(hours=1), False),
        ("notAfter", stamped + dt.timedelta(hours=1), True),
    ):
        document = copy.deepcopy(house.trust)
        document["evidence"][2][member] = rfc3339(at)
        report = verify(bundle, document)
        assert report.ok is not due, report.reason


def test_without_such_a_key_in_the_trust_document_nothing_changes(
    bundle: dict[str, Any], instance: Instance, countersigned: dict[str, Any], house: Instance
) -> None:
    report = verify(bundle, instance.trust)
    assert report.ok
    assert "countersignature" not in {check.name for check in report.checks}
    unknown = {**house.trust, "evidence": house.trust["evidence"][:2]}
    assert "envelope" in _failed(countersigned, unknown), "a signature that nobody can check does not pass"


def test_another_kind_of_key_cannot_countersign(house: Instance, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        seal(facts(), (*house.keyring.evidence, house.keyring.evidence[1]), house.authority)
    assert refused.value.code == "evidence.signers"
    for role, signer in (
        (COUNTERSIGNER, house.keyring.evidence[1]),
        ("ledger-ed25519", house.keyring.ledger[0]),
    ):
        with pytest.raises(Invalid) as not_held:
            FileKeyring(tmp_path, held={role: signer})
        assert not_held.value.code == "keys.held"


def test_a_keyring_stays_with_the_key_store_it_was_made_with(tmp_path: Path) -> None:
    made = _instance(tmp_path, held := _key()).keyring
    assert _instance(tmp_path, held).keyring.created == made.created
    for other in ({COUNTERSIGNER: _key()}, {}):
        with pytest.raises(Integrity) as refused:
            FileKeyring(tmp_path, held=other).open_or_create()
        assert refused.value.code == "keys.changed"


def test_a_key_store_may_hold_the_post_quantum_key_too(tmp_path: Path) -> None:
    mldsa = PrivateKeySigner(GENERATORS["ML-DSA-65"]())
    keyring = FileKeyring(tmp_path, held={"evidence-mldsa65": mldsa}).open_or_create()
    assert keyring.evidence[0] is mldsa
    assert not (tmp_path / "evidence-mldsa65.pem").exists()
    assert replace(keyring, countersigner=None).evidence_signers == keyring.evidence
