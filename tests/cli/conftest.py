"""The loopback server, and commands run in this process against it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client.wire import Wire, serving  # the client's tests own it
from qcos.cli.main import main


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return the one JSON value of standard output."""
        lines = self.out.splitlines()
        assert len(lines) == 1
        return json.loads(lines[0])

    def error(self) -> Any:
        """Return the JSON error of standard error; nothing stands on standard output."""
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1
        return json.loads(lines[0])


Run = Callable[..., Ran]


@pytest.fixture
def wire() -> Iterator[Wire]:
    with serving() as made:
        yield made


@pytest.fixture
def run(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.setenv("QCOS_URL", wire.url)
    monkeypatch.setenv("QCOS_TOKEN", "qcos_secret")
    monkeypatch.setenv("QCOS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("TERM", "dumb")

    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def bell(tmp_path: Path) -> Path:
    file = tmp_path / "bell.qasm"
    head = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
    file.write_text(head + "qubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n")
    return file
