"""Starts `qcos tsa serve` as a user does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from qcos.base import tls

QCOS = str(Path(sys.executable).parent / "qcos")
QUERY = {"Content-Type": "application/timestamp-query"}


@dataclass(frozen=True)
class Tsa:
    """A running authority."""

    url: str
    data: Path
    process: subprocess.Popen[str]

    def post(self, body: bytes, path: str = "/", headers: Mapping[str, str] = QUERY) -> httpx.Response:
        return httpx.post(
            self.url + path, content=body, headers=dict(headers), timeout=120, verify=tls.trusted(self.url)
        )

    def reply(self, query: bytes) -> bytes:
        answer = self.post(query)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/timestamp-reply"
        return answer.content

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=120, verify=tls.trusted(self.url))


@contextlib.contextmanager
def serving(data: Path, **variables: str) -> Iterator[Tsa]:
    """Run an authority on a folder until the block ends; it must end well."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("QCOS_", "OTEL_"))}
    command = [QCOS, "tsa", "serve", "--json", "--port", "0", "--data", str(data)]
    with (data.parent / f"{data.name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env=kept | variables, text=True
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (data.parent / f"{data.name}.log").read_text()
    ready = json.loads(line)
    assert ready["certificate"] == ready["url"] + "/certificate"
    try:
        yield Tsa(ready["url"], data, process)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(120)
        process.stdout.close()
    assert code == 0
