"""A WORM store in a folder: files are written once, made read-only and, where the system can, immutable.

The immutable flag (``chattr +i``) needs a file system that has it (ext4, XFS, Btrfs) and the right
CAP_LINUX_IMMUTABLE; then nobody can write to, rename, link or remove a file, root included, before root takes
the flag away. Elsewhere files are only read-only, and `check` says so. A copy is examined by its bytes,
whatever protects it.
"""

from __future__ import annotations

import array
import contextlib
import datetime as dt
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from qcos.base.errors import Integrity, Invalid, NotFound, Unavailable
from qcos.worm.model import Finding, Item, Kept, Protection

_MAKING: Final = ".making"
_GET_FLAGS: Final = 0x80086601  # FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of linux/fs.h on 64 bits
_SET_FLAGS: Final = 0x40086602
_IMMUTABLE: Final = 0x10  # FS_IMMUTABLE_FL
_CANNOT: Final = {errno.EPERM, errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


class FileStore:
    """Copies in one folder.

    Args:
        folder: Made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @property
    def address(self) -> str:
        """Return ``file:<folder>``."""
        return f"file:{self._folder}"

    def check(self) -> Protection:
        """Find out by a probe whether files can be made immutable here."""
        with _reached(self.address):
            (self._folder / _MAKING).mkdir(parents=True, exist_ok=True)
            probe = self._folder / _MAKING / f"probe-{secrets.token_hex(8)}"
            probe.write_bytes(b"")
            try:
                return "immutable" if _set_immutable(probe, True) else "read-only"
            finally:
                _set_immutable(probe, False)
                probe.unlink()

    def keep(self, item: Item) -> Kept:
        """Keep bytes: written aside, flushed, linked into place (which never replaces), then protected."""
        path = self._folder / item.name
        with _reached(self.address), self._locked():
            if not path.exists():
                self._write(path, item.data)
            _flush(path.parent)  # also of one that is there: whoever linked it may have died before
            present = path.read_bytes()
            if present != item.data:
                raise Integrity(
                    "worm.changed",
                    "the name holds other bytes: nothing was replaced",
                    subject=str(path),
                    expected=f"sha256:{item.digest.hex()}",
                    got=f"sha256:{hashlib.sha256(present).hexdigest()}",
                    hint="somebody wrote into the store; `qcos worm verify` shows how far it goes",
                )
            path.chmod(0o444) if stat.S_IMODE(path.stat().st_mode) != 0o444 else None
            protection: Protection = (
                "immutable" if _is_immutable(path) or _set_immutable(path, True) else "read-only"
            )
        return Kept(item.name, item.digest, len(item.data), "", item.retain_until, protection)

    def lengthen(self, kept: Kept, until: dt.datetime) -> Kept:
        """Take a later date; a file stays as it is protected for ever, whatever its date."""
        return replace(kept, retain_until=max(kept.retain_until, until))

    def examine(self, kept: Kept, *, content: bool) -> list[Finding]:
        """Compare a file with what was kept."""
        path = self._folder / kept.name
        found = []
        with _reached(self.address):
            try:
                status = path.lstat()
            except FileNotFoundError:
                return [Finding("worm.missing", kept.name, "the copy was removed")]
            if not stat.S_ISREG(status.st_mode):
                return [Finding("worm.changed", kept.name, "the copy is no regular file any more")]
            if status.st_size != kept.size:
                found.append(
                    Finding("worm.changed", kept.name, f"{status.st_size} bytes instead of {kept.size}")
                )
            elif content and hashlib.sha256(path.read_bytes()).digest() != kept.digest:
                found.append(Finding("worm.changed", kept.name, "the bytes are not those that were kept"))
            if kept.protection == "immutable" and not _is_immutable(path):
                found.append(Finding("worm.unprotected", kept.name, "somebody took the immutable flag away"))
            elif status.st_mode & 0o222:
                found.append(Finding("worm.unprotected", kept.name, "the file can be written to"))
        return found

    def read(self, name: str, version: str = "") -> bytes:
        """Return the bytes of a file."""
        Item(name, b"", _NEVER)  # only a name of the one spelling is joined to the folder
        with _reached(self.address):
            try:
                return (self._folder / name).read_bytes()
            except FileNotFoundError:
                raise NotFound("worm.missing", "there is no such copy", subject=name) from None

    def names(self) -> Iterator[str]:
        """Yield the files' names."""
        for parent, folders, files in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                yield str((Path(parent) / name).relative_to(self._folder))

    def _write(self, path: Path, data: bytes) -> None:
        self._make(path.parent)
        temporary = self._folder / _MAKING / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another process was first: its bytes are compared
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder: what one process has linked into place, another must not make immutable before it is unlinked aside."""
        self._make(self._folder / _MAKING)
        with (self._folder / _MAKING / "lock").open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            while folder != self._folder.parent:
                _flush(folder.parent)
                folder = folder.parent


_NEVER: Final = dt.datetime.max.replace(tzinfo=dt.UTC)


@contextlib.contextmanager
def _reached(address: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unavailable(
            "worm.unavailable", "the WORM folder cannot be used", subject=address, got=str(error)[:200]
        ) from error


def open_folder(text: str) -> FileStore:
    """Return the store of ``file:/path``.

    Raises:
        Invalid: ``worm.address``.
    """
    path = Path(text.removeprefix("file:"))
    if not path.is_absolute():
        raise Invalid("worm.address", "not an absolute path", subject=text, expected="file:/path")
    return FileStore(path)


def _is_immutable(path: Path) -> bool:
    return bool(_flags(path) & _IMMUTABLE)


def _set_immutable(path: Path, wanted: bool) -> bool:
    """Set or clear the flag; returns whether it is as wanted, False where the system or our rights do not allow it."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        buffer = array.array("L", [0])
        fcntl.ioctl(handle, _GET_FLAGS, buffer)
        buffer[0] = buffer[0] | _IMMUTABLE if wanted else buffer[0] & ~_IMMUTABLE
        fcntl.ioctl(handle, _SET_FLAGS, buffer)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    finally:
        os.close(handle)
    return True


def _flags(path: Path) -> int:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        buffer = array.array("L", [0])
        fcntl.ioctl(handle, _GET_FLAGS, buffer)
        return int(buffer[0])
    except OSError as error:
        if error.errno in _CANNOT:
            return 0
        raise
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
