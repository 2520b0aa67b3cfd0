"""Files of a folder that is not believed: no link is followed, nothing but a regular file is opened, and no more is read than is wanted.

A FIFO would make a reader wait for ever, a link leads elsewhere, a device does something when it is opened, and
a file may be larger than memory. Linux: names are opened one by one, each below the folder before it (openat).
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_GET_FLAGS: Final = 0x80086601  # FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of linux/fs.h on 64 bits
_SET_FLAGS: Final = 0x40086602
_IMMUTABLE: Final = 0x10  # FS_IMMUTABLE_FL
_CANNOT: Final = {errno.EPERM, errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
_OPEN: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PIECE: Final = 1024 * 1024


class Strange(Exception):
    """What lies at a name is not what it should be; the message says what it is instead."""


@contextlib.contextmanager
def opened_folder(root: Path, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
    """Open a folder below ``root``, which itself may be a link: the operator named it.

    Args:
        root: Where to begin.
        parts: Names of the folders, each in the one before it.
        make: Make, and flush, those that are not there.

    Raises:
        Strange: One of them is no folder.
        OSError: FileNotFoundError when one is missing.
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
                    os.fsync(handle)
            inner = _open_inner(part, handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def opened_file(folder: int, name: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Open a regular file of an opened folder.

    Raises:
        Strange: It is none, or may not be opened.
        OSError: FileNotFoundError when it is missing.
    """
    with contextlib.suppress(FileNotFoundError):  # or it is made
        _demand_file(os.stat(name, dir_fd=folder, follow_symlinks=False))  # a device is not even opened
    try:
        handle = os.open(name, flags | _OPEN, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise Strange("no regular file") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise Strange(f"closed: {error.strerror}") from None
        raise
    try:
        _demand_file(os.fstat(handle))
        yield handle
    finally:
        os.close(handle)


def is_there(folder: int, name: str) -> bool:
    """Return whether a name of an opened folder is taken, by whatever."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def read_up_to(handle: int, limit: int) -> bytes:
    """Return the bytes of an opened file; one byte more than ``limit`` when it is longer."""
    pieces, left = [], limit + 1
    while left and (piece := os.read(handle, min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def is_immutable(handle: int) -> bool:
    """Return whether an opened file is immutable; False where the system does not know that."""
    try:
        return bool(_flags(handle) & _IMMUTABLE)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise


def set_immutable(handle: int, wanted: bool) -> bool:
    """Set or clear the flag; returns whether it is as wanted, False where the system or our rights do not allow it."""
    try:
        flags = _flags(handle)
        buffer = array.array("L", [flags | _IMMUTABLE if wanted else flags & ~_IMMUTABLE])
        fcntl.ioctl(handle, _SET_FLAGS, buffer)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def _flags(handle: int) -> int:
    buffer = array.array("L", [0])
    fcntl.ioctl(handle, _GET_FLAGS, buffer)
    return int(buffer[0])


def _open_inner(part: str, handle: int) -> int:
    try:
        return os.open(part, os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=handle)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Strange(f"below {part}, which is no folder") from None
        raise


def _demand_file(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Strange("no regular file")
