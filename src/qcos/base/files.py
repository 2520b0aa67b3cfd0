"""Files of folders that come from anybody: read without waiting for what is no file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, at_most: int) -> bytes:
    """Return the first bytes of a regular file, or of what a link to one leads to.

    A pipe in a file's place would hold up whoever opens it, until somebody writes; a device might never end.

    Args:
        path: The file.
        at_most: Bytes read.

    Raises:
        OSError: It is not there, cannot be read, or is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with open(handle, "rb", closefd=False) as stream:
            return stream.read(at_most)
    finally:
        os.close(handle)
