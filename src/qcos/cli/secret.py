"""Secrets on disk: new files that only their owner can read, never an overwritten one."""

from __future__ import annotations

import os
from pathlib import Path

from qcos.base.errors import Conflict, Invalid


def write_secret(file: Path, text: str) -> None:
    """Write a secret to a new file of mode 0600.

    Raises:
        Conflict: ``cli.file_exists``.
        Invalid: ``cli.file`` when it cannot be written.
    """
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(
            "cli.file_exists", "the file exists", subject=str(file), hint="name a new one"
        ) from None
    except OSError as error:
        raise Invalid("cli.file", f"cannot write the file: {error.strerror}", subject=str(file)) from None
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text + "\n")
