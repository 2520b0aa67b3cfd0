"""What a witness keeps, in one folder of plain files: its keys, its name, the last checkpoint of each log.

``witness.json`` (name and verifier keys, written last on the first start), ``keys/*.pem`` (mode 0600), and for
each log ``<sha256 of its origin>/checkpoint``, the signed note with the witness's cosignatures. A file is
written aside, flushed, renamed, and its folder flushed: after a kill or a power cut each is the old one or the
new one. Two witnesses on one folder are one witness: the log's lock is held from reading to writing.

Losing the folder means a new witness with new keys. **Restoring an older copy makes the witness forget what it
cosigned**: it could then cosign a second history. Do not; start a new witness.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from qcos.base.canonical import canonical, loads_strict
from qcos.base.errors import Conflict, Integrity, Invalid, QcosError
from qcos.base.limits import MAX_NOTE_BYTES, WITNESS_REFUSED_KEPT
from qcos.ledger.note import COSIGNATURE_ED25519, COSIGNATURE_MLDSA44, Line, Vkey, is_name, sign_line
from qcos.ledger.submission import origin_hash

_SCHEMA: Final = "qcos.witness/v1"
_KINDS: Final = {"mldsa44": COSIGNATURE_MLDSA44, "ed25519": COSIGNATURE_ED25519}
Private = ed25519.Ed25519PrivateKey | mldsa.MLDSA44PrivateKey


class WitnessKeys:
    """A witness's name and keys, in the order in which they sign: ML-DSA-44 first."""

    def __init__(self, name: str, private: dict[str, Private]) -> None:
        self.name = name
        self._private = {
            Vkey(name, _KINDS[kind], key.public_key().public_bytes_raw()): key
            for kind, key in private.items()
        }

    @property
    def vkeys(self) -> tuple[Vkey, ...]:
        """Return the verifier keys."""
        return tuple(self._private)

    def cosign(self, text: str, time: int) -> tuple[Line, ...]:
        """Return the cosignatures of a checkpoint's body at a time (POSIX seconds, not 0)."""
        return tuple(sign_line(vkey, text, key.sign, time) for vkey, key in self._private.items())


class WitnessFolder:
    """The folder of one witness. Safe for many threads and processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open_or_create(self, name: str | None) -> WitnessKeys:
        """Return the keys, making them on the first start.

        Args:
            name: The witness's name, for the first start; later it must be the same or None.

        Raises:
            Invalid: ``witness.name`` when it is missing or no key name.
            Conflict: ``witness.name`` when the folder is another witness's.
            Integrity: ``witness.keys`` when a key is missing, changed or readable by others.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys = self.directory / "keys"
        keys.mkdir(exist_ok=True, mode=0o700)
        with _locked(self.directory / "lock"):
            self._clear()
            identity = self.directory / "witness.json"
            if not identity.exists():
                return self._create(name, keys, identity)
            kept = _identity(identity)
            if name is not None and name != kept["name"]:
                raise Conflict(
                    "witness.name",
                    "the folder is that of another witness",
                    subject=str(self.directory),
                    expected=str(kept["name"]),
                    got=name,
                    hint="another name is another witness: give it a folder of its own",
                )
            made = WitnessKeys(str(kept["name"]), {kind: _load(keys / f"{kind}.pem") for kind in _KINDS})
            if [str(vkey) for vkey in made.vkeys] != kept["vkeys"]:
                raise _keys(keys, "the keys are not those this witness was made with")
            return made

    def _clear(self) -> None:
        """Remove what killed writers left."""
        for lock in self.directory.glob("*/lock"):
            with _locked(lock):
                for left in lock.parent.glob(".checkpoint-*"):
                    left.unlink(missing_ok=True)

    def _create(self, name: str | None, keys: Path, identity: Path) -> WitnessKeys:
        if name is None or not is_name(name):
            raise Invalid(
                "witness.name",
                "a new witness needs a name",
                expected="no white space, no '+', at most 255 bytes; by custom a host and path you own",
                got=name or "",
                hint="give it with --name",
            )
        for kind in _KINDS:
            if not (keys / f"{kind}.pem").exists():
                made = mldsa.MLDSA44PrivateKey if kind == "mldsa44" else ed25519.Ed25519PrivateKey
                data = made.generate().private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
                write_durably(keys / f"{kind}.pem", data)
        witness = WitnessKeys(name, {kind: _load(keys / f"{kind}.pem") for kind in _KINDS})
        vkeys = [str(vkey) for vkey in witness.vkeys]
        write_durably(identity, canonical({"schema": _SCHEMA, "name": name, "vkeys": vkeys}) + b"\n")
        return witness

    @contextlib.contextmanager
    def locked(self, origin: str) -> Iterator[None]:
        """Hold a log's lock; the kernel gives it back when the process dies."""
        folder = self._of(origin_hash(origin))
        folder.mkdir(exist_ok=True)
        with _locked(folder / "lock"):
            yield

    def checkpoint(self, hashed: str) -> str | None:
        """Return the last cosigned checkpoint of a log, named by the hash of its origin; None before the first.

        Raises:
            Integrity: ``witness.state`` when the file is not what a witness writes.
        """
        path = self._of(hashed) / "checkpoint"
        try:
            with path.open("rb") as handle:
                data = handle.read(MAX_NOTE_BYTES + 1)
            return data.decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise Integrity("witness.state", "the kept checkpoint is not text", subject=str(path)) from None

    def keep(self, origin: str, note: str) -> None:
        """Replace the last cosigned checkpoint of a log, durably. The caller holds `locked`."""
        folder = self._of(origin_hash(origin))
        write_durably(folder / "checkpoint", note.encode())
        _flush(self.directory)  # the folder itself may be new

    def keep_refused(self, origin: str, note: str) -> None:
        """Keep a signed checkpoint that contradicts the last one: the log's signatures prove its fault."""
        folder = self._of(origin_hash(origin)) / "refused"
        folder.mkdir(exist_ok=True)
        path = folder / origin_hash(note)
        if not path.exists() and len(list(folder.iterdir())) < WITNESS_REFUSED_KEPT:
            write_durably(path, note.encode())

    def _of(self, hashed: str) -> Path:
        return self.directory / hashed


def write_durably(path: Path, data: bytes) -> None:
    """Put a whole file in place, mode 0600: after a power cut it is the old one or this one."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _identity(path: Path) -> dict[str, object]:
    try:
        kept = loads_strict(path.read_bytes(), subject=str(path))
        if kept["schema"] != _SCHEMA or set(kept) != {"schema", "name", "vkeys"}:
            raise ValueError("not of this schema")
    except (QcosError, ValueError, TypeError, KeyError) as error:
        raise Integrity("witness.state", f"not a witness's folder: {error}", subject=str(path)) from None
    return dict(kept)


def _load(path: Path) -> Private:
    try:
        mode = path.stat().st_mode & 0o777
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _keys(path, f"a key cannot be read: {type(error).__name__}") from None
    if mode & 0o077:
        raise _keys(path, f"others may read or write this key: mode {mode:04o}, expected 0600")
    if not isinstance(key, Private):
        raise _keys(path, "a key of another algorithm")
    return key


def _keys(path: Path, why: str) -> Integrity:
    return Integrity(
        "witness.keys",
        why,
        subject=str(path),
        hint="restore the keys from a backup; they are never made anew",
    )
