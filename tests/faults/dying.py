"""Processes that kill themselves at a given point.

Run as a module it reads one order a line from standard input, forks a child that carries it out and dies at its k-th point, and answers
with how the child ended and the points it passed. Points are: before and after each commit, and where the vendor acts.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import sqlalchemy as sa

from qcos.backends.catalogue import Catalogue
from qcos.base.clock import parse_rfc3339
from qcos.base.process import collect_rarely
from qcos.circuits.reader import CircuitReader
from qcos.db.engine import make_engine
from qcos.db.queue import Task
from qcos.drivers.contract import Handle, Work
from qcos.jobs.admit import Admission, Request, admit
from qcos.jobs.erase import erase_due
from qcos.jobs.recover import recover
from qcos.metering.price import shipped_book
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.store import ActiveBundles

from .keys import rotate
from .vendor import PaidDriver
from .world import keys_of, make_execution, spec


@dataclass
class Fuse:
    """Kills this process at its k-th point; 0 never does."""

    k: int
    trail: int
    passed: int = field(default=0)

    def at(self, point: str) -> None:
        self.passed += 1
        os.write(self.trail, f"{point}\n".encode())
        if self.passed == self.k:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, engine: sa.Engine) -> sa.Engine:
        """Make every commit of an engine two points."""
        commit = engine.dialect.do_commit

        def watched(connection: Any) -> None:  # Any: psycopg's
            self.at("before a commit")
            commit(connection)
            self.at("after a commit")

        engine.dialect.do_commit = watched  # type: ignore[method-assign] # this process is the test's own
        return engine


def carry_out(order: dict[str, Any], fuse: Fuse) -> None:
    engine = fuse.watch(make_engine(order["url"]))
    match order["do"]:
        case "execute":
            execution = make_execution(
                engine, [PaidDriver(Path(order["vendor"]), fuse.at)], Path(order["keys"])
            )
            asyncio.run(execution.handle(Task(UUID(order["tenant"]), order["job"])))
            execution.close()
        case "poisoned":
            asyncio.run(_poisoned(engine, order))
        case "admit":
            admission = Admission(
                engine,
                CircuitReader(1),
                PolicyEngine(1, 10.0),
                ActiveBundles(),
                Catalogue(engine),
                shipped_book(),
                keys_of(engine, Path(order["keys"])),
            )
            admit(
                admission, Request(UUID(order["tenant"]), bytes.fromhex(order["token"]), spec(), order["key"])
            )
        case "recover":
            recover(engine)
        case "rotate":
            rotate(engine, Path(order["data"]), UUID(order["tenant"]), bytes.fromhex(order["token"]))
        case "erase":
            erase_due(engine, at=parse_rfc3339(order["at"]), batch=2)


class Poisoned(PaidDriver):
    """A local simulator that takes its worker down with one of its jobs, once the others are in hand."""

    local = True
    poison = ""

    def submit(self, backend: str, work: Work, key: str) -> Handle:
        if key.endswith(self.poison):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().submit(backend, work, key)


async def _poisoned(engine: sa.Engine, order: dict[str, Any]) -> None:
    driver = Poisoned(Path(order["vendor"]))
    driver.poison = order["poison"]
    execution = make_execution(engine, [driver], Path(order["keys"]))
    tasks = [Task(UUID(order["tenant"]), job) for job in json.loads(order["jobs"])]
    await asyncio.gather(*(execution.handle(task) for task in tasks))


def main() -> None:
    logging.disable()
    collect_rarely()  # each child would look through, and so copy, all that is loaded
    for line in sys.stdin:
        order = json.loads(line)
        trail = os.memfd_create("trail")
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                carry_out(order, Fuse(order["k"], trail))
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        os.lseek(trail, 0, os.SEEK_SET)
        points = os.read(trail, 1 << 20).decode().splitlines()
        os.close(trail)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "points": points}), flush=True)


@dataclass(frozen=True)
class Ended:
    """How a process ended: killed at its point, or not; and all points it passed."""

    killed: bool
    points: tuple[str, ...]


class Dying:
    """Starts such processes, one after the other."""

    def __enter__(self) -> Self:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "faults.dying"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parent.communicate()

    def run(self, do: str, k: int = 0, **order: Any) -> Ended:
        """Carry out an order in a process that dies at its k-th point; the process may not end in any other way."""
        assert self._parent.stdin is not None and self._parent.stdout is not None
        self._parent.stdin.write(
            json.dumps({"do": do, "k": k, **{n: str(v) for n, v in order.items()}}) + "\n"
        )
        self._parent.stdin.flush()
        answer = json.loads(self._parent.stdout.readline())
        assert answer["code"] in (0, -signal.SIGKILL), answer
        return Ended(answer["code"] != 0, tuple(answer["points"]))


if __name__ == "__main__":
    main()
