"""Who calls: the bearer token of a request, and a scope in which its owner acts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from qcos.administration.act import Act, Authority, acting
from qcos.app import Api
from qcos.base.clock import now
from qcos.base.errors import Denied
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.identity import tokens

Answer = TypeVar("Answer")
_KNOWN_FOR_S = 5.0
_MOST_KNOWN = 10_000


def app_of(request: Request) -> Api:
    """Return what this process works with."""
    return request.app.state.qcos  # type: ignore[no-any-return] # set by create_app


def credentials(request: Request) -> tuple[UUID, bytes]:
    """Return tenant and hash of the request's bearer token; whether it is good is found out in the scope that uses it.

    Raises:
        Denied: ``auth.missing`` or ``auth.token``.
    """
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise Denied(
            "auth.missing",
            "no bearer token",
            expected="Authorization: Bearer qcos_...",
            hint="set QCOS_TOKEN",
        )
    return tokens.read(text.strip())


async def act(request: Request, do: Callable[[Act], Answer]) -> Answer:
    """Run ``do`` in a scope of the caller, in a thread."""
    tenant, token_hash = credentials(request)
    admission = app_of(request).admission
    authority = Authority(admission.engine, admission.policy, admission.bundles)

    def run() -> Answer:
        with acting(authority, tenant, token_hash) as opened:
            return do(opened)

    return await run_in_threadpool(run)


class KnownTokens:
    """Remembers for a few seconds which tokens were good, so that work done before the deciding scope (reading circuits) is done for
    nobody unknown and costs known callers no extra scope. It never decides: every act checks the token again in its own scope.
    """

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def check(self, api: Api, tenant: UUID, token_hash: bytes) -> None:
        """Raise Denied ``auth.*`` for a token that is not good."""
        if self._until.get(token_hash, 0.0) > time.monotonic():
            return
        with scope(api.engine, tenant) as connection:
            identity.authenticate(connection, tenant, token_hash, now())
        with self._lock:
            if len(self._until) >= _MOST_KNOWN:
                self._until.clear()
            self._until[token_hash] = time.monotonic() + _KNOWN_FOR_S
