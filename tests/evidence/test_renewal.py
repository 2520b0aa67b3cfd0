"""Renewal of time stamps (RFC 4998): evidence outlives the certificate of the authority that stamped it."""

from __future__ import annotations

import base64
import copy
import dataclasses
import datetime as dt
import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qcos.base.clock import rfc3339
from qcos.base.errors import Invalid
from qcos.evidence.bundle import attach, detached_digest, record_of, seal, seal_all
from qcos.evidence.envelope import to_base64
from qcos.evidence.model import Sealed
from qcos.evidence.report import Report
from qcos.evidence.verify import verify
from qcos.keys.certify import to_pem
from qcos.keys.signer import PrivateKeySigner
from qcos.timestamp.archive import ArchiveStamp, hash_to_rehash, hash_to_renew
from qcos.timestamp.authority import LocalAuthority
from qcos.timestamp.tree import grow

from .conftest import Instance, facts, full_facts


def _days(count: float) -> dt.datetime:
    """Days from now: not from when the tests began, a long run seals minutes later."""
    return dt.datetime.now(dt.UTC) + dt.timedelta(days=count)


class Issuer:
    """An authority whose certificate, its own issuer's too, is valid for some days; its clock is the test's."""

    def __init__(self, name: str, until: float) -> None:
        key = ec.generate_private_key(ec.SECP384R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder(subject, subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_days(-1))
            .not_valid_after(_days(until))
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
            .sign(key, hashes.SHA384())
        )
        self.der = certificate.public_bytes(serialization.Encoding.DER)
        self._key = PrivateKeySigner(key)

    def at(self, days: float) -> LocalAuthority:
        return LocalAuthority(self._key, (self.der,), clock=lambda: _days(days))

    def entry(self, **members: Any) -> dict[str, Any]:
        return {"certificate": to_pem(self.der), "chain": "", **members}


FIRST, SECOND, THIRD = Issuer("first", 30), Issuer("second", 3000), Issuer("third", 9000)


def _sealed(instance: Instance, level: str, count: int = 3) -> list[Sealed]:
    given = [
        dataclasses.replace(f, governance=dataclasses.replace(f.governance, evidence_level=level))
        for f in (facts(f"job-{n}") for n in range(count))
    ]
    return seal_all(given, instance.keyring.evidence_signers, FIRST.at(0))


def _renewed(
    documents: list[bytes], stamps: list[list[ArchiveStamp]], authority: LocalAuthority
) -> list[list[ArchiveStamp]]:
    """Renew the time stamps of some bundles by one token over a tree."""
    records = [record_of(attach(d, None, None, s)) for d, s in zip(documents, stamps, strict=True)]
    root, trees = grow([hash_to_renew(record) for record in records])
    token = authority.stamp_digest(root)
    return [[*s, ArchiveStamp(token, tree)] for s, tree in zip(stamps, trees, strict=True)]


def _trust(instance: Instance, *entries: dict[str, Any]) -> dict[str, Any]:
    return {**instance.trust, "timestamp": list(entries) or [one.entry() for one in (FIRST, SECOND, THIRD)]}


def _bundle(instance: Instance, sealed: Sealed, stamps: list[ArchiveStamp]) -> dict[str, Any]:
    return attach(sealed.document, instance.prove(sealed), None, stamps)


def _failed(report: Report) -> dict[str, str]:
    assert not report.ok
    return {check.name: check.code for check in report.checks if not check.ok}


# `full` needs proofs that these facts do not have; a lone bundle has a token of its own just as well.
KINDS = {"batch": 3, "alone": 1}


@pytest.fixture(params=KINDS)
def sealed(instance: Instance, request: pytest.FixtureRequest) -> list[Sealed]:
    return _sealed(instance, "standard", KINDS[request.param])


def test_evidence_outlives_its_authoritys_certificate(instance: Instance, sealed: list[Sealed]) -> None:
    """R4.2, R4.3: expired, it fails without renewal and passes with one that was made before."""
    trust = _trust(instance)
    bare = _bundle(instance, sealed[0], [])
    assert verify(bare, trust).ok, "a token that counted when it was made, as long as nobody asks for more"
    assert verify(bare, trust, at=_days(29)).ok
    expired = verify(bare, trust, at=_days(60))
    assert _failed(expired) == {"long term": "timestamp.expired"}
    assert "certificate expired" in expired.reason

    documents = [one.document for one in sealed]
    once = _renewed(documents, [[] for _ in sealed], SECOND.at(20))
    for one, stamps in zip(sealed, once, strict=True):
        bundle = _bundle(instance, one, stamps)
        report = verify(bundle, trust, at=_days(60))
        assert report.ok, report.reason
        assert [renewal["authority"] for renewal in report.facts["renewals"]] == ["CN=second"]
        assert detached_digest(bundle) == one.document_digest, "the ledger's record still commits to it"
        assert _failed(verify(bundle, trust, at=_days(4000))) == {"long term": "timestamp.expired"}

    twice = _renewed(documents, once, THIRD.at(2900))
    for one, stamps in zip(sealed, twice, strict=True):
        report = verify(_bundle(instance, one, stamps), trust, at=_days(8000))
        assert report.ok, report.reason
        assert len(report.facts["renewals"]) == 2


