"""Server-sent events, from bytes (WHATWG HTML, 9.2.6 "Interpreting an event stream")."""

from __future__ import annotations

from dataclasses import dataclass

from qcos.base.errors import Limit
from qcos.base.limits import CLIENT_EVENT_BYTES


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event.

    Attributes:
        event: Its type; ``message`` when the server named none.
        data: Its data lines, joined by line feeds.
        id: The last event id seen up to it; empty when the server gave none.
    """

    event: str
    data: str
    id: str


class Decoder:
    """Turns chunks of bytes, cut anywhere, into events."""

    def __init__(self, limit: int = CLIENT_EVENT_BYTES) -> None:
        self._limit = limit
        self._rest = b""
        self._first = True
        self._data: list[str] = []
        self._size = 0
        self._event = ""
        self._id = ""

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that this chunk completes.

        Raises:
            Limit: ``client.event_size`` when one event outgrows the limit.
        """
        data = self._rest + chunk
        if self._first:
            if len(data) < 3 and b"\xef\xbb\xbf".startswith(data):
                self._rest = data
                return []
            data = data.removeprefix(b"\xef\xbb\xbf")
            self._first = False
        held = b""
        if data.endswith(b"\r"):  # its line feed may come with the next chunk
            data, held = data[:-1], b"\r"
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + held
        self._check(len(self._rest))
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, raw: bytes) -> Event | None:
        if not raw:
            return self._dispatch()
        if raw.startswith(b":"):
            return None
        name, _, value = raw.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(raw)
            self._check(0)
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> Event | None:
        data, event = self._data, self._event
        self._data, self._event, self._size = [], "", 0
        return Event(event or "message", "\n".join(data), self._id) if data else None

    def _check(self, more: int) -> None:
        if self._size + more > self._limit:
            raise Limit(
                "client.event_size",
                "a server-sent event is too long",
                expected=f"at most {self._limit} bytes",
            )
