"""``qcos up``: the whole installation on one machine, on one data folder.

A supervisor starts the embedded PostgreSQL, brings the schema up to date, makes the first tenant, and keeps the processes running: API,
duties (ledger and recovery), one worker for each driver. Any of them may be killed at any moment: it is started again on the same data.
When the supervisor itself is killed its children end with it, PostgreSQL stays, and the next ``qcos up`` takes everything over.

The supervisor loads the code once and forks, as PostgreSQL's postmaster does: a process is there in milliseconds instead of seconds, and
all share what was loaded. Therefore the supervisor itself starts no thread and opens no key: what needs one is done in a process apart.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import FrameType
from typing import TypeVar

from pydantic import SecretStr
from setproctitle import setproctitle

from qcos import duties, telemetry, worker
from qcos.administration import installation
from qcos.administration.trust import follow
from qcos.api import main as api
from qcos.app import make_sequencer, open_keys, open_keystore
from qcos.backends import store as backends
from qcos.base.clock import now
from qcos.base.errors import Conflict, Integrity, QcosError, Unavailable
from qcos.base.process import die_with_parent
from qcos.db import embedded
from qcos.db.engine import make_engine, scope
from qcos.db.migrate import migrate
from qcos.drivers.registry import load_installed
from qcos.ledger.publish import read_status
from qcos.published import make_issuer, publish_trust
from qcos.settings import Settings, read_settings

Result = TypeVar("Result")
_FORK = multiprocessing.get_context("fork")
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_LOOK_S = 0.1
_READY_S = 120.0
_STOP_S = 15.0
_STEADY_S = 10.0  # a process that lived so long is started again at once
_SLOWEST_RESTART_S = 5.0


@dataclass(slots=True)
class Child:
    """A process that is kept running: what it is called, and what it does until it is told to stop."""

    name: str
    run: Callable[[], None]
    process: ForkProcess | None = None
    started: float = 0.0
    failures: int = 0
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class _Server:
    """Where the embedded PostgreSQL is; its owner's password is no business of the children."""

    directory: Path
    port: int


@dataclass(frozen=True, slots=True)
class Ready:
    """Where things are, once everything answers."""

    url: str
    token_file: Path
    trust_file: Path
    pid: int

    def as_dict(self) -> dict[str, object]:
        """Return the one line of ``qcos up --json``."""
        return {
            "url": self.url,
            "token_file": str(self.token_file),
            "trust_file": str(self.trust_file),
            "pid": self.pid,
        }


