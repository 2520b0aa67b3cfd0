"""The API application and its process."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qcos import __version__
from qcos.api import (
    backends,
    errors,
    evidence,
    identity,
    jobs,
    keys,
    ledger,
    metering,
    openapi,
    policy,
    retention,
)
from qcos.api.answers import answer
from qcos.api.caller import KnownTokens
from qcos.app import Api, make_api
from qcos.base.errors import Limit
from qcos.base.impatient import served
from qcos.base.limits import MAX_REQUEST_BYTES
from qcos.base.process import collect_rarely, take_long_turns
from qcos.db.engine import scope
from qcos.settings import Settings
from qcos.telemetry import configure, shutdown
from qcos.telemetry.variables import exporters


def create_app(api: Api) -> FastAPI:
    """Return the application; `api` is closed with it."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        api.close()
        shutdown()

    app = FastAPI(
        title="QCOS",
        version=__version__,
        summary="Governed quantum execution: policy, money and evidence around every job.",
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        telemetry={
            "tracing": bool(exporters("traces")),
            "metrics": bool(exporters("metrics")),
            "logs": False,
            "auto_configure": False,
        },
    )
    app.state.qcos = api
    app.state.known_tokens = KnownTokens()
    errors.install(app)
    v1 = APIRouter(prefix="/v1")
    for module in (jobs, evidence, retention, backends, metering, identity, policy, keys, ledger):
        v1.include_router(module.router)
    app.include_router(v1)
    openapi.install(app)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return answer({"status": "ok"})

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        def ask() -> None:
            with scope(api.engine, None) as connection:
                connection.exec_driver_sql("select 1")

        await run_in_threadpool(ask)
        return answer({"status": "ready"})

    app.add_middleware(Bounded)
    return app


class Bounded:
    """Refuses request bodies over the limit, whatever their headers say."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; its body is counted as it is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_REQUEST_BYTES:
                raise Limit(
                    "request.size", "the request is too large", expected=f"at most {MAX_REQUEST_BYTES} bytes"
                )
            return message

        await self._app(scope, bounded, send)


def serve(settings: Settings, *, fd: int | None = None) -> None:
    """Run the API process until it is told to stop.

    Args:
        settings: With the database's URL.
        fd: An open listening socket, so that the supervisor keeps the port while the process is restarted.
    """
    configure("qcos-api")
    take_long_turns()
    app = create_app(make_api(settings))
    config = served(app, host=settings.host, port=settings.port, timeout_graceful_shutdown=10)
    collect_rarely()
    # Not `fd=`: uvicorn takes that for a Unix socket and leaves Nagle on, 40 ms on every answer.
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)] if fd is not None else None)
