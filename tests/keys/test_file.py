"""Keys are made once, kept private, and never replaced."""

from __future__ import annotations

import json
import multiprocessing
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from qcos.base.errors import Integrity, Invalid
from qcos.keys.file import CHAIN_FILE, MANIFEST_FILE, ROLES, FileKeyring
from qcos.keys.model import Keyring
from qcos.keys.signer import GENERATORS, PrivateKeySigner, PublicKey
from qcos.keys.wrap import MemoryWrapper


def _ids(keyring: Keyring) -> list[str]:
    return [s.key_id for s in (*keyring.evidence, *keyring.ledger, keyring.tsa_key)]


def test_the_keys_are_made_once_and_opened_afterwards(tmp_path: Path) -> None:
    made = FileKeyring(tmp_path / "keys").open_or_create()
    again = FileKeyring(tmp_path / "keys").open_or_create()
    assert _ids(made) == _ids(again)
    assert made.tsa_chain == again.tsa_chain
    assert made.created == again.created
    assert [s.algorithm for s in made.evidence] == ["ML-DSA-65", "Ed25519"]
    assert [s.algorithm for s in made.ledger] == ["Ed25519", "ML-DSA-44", "ML-DSA-65"]
    assert made.tsa_key.algorithm == "ECDSA-P384"
    assert len(set(_ids(made))) == 6, "every role has a key of its own"


def test_private_keys_are_pkcs8_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    """R10.5: local key management."""
    FileKeyring(tmp_path / "keys").open_or_create()
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    for role in ROLES:
        path = tmp_path / "keys" / f"{role}.pem"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert not list((tmp_path / "keys").glob(".new-*"))


def test_the_passphrase_encrypts_every_key(tmp_path: Path) -> None:
    made = FileKeyring(tmp_path, b"correct horse").open_or_create()
    for role in ROLES:
        assert (tmp_path / f"{role}.pem").read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert _ids(FileKeyring(tmp_path, b"correct horse").open_or_create()) == _ids(made)
    for wrong in (b"battery staple", None, b""):
        with pytest.raises(Invalid) as refused:
            FileKeyring(tmp_path, wrong).open_or_create()
        assert refused.value.code == "keys.passphrase"


def test_a_passphrase_for_plain_keys_is_an_error(tmp_path: Path) -> None:
    FileKeyring(tmp_path).open_or_create()
    with pytest.raises(Invalid) as refused:
        FileKeyring(tmp_path, b"x").open_or_create()
    assert refused.value.code == "keys.passphrase"


def _open(directory: str, out: multiprocessing.Queue[list[str]]) -> None:
    out.put(_ids(FileKeyring(Path(directory)).open_or_create()))


