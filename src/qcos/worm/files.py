"""A WORM store in a folder: files are written once, made read-only and, where the system can, immutable.

The immutable flag (``chattr +i``) needs a file system that has it (ext4, XFS, Btrfs) and the right
CAP_LINUX_IMMUTABLE; then nobody can write to, rename, link or remove a file, root included, before root takes
the flag away. Elsewhere files are only read-only, and `check` says so. A copy is examined by its bytes,
whatever protects it. What lies in the folder is not believed (`qcos.worm.guarded`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from qcos.base.errors import Integrity, Invalid, NotFound, Unavailable
from qcos.base.limits import WORM_COPY_BYTES, WORM_LOCK_S
from qcos.worm.guarded import (
    Strange,
    is_immutable,
    is_there,
    opened_file,
    opened_folder,
    read_up_to,
    set_immutable,
)
from qcos.worm.model import Finding, Item, Kept, Protection

_MAKING: Final = ".making"
_LOCK_PAUSE_S: Final = 0.02


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
        with _reached(self.address), self._making() as making:
            probe = f"probe-{secrets.token_hex(8)}"
            with opened_file(making, probe, os.O_RDWR | os.O_CREAT | os.O_EXCL) as handle:
                try:
                    return "immutable" if set_immutable(handle, True) else "read-only"
                finally:
                    set_immutable(handle, False)
                    os.unlink(probe, dir_fd=making)

    def keep(self, item: Item) -> Kept:
        """Keep bytes: written aside, flushed, linked into place (which never replaces), then protected."""
        *parents, name = item.name.split("/")
        with _reached(self.address), self._making() as making, self._locked(making):
            try:
                with opened_folder(self._folder, parents, make=True) as parent:
                    if not is_there(parent, name):
                        _write(making, parent, name, item.data)
                    os.fsync(parent)  # also of one that is there: whoever linked it may have died before
                    with opened_file(parent, name) as handle:
                        protection = self._protect(handle, item)
            except Strange as strange:
                raise self._taken(item, str(strange)) from None
        return Kept(item.name, item.digest, len(item.data), "", item.retain_until, protection)

    def lengthen(self, kept: Kept, until: dt.datetime) -> Kept:
        """Take a later date; a file stays as it is protected for ever, whatever its date."""
        return replace(kept, retain_until=max(kept.retain_until, until))

    def examine(self, kept: Kept, *, content: bool) -> list[Finding]:
        """Compare a file with what was kept."""
        with _reached(self.address):
            try:
                with self._opened(kept.name) as handle:
                    return _differences(handle, kept, content=content)
            except FileNotFoundError:
                return [Finding("worm.missing", kept.name, "the copy was removed")]
            except Strange as strange:
                return [Finding("worm.changed", kept.name, f"the copy is {strange}")]

    def read(self, name: str, version: str = "", limit: int = WORM_COPY_BYTES) -> bytes:
        """Return the bytes of a file."""
        Item(name, b"", _NEVER)  # only a name of the one spelling is joined to the folder
        with _reached(self.address):
            try:
                with self._opened(name) as handle:
                    data = read_up_to(handle, limit)
            except FileNotFoundError:
                raise NotFound("worm.missing", "there is no such copy", subject=name) from None
            except Strange as strange:
                raise _unreadable(name, str(strange)) from None
        if len(data) > limit:
            raise _unreadable(name, f"longer than {limit} bytes")
        return data

    def names(self) -> Iterator[str]:
        """Yield the files' names, and those of what else lies there; no link is followed."""
        for parent, folders, files in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                yield str((Path(parent) / name).relative_to(self._folder))

    def _protect(self, handle: int, item: Item) -> Protection:
        """Protect an opened file that must hold these bytes."""
        status = os.fstat(handle)
        if status.st_size != len(item.data):
            raise self._taken(item, f"{status.st_size} bytes instead of {len(item.data)}")
        present = read_up_to(handle, len(item.data))
        if present != item.data:
            raise self._taken(item, f"sha256:{hashlib.sha256(present).hexdigest()}")
        if stat.S_IMODE(status.st_mode) != 0o444:
            os.fchmod(handle, 0o444)
        return "immutable" if is_immutable(handle) or set_immutable(handle, True) else "read-only"

    def _taken(self, item: Item, got: str) -> Integrity:
        return Integrity(
            "worm.changed",
            "the name holds other bytes: nothing was replaced",
            subject=str(self._folder / item.name),
            expected=f"sha256:{item.digest.hex()}",
            got=got,
            hint="somebody wrote into the store; `qcos worm verify` shows how far it goes",
        )

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        *parents, last = name.split("/")
        with opened_folder(self._folder, parents) as parent, opened_file(parent, last) as handle:
            yield handle

    @contextlib.contextmanager
    def _making(self) -> Iterator[int]:
        """Open the folder where files are written before they have their names."""
        self._make_root()
        try:
            with opened_folder(self._folder, [_MAKING], make=True) as making:
                yield making
        except Strange as strange:
            raise self._unusable(str(strange)) from None

    @contextlib.contextmanager
    def _locked(self, making: int) -> Iterator[None]:
        """Hold the folder: what one process has linked into place, another must not make immutable before it is unlinked aside."""
        with _named(f"{_MAKING}/lock"), opened_file(making, "lock", os.O_RDWR | os.O_CREAT) as handle:
            last = time.monotonic() + WORM_LOCK_S
            while not _lock(handle):
                if time.monotonic() > last:
                    raise self._unusable(f"locked by another process for {WORM_LOCK_S:g} s")
                time.sleep(_LOCK_PAUSE_S)
            yield

    def _make_root(self) -> None:
        if not self._folder.is_dir():
            missing = [folder for folder in (self._folder, *self._folder.parents) if not folder.exists()]
            self._folder.mkdir(parents=True, exist_ok=True)
            for folder in missing:
                _flush(folder.parent)

    def _unusable(self, got: str) -> Unavailable:
        return Unavailable(
            "worm.unavailable", "the WORM folder cannot be used", subject=self.address, got=got[:200]
        )


