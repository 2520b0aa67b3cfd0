"""The application in this process, on a database of its own, with one backend that nobody serves: what is submitted stays queued."""

from __future__ import annotations

import base64
import datetime as dt
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from conftest import Database
from qcos.administration.installation import create_tenant
from qcos.api.main import create_app
from qcos.app import Api, make_api
from qcos.backends import store as backends
from qcos.backends.model import Backend
from qcos.base import tls
from qcos.base.clock import now
from qcos.base.impatient import served
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.identity import tokens
from qcos.metering import store as metering
from qcos.settings import Settings

BACKEND = Backend(
    name="paper-sim",
    provider="acme",
    kind="simulator",
    driver="paper",
    qubits=20,
    max_shots=1_000_000,
    max_depth=None,
    max_circuits=10,
    formats=("QASM3", "QASM2"),
    gates=("*",),
    region="acme-1",
    zone="sovereign",
    on_premise=True,
    price_key="local/aer",
)
BELL = b'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n'


@dataclass(frozen=True)
class Door:
    """The application's door, and what is behind it."""

    api: Api
    tenant: UUID
    app: FastAPI
    http: httpx.Client

    def spec(self, *, shots: int = 100, **parts: Any) -> dict[str, Any]:
        return {
            "circuit": {
                "format": "QASM3",
                "source": base64.b64encode(BELL).decode(),
                **parts.pop("circuit", {}),
            },
            "execution": {"shots": shots, **parts.pop("execution", {})},
            "governance": {
                "project": "p1",
                "classification": "internal",
                "purpose": "exploration",
                **parts.pop("governance", {}),
            },
            **parts,
        }

    def rows(self, sql: str) -> list[Any]:
        """Return what the tenant sees in the database."""
        with scope(self.api.engine, self.tenant) as connection:
            return list(connection.exec_driver_sql(sql))


class _To(httpx.HTTPTransport):
    """Brings requests to a port of this machine, whatever host they name."""

    def __init__(self, port: int) -> None:
        super().__init__(verify=tls.trusted("http://127.0.0.1"))
        self._port = port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return super().handle_request(request)


@contextmanager
def _served(app: FastAPI) -> Iterator[int]:
    """Serve an application in a thread of this process, as `qcos.api.main.serve` does; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(served(app, timeout_graceful_shutdown=10))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture
def door(database: Database, tmp_path: Path) -> Iterator[Door]:
    api = make_api(Settings(data=tmp_path, database_url=SecretStr(database.app_url), pool_size=8))
    tenant = create_tenant(api.engine, "test").tenant
    minted = tokens.mint(tenant)
    with scope(api.engine, tenant) as connection:
        identity.create_project(connection, tenant, "p1", team="t1", cost_center="CC-1")
        identity.create_token(
            connection, tenant, "user:admin", minted.hash, minted.id, now() + dt.timedelta(days=1)
        )
        metering.set_budget(connection, tenant, "p1", 1_000_000_000, "USD")
        backends.register(connection, [BACKEND], now())
        # nobody serves it, so nobody says again and again that it is there: it is for as long as a test may last
        backends.touch(connection, "paper", now() + dt.timedelta(hours=1))
    headers = {"Authorization": f"Bearer {minted.text}"}
    app = create_app(api)
    with (
        _served(app) as port,
        httpx.Client(
            transport=_To(port), base_url="http://testserver/v1", headers=headers, timeout=60
        ) as http,
    ):
        yield Door(api, tenant, app, http)