def test_many_processes_at_once_get_the_same_keys(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    out: multiprocessing.Queue[list[str]] = context.Queue()
    processes = [context.Process(target=_open, args=(str(tmp_path), out)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [out.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("kept", range(len(ROLES) + 2))
def test_making_goes_on_where_it_was_interrupted(tmp_path: Path, kept: int) -> None:
    made = FileKeyring(tmp_path).open_or_create()
    order = [f"{role}.pem" for role in ROLES] + [CHAIN_FILE, MANIFEST_FILE]
    for name in order[kept:]:
        (tmp_path / name).unlink()
    (tmp_path / ".new-0123").write_bytes(b"half a ke")
    before = {name: (tmp_path / name).read_bytes() for name in order[:kept]}
    again = FileKeyring(tmp_path).open_or_create()
    assert {name: (tmp_path / name).read_bytes() for name in order[:kept]} == before
    assert _ids(again)[:kept] == _ids(made)[:kept]
    assert not (tmp_path / ".new-0123").exists()


def _swap_key(path: Path) -> None:
    key = GENERATORS["Ed25519"]()
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.mark.parametrize(
    ("name", "harm", "code"),
    [
        ("evidence-mldsa65.pem", Path.unlink, "keys.missing"),
        (CHAIN_FILE, Path.unlink, "keys.missing"),
        ("evidence-ed25519.pem", _swap_key, "keys.changed"),
        ("evidence-mldsa65.pem", _swap_key, "keys.changed"),
        ("tsa.pem", lambda p: p.write_bytes(b"nonsense"), "keys.unreadable"),
        (CHAIN_FILE, lambda p: p.write_bytes(b"nonsense"), "keys.unreadable"),
        (MANIFEST_FILE, lambda p: p.write_bytes(b"{}"), "keys.unreadable"),
        (MANIFEST_FILE, lambda p: p.write_bytes(b"[]"), "keys.unreadable"),
        ("ledger-ed25519.pem", lambda p: p.chmod(0o640), "keys.permissions"),
    ],
)
def test_a_lost_or_changed_file_is_an_error_not_a_new_key(
    tmp_path: Path, name: str, harm: Callable[[Path], object], code: str
) -> None:
    FileKeyring(tmp_path).open_or_create()
    harm(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Integrity) as refused:
        FileKeyring(tmp_path).open_or_create()
    assert refused.value.code == code
    assert name in refused.value.subject
    assert sorted(tmp_path.iterdir()) == before


def test_a_certificate_for_another_key_is_an_error(tmp_path: Path) -> None:
    FileKeyring(tmp_path / "a").open_or_create()
    FileKeyring(tmp_path / "b").open_or_create()
    (tmp_path / "a" / CHAIN_FILE).write_bytes((tmp_path / "b" / CHAIN_FILE).read_bytes())
    with pytest.raises(Integrity) as refused:
        FileKeyring(tmp_path / "a").open_or_create()
    assert refused.value.code == "keys.changed"


def test_the_authority_has_one_critical_extended_key_usage(tmp_path: Path) -> None:
    """RFC 3161, 2.3."""
    chain = [x509.load_der_x509_certificate(c) for c in FileKeyring(tmp_path).open_or_create().tsa_chain]
    usage = chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert usage.critical
    assert list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
    chain[0].verify_directly_issued_by(chain[1])
    chain[1].verify_directly_issued_by(chain[1])


def test_the_manifest_holds_no_secret(tmp_path: Path) -> None:
    keyring = FileKeyring(tmp_path).open_or_create()
    manifest = json.loads((tmp_path / MANIFEST_FILE).read_text())
    assert set(manifest) == {"schema", "created", "keys"}
    assert manifest["keys"]["tsa"] == keyring.tsa_key.key_id


@pytest.mark.parametrize("algorithm", list(GENERATORS))
def test_what_a_signer_signs_its_public_key_checks(algorithm: str) -> None:
    signer = PrivateKeySigner(GENERATORS[algorithm]())  # type: ignore[index]
    public = PublicKey.load(signer.spki)
    assert (public.algorithm, public.key_id, public.raw) == (algorithm, signer.key_id, signer.public_bytes)
    signature = signer.sign(b"data")
    public.verify(signature, b"data")
    for wrong, data in (
        (signature, b"datA"),
        (signature[:-1], b"data"),
        (b"", b"data"),
        (b"\0" * 64, b"data"),
    ):
        with pytest.raises(Integrity) as refused:
            public.verify(wrong, data)
        assert refused.value.code == "keys.signature"


def test_a_key_of_another_kind_is_refused() -> None:
    for spki in (b"", b"\x30\x00", bytes(100)):
        with pytest.raises(Invalid) as refused:
            PublicKey.load(spki)
        assert refused.value.code == "keys.public"


def test_a_wrapper_wraps_every_key_for_its_role(tmp_path: Path) -> None:
    """R10.5: the files open with the wrapping key alone, and each in its own role alone."""
    wrapper = MemoryWrapper(b"\1" * 32)
    made = FileKeyring(tmp_path, wrapper=wrapper).open_or_create()
    for role in ROLES:
        assert (tmp_path / f"{role}.pem").read_bytes().startswith(b"-----BEGIN QCOS WRAPPED PRIVATE KEY-----")
    assert _ids(FileKeyring(tmp_path, wrapper=wrapper).open_or_create()) == _ids(made)
    with pytest.raises(Integrity) as other:
        FileKeyring(tmp_path, wrapper=MemoryWrapper(b"\2" * 32)).open_or_create()
    assert other.value.code == "keys.wrapped_by_another"
    with pytest.raises(Invalid) as plain:
        FileKeyring(tmp_path).open_or_create()
    assert plain.value.code == "keys.protection"
    one, two = tmp_path / "evidence-ed25519.pem", tmp_path / "ledger-ed25519.pem"
    text = two.read_bytes()
    two.write_bytes(one.read_bytes())
    with pytest.raises(Integrity) as moved:
        FileKeyring(tmp_path, wrapper=wrapper).open_or_create()
    assert (moved.value.code, moved.value.subject) == ("keys.unwrap", str(two))
    for damaged in (text[:-20], text.replace(b"\n", b"\n!", 1), text[:45]):
        two.write_bytes(damaged)
        with pytest.raises(Integrity) as broken:
            FileKeyring(tmp_path, wrapper=wrapper).open_or_create()
        assert broken.value.code == "keys.unreadable"


def test_plain_keys_are_not_taken_for_wrapped_ones(tmp_path: Path) -> None:
    FileKeyring(tmp_path).open_or_create()
    with pytest.raises(Invalid) as refused:
        FileKeyring(tmp_path, wrapper=MemoryWrapper(b"\1" * 32)).open_or_create()
    assert refused.value.code == "keys.protection"
    with pytest.raises(Invalid) as both:
        FileKeyring(tmp_path / "new", b"passphrase", wrapper=MemoryWrapper(b"\1" * 32))
    assert both.value.code == "keys.passphrase"
