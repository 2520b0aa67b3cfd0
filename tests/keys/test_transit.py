"""R10.2, R10.5: keys in a customer's Vault-compatible server. A real OpenBao over TLS; what the contracts do not ask of every store."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hvac
import pytest

from docs.pages import examples, page
from qcos.app import open_keyring
from qcos.base.errors import Integrity, Invalid, QcosError, Unavailable
from qcos.evidence.envelope import sign
from qcos.keys.keystore import open_file_keystore, open_transit_keystore
from qcos.keys.signer import PublicKey
from qcos.keys.transit import TransitWrapper, make_keys, transit_signer
from qcos.keys.vault import Server
from qcos.keys.where import TransitAt
from qcos.settings import Settings
from real_keystores import Bao, bao_server, free_port


@pytest.fixture
def label() -> str:
    return f"qcos-{secrets.token_hex(4)}"


def _code(call: Callable[[], object], family: type[QcosError]) -> str:
    with pytest.raises(family) as refused:
        call()
    assert refused.value.hint or refused.value.expected
    return refused.value.code


def _policy(bao: Bao, label: str, *, signing: bool = True) -> None:
    """Allow what the page allows, for another label."""
    (block,) = examples(page("docs/how-to/use-vault.md"), run="server")
    rules = [line for line in block.text.splitlines() if line.startswith("path ")]
    kept = [line.replace("/qcos-", f"/{label}-") for line in rules if signing or "/sign/" not in line]
    bao.client().sys.create_or_update_policy(label, "\n".join(kept))


def _approle(bao: Bao, label: str) -> TransitAt:
    client = bao.client()
    if "approle/" not in client.sys.list_auth_methods()["data"]:
        client.sys.enable_auth_method("approle")
    client.auth.approle.create_or_update_approle(label, token_policies=[label], token_ttl="1h")
    role = client.auth.approle.read_role_id(label)["data"]["role_id"]
    secret = client.auth.approle.generate_secret_id(label)["data"]["secret_id"]
    return bao.at(label, role_id=role, secret_id_file=bao.secret(secret))


def test_an_installation_keeps_its_keys_there(bao: Bao, label: str, tmp_path: Path) -> None:
    """Held: both classical keys of evidence. Wrapped: the rest. With the rights of the page and no more."""
    _policy(bao, label)
    at = _approle(bao, label)
    made = open_transit_keystore(tmp_path / "keys", at).keyring().open_or_create()
    assert [s.algorithm for s in made.evidence_signers] == ["ML-DSA-65", "Ed25519", "ECDSA-P384"]
    files = sorted(path.name for path in (tmp_path / "keys").glob("*.pem"))
    assert "evidence-ed25519.pem" not in files and "evidence-mldsa65.pem" in files
    for name in files:
        if name != "tsa-chain.pem":
            text = (tmp_path / "keys" / name).read_text()
            assert text.startswith("-----BEGIN QCOS WRAPPED PRIVATE KEY-----")
    _, signatures = sign(b"{}", made.evidence_signers)
    assert len(signatures) == 3
    again = open_transit_keystore(tmp_path / "keys", at).keyring().open_or_create()
    assert [s.key_id for s in again.evidence_signers] == [s.key_id for s in made.evidence_signers]
    assert _code(lambda: open_file_keystore(tmp_path / "keys", None), Invalid) == "keys.protection"
    other = bao.at(f"{label}-other")
    assert _code(lambda: open_transit_keystore(tmp_path / "keys", other), Integrity) == "keys.missing"
    make_keys(Server(other))
    assert _code(lambda: open_transit_keystore(tmp_path / "keys", other), Integrity) == "keys.changed"


def test_a_replaced_wrapping_key_is_noticed_at_the_start(bao: Bao, label: str, tmp_path: Path) -> None:
    """Same server, same name, another key: it opens nothing, and says so before anything is wrapped by it."""
    open_transit_keystore(tmp_path, bao.at(label)).keyring().open_or_create()
    transit = bao.client().secrets.transit
    transit.update_key_configuration(f"{label}-wrap", deletion_allowed=True)
    transit.delete_key(f"{label}-wrap")
    assert _code(lambda: open_transit_keystore(tmp_path, bao.at(label)), Integrity) == "keys.missing"
    transit.create_key(f"{label}-wrap", key_type="aes256-gcm96")
    assert _code(lambda: open_transit_keystore(tmp_path, bao.at(label)), Integrity) == "keys.changed"


def test_the_wrapping_key_may_be_rotated_there(bao: Bao, label: str) -> None:
    make_keys(Server(bao.at(label)))
    wrapper = TransitWrapper(Server(bao.at(label)))
    old = wrapper.wrap(b"old", b"c")
    bao.client().secrets.transit.rotate_key(f"{label}-wrap")
    new = TransitWrapper(Server(bao.at(label))).wrap(b"new", b"c")
    assert (old[13:17], new[13:17]) == (b"\0\0\0\1", b"\0\0\0\2")
    assert (wrapper.unwrap(old, b"c"), wrapper.unwrap(new, b"c")) == (b"old", b"new")
    mixed = new[:13] + old[13:17] + new[17:]
    assert _code(lambda: wrapper.unwrap(mixed, b"c"), QcosError) == "keys.unwrap"


def test_a_signing_key_rotated_there_goes_on_with_its_first_version(bao: Bao, label: str) -> None:
    make_keys(Server(bao.at(label)))
    before = transit_signer(Server(bao.at(label)), "countersign")
    bao.client().secrets.transit.rotate_key(f"{label}-countersign")
    after = transit_signer(Server(bao.at(label)), "countersign")
    assert before.key_id == after.key_id
    PublicKey.load(before.spki).verify(after.sign(b"m"), b"m")


def test_a_signing_key_replaced_while_we_run_makes_nothing(bao: Bao, label: str) -> None:
    """What it would sign waits (Unavailable): it is neither given away nor failed."""
    make_keys(Server(bao.at(label)))
    signer = transit_signer(Server(bao.at(label)), "countersign")
    transit = bao.client().secrets.transit
    transit.update_key_configuration(f"{label}-countersign", deletion_allowed=True)
    transit.delete_key(f"{label}-countersign")
    assert _code(lambda: signer.sign(b"m"), Unavailable) == "keys.store_answer"
    transit.create_key(f"{label}-countersign", key_type="ecdsa-p384")
    assert _code(lambda: signer.sign(b"m"), Unavailable) == "keys.held_signature"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("wrap", {"key_type": "chacha20-poly1305"}),
        ("wrap", {"key_type": "aes256-gcm96", "exportable": True}),
        ("wrap", {"key_type": "aes256-gcm96", "derived": True}),
        ("countersign", {"key_type": "ecdsa-p256"}),
        ("countersign", {"key_type": "ecdsa-p384", "allow_plaintext_backup": True}),
        ("ed25519", {"key_type": "ed25519", "exportable": True}),
    ],
)
def test_keys_of_another_kind_or_that_could_leave_are_refused(
    bao: Bao, label: str, name: str, given: dict[str, object], tmp_path: Path
) -> None:
    bao.client().secrets.transit.create_key(f"{label}-{name}", **given)
    at = bao.at(label)
    assert _code(lambda: open_transit_keystore(tmp_path, at), Invalid) == "keys.store_key"


# Logging in


def test_a_token_that_ended_is_replaced_by_a_new_login(bao: Bao, label: str) -> None:
    _policy(bao, label)
    server = Server(_approle(bao, label))
    make_keys(server)
    signer = transit_signer(server, "countersign")
    used = server._token
    bao.client().auth.token.revoke(used)
    PublicKey.load(signer.spki).verify(signer.sign(b"m"), b"m")
    assert server._token != used


def test_a_token_file_is_read_again_when_an_agent_renewed_it(bao: Bao, label: str) -> None:
    make_keys(Server(bao.at(label)))
    _policy(bao, label)
    client = bao.client()
    first, second = (client.auth.token.create(policies=[label])["auth"]["client_token"] for _ in range(2))
    file = bao.secret(first)
    signer = transit_signer(Server(bao.at(label, token_file=file)), "countersign")
    client.auth.token.revoke(first)
    assert _code(lambda: signer.sign(b"m"), Unavailable) == "keys.store_denied"
    file.write_text(second)
    PublicKey.load(signer.spki).verify(signer.sign(b"m"), b"m")
    assert first not in repr(signer)


def test_a_policy_that_is_too_narrow_is_said_so_and_waited_for(bao: Bao, label: str) -> None:
    make_keys(Server(bao.at(label)))
    _policy(bao, label)
    signer = transit_signer(Server(_approle(bao, label)), "ed25519")
    _policy(bao, label, signing=False)
    assert _code(lambda: signer.sign(b"m"), Unavailable) == "keys.store_denied"
    _policy(bao, label)
    PublicKey.load(signer.spki).verify(signer.sign(b"m"), b"m")


def test_with_the_rights_of_the_page_a_missing_key_is_not_made_by_wrapping(bao: Bao, label: str) -> None:
    """A server makes a missing key when it is asked to encrypt and the caller may ``create`` there."""
    _policy(bao, label)
    server = Server(_approle(bao, label))
    make_keys(server)
    wrapper = TransitWrapper(server)
    transit = bao.client().secrets.transit
    transit.update_key_configuration(f"{label}-wrap", deletion_allowed=True)
    transit.delete_key(f"{label}-wrap")
    assert _code(lambda: wrapper.wrap(b"k", b""), Unavailable).startswith("keys.store_")
    assert bao.client().read(f"transit/keys/{label}-wrap") is None


def test_the_rights_of_the_page_reach_no_further_than_it_says(bao: Bao, label: str, tmp_path: Path) -> None:
    """Whoever steals the role can use the keys and rotate the signing ones: not export, weaken or delete any."""
    _policy(bao, label)
    server = Server(_approle(bao, label))
    make_keys(server)
    thief = bao.client()
    thief.token = server._token
    transit = thief.secrets.transit
    for attempt in (
        lambda: transit.update_key_configuration(f"{label}-wrap", exportable=True),
        lambda: transit.update_key_configuration(f"{label}-countersign", deletion_allowed=True),
        lambda: transit.export_key(f"{label}-ed25519", "signing-key"),
        lambda: transit.backup_key(f"{label}-wrap"),
        lambda: transit.delete_key(f"{label}-wrap"),
        lambda: transit.rotate_key(f"{label}-wrap"),
        lambda: transit.read_key("another-installations-wrap"),
    ):
        with pytest.raises(hvac.exceptions.Forbidden):
            attempt()
    maker = open_transit_keystore(tmp_path, server.at).maker
    assert maker is not None
    assert maker.make("ECDSA-P384")[1] == "countersign:2"


def test_wrong_credentials_and_none_are_said_so(bao: Bao, label: str) -> None:
    _policy(bao, label)
    right = _approle(bao, label)
    wrong = bao.at(label, role_id=right.role_id, secret_id_file=bao.secret("wrong"))
    assert _code(lambda: Server(wrong), Unavailable) == "keys.store_denied"
    nothing = TransitAt(url=bao.url, ca=str(bao.ca))
    assert _code(lambda: Server(nothing), Invalid) == "keys.settings"
    lost = bao.at(label, token_file=Path("/nowhere/token"))
    assert _code(lambda: Server(lost), Invalid) == "keys.secret"


# Away


def test_another_ca_is_not_believed(bao: Bao, label: str) -> None:
    by_system = TransitAt(url=bao.url, token_file=bao.secret("root"), label=label)
    with pytest.raises(Unavailable) as refused:
        make_keys(Server(by_system))
    assert refused.value.code == "keys.store_away"
    assert "QCOS_TRANSIT_CA" in refused.value.hint


@pytest.mark.parametrize(
    "url", ["http://vault.example.org:8200", "ftp://127.0.0.1", "vault", "", "http://10.0.0.1"]
)
def test_nothing_is_sent_in_clear_to_another_machine(bao: Bao, url: str) -> None:
    assert (
        _code(lambda: Server(TransitAt(url=url, token_file=bao.secret("root"))), Invalid) == "keys.settings"
    )


def test_a_sealed_a_stopped_and_a_started_server(bao_program: Path, tmp_path: Path) -> None:
    port = free_port()
    with bao_server(bao_program, tmp_path / "bao", port) as own:
        server = Server(own.at("qcos"))
        make_keys(server)
        signer, wrapper = transit_signer(server, "countersign"), TransitWrapper(server)
        wrapped = wrapper.wrap(b"k", b"")
        own.client().sys.seal()
        for call in (
            lambda: signer.sign(b"m"),
            lambda: wrapper.unwrap(wrapped, b""),
            lambda: wrapper.wrap(b"k", b""),
        ):
            assert _code(call, Unavailable) == "keys.store_away"
    assert _code(lambda: signer.sign(b"m"), Unavailable) == "keys.store_away"


def test_an_answer_that_is_none_is_not_taken_for_one(label: str, bao: Bao) -> None:
    """A proxy's page, half an answer, a redirect: Unavailable, and the token goes nowhere else."""
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhtml",
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{",
        b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 472 Standby\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"",
    ]
    for answer in answers:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=_answer_all, args=(listener, answer), daemon=True).start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            at = TransitAt(url=url, token_file=bao.secret("root"), label=label)
            with pytest.raises(Unavailable) as refused:
                TransitWrapper(Server(at))
            assert refused.value.code in ("keys.store_answer", "keys.store_away")
            role = replace(at, token_file=None, role_id="r", secret_id_file=bao.secret("s"))
            with pytest.raises(Unavailable):
                Server(role)


def _answer_all(listener: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(answer)


def test_the_settings_open_it(bao: Bao, label: str, tmp_path: Path) -> None:
    given = {
        "keystore": "transit",
        "transit_url": bao.url,
        "transit_ca": str(bao.ca),
        "transit_token_file": bao.secret("root"),
        "transit_label": label,
    }
    keyring = open_keyring(Settings(data=tmp_path, **given))  # type: ignore[arg-type]
    assert keyring.countersigner is not None
    with pytest.raises(Invalid) as refused:
        open_keyring(Settings(data=tmp_path, keystore="transit"))
    assert (refused.value.code, refused.value.expected) == ("keys.settings", "QCOS_TRANSIT_URL")