def main(
    data: Path,
    port: int | None,
    *,
    host: str | None = None,
    drivers: Sequence[str] | None = None,
    json_output: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        data: The data folder, made when missing.
        port: API port; 0 takes a free one; None takes ``QCOS_PORT`` or the default.
        host: API address.
        drivers: Names of the drivers to serve; by default all that are installed.
        json_output: Print the ready line as JSON.
        say: Where lines for people go.

    Raises:
        Conflict: ``up.running`` when another supervisor holds the folder, ``up.port`` when the port is taken.
        Unavailable: When something does not come up; its log says why.
    """
    # Ignored, as a launcher may leave it, nobody would learn that a process has ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    settings = read_settings(data.resolve())
    settings = settings.model_copy(
        update={k: v for k, v in {"port": port, "host": host}.items() if v is not None}
    )
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Apart: the drivers of others may start what they like when they are loaded.
    names = list(drivers) if drivers else _apart(lambda: sorted(load_installed()))
    with _only_one(settings.data), _listening(settings) as listener:
        url = f"http://{settings.host}:{listener.getsockname()[1]}"
        _apart(lambda: _look_at_keystore(settings))  # a token that is away is said before anything starts
        server, settings = _database(settings)
        token_file, trust_file = _apart(lambda: _prepare(settings))
        stop = _stop_signals()
        supervisor = _Supervisor(settings, _children(names, listener), server, stop)
        try:
            if supervisor.until(lambda: _answers(settings, url, names)):
                ready = Ready(url, token_file, trust_file, os.getpid())
                say(json.dumps(ready.as_dict()) if json_output else _welcome(ready, names))
                sys.stdout.flush()
                supervisor.until(lambda: False)
        finally:
            supervisor.stop()


def _children(drivers: Sequence[str], listener: socket.socket) -> list[Child]:
    def serve_api() -> None:
        api.serve(read_settings(), fd=listener.fileno())

    def run_duties() -> None:
        listener.close()  # the API's alone
        duties.run(read_settings())

    def serve_driver(name: str) -> None:
        listener.close()
        worker.work(read_settings(), [name])

    workers = [Child(f"worker-{name}", partial(serve_driver, name)) for name in drivers]
    return [Child("api", serve_api), Child("duties", run_duties), *workers]


class _Supervisor:
    """Starts children, and starts again those that end."""

    def __init__(
        self,
        settings: Settings,
        children: Sequence[Child],
        server: _Server | None,
        stop: list[bool],
    ) -> None:
        self._settings = settings
        self._children = children
        self._server = server
        self._stop = stop
        self._database_away: float | None = None
        self._logs = settings.data / "logs"
        self._logs.mkdir(exist_ok=True)
        self._env = {
            "QCOS_DATA": str(settings.data),
            "QCOS_DATABASE_URL": settings.database_url.get_secret_value(),
            "QCOS_ORIGIN": settings.origin,
        }
        gc.freeze()  # what is loaded stays, and stays shared with the children

    def until(self, done: Callable[[], bool]) -> bool:
        """Keep everything running until ``done``; False when told to stop first."""
        deadline = time.monotonic() + _READY_S
        looked = 0.0
        while not self._stop:
            self._tend()
            if time.monotonic() - looked >= _LOOK_S:
                looked = time.monotonic()
                if done():
                    return True
            if any(child.failures > 20 for child in self._children) and time.monotonic() > deadline:
                names = ", ".join(child.name for child in self._children if child.failures > 20)
                raise Unavailable(
                    "up.failing", f"these processes do not stay up: {names}", hint=f"see {self._logs}"
                )
            time.sleep(_LOOK_S / 2)
        return False

    def _tend(self) -> None:
        if self._server is not None and embedded.running_pid(self._server.directory) is None:
            self._start_database(self._server)
        for child in self._children:
            if child.process is not None and child.process.exitcode is None:
                continue
            if child.process is not None:
                self._hold_back(child)
                child.process = None
            if time.monotonic() >= child.not_before:
                self._start(child)

    @staticmethod
    def _hold_back(child: Child) -> None:
        """Let a process that ended wait until it is started again, the longer the oftener it ended soon."""
        lived = time.monotonic() - child.started
        child.failures = 0 if lived > _STEADY_S else child.failures + 1
        child.not_before = time.monotonic() + min(0.1 * 2**child.failures, _SLOWEST_RESTART_S) - 0.1

    def _start_database(self, server: _Server) -> None:
        """Start PostgreSQL again. What a killed one left (its last processes hold the memory) may be in the way for a moment."""
        try:
            embedded.start(server.directory, port=server.port)
        except Unavailable:
            if self._database_away is None:
                self._database_away = time.monotonic()
            if time.monotonic() - self._database_away > _READY_S:
                raise
        else:
            self._database_away = None

    def _start(self, child: Child) -> None:
        log = self._logs / f"{child.name}.log"
        if log.exists() and log.stat().st_size > 50_000_000:
            log.replace(log.with_suffix(".log.1"))
        process = _FORK.Process(target=_live, args=(child, log, self._env, os.getpid()), name=child.name)
        child.started = time.monotonic()
        try:
            with _no_signals():
                process.start()
        except OSError:  # no room for a process now: as if it had ended at once
            self._hold_back(child)
        else:
            child.process = process

    def stop(self) -> None:
        """Ask the children to end, workers first so that jobs in hand are finished; then stop PostgreSQL."""
        for group in (["worker"], ["duties", "api"]):
            members = [c.process for c in self._children if c.process and c.name.split("-")[0] in group]
            for process in members:
                process.terminate()
            deadline = time.monotonic() + _STOP_S
            for process in members:
                process.join(max(0.1, deadline - time.monotonic()))
                if process.exitcode is None:
                    process.kill()
                    process.join()
        if self._server is not None:
            embedded.stop(self._server.directory)


def _live(child: Child, log: Path, env: dict[str, str], supervisor: int) -> None:
    """Be a child: its own title, group of processes, log and signals; it ends with the supervisor."""
    if not _bound_to(supervisor):
        return
    # Before the environment is changed: the title is written over what it was at the start.
    setproctitle(f"qcos: {child.name.replace('-', ' ', 1)}")
    os.setpgid(0, 0)
    with open(os.devnull, "rb") as nothing, log.open("ab") as sink:
        os.dup2(nothing.fileno(), 0)
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    os.environ.update(env)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    try:
        child.run()
    finally:
        telemetry.shutdown()
        atexit._run_exitfuncs()  # a process that was forked ends without: its children's folders would stay


def _apart(work: Callable[[], Result]) -> Result:
    """Do something in a process of its own, so that nothing it opens is handed on to the children.

    Raises:
        QcosError: What the work raised.
        Unavailable: ``up.failed`` when it came to another error, or the process ended before it was done.
    """
    receiver, sender = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_tell, args=(work, sender, os.getpid()))
    process.start()
    sender.close()
    with receiver:
        try:
            told = receiver.recv()
        except EOFError:
            told = _failed("the process that prepares it was ended")
        except BaseException:  # somebody wants to stop, and it may hang
            process.kill()
            raise
        finally:
            process.join()
    if isinstance(told, QcosError):
        raise told
    result: Result = told
    return result


def _tell(work: Callable[[], object], sender: Connection, supervisor: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor, which gets it too, decides
    if not _bound_to(supervisor):
        return
    try:
        sender.send(work())
    except QcosError as error:
        sender.send(error)
    except Exception as error:
        if os.environ.get("QCOS_DEBUG") == "1":
            traceback.print_exception(error)
        sender.send(_failed(f"{type(error).__name__}: {error}"))


def _failed(reason: str) -> Unavailable:
    return Unavailable("up.failed", "the installation cannot be prepared", got=reason[:500])


def _bound_to(supervisor: int) -> bool:
    """End with the supervisor; False when it was killed a moment ago."""
    die_with_parent()
    return os.getppid() == supervisor


def _look_at_keystore(settings: Settings) -> None:
    open_keystore(settings)


def _database(settings: Settings) -> tuple[_Server | None, Settings]:
    """Start the embedded server unless a URL is given; migrate; return settings with the application's URL."""
    if settings.database_url.get_secret_value():
        admin = settings.database_admin_url.get_secret_value()
        if admin:
            migrate(admin)
        return None, settings
    server = embedded.start(settings.data / "postgres")
    migrate(server.admin_url, app_password=server.app_password)
    url = SecretStr(server.app_url)
    return _Server(server.directory, server.port), settings.model_copy(update={"database_url": url})


def _prepare(settings: Settings) -> tuple[Path, Path]:
    """Make keys, first tenant, administrator's token and trust file where they are missing."""
    token_file = settings.data / "admin.token"
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=1)
    try:
        keys = open_keys(settings, engine)
        if not installation.has_tenants(engine):
            _write(token_file, installation.create_tenant(engine, settings.tenant).token + "\n", 0o600)
        elif not token_file.exists():  # killed between making the tenant and writing the file
            # What waits since the last stop is no backlog that refuses this act.
            make_sequencer(settings, keys).step()
            _write(token_file, installation.new_administrator_token(engine) + "\n", 0o600)
        # What cannot be done now the duties do as soon as it can be, or say why not.
        with contextlib.suppress(Unavailable, Conflict, Integrity):
            follow(make_issuer(settings, engine, keys))
        trust_file = publish_trust(settings, engine)
    finally:
        engine.dispose()
    return token_file, trust_file


