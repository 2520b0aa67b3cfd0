"""One suite for everything that wraps keys (contract: `qcos.keys.wrap.KeyWrapper`). R10.5."""

from __future__ import annotations

import json
import multiprocessing
import secrets
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_wire import REGION, Wire
from qcos.base.errors import Integrity, Invalid
from qcos.base.limits import MAX_WRAP_CONTEXT_BYTES, MAX_WRAPPED_KEY_BYTES
from qcos.keys import transit
from qcos.keys.awskms import Kms, KmsWrapper
from qcos.keys.pkcs11 import Token, TokenWrapper, make_keys
from qcos.keys.vault import Server
from qcos.keys.where import KmsAt, TokenAt
from qcos.keys.wrap import KEY_FILE, KeyWrapper, MemoryWrapper, open_file_wrapper, wrapped_by
from real_keystores import PIN, Bao, MakeToken

Make = Callable[[str], KeyWrapper]
"""Opens the wrapping key of a name: the same name, the same key."""


def _on_tokens(softhsm: Path, new_token: MakeToken) -> Make:
    labels: dict[str, str] = {}

    def make(name: str) -> KeyWrapper:
        if name not in labels:
            labels[name] = new_token()
            make_keys(Token(TokenAt(str(softhsm), labels[name], PIN)))
        return TokenWrapper(Token(TokenAt(str(softhsm), labels[name], PIN)))

    return make


def _on_server(bao: Bao) -> Make:
    run = secrets.token_hex(4)

    def make(name: str) -> KeyWrapper:
        server = Server(bao.at(f"{run}-{name}"))
        transit.make_keys(server)
        return transit.TransitWrapper(server)

    return make


def _in_kms(url: str, region: str) -> Make:
    at = KmsAt("", region=region, endpoint=url)
    client = boto3.client("kms", region_name=region, endpoint_url=url)
    keys: dict[str, str] = {}

    def make(name: str) -> KeyWrapper:
        if name not in keys:
            keys[name] = client.create_key(KeySpec="SYMMETRIC_DEFAULT", KeyUsage="ENCRYPT_DECRYPT")[
                "KeyMetadata"
            ]["KeyId"]
        return KmsWrapper(Kms(at), keys[name])

    return make


def _on_the_wire(kms: Wire) -> Make:
    keys: dict[str, str] = {}

    def make(name: str) -> KeyWrapper:
        if name not in keys:
            keys[name] = kms.make("SYMMETRIC_DEFAULT").key_id
        return KmsWrapper(Kms(KmsAt("", region=REGION, endpoint=kms.url)), keys[name])

    return make


@pytest.fixture(
    params=["file", "file under a passphrase", "pkcs11", "transit", "awskms on the wire", "awskms by moto"]
)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "awskms on the wire":
        return _on_the_wire(request.getfixturevalue("kms"))
    if request.param == "awskms by moto":
        return _in_kms(request.getfixturevalue("moto"), REGION)
    if request.param == "transit":
        return _on_server(request.getfixturevalue("bao"))
    if request.param == "pkcs11":
        return _on_tokens(request.getfixturevalue("softhsm"), request.getfixturevalue("new_token"))
    passphrase = b"correct horse" if "passphrase" in request.param else None
    return lambda name: open_file_wrapper(tmp_path / name, passphrase)


def test_what_was_wrapped_is_unwrapped_in_the_same_context_after_opening_again(make: Make) -> None:
    wrapper = make("a")
    for key in (b"k", b"\0" * 32, bytes(range(256)) * 8, b"x" * MAX_WRAPPED_KEY_BYTES):
        for context in (b"", b"tenant/one", b"\xff" * MAX_WRAP_CONTEXT_BYTES):
            wrapped = wrapper.wrap(key, context)
            assert wrapper.unwrap(wrapped, context) == key
            assert make("a").unwrap(wrapped, context) == key


def test_the_key_does_not_show_and_no_two_wrappings_are_alike(make: Make) -> None:
    wrapper, key = make("a"), b"a key that is easily recognised."
    one, two = wrapper.wrap(key, b"c"), wrapper.wrap(key, b"c")
    assert one != two
    assert key not in one
    assert key[:8] not in one


def test_another_context_does_not_open_it(make: Make) -> None:
    wrapper = make("a")
    wrapped = wrapper.wrap(b"k" * 32, b"tenant/one")
    for context in (b"", b"tenant/two", b"tenant/one ", b"tenant/on"):
        with pytest.raises(Integrity) as refused:
            wrapper.unwrap(wrapped, context)
        assert refused.value.code == "keys.unwrap"


def test_another_key_does_not_open_it_and_says_whose_it_is(make: Make) -> None:
    wrapper, other = make("a"), make("b")
    assert wrapper.key_id != other.key_id
    wrapped = wrapper.wrap(b"k" * 32, b"c")
    with pytest.raises(Integrity) as refused:
        other.unwrap(wrapped, b"c")
    assert refused.value.code == "keys.wrapped_by_another"
    assert wrapper.key_id in str(refused.value)


