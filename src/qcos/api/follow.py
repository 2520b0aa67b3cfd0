"""Following a job: its steps as server-sent events, for as long as the caller may see them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from qcos.administration.act import Act
from qcos.api.answers import money
from qcos.api.caller import act, app_of
from qcos.api.errors import problem
from qcos.base.errors import Limit, QcosError
from qcos.base.limits import STREAMS_PER_PRINCIPAL
from qcos.db.engine import scope
from qcos.jobs import store
from qcos.jobs.lifecycle import TERMINAL
from qcos.jobs.store import Look

_LOOK_S: Final = 0.1  # how often a followed job's row is read
_CHECK_S: Final = 1.0  # how long a caller is believed before token and policy are asked again
_FOLLOW_S: Final = 3_600  # a stream ends after an hour; the client resumes


class Streams:
    """Counts the open streams of each principal in this process."""

    def __init__(self, most: int = STREAMS_PER_PRINCIPAL) -> None:
        self._most = most
        self._open: Counter[tuple[UUID, str]] = Counter()
        self._lock = threading.Lock()

    def take(self, tenant: UUID, principal: str) -> bool:
        """Count one more; False when the principal has as many as it may."""
        with self._lock:
            if self._open[tenant, principal] >= self._most:
                return False
            self._open[tenant, principal] += 1
            return True

    def give(self, tenant: UUID, principal: str) -> None:
        """Count one less."""
        with self._lock:
            self._open[tenant, principal] -= 1
            if self._open[tenant, principal] <= 0:
                del self._open[tenant, principal]

    def count(self, tenant: UUID, principal: str) -> int:
        """Return how many are open."""
        with self._lock:
            return self._open.get((tenant, principal), 0)


STREAMS: Final = Streams()


class Followed(StreamingResponse):
    """A stream that is counted exactly while it is sent, however it ends; one too many is answered with a problem."""

    def __init__(self, request: Request, tenant: UUID, principal: str, look: Look, seen: int) -> None:
        super().__init__(
            _steps(request, tenant, look, seen),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )
        self._whose = (tenant, principal)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, or why there is none."""
        if not STREAMS.take(*self._whose):
            refused = Limit(
                "stream.limit",
                "too many streams are open",
                subject=self._whose[1],
                expected=f"at most {STREAMS_PER_PRINCIPAL} at once",
                hint="close some, or ask for the jobs instead of following them",
                retry_after_s=1.0,
            )
            await problem(refused)(scope, receive, send)
            return
        try:
            await super().__call__(scope, receive, send)
        finally:
            STREAMS.give(*self._whose)


async def _steps(request: Request, tenant: UUID, look: Look, seen: int) -> AsyncIterator[str]:
    engine, job_id, checked = app_of(request).engine, look.id, time.monotonic()

    def cheap() -> Look:
        with scope(engine, tenant) as connection:
            return store.look(connection, tenant, job_id)

    def checking(caller: Act) -> Look:
        now = store.look(caller.connection, tenant, job_id)
        caller.permit("job.read", job_id, project=now.project, own=now.actor == caller.principal.id)
        return now

    for turn in range(int(_FOLLOW_S / _LOOK_S)):
        for step in look.steps[seen:]:
            seen += 1
            yield f"event: step\nid: {seen}\ndata: {json.dumps(step)}\n\n"
        if look.state in TERMINAL:
            yield f"event: end\ndata: {json.dumps(_closing(look))}\n\n"
            return
        if turn % 100 == 99:
            yield ": still here\n\n"
        await asyncio.sleep(_LOOK_S)
        if await request.is_disconnected():
            return
        try:
            if time.monotonic() - checked < _CHECK_S:
                look = await run_in_threadpool(cheap)
            else:  # who follows must still be somebody, and still be let
                look, checked = await act(request, checking), time.monotonic()
        except QcosError as error:
            yield f"event: error\ndata: {bytes(problem(error).body).decode()}\n\n"
            return


def _closing(look: Look) -> dict[str, object]:
    return {
        "job_id": look.id,
        "state": look.state,
        "bundle_id": look.bundle,
        "charge": money(look.charge, look.currency),
    }
