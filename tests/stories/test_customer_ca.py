"""R10.5: a customer's own CA certifies the keys (X.509, with ML-DSA as in RFC 9881), and is then all that a verifier trusts."""

from __future__ import annotations

import copy
import datetime as dt
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.x509.oid import NameOID

from qcos.base.clock import now
from qcos.base.errors import Invalid
from qcos.client import Client
from qcos.evidence.certified import certified
from qcos.evidence.trust import Trust
from qcos.evidence.verify import verify
from qcos.keys.purpose import PURPOSES

from .house import PATIENT_S, House, furnish
from .installation import QCOS, Installation, running


@dataclass(frozen=True)
class Ca:
    """A CA whose own key is ML-DSA-65: a root, and an issuing CA below it."""

    root: x509.Certificate
    issuing: x509.Certificate
    key: mldsa.MLDSA65PrivateKey

    @classmethod
    def make(cls, name: str) -> Ca:
        root_key, key = mldsa.MLDSA65PrivateKey.generate(), mldsa.MLDSA65PrivateKey.generate()
        root = _certificate(f"{name} root", f"{name} root", root_key.public_key(), root_key, ca=True)
        issuing = _certificate(f"{name} issuing", f"{name} root", key.public_key(), root_key, ca=True)
        return cls(root, issuing, key)

    def issue(self, request: str, *, keep: bool = True) -> str:
        """Return the chain for a request, PEM; without its extensions, as for a web server, if told so."""
        asked = x509.load_pem_x509_csr(request.encode())
        assert asked.is_signature_valid
        name = asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        extensions = asked.extensions if keep else ()
        leaf = _certificate(
            str(name), f"{self.name} issuing", asked.public_key(), self.key, extensions=extensions
        )
        return "".join(_pem(one) for one in (leaf, self.issuing, self.root))

    @property
    def name(self) -> str:
        return str(self.root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value).removesuffix(
            " root"
        )


def _certificate(
    subject: str,
    issuer: str,
    public: Any,
    key: Any,
    *,
    ca: bool = False,
    extensions: Any = (),
    days: int = 365,
) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)]
    at = now() - dt.timedelta(days=1)
    builder = (
        x509.CertificateBuilder(subject_name=names[0], issuer_name=names[1])
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at)
        .not_valid_after(at + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    for extension in extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, None)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with running(tmp_path_factory.mktemp("ca") / "data", "aer") as ready:
        yield ready


@pytest.fixture(scope="module")
def operator(own: Installation) -> Client:
    return Client(own.url, own.admin_token, PATIENT_S)


@pytest.fixture(scope="module")
def tenant(own: Installation) -> Iterator[House]:
    with furnish(own) as made:
        yield made


@pytest.fixture(scope="module")
def ca() -> Ca:
    return Ca.make("Customer")


def trust_of(own: Installation) -> dict[str, Any]:
    return dict(httpx.get(f"{own.url}/v1/trust", timeout=PATIENT_S, trust_env=False).json())


def refusal(document: dict[str, Any], roots: Sequence[x509.Certificate]) -> str:
    with pytest.raises(Invalid) as refused:
        certified(Trust.load(document), roots)
    assert refused.value.code == "trust.uncertified"
    return str(refused.value)


def test_keys_are_certified_by_the_customers_ca(
    own: Installation,
    operator: Client,
    tenant: House,
    ca: Ca,
    tmp_path: Path,
    clean_environment: dict[str, str],
) -> None:
    environment = clean_environment | {"QCOS_URL": own.url, "QCOS_TOKEN": own.admin_token}

    def qcos(*words: str, code: int = 0) -> Any:
        done = subprocess.run([QCOS, *words, "--json"], env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout or done.stderr)

    assert "it has no certificate" in refusal(trust_of(own), [ca.root])
    for role, keys in (("evidence", 2), ("ledger", 3), ("tsa", 1)):
        asked = qcos("key", "request", role, "--output-dir", str(tmp_path))["items"]
        assert len(asked) == keys
        for item in asked:
            chain = tmp_path / f"{item['key_id']}.pem"
            chain.write_text(ca.issue(Path(item["file"]).read_text()))
            assert qcos("key", "certify", str(chain))["certified"] is True

    document = trust_of(own)
    for entry in (*document["evidence"], *document["ledger"]):
        assert len(x509.load_pem_x509_certificates(entry["certificate"].encode())) == 3
    assert len(document["timestamp"]) == 2, "tokens of the certificate before stay verifiable"
    roots, trusted = tmp_path / "root.pem", tmp_path / "trust.json"
    roots.write_text(_pem(ca.root))
    trusted.write_text(json.dumps(document))

    def stamped_by_it() -> dict[str, Any]:
        deadline = time.monotonic() + 120  # until the worker stamps with the new certificate
        while True:
            bundle = tenant.bundle(tenant.run()["job_id"])
            if verify(bundle, certified(Trust.load(trust_of(own)), [ca.root])).ok:
                return bundle
            assert time.monotonic() < deadline, "no bundle verifies under the CA"

    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(stamped_by_it()))
    verified = qcos("evidence", "verify", str(file), "--trust", str(trusted), "--ca", str(roots))
    assert verified["ok"] is True
    assert qcos("evidence", "verify", str(file), "--trust", str(trusted))["ok"] is True
    roots.write_text(_pem(Ca.make("Customer").root))
    assert "does not lead to" in json.dumps(
        qcos("evidence", "verify", str(file), "--trust", str(trusted), "--ca", str(roots), code=2)
    )
    changes = list(operator.ledger.each(act="key.certified"))
    assert len(changes) == 6
    assert all(record["details"]["issuer"] == "CN=Customer issuing" for record in changes)