def test_evidence_of_level_full_is_renewed_like_any_other(instance: Instance) -> None:
    """R4.3: what has a time stamp of its own keeps it, and shares only the renewals."""
    sealed = seal(full_facts(), instance.keyring.evidence_signers, FIRST.at(0))
    other = _sealed(instance, "standard", 1)[0]
    stamps = _renewed([sealed.document, other.document], [[], []], SECOND.at(20))[0]
    assert stamps[0].tree, "one token for both"
    bundle = attach_renewals(instance.bundle(sealed), stamps)
    report = verify(bundle, _trust(instance), level="full", at=_days(60))
    assert report.ok, report.reason
    assert len(report.facts["renewals"]) == 1


def attach_renewals(bundle: dict[str, Any], stamps: list[ArchiveStamp]) -> dict[str, Any]:
    record = record_of(bundle)
    for stamp in stamps:
        record = record.continued(stamp)
    return {**bundle, "proof": {**bundle["proof"], "evidenceRecord": to_base64(record.encode())}}


def test_a_renewal_that_came_too_late_proves_nothing(instance: Instance, sealed: list[Sealed]) -> None:
    late = _renewed([one.document for one in sealed], [[] for _ in sealed], SECOND.at(31))
    report = verify(_bundle(instance, sealed[0], late[0]), _trust(instance), at=_days(60))
    assert _failed(report) == {"renewal": "timestamp.late", "long term": "evidence.unchecked"}
    assert "did not count any more" in report.reason


def test_forged_renewals_are_refused(instance: Instance) -> None:
    sealed = _sealed(instance, "standard", 2)
    other = _sealed(instance, "standard", 2)
    trust, documents = _trust(instance), [one.document for one in sealed]
    good = _renewed(documents, [[], []], SECOND.at(20))[0]
    of_others = _renewed([one.document for one in other], [[], []], SECOND.at(20))[0]
    unpinned = _renewed(documents, [[], []], Issuer("nobody", 3000).at(20))[0]
    before = _renewed(documents, [[], []], SECOND.at(-0.5))[0]
    gap = _renewed(documents, _renewed(documents, [[], []], SECOND.at(20)), THIRD.at(25))[0]
    for stamps, code in (
        (of_others, "timestamp.tree"),
        (unpinned, "timestamp.unpinned"),
        (before, "timestamp.order"),
        ([gap[1]], "timestamp.tree"),
        ([gap[1], gap[0]], "timestamp.tree"),
        ([good[0], good[0]], "timestamp.tree"),
        ([ArchiveStamp(good[0].token)], "timestamp.imprint"),
        ([ArchiveStamp(good[0].token, good[0].tree[:-1])], None),
    ):
        failed = _failed(verify(_bundle(instance, sealed[0], stamps), trust))
        assert "renewal" in failed
        assert code is None or failed["renewal"] == code


def test_a_renewal_cannot_be_swapped_for_the_initial_stamp(instance: Instance, sealed: list[Sealed]) -> None:
    (stamps, *_) = _renewed([one.document for one in sealed], [[] for _ in sealed], SECOND.at(20))
    bundle = _bundle(instance, sealed[0], stamps)
    swapped = copy.deepcopy(bundle)
    text = to_base64(stamps[0].token)
    swapped["proof"]["timestamp"] = text
    swapped["signatures"]["timestamp_authority"] = "RFC3161:" + text
    assert "timestamp" in _failed(verify(swapped, _trust(instance)))
    record = record_of(bundle)
    turned = dataclasses.replace(record, chains=((*record.chains[0][::-1],),))
    swapped["proof"]["evidenceRecord"] = to_base64(turned.encode())
    assert {"timestamp", "ledger record"} <= set(_failed(verify(swapped, _trust(instance))))


def test_an_authority_revoked_after_the_renewal_harms_nothing(instance: Instance) -> None:
    """What a stolen key could have made is not what a second authority saw before the theft was known."""
    sealed = _sealed(instance, "standard", 2)
    stamps = _renewed([one.document for one in sealed], [[], []], SECOND.at(20))
    renewed, bare = _bundle(instance, sealed[0], stamps[0]), _bundle(instance, sealed[0], [])

    def trust(days: float, *, second: float | None = None) -> dict[str, Any]:
        revoked = {"revokedAt": rfc3339(_days(days)), "reason": "stolen"}
        other = {"revokedAt": rfc3339(_days(second)), "reason": "stolen"} if second else {}
        return _trust(instance, FIRST.entry(**revoked), SECOND.entry(**other), THIRD.entry())

    assert verify(renewed, trust(25), at=_days(60)).ok
    assert _failed(verify(bare, trust(25))) == {"revoked authority": "evidence.key_validity"}
    assert _failed(verify(bare, trust(25), at=_days(28)))["long term"] == "timestamp.expired"
    assert _failed(verify(renewed, trust(15)))["renewal"] == "timestamp.late"
    assert "renewal" in _failed(verify(renewed, trust(25, second=40))), "the newest must be beyond doubt"


