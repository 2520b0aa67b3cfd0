"""Where the server is and which token opens it: environment first, then the user's file.

The file is ``$QCOS_CONFIG``, else ``$XDG_CONFIG_HOME/qcos/config.toml``, else ``~/.config/qcos/config.toml``.
It may hold a token, so it is written readable by its owner alone and not believed when others can read it. A
token of the file is given only to the file's own server: a ``QCOS_URL`` that points elsewhere does not
receive it.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qcos.base.errors import Invalid

NAMES = ("url", "token", "token_file", "project", "cost_center")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a client needs to know; empty members are unknown.

    Attributes:
        url: Address of the server, with or without ``/v1``.
        token: API token; not part of the text form.
        project: Project that jobs belong to unless told otherwise.
        cost_center: Cost center of such jobs.
        source: Where the URL and the token come from, for people.
    """

    url: str = ""
    token: str = field(default="", repr=False)
    project: str = ""
    cost_center: str = ""
    source: str = ""


def path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the user's configuration file, which need not exist."""
    if named := environ.get("QCOS_CONFIG"):
        return Path(named)
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "qcos" / "config.toml"


def load(environ: Mapping[str, str] = os.environ) -> Configuration:
    """Return the configuration of this process.

    Raises:
        Invalid: ``config.syntax``, ``config.name``, ``config.mode``, ``config.token_file``.
    """
    file = path(environ)
    stored = read(file)
    url = environ.get("QCOS_URL") or stored.get("url", "")
    source = "QCOS_URL" if environ.get("QCOS_URL") else (str(file) if url else "")
    token = environ.get("QCOS_TOKEN", "").strip()
    if not token and (token_file := environ.get("QCOS_TOKEN_FILE")):
        token = _token_of(Path(token_file))
    if not token and _same_server(url, stored.get("url", "")):
        token = stored.get("token", "")
        if not token and "token_file" in stored:
            token = _token_of(Path(stored["token_file"]).expanduser())
    return Configuration(
        url=url,
        token=token,
        project=environ.get("QCOS_PROJECT") or stored.get("project", ""),
        cost_center=environ.get("QCOS_COST_CENTER") or stored.get("cost_center", ""),
        source=source,
    )


def read(file: Path) -> dict[str, str]:
    """Return the members of a configuration file; none when there is no such file.

    Raises:
        Invalid: ``config.syntax``, ``config.name`` for a member that does not exist, ``config.mode`` when it
            holds a token and others may read it.
    """
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            members = tomllib.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid("config.syntax", f"cannot read the configuration: {error}", subject=str(file)) from None
    for name, value in members.items():
        if name not in NAMES or not isinstance(value, str):
            raise Invalid(
                "config.name",
                f"no such text member: {name}",
                subject=str(file),
                expected="one of " + ", ".join(NAMES),
            )
    if members.get("token") and stat.S_IMODE(mode) & 0o077:
        raise Invalid(
            "config.mode",
            "the file holds a token and others can read it",
            subject=str(file),
            expected="mode 0600",
            got=f"mode {stat.S_IMODE(mode):04o}",
            hint=f"chmod 600 {file}; if others may have read it, revoke the token",
        )
    return members


def write(file: Path, members: Mapping[str, str]) -> None:
    """Replace a configuration file, readable by its owner alone; the old or the new one stands there at any
    moment.

    Raises:
        Invalid: ``config.name``, or ``config.value`` for control characters.
    """
    lines = []
    for name, value in members.items():
        if name not in NAMES:
            raise Invalid("config.name", f"no such member: {name}", expected="one of " + ", ".join(NAMES))
        if not value.isprintable():
            raise Invalid("config.value", f"{name} holds characters that do not print", subject=str(file))
        lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}\n")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".config-")  # made with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _same_server(one: str, other: str) -> bool:
    return one.rstrip("/").removesuffix("/v1") == other.rstrip("/").removesuffix("/v1")


def _token_of(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("config.token_file", f"cannot read the token: {error}", subject=str(file)) from None
