"""A real installation, ``qcos up`` on a folder of its own, with its processes at hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from qcos.client import Client
from qcos.db import embedded
from qcos.db.engine import make_engine, scope
from qcos.identity import store as identity

from .world import until

QCOS = str(Path(sys.executable).parent / "qcos")
BUDGET_USD = Decimal("1000.00")
TITLES = {"api": "qcos: api", "duties": "qcos: duties", "worker": "qcos: worker aer"}


@dataclass(frozen=True)
class Process:
    """One line of the process table."""

    pid: int
    parent: int
    command: str


def processes() -> dict[int, Process]:
    """Return all processes that are not dead; zombies are."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state, parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if state != "Z":
            found[int(folder.name)] = Process(int(folder.name), int(parent), command)
    return found


def descendants(pid: int) -> set[int]:
    """Return the processes below one."""
    table = processes()
    found: set[int] = set()
    new = {pid}
    while new:
        new = {p.pid for p in table.values() if p.parent in new} - found
        found |= new
    return found


def has_open(pid: int, file: Path) -> bool:
    """Return whether a process has a file open; what it closes meanwhile does not count."""
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if descriptor.readlink() == file:
                    return True
    return False


class House:
    """``qcos up`` with the driver aer.

    Args:
        data: Its data folder; may have been used before.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self.engine: sa.Engine

    def __enter__(self) -> Self:
        self.launch()
        self.wait_ready()
        return self

    def launch(self) -> None:
        """Start it, without waiting."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("QCOS_", "OTEL_"))}
        command = [QCOS, "up", "--json", "--port", "0", "--data", str(self.data), "--drivers", "aer"]
        self.up = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),  # as some launchers leave it
        )

    def wait_ready(self) -> None:
        """Wait until it says that it is ready."""
        assert self.up.stdout is not None
        line = self.up.stdout.readline()
        assert line, f"qcos up ended: {self.logs()}"
        self.ready: dict[str, Any] = json.loads(line)
        self.server = embedded.start(self.data / "postgres")  # it runs: this only reads where
        self.engine = make_engine(self.server.app_url, application="qcos-test")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                print(self.logs())
            self.engine.dispose()
            self.stop()
        finally:
            self.up.kill()
            self.up.communicate()
            embedded.stop(self.data / "postgres")

    def stop(self) -> int:
        """End it as a user does; returns its exit code."""
        self.up.send_signal(signal.SIGTERM)
        return self.up.wait(120)

    def client(self, token: str = "") -> Client:
        return Client(self.ready["url"], token or Path(self.ready["token_file"]).read_text().strip())

    def pid(self, name: str) -> int | None:
        """Return the process id of ``api``, ``duties``, ``worker`` or ``postgres``; None while there is none."""
        if name == "postgres":
            return embedded.running_pid(self.data / "postgres")
        for process in processes().values():
            if process.parent == self.up.pid and process.command.rstrip() == TITLES[name]:
                return process.pid
        return None

    def children(self) -> set[int]:
        """Return the processes of this folder's installation, whoever their parent is; PostgreSQL's are not among them."""
        lock = self.data.resolve() / "up.lock"  # each fork has it open
        return {pid for pid in processes() if has_open(pid, lock)}

    def running(self, name: str) -> int:
        """Wait until a process runs and return its id."""
        until(lambda: self.pid(name), f"{name} runs")
        pid = self.pid(name)
        return pid if pid is not None else self.running(name)

    def kill(self, name: str) -> int:
        """``kill -9``; returns the process id killed."""
        while True:
            pid = self.running(name)
            with suppress(
                ProcessLookupError
            ):  # it ended by itself just now, its database being gone: the next one then
                os.kill(pid, signal.SIGKILL)
                return pid

    def rows(self, sql: str) -> list[Any]:
        """Return what the first tenant sees."""
        with scope(self.engine, None) as connection:
            tenant = identity.tenants(connection)[0][0]
        with scope(self.engine, tenant) as connection:
            return list(connection.exec_driver_sql(sql))

    @contextmanager
    def second_worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker of our own beside the installation's."""
        environment = os.environ | {
            "QCOS_DATA": str(self.data),
            "QCOS_DATABASE_URL": self.server.app_url,
        }
        with (self.data / "logs" / "second.log").open("ab") as sink:
            worker = subprocess.Popen(
                [QCOS, "worker", "--drivers", "aer"], env=environment, stdout=sink, stderr=sink
            )
        try:
            yield worker
            worker.terminate()
            assert worker.wait(60) == 0
        finally:
            worker.kill()
            worker.wait()

    def logs(self) -> str:
        """Return the end of every log."""
        files = [*self.data.glob("logs/*.log"), self.data / "postgres" / "server.log"]
        return "\n".join(
            f"--- {f.name}\n{f.read_text(errors='replace')[-3000:]}" for f in files if f.exists()
        )


def settle_in(house: House) -> tuple[Client, str]:
    """Make project, budget, quota and an engineer; returns his client and his token."""
    with house.client() as admin:
        admin.identity.create_project("p1", team="t1", cost_center="CC-1")
        admin.identity.create_principal("user:alice@company.com", team="t1")
        admin.identity.grant_role("user:alice@company.com", "quantum-engineer")
        token = admin.identity.create_token("user:alice@company.com", days=1)["token"]
        admin.metering.set_budget("p1", BUDGET_USD, "USD")
        admin.metering.set_quota("t1", 10_000_000)
    return house.client(token), token