def test_no_changed_byte_passes(make: Make) -> None:
    wrapper = make("a")
    wrapped = wrapper.wrap(b"k" * 32, b"c")
    for place in range(len(wrapped)):
        changed = wrapped[:place] + bytes([wrapped[place] ^ 1]) + wrapped[place + 1 :]
        with pytest.raises(Integrity):
            wrapper.unwrap(changed, b"c")


def test_no_cut_or_longer_text_passes(make: Make) -> None:
    wrapper = make("a")
    wrapped = wrapper.wrap(b"k" * 32, b"c")
    for text in (b"", b"QCW", wrapped[:13], wrapped[:-1], wrapped[:30], wrapped + b"\0", b"x" * 100):
        with pytest.raises(Integrity) as refused:
            wrapper.unwrap(text, b"c")
        assert refused.value.code in ("keys.wrapped", "keys.unwrap", "keys.wrapped_by_another")


def test_the_id_is_stable_and_in_what_was_wrapped(make: Make) -> None:
    wrapper = make("a")
    assert wrapper.key_id == make("a").key_id
    assert len(bytes.fromhex(wrapper.key_id)) == 8
    assert wrapped_by(wrapper.wrap(b"k", b""))[1] == wrapper.key_id


def test_what_does_not_fit_is_refused(make: Make) -> None:
    wrapper = make("a")
    for key, context in (
        (b"", b""),
        (b"k" * (MAX_WRAPPED_KEY_BYTES + 1), b""),
        (b"k", b"c" * (MAX_WRAP_CONTEXT_BYTES + 1)),
    ):
        with pytest.raises(Invalid) as refused:
            wrapper.wrap(key, context)
        assert refused.value.code == "keys.wrap"


def test_many_threads_wrap_and_unwrap_at_once(make: Make) -> None:
    wrapper = make("a")

    def turn(n: int) -> bool:
        key, context = n.to_bytes(32), b"job/%d" % n
        return wrapper.unwrap(wrapper.wrap(key, context), context) == key

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(turn, range(64)))


# What is the file's own.


@given(st.binary(max_size=300), st.binary(max_size=64))
def test_no_bytes_at_all_make_it_do_anything_but_refuse(wrapped: bytes, context: bytes) -> None:
    wrapper = MemoryWrapper(b"\7" * 32)
    for given_bytes in (wrapped, wrapper.wrap(b"k", b"")[:13] + wrapped):
        with pytest.raises(Integrity):
            wrapper.unwrap(given_bytes, context)


def test_the_file_is_the_owners_alone_and_a_lost_or_other_one_is_an_error(tmp_path: Path) -> None:
    made = open_file_wrapper(tmp_path / "keys")
    path = tmp_path / "keys" / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    text = path.read_bytes()
    path.chmod(0o640)
    with pytest.raises(Integrity) as refused:
        open_file_wrapper(tmp_path / "keys")
    assert refused.value.code == "keys.permissions"
    path.unlink()
    with pytest.raises(Integrity) as refused:
        open_file_wrapper(tmp_path / "keys")
    assert refused.value.code == "keys.missing"
    path.write_bytes(
        (tmp_path / "other" / KEY_FILE).read_bytes() if open_file_wrapper(tmp_path / "other") else b""
    )
    path.chmod(0o600)
    with pytest.raises(Integrity) as refused:
        open_file_wrapper(tmp_path / "keys")
    assert refused.value.code == "keys.changed"
    for damaged in (b"", b"{}", text[:-10], text.replace(b'"key":"', b'"key":"!'), b"[]", b"\xff"):
        path.write_bytes(damaged)
        with pytest.raises(Integrity) as refused:
            open_file_wrapper(tmp_path / "keys")
        assert refused.value.code == "keys.unreadable"
    path.write_bytes(text)
    assert open_file_wrapper(tmp_path / "keys").key_id == made.key_id


def test_the_passphrase_hides_the_key(tmp_path: Path) -> None:
    made = open_file_wrapper(tmp_path, b"correct horse")
    assert "key" not in json.loads((tmp_path / KEY_FILE).read_bytes())
    for wrong in (b"battery staple", None, b""):
        with pytest.raises(Invalid) as refused:
            open_file_wrapper(tmp_path, wrong)
        assert refused.value.code == "keys.passphrase"
    assert open_file_wrapper(tmp_path, b"correct horse").key_id == made.key_id


def test_a_making_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    open_file_wrapper(tmp_path)
    (tmp_path / "wrapping.json").unlink()  # as if killed before it was written
    (tmp_path / ".new-half").write_bytes(b"half")
    text = (tmp_path / KEY_FILE).read_bytes()
    open_file_wrapper(tmp_path)
    assert (tmp_path / KEY_FILE).read_bytes() == text, "a key that may be in use already is kept"
    assert not list(tmp_path.glob(".new-*"))


def _open(directory: str, out: multiprocessing.Queue[str]) -> None:
    out.put(open_file_wrapper(Path(directory)).key_id)


def test_many_processes_at_once_get_the_same_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    out: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=_open, args=(str(tmp_path), out)) for _ in range(3)]
    for process in processes:
        process.start()
    found = {out.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(found) == 1