_NEVER: Final = dt.datetime.max.replace(tzinfo=dt.UTC)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except Strange as strange:
        raise Strange(f"{name}: {strange}") from None


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


def _differences(handle: int, kept: Kept, *, content: bool) -> list[Finding]:
    found, status = [], os.fstat(handle)
    if status.st_size != kept.size:
        found.append(Finding("worm.changed", kept.name, f"{status.st_size} bytes instead of {kept.size}"))
    elif content and hashlib.sha256(read_up_to(handle, kept.size)).digest() != kept.digest:
        found.append(Finding("worm.changed", kept.name, "the bytes are not those that were kept"))
    if kept.protection == "immutable" and not is_immutable(handle):
        found.append(Finding("worm.unprotected", kept.name, "somebody took the immutable flag away"))
    elif status.st_mode & 0o222:
        found.append(Finding("worm.unprotected", kept.name, "the file can be written to"))
    return found


def _unreadable(name: str, got: str) -> Integrity:
    return Integrity(
        "worm.changed", "what lies at the name is no copy", subject=name, expected="a copy", got=got
    )


def _write(making: int, parent: int, name: str, data: bytes) -> None:
    temporary = f"{os.getpid()}-{secrets.token_hex(8)}"
    try:
        with opened_file(making, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as handle:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        with contextlib.suppress(FileExistsError):  # another process was first: its bytes are compared
            os.link(temporary, name, src_dir_fd=making, dst_dir_fd=parent, follow_symlinks=False)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=making)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _set_immutable(path: Path, wanted: bool) -> bool:
    with opened_folder(path.parent, []) as folder, opened_file(folder, path.name) as handle:
        return set_immutable(handle, wanted)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
