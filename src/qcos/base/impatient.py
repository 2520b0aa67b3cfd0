"""HTTP connections that are cut off when their client does not get on with its request; uvicorn itself waits for ever.

Clients that open a connection and send nothing, or a byte now and then, cost them nothing and a server its connections ("slowloris").
What counts is the time a head, or a body, takes from its first byte to its last, however busy the client looks meanwhile. The answer
may take as long as it takes.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from qcos.base.limits import HTTP_BODY_S, HTTP_HEAD_S


class Impatient(HttpToolsProtocol):
    """One connection, for ``uvicorn.Config(http=...)``.

    Attributes:
        head_s: Seconds from the connection, or from the first byte of a further request, to the end of its head. A connection
            is looked at so often, so it may last once longer.
        body_s: Seconds from there to the end of the body, not counting time in which the server does not take what was sent.
    """

    head_s: ClassVar[float] = HTTP_HEAD_S
    body_s: ClassVar[float] = HTTP_BODY_S

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._note()
        self._look_later()

    def data_received(self, data: bytes) -> None:
        """Take what was sent."""
        super().data_received(data)
        self._note()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._looking.cancel()
        super().connection_lost(exc)

    def _awaited(self) -> tuple[float | None, object]:
        """Return how long what the client has to send next may take, None for as long as it likes, and for which request."""
        if self.pipeline:
            return None, self.cycle
        # Any: None before the first request, which uvicorn does not say
        cycle: RequestResponseCycle | Any = self.cycle
        if cycle is None or (cycle.response_complete and not cycle.more_body):
            return (self.head_s if self.timeout_keep_alive_task is None else None), self.cycle
        return (self.body_s if self.cycle.more_body else None), self.cycle

    def _note(self) -> None:
        awaited = self._awaited()
        if awaited != getattr(self, "_waits_for", None):
            self._waits_for, self._since = awaited, self.loop.time()

    def _look_later(self) -> None:
        self._looking = self.loop.call_later(min(self.head_s, self.body_s), self._look)

    def _look(self) -> None:
        self._note()  # an answer may have ended meanwhile
        limit, _ = self._waits_for
        if self.flow.read_paused:  # the server's fault, not the client's
            self._since = self.loop.time()
        if limit is not None and self.loop.time() - self._since >= limit:
            self.transport.abort()
        else:
            self._look_later()


def served(app: Any, http: type[Impatient] = Impatient, **more: Any) -> uvicorn.Config:
    """Return how an application is served: by connections that are cut off, with no log and no header of uvicorn's own.

    Args:
        app: Any: an ASGI application.
        http: The connections.
        more: Any: further parameters of `uvicorn.Config`.
    """
    return uvicorn.Config(
        app,
        http=http,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        **more,
    )
