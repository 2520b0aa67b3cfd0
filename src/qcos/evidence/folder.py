"""Materials as files in a folder: each under its name, ``transpiled/0`` in a folder of its own. No server, no network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from qcos.base.errors import Invalid, Limit
from qcos.base.files import read_regular
from qcos.base.limits import CLIENT_ANSWER_BYTES

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,63}(?:/[0-9]{1,6})?")
"""Names of materials; nothing else becomes a file's path, whatever a server says."""
_MOST_FILES: Final = 1000


def write_material(folder: Path, name: str, data: bytes) -> None:
    """Write a material.

    Raises:
        Invalid: ``evidence.name``; ``evidence.folder`` when it cannot be written.
    """
    if not NAME.fullmatch(name):
        raise Invalid("evidence.name", "not a name of a material", got=repr(name)[:100])
    file = folder / name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise Invalid("evidence.folder", f"cannot write: {error.strerror}", subject=str(file)) from None


def read_materials(folder: Path) -> dict[str, bytes]:
    """Read what `write_material` wrote; files of other names are an error, for nobody would compare them.

    Raises:
        Invalid: ``evidence.folder``, ``evidence.name``.
        Limit: ``evidence.folder_size``.
    """
    if not folder.is_dir():
        raise Invalid("evidence.folder", "there is no such folder", subject=str(folder))
    found: dict[str, bytes] = {}
    room = CLIENT_ANSWER_BYTES
    for file in sorted(folder.rglob("*")):
        if file.is_dir() and not file.is_symlink():
            continue
        name = file.relative_to(folder).as_posix()
        if not NAME.fullmatch(name):
            raise Invalid(
                "evidence.name",
                "a file that is no material",
                subject=str(file),
                expected="names such as input, output, circuit/0, transpiled/0, calibration",
                hint="take it out of the folder, or give files one by one with --material NAME=FILE",
            )
        try:
            found[name] = read_regular(file, room + 1)
        except OSError as error:
            raise Invalid("evidence.folder", f"cannot read: {error.strerror}", subject=str(file)) from None
        room -= len(found[name])
        if room < 0 or len(found) > _MOST_FILES:
            limit = f"at most {CLIENT_ANSWER_BYTES} bytes in {_MOST_FILES} files"
            raise Limit(
                "evidence.folder_size", "the folder holds too much", subject=str(folder), expected=limit
            )
    return found
