"""The trust document carries public keys and nothing else."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

from cryptography import x509

from qcos.base.clock import parse_rfc3339, rfc3339
from qcos.keys.certify import to_pem
from qcos.keys.file import ROLES, FileKeyring
from qcos.keys.signer import PublicKey
from qcos.keys.trust import trust_document


def test_the_trust_document_is_public_and_complete(tmp_path: Path) -> None:
    """R4.2: the trust root that a verifier pins."""
    keyring = FileKeyring(tmp_path).open_or_create()
    vkeys = [f"qcos.example/log+0000000{n}+AA==" for n in range(3)]
    document = trust_document(keyring, "qcos.example/log", vkeys)
    made = rfc3339(keyring.created)
    assert set(document) == {"schema", "origin", "evidence", "ledger", "timestamp"}
    assert document["ledger"] == [{"vkey": vkey, "notBefore": made} for vkey in vkeys]
    for entry, signer in zip(document["evidence"], keyring.evidence, strict=True):
        public = PublicKey.load(base64.b64decode(entry["publicKey"]))
        assert (public.key_id, public.algorithm) == (signer.key_id, signer.algorithm)
        assert (entry["keyId"], entry["algorithm"]) == (signer.key_id, signer.algorithm)
    (authority,) = document["timestamp"]
    leaf = x509.load_pem_x509_certificate(authority["certificate"].encode())
    (root,) = x509.load_pem_x509_certificates(authority["chain"].encode())
    leaf.verify_directly_issued_by(root)
    text = json.dumps(document)
    assert "PRIVATE" not in text
    for role in ROLES:
        secret = "".join((tmp_path / f"{role}.pem").read_text().splitlines()[1:-1])
        assert secret not in text


def test_the_trust_document_names_the_ledgers_witnesses_when_there_are_some(tmp_path: Path) -> None:
    keyring = FileKeyring(tmp_path).open_or_create()
    member = {"quorum": 1, "keys": [{"vkey": "w.example+00000000+AA=="}]}
    assert trust_document(keyring, "o", witnesses=member)["witnesses"] == member
    assert "witnesses" not in trust_document(keyring, "o")


def test_it_says_when_each_key_counted(tmp_path: Path) -> None:
    """R10.5: old evidence stays verifiable after its keys were replaced or revoked."""
    keyring = FileKeyring(tmp_path).open_or_create()
    retired, revoked = parse_rfc3339("2027-01-01T00:00:00Z"), parse_rfc3339("2027-02-01T00:00:00Z")
    entries = [
        replace(entry, not_after=retired, revoked_at=revoked, reason="stolen") for entry in keyring.entries
    ]
    document = trust_document(
        replace(keyring, entries=tuple(entries)),
        "o",
        ["a", "b", "c"],
        ledger_size=lambda at: int(at > revoked),
    )
    said = {"notAfter": rfc3339(retired), "revokedAt": rfc3339(revoked), "reason": "stolen"}
    for entry in (*document["evidence"], *document["ledger"], *document["timestamp"]):
        assert said.items() <= entry.items()
    assert document["timestamp"][0]["ledgerSize"] == 1


def test_the_installations_own_authority_stands_in_it_once(tmp_path: Path) -> None:
    """Pinned as an outside one, too, it would count for ever whatever became of its key."""
    keyring = FileKeyring(tmp_path).open_or_create()
    own = [(to_pem(keyring.tsa_chain[0]), to_pem(keyring.tsa_chain[1]))]
    document = trust_document(keyring, "o", authorities=own)
    assert document == trust_document(keyring, "o")
