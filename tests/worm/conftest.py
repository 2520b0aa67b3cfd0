"""The stores under test: a folder on this file system, a real S3 wire server with Object Lock, and a lax one."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from evidence.conftest import Instance, make_instance
from jobs.conftest import driver, work, world  # noqa: F401 - fixtures
from qcos.worm.files import FileStore, _set_immutable
from qcos.worm.s3 import S3Place, S3Store
from real_keystores import START_S, free_port

from .site import Site

REGION = "us-east-1"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What AWS's standard chain finds: neither server checks it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def localstack(component: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server that refuses what S3 refuses."""
    python, port = component("localstack"), free_port()
    folder = tmp_path_factory.mktemp("localstack")
    environment = {
        **os.environ,
        "SERVICES": "s3",
        "STRICT_SERVICE_LOADING": "1",
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        "FILESYSTEM_ROOT": str(folder),
        "GATEWAY_SERVER": "hypercorn",
    }
    command = [str(python), "-m", "localstack.runtime.main"]
    with _server(
        command, f"http://127.0.0.1:{port}", "/_localstack/health", folder / "log", environment
    ) as url:
        yield url


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server that accepts what S3 refuses: dates shortened, versioning suspended."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    log = tmp_path_factory.mktemp("moto") / "log"
    with _server(command, f"http://127.0.0.1:{port}", "/moto-api/", log, dict(os.environ)) as url:
        yield url


class _server:
    def __init__(
        self, command: list[str], url: str, path: str, log: Path, environment: dict[str, str]
    ) -> None:
        self._command, self._url, self._path, self._log, self._environment = (
            command,
            url,
            path,
            log,
            environment,
        )

    def __enter__(self) -> str:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):  # not up yet; while it starts it answers other things
                if httpx.get(self._url + self._path, timeout=10).status_code == 200:
                    return self._url
            time.sleep(0.1)
        self.__exit__()
        raise RuntimeError(f"the server did not start:\n{self._log.read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(
                self._process.pid, signal.SIGKILL
            )  # LocalStack takes more than ten seconds to end by itself
        self._process.wait()


def bucket_of(url: str, *, lock: bool = True) -> S3Store:
    """Return a store on a new bucket."""
    store = S3Store(S3Place(f"worm-{secrets.token_hex(6)}", "qcos/", url, REGION))
    store._client.create_bucket(Bucket=store._place.bucket, ObjectLockEnabledForBucket=lock)
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[FileStore]:
    """A store in a folder; its files, and those of other stores of the test, can be removed afterwards."""
    yield FileStore(tmp_path / "worm")
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink():
            _set_immutable(path, False)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    return make_instance(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def site(engine: sa.Engine, tmp_path: Path, folder: FileStore) -> Site:
    return Site(engine, tmp_path, folder)