def test_whoever_sends_another_trust_document_convinces_nobody(own: Installation, ca: Ca) -> None:
    """The document may come from the server itself: a key that the CA did not certify does not count."""
    document = trust_of(own)
    for role in ("evidence", "ledger"):
        forged = copy.deepcopy(document)
        other = Ca.make("Customer")  # the same names, other keys
        for entry in forged[role]:
            del entry["certificate"]
        assert "it has no certificate" in refusal(forged, [ca.root])
        for entry, one in zip(forged[role], document[role], strict=True):
            leaf = x509.load_pem_x509_certificate(one["certificate"].encode())
            entry["certificate"] = one["certificate"].replace(_pem(leaf), _pem(other.issuing))
        assert "another key" in refusal(forged, [ca.root])
        assert "does not lead to" in refusal(document, [other.root])
    swapped = copy.deepcopy(document)
    first, second = swapped["evidence"]
    first["certificate"], second["certificate"] = second["certificate"], first["certificate"]
    assert "another key" in refusal(swapped, [ca.root])
    fewer = copy.deepcopy(document)
    fewer["ledger"] = fewer["ledger"][:2]
    assert "ledger" in refusal(fewer, [ca.root]), "no signature can be stripped by leaving its key out"


def test_a_certificate_for_something_else_is_not_taken(operator: Client, ca: Ca) -> None:
    """A web server's certificate by the same CA is none of a key of evidence."""
    (request, *_) = operator.keys.request("evidence")["items"]
    for chain in (
        ca.issue(request["request"], keep=False),
        ca.issue(request["request"]).split("-----END CERTIFICATE-----\n")[0] + "-----END CERTIFICATE-----\n",
        "nonsense",
        ca.issue(operator.keys.request("ledger")["items"][0]["request"]).replace("A", "B", 1),
    ):
        with pytest.raises(Invalid) as refused:
            operator.keys.certify(chain)
        assert refused.value.code == "keys.chain"


def test_openssl_issues_for_the_authority(
    own: Installation, operator: Client, tenant: House, tmp_path: Path
) -> None:
    """What OpenSSL 3.0 knows of: a P-384 CA, and the authority's P-384 key."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)

    openssl("ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", "ca.key")
    subject = ["-subj", "/CN=OpenSSL CA", "-days", "30", "-sha384"]
    openssl("req", "-x509", "-new", "-key", "ca.key", "-out", "ca.pem", *subject)
    (asked,) = operator.keys.request("tsa", name="Stamps of the house")["items"]
    (tmp_path / "tsa.csr").write_text(asked["request"])
    signing = [
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "20",
        "-copy_extensions",
        "copy",
    ]
    openssl("x509", "-req", "-in", "tsa.csr", "-out", "tsa.pem", *signing)
    operator.keys.certify((tmp_path / "tsa.pem").read_text() + (tmp_path / "ca.pem").read_text())
    deadline = time.monotonic() + 120  # until the worker stamps with the new certificate
    while True:
        bundle = tenant.bundle(tenant.run()["job_id"])
        report = verify(bundle, trust_of(own))
        assert report.ok, report.reason
        if report.facts["authority"] == "CN=Stamps of the house":
            break
        assert time.monotonic() < deadline, report.facts["authority"]
    assert PURPOSES["tsa"] == "1.3.6.1.5.5.7.3.8"


def test_the_local_ca_is_revoked_though_the_customers_certified_its_authority(
    own: Installation, operator: Client, tenant: House
) -> None:
    """The authority's own key is not in other hands: it is replaced, as by a rotation, and not revoked."""
    before = {
        item["role"]: item["key_id"] for item in operator.keys.list()["items"] if item["state"] == "active"
    }
    done = operator.keys.revoke(before["tsa-ca"], reason="backup disk lost")
    assert done["revoked"] == [before["tsa-ca"]]
    assert {item["role"] for item in done["made"]} == {"tsa-ca", "tsa"}
    states = {item["key_id"]: item["state"] for item in operator.keys.list()["items"]}
    assert states[before["tsa"]] in ("retiring", "retired")
    report = verify(tenant.bundle(tenant.run()["job_id"]), trust_of(own))
    assert report.ok, report.reason
