"""One suite for key stores that make the keys of later generations (contract: `qcos.keys.held.Maker`). R10.5."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kms_wire import REGION, Said, Wire
from qcos.base.errors import Integrity, Invalid, Unavailable
from qcos.keys.keystore import (
    Keystore,
    open_file_keystore,
    open_kms_keystore,
    open_token_keystore,
    open_transit_keystore,
    stores_of,
)
from qcos.keys.model import Algorithm
from qcos.keys.signer import PublicKey
from qcos.keys.where import KmsAt, TokenAt
from real_keystores import PIN, Bao, MakeToken


@dataclass(frozen=True)
class Case:
    """A store, opened as often as is asked, and which keys it makes."""

    open: Callable[[], Keystore]
    makes: tuple[Algorithm, ...]
    elsewhere: str
    """A locator of the right form at which there is nothing."""


@pytest.fixture(params=["pkcs11", "transit", "awskms"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param == "pkcs11":
        make: MakeToken = request.getfixturevalue("new_token")
        at = TokenAt(str(request.getfixturevalue("softhsm")), make(), PIN)
        return Case(lambda: open_token_keystore(tmp_path, at), ("ECDSA-P384",), "qcos-countersign-none")
    if request.param == "transit":
        bao: Bao = request.getfixturevalue("bao")
        there = bao.at(secrets.token_hex(4))
        makes: tuple[Algorithm, ...] = ("ECDSA-P384", "Ed25519")
        return Case(lambda: open_transit_keystore(tmp_path, there), makes, "countersign:99")
    wire: Wire = request.getfixturevalue("kms")
    names = [wire.make(spec).arn for spec in ("SYMMETRIC_DEFAULT", "ML_DSA_65", "ECC_NIST_P384")]
    kms = KmsAt(*names, region=REGION, endpoint=wire.url)
    missing = names[0][:-32] + "0" * 32
    return Case(lambda: open_kms_keystore(tmp_path, kms), ("ML-DSA-65", "ECDSA-P384"), missing)


def test_each_key_it_makes_is_new_and_found_again(case: Case) -> None:
    store = case.open()
    assert store.maker is not None
    for algorithm in case.makes:
        first = next(signer for signer in store.held.values() if signer.algorithm == algorithm)
        made = [store.maker.make(algorithm) for _ in range(2)]
        assert len({first.key_id, *(signer.key_id for signer, _ in made)}) == 3
        assert len({locator for _, locator in made}) == 2
        again = case.open()
        assert again.maker is not None
        for signer, locator in made:
            assert signer.algorithm == algorithm
            found = again.maker.open(locator, algorithm)
            assert found.spki == signer.spki
            PublicKey.load(signer.spki).verify(found.sign(b"m"), b"m")
        kept = next(signer for signer in again.held.values() if signer.algorithm == algorithm)
        assert kept.key_id == first.key_id, "the key of the first generation stays what it is"
        PublicKey.load(first.spki).verify(kept.sign(b"m"), b"m")


def test_what_it_does_not_make_it_says(case: Case) -> None:
    maker = case.open().maker
    assert maker is not None
    with pytest.raises(Invalid) as refused:
        maker.make("ML-DSA-44")
    assert refused.value.code == "keys.make"
    assert refused.value.expected == ", ".join(case.makes)


def test_a_key_that_is_not_there_is_missing(case: Case) -> None:
    maker = case.open().maker
    assert maker is not None
    with pytest.raises(Integrity) as refused:
        maker.open(case.elsewhere, "ECDSA-P384")
    assert refused.value.code == "keys.missing"


def test_a_locator_of_another_key_is_refused(bao: Bao, tmp_path: Path) -> None:
    maker = open_transit_keystore(tmp_path, bao.at(secrets.token_hex(4))).maker
    assert maker is not None
    for locator in ("wrap:1", "ed25519:1", "countersign:", "countersign:-1", "countersign:../1", ""):
        with pytest.raises(Integrity) as refused:
            maker.open(locator, "ECDSA-P384")
        assert refused.value.code == "keys.locator"


def test_aws_that_does_not_let_make_keys_says_so(kms: Wire, tmp_path: Path) -> None:
    wrapping = kms.make("SYMMETRIC_DEFAULT")
    maker = open_kms_keystore(tmp_path, KmsAt(wrapping.arn, region=REGION, endpoint=kms.url)).maker
    assert maker is not None
    kms.failing = [Said("AccessDeniedException", "not authorized to perform: kms:CreateKey")]
    with pytest.raises(Unavailable) as refused:
        maker.make("ML-DSA-65")
    assert refused.value.code == "keys.store_denied"
    assert "CreateKey" in refused.value.got


def test_the_registry_finds_later_keys_where_the_store_made_them(case: Case, tmp_path: Path) -> None:
    """As `qcos key rotate` does it: made by the store that is set, opened again by what the registry keeps."""
    made = {a: stores_of(case.open()).store("held").make("evidence", a) for a in case.makes}
    for algorithm, (signer, locator) in made.items():
        assert stores_of(case.open()).store("held").open(locator, "evidence", algorithm).spki == signer.spki
    plain = stores_of(open_file_keystore(tmp_path / "files", None)).store("held")
    with pytest.raises(Invalid) as refused:
        plain.make("evidence", "ECDSA-P384")
    assert refused.value.code == "keys.make"
    with pytest.raises(Integrity) as missing:
        plain.open(made[case.makes[0]][1], "evidence", case.makes[0])
    assert missing.value.code == "keys.missing"
    with pytest.raises(Invalid):
        stores_of(case.open()).store("held").make("ledger", "Ed25519")
