"""Options and openings that commands share."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from qcos.base.canonical import loads_strict
from qcos.base.errors import Conflict, Invalid, Limit, Unavailable
from qcos.base.limits import MAX_REQUEST_BYTES
from qcos.client.model import Json

LOCK_WAIT_S = 60.0  # a command that follows many updates of a slow server is done by then
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, one value a line, to standard output.")]
Trust = Annotated[
    Path,
    typer.Option(
        "--trust",
        help="The trust document, kept since it was fetched with `qcos trust`.",
        envvar="QCOS_TRUST",
    ),
]
Project = Annotated[str | None, typer.Option("--project", "-p", help="Project.")]
Since = Annotated[str | None, typer.Option(help="From this instant on (RFC 3339).")]
Until = Annotated[str | None, typer.Option(help="Before this instant (RFC 3339).")]
After = Annotated[str | None, typer.Option(help="Cursor: `next` of the page before.")]
Number = Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="Rows of the page.")]


def read_bytes(file: Path, *, at_most: int = MAX_REQUEST_BYTES) -> bytes:
    """Read a small file whole.

    Raises:
        Invalid: ``cli.file`` when it cannot be read.
        Limit: ``cli.file_size``.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(at_most + 1)
    except OSError as error:
        raise Invalid("cli.file", f"cannot read the file: {error.strerror}", subject=str(file)) from None
    if len(data) > at_most:
        raise Limit(
            "cli.file_size", "the file is too large", subject=str(file), expected=f"at most {at_most} bytes"
        )
    return data


def read_object(file: Path, *, at_most: int = MAX_REQUEST_BYTES) -> Json:
    """Read a JSON object from a file; raises as `read_bytes`, and `Invalid` ``json.*``."""
    value = loads_strict(read_bytes(file, at_most=at_most), subject=str(file))
    if not isinstance(value, dict):
        raise Invalid("cli.file", "not a JSON object", subject=str(file), got=type(value).__name__)
    return value


def write_file(file: Path, data: bytes) -> None:
    """Write a file whole; raises `Invalid` ``cli.file``."""
    try:
        file.write_bytes(data)
    except OSError as error:
        raise Invalid("cli.file", f"cannot write the file: {error.strerror}", subject=str(file)) from None


def replace_file(file: Path, data: bytes) -> None:
    """Write a file whole or not at all: whoever reads it, and whatever ends this process, finds the old one or the new one.

    It is made under a name that nobody can foresee: in a folder of others, too, it is not written through a link of theirs.
    What is no file, a pipe or a device, is written to.

    Raises:
        Invalid: ``cli.file``.
    """
    target = file.resolve()  # through a link, not in its place
    if target.exists() and not target.is_file():
        write_file(target, data)
        return
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o644
        number, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        making = Path(name)
        try:
            with os.fdopen(number, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchmod(number, mode)
                os.fsync(number)
            making.rename(target)
        finally:
            making.unlink(missing_ok=True)
    except OSError as error:
        raise Invalid("cli.file", f"cannot write the file: {error.strerror}", subject=str(file)) from None


@contextmanager
def alone_with(file: Path) -> Iterator[None]:
    """Have a file to oneself among commands that replace it: the next one reads what this one wrote, and none undoes another's step.

    What is no file, or lies where there are no locks, is had as it is.

    Raises:
        Conflict: ``cli.locked`` when another one, or anybody who may read the file, keeps it for longer than `LOCK_WAIT_S`.
    """
    late = time.monotonic() + LOCK_WAIT_S
    with ExitStack() as held:
        while file.is_file():
            try:
                handle = held.enter_context(file.open("rb"))
                while not _locked(handle.fileno()):
                    if time.monotonic() > late:
                        raise Conflict(
                            "cli.locked",
                            "another command keeps the file",
                            subject=str(file),
                            expected=f"that it is done within {LOCK_WAIT_S:g} s",
                            hint="try again; `lslocks` tells which process it is",
                        )
                    time.sleep(0.05)
                if os.path.samestat(os.fstat(handle.fileno()), file.stat()):
                    break  # nobody replaced it while we waited
            except OSError:  # whoever reads it next says what is wrong with it
                break
        yield


def _locked(descriptor: int) -> bool:
    import fcntl  # not there where there is no such lock, and no server either

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def server_extra(what: str) -> Iterator[None]:
    """Turn a missing optional package into an error that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Unavailable(
            "cli.extra",
            f"{what} needs a package that is not installed: {error.name}",
            hint="pip install 'qcos[server]'",
        ) from error
