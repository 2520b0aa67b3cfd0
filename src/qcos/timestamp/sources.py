"""Where the clock's guard gets the true time from: other authorities, Roughtime servers.

What a source says is an interval: the time it names, give or take its accuracy, held at some moment between
the question and the answer. It is told apart from this machine's wall clock, as *true time minus the
monotonic clock*, so that a jump of the wall clock while it is asked changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from qcos.base.errors import Invalid
from qcos.timestamp import roughtime
from qcos.timestamp.remote import RemoteAuthority

UNSTATED_S: Final = 1.0  # accuracy of a token that promises none
MAX_ACCURACY_S: Final = 60.0  # a source that knows no better tells nothing


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source said.

    Attributes:
        source: Its name.
        low: Least difference of the true time and the monotonic clock that fits, seconds.
        high: Greatest such difference, seconds.
    """

    source: str
    low: float
    high: float


class Source(Protocol):
    """Something that knows the time."""

    @property
    def name(self) -> str:
        """Return what it is called in reports."""
        ...

    def read(self) -> Reading:
        """Ask it; raises a QcosError when it does not answer, or not truly."""
        ...


@dataclass(frozen=True, slots=True)
class TsaSource:
    """Another time-stamping authority: it stamps a random number."""

    authority: RemoteAuthority

    @property
    def name(self) -> str:
        """Return its URL."""
        return self.authority.name

    def read(self) -> Reading:
        """Ask for a token; raises `NoTime`."""
        stamped = self.authority.stamp(secrets.token_bytes(64))
        info = stamped.info
        accuracy = info.accuracy.total_seconds() if info.accuracy is not None else UNSTATED_S
        named = info.time.timestamp()
        cut_off = 1.0 if info.time.microsecond == 0 else 0.001  # of the digits it writes
        return Reading(
            self.name, named - accuracy - stamped.received, named + accuracy + cut_off - stamped.sent
        )


@dataclass(frozen=True, slots=True)
class RoughtimeSource:
    """A Roughtime server (RFC 10049)."""

    host: str
    port: int
    key: bytes
    timeout_s: float
    monotonic: Callable[[], float] = time.monotonic

    @property
    def name(self) -> str:
        """Return its address."""
        return f"roughtime:{self.host}:{self.port}"

    def read(self) -> Reading:
        """Ask it; raises Unavailable or Integrity."""
        told = roughtime.ask(
            self.host, self.port, self.key, timeout_s=self.timeout_s, monotonic=self.monotonic
        )
        return Reading(
            self.name, told.time - told.radius - told.received, told.time + told.radius + 1 - told.sent
        )  # the midpoint is in whole seconds


def read_sources(text: str, trusted: Sequence[str | bytes], *, timeout_s: float) -> list[Source]:
    """Read the setting: URLs of authorities, and ``roughtime:HOST:PORT:KEY`` (base64), apart by blanks.

    Raises:
        Invalid: ``timestamp.source``.
    """
    return [_source(part, trusted, timeout_s) for part in text.split()]


def _source(text: str, trusted: Sequence[str | bytes], timeout_s: float) -> Source:
    if text.startswith("roughtime:"):
        place, _, key = text.removeprefix("roughtime:").rpartition(":")
        host, _, port = place.rpartition(":")
        try:
            raw = base64.b64decode(key, validate=True)
            if len(raw) == 32 and host and 0 < int(port) < 65536:
                return RoughtimeSource(host.strip("[]"), int(port), raw, timeout_s)
        except (ValueError, binascii.Error):
            pass
        raise _wrong(text, "roughtime:HOST:PORT:KEY, the key 32 bytes in base64")
    return TsaSource(open_remote(text, trusted, timeout_s=timeout_s))


def open_remote(url: str, trusted: Sequence[str | bytes], *, timeout_s: float) -> RemoteAuthority:
    """Return the authority at a URL.

    Raises:
        Invalid: ``timestamp.source`` when it is no URL, or no certificate is pinned.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise _wrong(url, "http://HOST[:PORT]/... or https://...")
    if not trusted:
        raise _wrong(url, "certificates pinned by QCOS_TSA_CERTIFICATES: an answer could not be verified")
    return RemoteAuthority(url, trusted, timeout_s=timeout_s)


def _wrong(text: str, expected: str) -> Invalid:
    return Invalid(
        "timestamp.source",
        "not a source of time",
        subject=text[:200],
        expected=expected,
        hint="see docs/reference/timestamp.md",
    )