def test_an_authority_retired_before_it_renewed_is_refused(instance: Instance) -> None:
    sealed = _sealed(instance, "standard", 2)
    stamps = _renewed([one.document for one in sealed], [[], []], SECOND.at(20))
    bundle = _bundle(instance, sealed[0], stamps[0])
    retired = [SECOND.entry(notAfter=rfc3339(_days(days))) for days in (10, 25)]
    assert _failed(verify(bundle, _trust(instance, FIRST.entry(), retired[0]))) == {
        "renewal": "evidence.key_validity"
    }
    assert verify(bundle, _trust(instance, FIRST.entry(), retired[1]), at=_days(60)).ok, (
        "retired, not revoked"
    )


def test_a_new_chain_begins_with_a_stronger_hash(instance: Instance, sealed: list[Sealed]) -> None:
    """Hash-tree renewal (RFC 4998, 5.2): a new chain covers the object and every older time stamp."""
    bundle = _bundle(instance, sealed[0], [])
    record = record_of(bundle)
    data = base64.b64decode(bundle["proof"]["envelope"]["signatures"][0]["sig"])

    def with_chain(covered: bytes, name: str, day: float = 20) -> dict[str, Any]:
        """With a token over what is said to be covered."""
        token = SECOND.at(day).stamp_digest(covered, name)
        return attach_renewals(bundle, [ArchiveStamp(token)])

    for name in ("sha512", "sha3_512"):
        covered = hash_to_rehash(record.chains, data, name)
        token = SECOND.at(20).stamp_digest(covered, name)
        rehashed = record.rehashed(ArchiveStamp(token), name)
        proof = {**bundle["proof"], "evidenceRecord": to_base64(rehashed.encode())}
        report = verify({**bundle, "proof": proof}, _trust(instance), at=_days(60))
        assert report.ok, report.reason
        assert detached_digest({**bundle, "proof": proof}) == sealed[0].document_digest

    good = with_chain(hash_to_rehash(record.chains, data, "sha3_512"), "sha3_512")
    (told,) = [check.detail for check in verify(good, _trust(instance)).checks if check.name == "renewal"]
    assert told.endswith("by CN=second, hashed anew with sha3-512")
    assert verify(good, _trust(instance)).facts["renewals"][0]["hash"] == "sha3-512"
    wrong = {
        "the token alone": hash_to_renew(dataclasses.replace(record, hashes=("sha3_512",))),
        "another object": hash_to_rehash(record.chains, data + b".", "sha3_512"),
        "the object alone": hashlib.new("sha3_512", data).digest(),
    }
    for what, covered in wrong.items():
        failed = _failed(verify(with_chain(covered, "sha3_512"), _trust(instance)))
        assert failed["renewal"] == "timestamp.imprint", what
    late = with_chain(hash_to_rehash(record.chains, data, "sha3_512"), "sha3_512", 31)
    assert _failed(verify(late, _trust(instance)))["renewal"] == "timestamp.late"
    weak = with_chain(hash_to_rehash(record.chains, data, "sha256"), "sha256")
    assert _failed(verify(weak, _trust(instance)))["renewal"] == "evidence.field"
    assert "weaker imprint" in verify(weak, _trust(instance)).reason


def test_a_certificate_among_the_issuers_stamps_nothing(instance: Instance) -> None:
    """Who could add to an authority's chain, which a CA's certificate of the authority does not cover, would else be one."""
    stranger = {**FIRST.entry(), "chain": to_pem(SECOND.der)}
    by_stranger = seal_all([facts()], instance.keyring.evidence_signers, SECOND.at(0))[0]
    failed = _failed(verify(_bundle(instance, by_stranger, []), _trust(instance, stranger)))
    assert failed["timestamp"] == "timestamp.unpinned"
    assert verify(_bundle(instance, by_stranger, []), _trust(instance)).ok

    sealed = _sealed(instance, "standard", 2)
    stamps = _renewed([one.document for one in sealed], [[], []], SECOND.at(20))
    report = verify(_bundle(instance, sealed[0], stamps[0]), _trust(instance, stranger))
    assert _failed(report) == {"renewal": "timestamp.unpinned"}


def test_an_authority_stands_in_a_trust_document_once(instance: Instance) -> None:
    """A second entry must not take back what the first says of a key that was stolen."""
    revoked = FIRST.entry(revokedAt=rfc3339(_days(-1)), reason="stolen")
    bundle = _bundle(instance, _sealed(instance, "standard", 1)[0], [])
    for entries in ((revoked, FIRST.entry()), (FIRST.entry(), revoked)):
        with pytest.raises(Invalid, match="cannot be used") as refused:
            verify(bundle, _trust(instance, *entries))
        assert "stands twice" in refused.value.got
    assert verify(bundle, _trust(instance, FIRST.entry(), FIRST.entry())).ok, "with another chain, say"


def test_a_time_before_the_stamp_is_no_answer(instance: Instance, sealed: list[Sealed]) -> None:
    assert _failed(verify(_bundle(instance, sealed[0], []), _trust(instance), at=_days(-2))) == {
        "long term": "timestamp.order"
    }
