"""The program as a process: what it imports, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from client.wire import Wire, step, stream, told

from .answers import JOB

SLOW = ("httpx", "cryptography", "sqlalchemy", "qiskit", "fastapi", "jsonschema_rs", "asn1crypto")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "QCOS_CONFIG": str(tmp_path / "c.toml"),
        "PYTHONWARNINGS": "error",
    }


def start(arguments: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from qcos.cli.main import run; run()", *arguments]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("arguments", [["--help"], ["nosuch"]])
def test_help_imports_nothing_slow(arguments: list[str], environ: dict[str, str]) -> None:
    """Help comes at once because command modules, HTTP and cryptography are not imported for it."""
    script = (
        "import sys; from qcos.cli.main import main; main(sys.argv[1:]); "
        "sys.stderr.write('\\n' + ' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "qcos.cli.main" in loaded
    assert not {name for name in loaded if name in SLOW or name.startswith("qcos.client")}


def test_the_verifier_command_brings_no_server(environ: dict[str, str]) -> None:
    """R4.2: ``pip install qcos`` without extras verifies."""
    script = "import sys, qcos.cli.evidence; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True
    )
    assert not {"sqlalchemy", "psycopg", "fastapi", "qiskit", "regorus"} & set(done.stdout.split())


def test_a_reader_that_goes_away_ends_it_quietly(wire: Wire, environ: dict[str, str]) -> None:
    jobs = [JOB | {"job_id": f"job-{n}" + "x" * 150} for n in range(500)]
    wire.on("GET", "jobs", told({"items": jobs, "next": None}))
    for more in (["--json"], []):
        process = start(["job", "list", *more], environ | {"QCOS_URL": wire.url})
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""
        process.stderr.close()


def test_ctrl_c_ends_it_quietly(wire: Wire, environ: dict[str, str]) -> None:
    """The job goes on; only the watching ends."""
    wire.on("GET", "jobs/job-1/events", stream(step(1, "authenticated")))
    process = start(["job", "watch", "job-1", "--json"], environ | {"QCOS_URL": wire.url})
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["step"] == "authenticated"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_fault_of_our_own_is_an_error_with_a_code(environ: dict[str, str], tmp_path: Path) -> None:
    script = (
        "import sys, qcos.cli.main as m\nm.app = lambda *a, **k: 1 / 0\nsys.exit(m.main(['x', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True)
    assert done.returncode == 70
    assert json.loads(done.stderr)["code"] == "cli.internal"