def _write(path: Path, text: str, mode: int) -> None:
    making = path.with_suffix(".making")
    making.unlink(missing_ok=True)
    making.touch(mode)
    making.write_text(text)
    making.rename(path)


def _answers(settings: Settings, url: str, drivers: Sequence[str]) -> bool:
    """Return whether the API is ready, a checkpoint is published or waits for witnesses, and each driver's backends are online."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2):  # noqa: S310 - our own address
            pass
    except (OSError, urllib.error.URLError):
        return False
    if not ((settings.ledger / "checkpoint").exists() or read_status(settings.ledger)):
        return False  # without its witnesses the ledger waits, and so does nothing else
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=1)
    try:
        with scope(engine, None) as connection:
            online = {status.backend.driver for status in backends.load(connection, now()) if status.online}
    except Unavailable:  # killed a moment ago
        return False
    finally:
        engine.dispose()
    return set(drivers) <= online


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[None]:
    with (data / "up.lock").open("a+") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not `flock`: children would hold it, too
        except BlockingIOError:
            raise Conflict(
                "up.running",
                "another qcos up runs on this data folder",
                subject=str(data),
                hint="use another --data, or stop it",
            ) from None
        yield


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """Bind the API's port here, so that it stays ours while the API process is started again."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise Conflict(
                "up.port",
                "the port cannot be used",
                subject=f"{settings.host}:{settings.port}",
                got=str(error),
                hint="choose another --port; 0 takes a free one",
            ) from None
        listener.listen(1024)
        yield listener


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    """Let a stop wait: what arrives while a child is made would meet the supervisor's handlers in it, and be lost."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def _stop_signals() -> list[bool]:
    stop: list[bool] = []

    def note(_number: int, _frame: FrameType | None) -> None:
        stop.append(True)

    for number in _STOPPING:
        signal.signal(number, note)
    return stop


def _welcome(ready: Ready, drivers: Sequence[str]) -> str:
    return "\n".join(
        [
            f"QCOS is ready at  {ready.url}",
            f"  API docs        {ready.url}/docs",
            f"  admin's token   {ready.token_file}",
            f"  trust root      {ready.trust_file}",
            f"  drivers         {', '.join(drivers) or 'none installed'}",
            f"  try             QCOS_URL={ready.url} QCOS_TOKEN=$(cat {ready.token_file}) qcos backend list",
            "Ctrl-C stops it.",
        ]
    )
