"""R10.5: keys in an HSM. A real SoftHSM2 token, real PKCS#11; what the contracts do not ask of every store."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pkcs11
import pytest

from qcos.app import open_keyring, open_keystore
from qcos.base.errors import Integrity, Invalid, QcosError, Unavailable
from qcos.keys import pkcs11 as module
from qcos.keys.file import COUNTERSIGNER
from qcos.keys.keystore import Keystore, open_file_keystore, open_token_keystore
from qcos.keys.pkcs11 import Token, TokenWrapper, make_keys, token_signer
from qcos.keys.signer import PublicKey
from qcos.keys.where import TokenAt
from qcos.settings import Settings
from real_keystores import PIN, MakeToken


@pytest.fixture
def at(softhsm: Path, new_token: MakeToken) -> TokenAt:
    return TokenAt(str(softhsm), new_token(), PIN)


def _tool(at: TokenAt, *arguments: str) -> str:
    command = ["pkcs11-tool", "--module", at.module, "--token-label", at.token, "--login", "--pin", PIN]
    return subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout


def _code(call: Callable[[], object], family: type[QcosError]) -> str:
    with pytest.raises(family) as refused:
        call()
    assert refused.value.hint or refused.value.expected
    return refused.value.code


def test_the_keys_are_made_on_the_token_and_never_leave_it(
    at: TokenAt, component: Callable[[str], Path]
) -> None:
    """As another program lists them: local, sensitive, never extractable; and the token refuses to show them."""
    component("pkcs11-tool")
    make_keys(Token(at))
    listed = _tool(at, "--list-objects").split("\n")
    for kind, label, usage in (
        ("Private Key Object; EC", "qcos-countersign", "sign"),
        ("Secret Key Object; AES length 32", "qcos-wrap", "encrypt, decrypt"),
    ):
        place = listed.index(f"  label:      {label}", listed.index(kind))
        assert f"Usage:      {usage}" in listed[place + 2].strip()
        assert (
            "Access:     sensitive, always sensitive, never extractable, local" in listed[place + 3].strip()
        )

    def read(session: object) -> bytes:
        key = session.get_key(label="qcos-wrap")  # type: ignore[attr-defined]
        value: bytes = key[pkcs11.Attribute.VALUE]
        return value

    with pytest.raises(Unavailable) as refused:
        Token(at).run(read)
    assert "AttributeSensitive" in refused.value.got


def test_making_again_makes_nothing(at: TokenAt) -> None:
    make_keys(Token(at))
    signer, wrapper = token_signer(Token(at)), TokenWrapper(Token(at))
    make_keys(Token(at))
    assert token_signer(Token(at)).key_id == signer.key_id
    assert TokenWrapper(Token(at)).key_id == wrapper.key_id


def test_the_private_keys_in_files_open_with_this_token_alone(
    at: TokenAt, new_token: MakeToken, tmp_path: Path
) -> None:
    store = open_token_keystore(tmp_path / "keys", at)
    made = store.keyring().open_or_create()
    assert made.countersigner is not None
    assert made.countersigner.key_id == token_signer(Token(at)).key_id
    for path in (tmp_path / "keys").glob("*.pem"):
        if path.name != "tsa-chain.pem":
            assert path.read_text().startswith("-----BEGIN QCOS WRAPPED PRIVATE KEY-----")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = open_token_keystore(tmp_path / "keys", at).keyring().open_or_create()
    assert [s.key_id for s in again.evidence_signers] == [s.key_id for s in made.evidence_signers]

    other = TokenAt(at.module, new_token(), PIN)
    assert _code(lambda: open_token_keystore(tmp_path / "keys", other), Integrity) == "keys.missing"
    make_keys(Token(other))
    assert _code(lambda: open_token_keystore(tmp_path / "keys", other), Integrity) == "keys.changed"
    forced = Keystore(tmp_path / "keys", TokenWrapper(Token(other)), store.held)
    assert _code(forced.keyring().open_or_create, Integrity) == "keys.wrapped_by_another"
    assert _code(lambda: open_file_keystore(tmp_path / "keys", None), Invalid) == "keys.protection"
    (tmp_path / "keys" / "wrapping.json").unlink()
    plain = open_file_keystore(tmp_path / "keys", None)
    assert _code(plain.keyring().open_or_create, Invalid) == "keys.protection"


def test_a_token_with_a_forged_id_still_does_not_open_it(at: TokenAt, new_token: MakeToken) -> None:
    make_keys(Token(at))
    wrapper = TokenWrapper(Token(at))
    wrapped = wrapper.wrap(b"k" * 32, b"c")
    other = Token(TokenAt(at.module, new_token(), PIN))

    def forge(session: object) -> None:
        session.generate_key(  # type: ignore[attr-defined]
            pkcs11.KeyType.AES,
            256,
            store=True,
            label="qcos-wrap",
            id=Token(at).run(lambda s: s.get_key(label="qcos-wrap")[pkcs11.Attribute.ID]),
            template={pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False},
        )

    other.run(forge, write=True)
    forged = TokenWrapper(other)
    assert forged.key_id == wrapper.key_id
    assert _code(lambda: forged.unwrap(wrapped, b"c"), QcosError) == "keys.unwrap"


def test_a_refused_pin_is_not_tried_again(at: TokenAt) -> None:
    """Tokens lock themselves: a process that starts again and again must not use up the tries, as far as it can tell."""
    wrong = TokenAt(at.module, at.token, "9999-wrong")
    seen: list[str] = []
    for _ in range(5):
        with pytest.raises(Invalid) as refused:
            Token(wrong)
        assert refused.value.code == "keys.pin"
        assert "9999" not in str(refused.value)
        seen.append(refused.value.message)
    assert seen[0] == "the token refuses the PIN"
    assert set(seen[1:]) == {"the PIN was refused"}
    Token(at)


def test_the_pin_does_not_show(at: TokenAt) -> None:
    assert PIN not in repr(at)
    assert PIN not in repr(Token(at))


@pytest.mark.parametrize("module", ["/nowhere/libtoken.so", __file__])
def test_a_module_that_is_none_is_said_so(module: str) -> None:
    assert _code(lambda: Token(TokenAt(module, "t", PIN)), Invalid) == "keys.module"


def test_a_token_that_is_not_there_is_waited_for(softhsm: Path) -> None:
    assert _code(lambda: Token(TokenAt(str(softhsm), "nobody's", PIN)), Unavailable) == "keys.token_away"


def test_a_token_that_comes_a_moment_later_is_opened(
    softhsm: Path, new_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = f"qcos-{secrets.token_hex(4)}"
    monkeypatch.setattr(
        module, "_OPENS_WITHIN_S", 120.0
    )  # a busy machine takes more than a moment to make a token
    later = threading.Timer(0.5, new_token, [label])
    later.start()
    Token(TokenAt(str(softhsm), label, PIN))
    later.join()


def test_two_tokens_of_one_label_are_told_apart_by_serial_or_slot(at: TokenAt) -> None:
    command = ["softhsm2-util", "--init-token", "--free", "--label", at.token, "--so-pin", "87654321"]
    subprocess.run([*command, "--pin", PIN], check=True, capture_output=True)
    with pytest.raises(Invalid) as refused:
        Token(at)
    assert refused.value.code == "keys.token"
    first, second = refused.value.got.split(", ")
    for serial in (first, second):
        make_keys(Token(TokenAt(at.module, serial, PIN)))
    ids = {token_signer(Token(TokenAt(at.module, serial, PIN))).key_id for serial in (first, second)}
    assert len(ids) == 2
    slots = [
        str(token.slot.slot_id) for token in pkcs11.lib(at.module).get_tokens() if token.label == at.token
    ]
    assert {token_signer(Token(TokenAt(at.module, f"slot:{slot}", PIN))).key_id for slot in slots} == ids


def test_keys_that_could_leave_the_token_or_are_of_another_kind_are_refused(at: TokenAt) -> None:
    for label, size, extractable in (("soft", 256, True), ("short", 128, False)):
        _make_aes(at, f"{label}-wrap", size, extractable)
        here = TokenAt(at.module, at.token, PIN, label)
        assert _code(lambda here=here: TokenWrapper(Token(here)), Invalid) == "keys.token_key"  # type: ignore[misc]
    _make_aes(at, "twice-wrap", 256, False)
    _make_aes(at, "twice-wrap", 256, False)
    twice = TokenAt(at.module, at.token, PIN, "twice")
    assert _code(lambda: TokenWrapper(Token(twice)), Invalid) == "keys.token_key"


def _make_aes(at: TokenAt, label: str, size: int, extractable: bool) -> None:
    kept = {pkcs11.Attribute.SENSITIVE: not extractable, pkcs11.Attribute.EXTRACTABLE: extractable}
    Token(at).run(
        lambda s: s.generate_key(pkcs11.KeyType.AES, size, store=True, label=label, template=kept), write=True
    )


def test_installations_that_share_a_token_do_not_share_keys(at: TokenAt) -> None:
    one, two = (Token(TokenAt(at.module, at.token, PIN, label)) for label in ("one", "two"))
    make_keys(one)
    make_keys(two)
    assert token_signer(one).key_id != token_signer(two).key_id
    wrapped = TokenWrapper(one).wrap(b"k", b"")
    assert _code(lambda: TokenWrapper(two).unwrap(wrapped, b""), QcosError) == "keys.wrapped_by_another"


def test_a_token_that_went_away_is_used_again_once_it_is_back(at: TokenAt) -> None:
    make_keys(Token(at))
    signer, wrapper = token_signer(Token(at)), TokenWrapper(Token(at))
    wrapped = wrapper.wrap(b"k", b"c")
    tokens = Path(os.environ["SOFTHSM2_CONF"]).parent / "tokens"
    aside = tokens.with_name("aside")
    tokens.rename(aside)
    try:
        for call in (lambda: signer.sign(b"m"), lambda: wrapper.unwrap(wrapped, b"c")):
            with pytest.raises(Unavailable) as refused:
                call()
            assert refused.value.code == "keys.token_away"
    finally:
        shutil.rmtree(tokens, ignore_errors=True)
        aside.rename(tokens)
    PublicKey.load(signer.spki).verify(signer.sign(b"m"), b"m")
    assert wrapper.unwrap(wrapped, b"c") == b"k"


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the binding's, of a search it cannot end
def test_a_session_that_was_closed_behind_its_back_is_opened_again(at: TokenAt) -> None:
    make_keys(Token(at))
    signer = token_signer(Token(at))
    wrapped = TokenWrapper(Token(at)).wrap(signer.sign(b"m"), b"")
    pkcs11.lib(at.module).reinitialize()  # ends every session of the process
    PublicKey.load(signer.spki).verify(signer.sign(b"m"), b"m")
    PublicKey.load(signer.spki).verify(TokenWrapper(Token(at)).unwrap(wrapped, b""), b"m")
    assert pkcs11.lib(at.module).initialized


def test_a_child_signs_on_its_own_and_the_parent_goes_on(at: TokenAt) -> None:
    make_keys(Token(at))
    signer, wrapper = token_signer(Token(at)), TokenWrapper(Token(at))
    wrapped = wrapper.wrap(b"k", b"c")
    signer.sign(b"m")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, signer.sign(b"child") + wrapper.unwrap(wrapped, b"c"))
        finally:
            os._exit(0)
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0
    said = os.read(read, 1000)
    os.close(read)
    assert said[-1:] == b"k"
    PublicKey.load(signer.spki).verify(said[:-1], b"child")
    PublicKey.load(signer.spki).verify(signer.sign(b"parent"), b"parent")
    assert wrapper.unwrap(wrapped, b"c") == b"k"


_OPEN = """
import sys
from pathlib import Path
from qcos.keys.keystore import open_token_keystore
from qcos.keys.where import TokenAt
store = open_token_keystore(Path(sys.argv[1]), TokenAt(sys.argv[2], sys.argv[3], sys.argv[4]))
print(store.wrapper.key_id, *(s.key_id for s in store.keyring().open_or_create().evidence_signers))
"""


def test_many_processes_that_start_at_once_make_one_set_of_keys(at: TokenAt, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _OPEN, str(tmp_path / "keys"), at.module, at.token, PIN]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=120)[0] for process in processes}
    assert len(said) == 1
    assert all(process.returncode == 0 for process in processes)


def test_a_first_start_that_was_interrupted_goes_on_with_the_keys_it_made(
    at: TokenAt, tmp_path: Path
) -> None:
    make_keys(Token(at))  # as if killed before the folder said so
    made = TokenWrapper(Token(at)).key_id
    assert open_token_keystore(tmp_path, at).wrapper.key_id == made


def test_the_signature_is_that_of_sha_512_cut_to_the_order_of_the_curve(at: TokenAt) -> None:
    """FIPS 186-5, 6.4.1: what the token signs is 48 bytes; any verifier of ECDSA with SHA-512 accepts it."""
    make_keys(Token(at))
    raw = Token(at).run(
        lambda s: s.get_key(label="qcos-countersign", object_class=pkcs11.ObjectClass.PRIVATE_KEY).sign(
            hashlib.sha512(b"m").digest()[:48], mechanism=pkcs11.Mechanism.ECDSA
        )
    )
    signer = token_signer(Token(at))
    PublicKey.load(signer.spki).verify(pkcs11.util.ec.encode_ecdsa_signature(raw), b"m")


# Settings


def _settings(at: TokenAt, data: Path, **more: object) -> Settings:
    values = {"keystore": "pkcs11", "pkcs11_module": at.module, "pkcs11_token": at.token, "pkcs11_pin": PIN}
    return Settings(data=data, **(values | more))  # type: ignore[arg-type]


def test_the_settings_open_it(at: TokenAt, tmp_path: Path) -> None:
    keyring = open_keyring(_settings(at, tmp_path))
    assert keyring.countersigner is not None
    pin = tmp_path / "pin"
    pin.write_text(PIN + "\n")
    pin.chmod(0o600)
    from_file = _settings(at, tmp_path, pkcs11_pin="", pkcs11_pin_file=pin)
    assert open_keystore(from_file).held[COUNTERSIGNER].key_id == keyring.countersigner.key_id
    for mode, text in ((0o640, PIN), (0o600, ""), (0o600, "one\ntwo\n")):
        pin.write_text(text)
        pin.chmod(mode)
        assert _code(lambda: open_keystore(from_file), Invalid) == "keys.secret"
    pin.unlink()
    assert _code(lambda: open_keystore(from_file), Invalid) == "keys.secret"


def test_settings_that_lack_something_say_what(at: TokenAt, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        open_keystore(_settings(at, tmp_path, pkcs11_token="", pkcs11_pin=""))
    assert refused.value.code == "keys.settings"
    assert refused.value.expected == "QCOS_PKCS11_TOKEN, QCOS_PKCS11_PIN"
    both = _settings(at, tmp_path, key_passphrase="x")
    assert _code(lambda: open_keystore(both), Invalid) == "keys.settings"


def test_without_the_binding_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "pkcs11.py").write_text("raise ImportError('No module named pkcs11')")
    program = "from qcos.base.errors import Invalid\ntry:\n    import qcos.keys.pkcs11\nexcept Invalid as e:\n    print(e.code, e.hint)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["keys.extra", "pip", "install", "'qcos[pkcs11]'"]


def test_a_key_store_that_answers_with_another_key_is_not_believed(at: TokenAt) -> None:
    from qcos.keys.held import HeldSigner

    make_keys(Token(at))
    signer = token_signer(Token(at))
    liar = SimpleNamespace(sign=lambda data: signer.sign(data + b"!"))
    held = HeldSigner(PublicKey.load(signer.spki), liar.sign, "a token")
    assert _code(lambda: held.sign(b"m"), Unavailable) == "keys.held_signature"
