"""Keys in an HSM, by PKCS#11 v2.40: a token holds a P-384 key that countersigns and an AES-256 key that wraps.

Both are made on the token and cannot leave it. No token in common use signs with ML-DSA, so those keys (and the
Ed25519 ones) lie in files that the token's AES key wraps: without the token no process starts, and without its
P-384 key nothing that it signs passes a verifier.

The binding initialises a module without locking, so one thread at a time is in a module. A session that is lost
(token removed, module restarted, process forked) is opened anew once for each call; a PIN that was refused is never
tried again by this process, for tokens lock themselves after a few wrong ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from qcos.base.errors import Integrity, Invalid, Unavailable
from qcos.keys.held import HeldSigner, makes_none, p384_digest
from qcos.keys.model import Algorithm, Signer
from qcos.keys.signer import PublicKey
from qcos.keys.where import TokenAt
from qcos.keys.wrap import body_of, demand_fitting, does_not_open, header

try:
    import pkcs11
    from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, TokenFlag
    from pkcs11.mechanisms import GCMParams
    from pkcs11.util.ec import (
        encode_ec_public_key,
        encode_ecdsa_signature,
        encode_named_curve_parameters,
    )
except ImportError as missing:
    raise Invalid(
        "keys.extra",
        "PKCS#11 is not installed",
        got=str(missing),
        hint="pip install 'qcos[pkcs11]'",
    ) from None

Value = TypeVar("Value")
Session = Any  # the binding is not typed

_NONCE: Final = 12
_OPENS_WITHIN_S: Final = 3.0
_PROBE: Final = b"qcos: does this key still work?"
_KEPT: Final = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True}
_DOES_NOT_OPEN: Final = (
    *(pkcs11.EncryptedDataInvalid, pkcs11.EncryptedDataLenRange, pkcs11.GeneralError, pkcs11.FunctionFailed),
    *(pkcs11.ArgumentsBad, pkcs11.DataInvalid, pkcs11.DataLenRange, pkcs11.MechanismParamInvalid),
)


class Token:
    """A token that is open. Safe for many threads, and after a fork.

    Raises:
        Invalid: ``keys.module`` when the module cannot be loaded, ``keys.token`` when there is no or more than
            one such token, ``keys.pin`` when the PIN is refused or must not be tried.
        Unavailable: ``keys.token_away``.
    """

    def __init__(self, at: TokenAt) -> None:
        self.at = at
        self._module = _module(at.module)
        self._session: Session | None = None
        self._age = (os.getpid(), self._module.age)
        self._open()

    def _open(self) -> None:
        """Open a session, asking for a short while: modules miss a token while another process writes to it."""
        until = time.monotonic() + _OPENS_WITHIN_S
        while True:
            try:
                return self.run(lambda session: None)
            except Unavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def run(self, work: Callable[[Session], Value], *, write: bool = False) -> Value:
        """Do something in the token's session, opening it anew once when it is lost.

        Args:
            work: What to do; it may be called twice.
            write: Whether it makes objects on the token; such a session is closed afterwards.

        Raises:
            Unavailable: ``keys.token_away`` when the token does not answer as it should.
        """
        with self._module.lock:
            if self._age[0] != os.getpid():  # a child has to initialise the module again (PKCS#11, 6.7.1)
                self._module.again()
            if self._age != (os.getpid(), self._module.age):  # no session outlives that
                self._session = None
            for last in (False, True):
                try:
                    return self._run(work, write)
                except pkcs11.PKCS11Error as error:
                    self._drop()
                    if last and isinstance(error, pkcs11.NoSuchKey):
                        raise self._missing(error) from None
                    if last:
                        raise self._away(error) from error
                    self._module.again()
        raise AssertionError("the second try returns or raises")

    def _run(self, work: Callable[[Session], Value], write: bool) -> Value:
        if write:
            self._drop()
        if self._session is None:
            self._session = self._login(write)
            self._age = (os.getpid(), self._module.age)
        try:
            return work(self._session)
        finally:
            if write:
                self._drop()

    def _login(self, write: bool) -> Session:
        token = self._find()
        unsafe = token.flags & (TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.USER_PIN_LOCKED)
        tried = hashlib.sha256(f"{self.at.token}\0{self.at.pin}".encode()).digest()
        if unsafe or tried in self._module.refused:
            raise Invalid(
                "keys.pin",
                "the PIN is not tried: one more wrong one locks the token"
                if unsafe
                else "the PIN was refused",
                subject=self.at.token,
                hint="log in once with the right PIN by the token's own tool, then start again",
            )
        try:
            return token.open(rw=write, user_pin=self.at.pin)
        except pkcs11.UserAlreadyLoggedIn:  # another session of this process: the login is the process's
            return token.open(rw=write)
        except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinLocked) as error:
            self._module.refused.add(tried)
            raise Invalid(
                "keys.pin",
                "the token refuses the PIN",
                subject=self.at.token,
                got=type(error).__name__,
                hint="QCOS_PKCS11_PIN or QCOS_PKCS11_PIN_FILE; tokens lock themselves after a few wrong PINs",
            ) from None

    def _find(self) -> Any:  # Any: the binding's Token
        kind, _, value = self.at.token.partition(":")
        found = [
            token
            for token in self._module.library().get_tokens()
            if (kind == "serial" and value == token.serial.decode(errors="replace").strip())
            or (kind == "slot" and value == str(token.slot.slot_id))
            or token.label == self.at.token
        ]
        if not found:
            raise pkcs11.NoSuchToken(f"no token {self.at.token}")
        if len(found) > 1:
            raise Invalid(
                "keys.token",
                "more than one token of this label",
                subject=self.at.token,
                got=", ".join(f"serial:{token.serial.decode(errors='replace').strip()}" for token in found),
                hint="set QCOS_PKCS11_TOKEN to one of these",
            )
        return found[0]

    def _drop(self) -> None:
        if self._session is not None:
            with contextlib.suppress(pkcs11.PKCS11Error):  # it may be gone already
                self._session.close()
            self._session = None

    def _away(self, error: Exception) -> Unavailable:
        return Unavailable(
            "keys.token_away",
            "the token does not answer as it should",
            subject=self.at.token,
            got=f"{type(error).__name__}: {error}"[:200].rstrip(": "),
            hint="is it plugged in, initialised, and does QCOS_PKCS11_TOKEN name it? It is asked again",
        )

    def _missing(self, error: Exception) -> Integrity:
        return Integrity(
            "keys.missing",
            "the token has not got the key",
            subject=self.at.token,
            got=str(error)[:200],
            hint="restore the token from its backup; what the key wrapped opens with no other",
        )

    def __repr__(self) -> str:
        return f"<token {self.at.token}>"


class TokenWrapper:
    """Wraps with an AES-256 key on the token (CKM_AES_GCM): the body is nonce, ciphertext, tag."""

    __slots__ = ("_header", "_id", "_key_id", "_token")

    def __init__(self, token: Token) -> None:
        self._token = token
        self._id = token.run(self._check)
        self._key_id = hashlib.sha256(b"qcos.pkcs11\0" + token.at.label.encode() + b"\0" + self._id)
        self._header = header("pkcs11", self.key_id)

    @property
    def key_id(self) -> str:
        """Return a hash of the key's label and CKA_ID: it stays when a token is restored to another one."""
        return self._key_id.hexdigest()[:16]

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Return the key, encrypted and bound to the context."""
        demand_fitting(key, context)
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._token.run(lambda session: self._encrypt(session, nonce, key, self._header + context))
        return self._header + nonce + sealed

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the key that was wrapped in this context."""
        body = body_of(wrapped, "pkcs11", self.key_id)
        if len(body) < _NONCE + 16 + 1:
            raise does_not_open(self.key_id)
        return self._token.run(
            lambda session: self._decrypt(session, body[:_NONCE], body[_NONCE:], self._header + context)
        )

    def _encrypt(self, session: Session, nonce: bytes, data: bytes, bound: bytes) -> bytes:
        sealed: bytes = _wrapping_key(session, self._token.at).encrypt(
            data, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, bound, 128)
        )
        return sealed

    def _decrypt(self, session: Session, nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
        key = _wrapping_key(session, self._token.at)
        try:
            opened: bytes = key.decrypt(
                sealed, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, bound, 128)
            )
        except _DOES_NOT_OPEN:  # modules say this with the words they also have for a broken token
            probe = secrets.token_bytes(_NONCE)
            self._encrypt(session, probe, _PROBE, b"")
            raise does_not_open(self.key_id) from None
        return opened

    def _check(self, session: Session) -> bytes:
        key = _wrapping_key(session, self._token.at)
        _demand_kept(key, self._token.at)
        if key[Attribute.VALUE_LEN] != 32:
            raise _unfit(key, self._token.at, "AES-256", f"{8 * key[Attribute.VALUE_LEN]} bits")
        key_id: bytes = key[Attribute.ID]
        return key_id

    def __repr__(self) -> str:
        return f"<wrapper {self.key_id} in {self._token!r}>"


