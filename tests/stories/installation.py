"""Start ``qcos up`` as a user does, and know where things are."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from qcos.backends import store as backends
from qcos.base.clock import now
from qcos.db import embedded
from qcos.db.engine import make_engine, scope

QCOS = str(Path(sys.executable).parent / "qcos")


@dataclass(frozen=True)
class Installation:
    """A running installation: what its ready line says, and its folder."""

    url: str
    token_file: Path
    trust_file: Path
    pid: int
    data: Path
    engine: sa.Engine

    @property
    def admin_token(self) -> str:
        return self.token_file.read_text().strip()

    @property
    def trust(self) -> dict[str, Any]:
        return json.loads(self.trust_file.read_text())

    @property
    def vkeys(self) -> list[str]:
        """The ledger's verifier keys, from the trust root."""
        return [key["vkey"] for key in self.trust["ledger"]]

    def process(self, name: str) -> psutil.Process:
        """Return a child of the supervisor: ``api``, ``duties``, ``worker-aer``."""
        title = f"qcos: {name.replace('-', ' ', 1)}"
        for child in psutil.Process(self.pid).children():
            if " ".join(child.cmdline()).rstrip() == title:
                return child
        raise LookupError(name)

    def log(self, name: str) -> list[dict[str, Any]]:
        """Return the JSON lines that a process has logged; one that it is just writing is not read."""
        whole, _, _ = (self.data / "logs" / f"{name}.log").read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.decode().splitlines()]

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stop a process from running, without ending it."""
        process = self.process(name)
        if name.startswith("worker-"):
            # It cannot say that it is there; its backends are to take jobs all the same, on a slow machine for minutes.
            with scope(self.engine, None) as connection:
                backends.touch(connection, name.removeprefix("worker-"), now() + dt.timedelta(minutes=10))
        process.suspend()
        try:
            yield
        finally:
            process.resume()


@contextlib.contextmanager
def running(data: Path, drivers: str, variables: Mapping[str, str] | None = None) -> Iterator[Installation]:
    """Run an installation on a folder until the block ends."""
    declared = {"QCOS_PLACES": json.dumps({"aer-ideal": {"zone": "sovereign"}})}  # R3.4: the operator's word
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("QCOS_", "OTEL_"))}
    environment = inherited | declared | dict(variables or {})
    command = [QCOS, "up", "--json", "--port", "0", "--data", str(data), "--drivers", drivers]
    with (data.parent / "up.log").open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"qcos up did not start: {(data.parent / 'up.log').read_text()[-2000:]}"
        ready = json.loads(line)
        assert set(ready) == {"url", "token_file", "trust_file", "pid"}
        assert ready["pid"] == process.pid
        engine = make_engine(
            embedded.start(data / "postgres").app_url, pool_size=2
        )  # runs already: this only finds it
        try:
            yield Installation(
                ready["url"], Path(ready["token_file"]), Path(ready["trust_file"]), process.pid, data, engine
            )
        finally:
            engine.dispose()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        if process.stdout is not None:
            process.stdout.close()
