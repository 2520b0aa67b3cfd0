"""The folder of the keys: one writer at a time, whole files for the owner alone, never overwritten."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from qcos.base.errors import Integrity, Invalid


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the folder alone; it is made (0700) when missing. Held by the open file, so it ends with its process."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def sweep(directory: Path) -> None:
    """Remove what a process left half written that died while it held the lock. Call with the lock held."""
    for left in directory.glob(".new-*"):
        left.unlink()


def write_new(path: Path, data: bytes) -> None:
    """Put a whole new file (0600) in place, or fail with `FileExistsError` when there is one already."""
    temporary = path.parent / f".new-{secrets.token_hex(8)}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename, fails when the name is taken
    finally:
        temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_private(path: Path) -> bytes:
    """Read a file that only its owner may read.

    Raises:
        Integrity: ``keys.missing``, ``keys.permissions`` or ``keys.unreadable``.
    """
    try:
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise Integrity(
                "keys.permissions",
                "others may read or write this private key",
                subject=str(path),
                expected="mode 0600",
                got=f"mode {mode:04o}",
                hint=f"chmod 600 {path}, and ask who may have read it",
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        raise unreadable(path, error) from None


def read_secret(path: Path, what: str) -> str:
    """Read a secret that an administrator put into a file of its own: a PIN, a token. A last line feed does not count.

    Raises:
        Invalid: ``keys.secret`` when it cannot be read, others may read it, or it is not one line.
    """
    try:
        mode, text = path.stat().st_mode & 0o777, path.read_text("utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        mode, text, got = 0, "", f"{type(error).__name__}: {error}"[:200]
    else:
        got = f"mode {mode:04o}, {len(text.splitlines())} lines"
    if mode & 0o077 or len(text.splitlines()) != 1:
        raise Invalid(
            "keys.secret",
            f"the file of {what} cannot be used",
            subject=str(path),
            expected="one line that only its owner may read (mode 0600)",
            got=got,
        )
    return text


def missing(path: Path) -> Integrity:
    """Return the error of a file that is gone."""
    return Integrity(
        "keys.missing",
        "a file of the keyring is gone",
        subject=str(path),
        hint="restore it from a backup; it is never made anew",
    )


def unreadable(path: Path, error: Exception) -> Integrity:
    """Return the error of a file that says something else than it should."""
    return Integrity(
        "keys.unreadable",
        "a file of the keyring cannot be read",
        subject=str(path),
        got=f"{type(error).__name__}: {error}"[:200],
    )