def token_signer(token: Token, label: str = "") -> HeldSigner:
    """Return the token's P-384 key as a signer (CKM_ECDSA over the SHA-512 digest).

    Args:
        token: The token.
        label: Label of the key; by default that of the first one.

    Raises:
        Integrity: ``keys.missing``.
        Invalid: ``keys.token_key`` when the key is of another kind, or could leave the token.
    """
    at, label = token.at, label or _signing_label(token.at)

    def public(session: Session) -> bytes:
        _demand_kept(_signing_key(session, at, label), at)
        spki: bytes = encode_ec_public_key(_key(session, at, ObjectClass.PUBLIC_KEY, KeyType.EC, label))
        return spki

    def sign(data: bytes) -> bytes:
        raw = token.run(
            lambda session: _signing_key(session, at, label).sign(
                p384_digest(data), mechanism=Mechanism.ECDSA
            )
        )
        der: bytes = encode_ecdsa_signature(raw)
        return der

    return HeldSigner(PublicKey.load(token.run(public)), sign, f"token {at.token}")


class TokenMaker:
    """Makes further P-384 keys on the token; a key is found again by its label."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def make(self, algorithm: Algorithm) -> tuple[Signer, str]:
        """Make a key pair under a label of its own."""
        if algorithm != "ECDSA-P384":
            raise makes_none(f"token {self._token.at.token}", algorithm, "ECDSA-P384")
        label = f"{_signing_label(self._token.at)}-{secrets.token_hex(4)}"
        self._token.run(lambda session: _make_pair(session, label), write=True)
        return token_signer(self._token, label), label

    def open(self, locator: str, algorithm: Algorithm) -> Signer:
        """Return the key of a label."""
        del algorithm
        return token_signer(self._token, locator)


def make_keys(token: Token) -> None:
    """Make those of the two keys that the token does not have yet; they cannot be read, nor leave the token."""
    token.run(lambda session: _make(session, token.at), write=True)


def _make(session: Session, at: TokenAt) -> None:
    if not _has(session, ObjectClass.SECRET_KEY, _wrapping_label(at)):
        session.generate_key(
            KeyType.AES,
            256,
            store=True,
            label=_wrapping_label(at),
            id=secrets.token_bytes(8),
            capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
            template=_KEPT,
        )
    _make_pair(session, _signing_label(at))


def _make_pair(session: Session, label: str) -> None:
    if not _has(session, ObjectClass.PRIVATE_KEY, label):
        curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp384r1")}
        session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(
            store=True,
            label=label,
            id=secrets.token_bytes(8),
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            private_template=_KEPT,
        )


def _wrapping_label(at: TokenAt) -> str:
    return f"{at.label}-wrap"


def _signing_label(at: TokenAt) -> str:
    return f"{at.label}-countersign"


def _wrapping_key(session: Session, at: TokenAt) -> Any:  # Any: the binding's key
    return _key(session, at, ObjectClass.SECRET_KEY, KeyType.AES, _wrapping_label(at))


def _signing_key(session: Session, at: TokenAt, label: str) -> Any:  # Any: the binding's key
    return _key(session, at, ObjectClass.PRIVATE_KEY, KeyType.EC, label)


def _has(session: Session, kind: ObjectClass, label: str) -> bool:
    return bool(list(session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: label})))


def _key(session: Session, at: TokenAt, kind: ObjectClass, key_type: KeyType, label: str) -> Any:
    sought = {Attribute.CLASS: kind, Attribute.KEY_TYPE: key_type, Attribute.LABEL: label}
    found = list(session.get_objects(sought))
    if not found:
        raise pkcs11.NoSuchKey(f"no {key_type.name} key {label}")
    if len(found) > 1:
        raise Invalid(
            "keys.token_key",
            "more than one key of this label",
            subject=f"{label} on token {at.token}",
            hint="give each installation on a token its own QCOS_PKCS11_LABEL",
        )
    return found[0]


def _demand_kept(key: Any, at: TokenAt) -> None:  # Any: the binding's key
    if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
        raise _unfit(key, at, "sensitive, not extractable", "a key that can leave the token")


def _unfit(key: Any, at: TokenAt, expected: str, got: str) -> Invalid:  # Any: the binding's key
    return Invalid(
        "keys.token_key",
        "a key of the token is not fit for this",
        subject=f"{key[Attribute.LABEL]} on token {at.token}",
        expected=expected,
        got=got,
        hint="name another QCOS_PKCS11_LABEL, or remove that key if nothing uses it",
    )


class _Module:
    """A loaded module: the binding, and the lock of all that goes on in it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.age = 0  # times it was initialised again
        self.refused: set[bytes] = set()  # hashes of PINs
        os.register_at_fork(after_in_child=self._unlock)
        try:
            self.library()
        except pkcs11.PKCS11Error as error:
            raise Invalid(
                "keys.module",
                "the PKCS#11 module cannot be loaded",
                subject=path,
                got=f"{type(error).__name__}: {error}"[:200],
                hint="QCOS_PKCS11_MODULE is the path of the shared library that came with the token",
            ) from None

    def library(self) -> Any:  # Any: the binding's module
        """Return the binding, initialised."""
        return pkcs11.lib(self.path)

    def again(self) -> None:
        """Initialise the module again, which ends every session of this process in it."""
        self.age += 1
        with contextlib.suppress(pkcs11.PKCS11Error):  # what is then asked of it says why
            self.library().reinitialize()

    def _unlock(self) -> None:
        self.lock = threading.RLock()  # a thread that held it does not exist in the child


_modules: Final[dict[str, _Module]] = {}
_modules_lock = threading.Lock()


def _module(path: str) -> _Module:
    with _modules_lock:
        if path not in _modules:
            _modules[path] = _Module(path)
        return _modules[path]
