"""The clock's guard: no token while the clock is known to be wrong (R1.2).

Sources are asked every so often; what most of them agree on is an interval for the true time. The clock is
wrong for certain when even the near end of that interval is farther away than the accuracy that tokens
promise. Between two rounds the wall clock is compared with the monotonic one at every token: a jump of more
than the accuracy stops the authority at once, until the sources were asked again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from qcos.base.errors import QcosError
from qcos.telemetry import instruments
from qcos.timestamp.authority import NoTime
from qcos.timestamp.sources import MAX_ACCURACY_S, Reading, Source

_log = logging.getLogger("qcos.timestamp")
_RETRY_S: Final = 2.0  # pause between rounds while the clock cannot be trusted
_MOST_AT_ONCE: Final = 8  # sources asked at the same time


@dataclass(frozen=True, slots=True)
class Agreement:
    """What most of the sources that answered agree on.

    Attributes:
        low: Least difference of the true time and the monotonic clock, seconds.
        high: Greatest such difference, seconds.
        agreeing: How many sources contain that interval.
    """

    low: float
    high: float
    agreeing: int


def agree(readings: Sequence[Reading]) -> Agreement | None:
    """Return the smallest interval that most readings contain (Marzullo's algorithm).

    None when no interval is in more than half of them: the sources contradict each other.
    """
    edges = sorted([(reading.low, -1) for reading in readings] + [(reading.high, 1) for reading in readings])
    best, inside, found = 0, 0, None
    for place, (at, kind) in enumerate(edges):
        inside -= kind
        if inside > best:
            best, found = inside, (at, edges[place + 1][0])
    if found is None or 2 * best <= len(readings):
        return None
    return Agreement(*found, best)


@dataclass(frozen=True, slots=True)
class _Round:
    """One round of asking that led to an agreement."""

    agreement: Agreement
    offset: float  # wall clock minus monotonic clock then, seconds
    at: float  # monotonic, seconds


class ClockGuard:
    """Watches the clock. Safe for many threads.

    Args:
        sources: Who is asked.
        accuracy_s: What tokens promise, seconds.
        every_s: Seconds between rounds.
        patience_s: Seconds without an agreement before the clock counts as unwatched.
        refuse: Whether an unwatched clock may name no time. If not, it is only warned of: a site without a
            way out goes on with its own clock.
        wall: The clock that tokens are made with, seconds since 1970.
        monotonic: A clock that never jumps, seconds.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        accuracy_s: float,
        every_s: float,
        patience_s: float,
        refuse: bool,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = tuple(sources)
        self._accuracy_s = accuracy_s
        self._every_s = every_s
        self._patience_s = patience_s
        self._refuse = refuse
        self._wall = wall
        self._monotonic = monotonic
        self._round: _Round | None = None
        self._said: dict[str, str] = {}
        self._wanted = threading.Event()
        self._first = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Keep asking in a thread; tokens wait for the end of the first round."""
        self._thread = threading.Thread(target=self._run, name="clock guard", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        pause = self._round_of_asking()
        while True:
            self._wanted.wait(pause)
            if self._stopped:
                return
            self._wanted.clear()
            pause = self._round_of_asking()
            if self._wanted.is_set():  # asked for while it polled: not at once again
                self._wanted.clear()
                pause = min(_RETRY_S, self._every_s)

    def _round_of_asking(self) -> float:
        """Ask, whatever happens: tokens wait for the first round. Returns the pause after it, seconds."""
        try:
            self.poll()
        except Exception:
            _log.exception("a round of asking the time sources failed")
        self._first.set()
        return self._every_s if self._verdict() is None else min(_RETRY_S, self._every_s)

    def poll(self) -> None:
        """Ask every source once, and keep what they agree on."""
        said: dict[str, str] = {}

        def ask(source: Source) -> Reading | None:
            try:
                reading = source.read()
            except QcosError as error:
                said[source.name] = f"{error.code}: {error.message}" + (
                    f" ({error.got})" if error.got else ""
                )
                return None
            except Exception as error:  # a bug of one source must not blind the guard
                _log.exception("a time source failed")
                said[source.name] = f"{type(error).__name__}: {error}"
                return None
            if not 0 <= reading.high - reading.low <= 2 * MAX_ACCURACY_S:
                said[source.name] = f"it knows the time to {reading.high - reading.low:.0f} s only"
                return None
            said[source.name] = "ok"
            return reading

        with ThreadPoolExecutor(min(_MOST_AT_ONCE, len(self._sources)), "time source") as pool:
            readings = [reading for reading in pool.map(ask, self._sources) if reading is not None]
        found = agree(readings)
        if found is not None:
            now = self._monotonic()
            self._round = _Round(found, self._wall() - now, now)
        self._said = said
        self._report(len(readings), found)
        self._first.set()

    def _report(self, reached: int, found: Agreement | None) -> None:
        drift = self.drift_s()
        instruments.set_clock(drift, reached)
        if found is None:
            _log.warning(
                "the time sources contradict each other" if reached else "no time source answers",
                extra={"sources": self._said},
            )
        if (error := self._verdict()) is not None:
            _log.error("no time can be named: %s", error, extra={"sources": self._said})

    def drift_s(self) -> float | None:
        """Return true time minus this clock, seconds: the middle of what is possible; None when not known."""
        known = self._round
        if known is None:
            return None
        own = self._wall() - self._monotonic()
        return (known.agreement.low + known.agreement.high) / 2 - own

    def check(self) -> None:
        """Let a token be made, or not.

        Raises:
            NoTime: ``timestamp.drift`` when the clock is wrong for certain, ``timestamp.jump`` when it has
                jumped since the sources were asked, ``timestamp.unwatched`` when no source could be asked for
                too long and that is not allowed.
        """
        if self._thread is not None:
            self._first.wait()
        if (error := self._verdict()) is not None:
            instruments.clock_refused(error.code)
            if error.code == "timestamp.jump":
                self._wanted.set()
            raise error

    def _verdict(self) -> NoTime | None:
        known, at = self._round, self._monotonic()
        own = self._wall() - at
        if known is not None:
            jump = own - known.offset
            if abs(jump) > self._accuracy_s:
                return _no_time(
                    "timestamp.jump",
                    "the clock has jumped since it was last compared",
                    f"at most {self._accuracy_s:g} s",
                    f"{jump:+.3f} s",
                )
            bound = max(0.0, known.agreement.low - own, own - known.agreement.high)
            if bound > self._accuracy_s:
                return _no_time(
                    "timestamp.drift",
                    "the clock is wrong by more than the accuracy that tokens promise",
                    f"at most {self._accuracy_s:g} s",
                    f"at least {bound:.3f} s, by {known.agreement.agreeing} sources",
                )
        if self._refuse and (known is None or at - known.at > self._patience_s):
            return _no_time(
                "timestamp.unwatched",
                "no time source could be asked for too long",
                f"an agreement of sources within {self._patience_s:g} s",
                "; ".join(f"{name}: {said}" for name, said in self._said.items()) or "none yet",
            )
        return None

    def status(self) -> dict[str, Any]:  # Any: JSON
        """Return what is known, for people."""
        known, drift = self._round, self.drift_s()
        shown: dict[str, Any] = {"sources": dict(self._said)}  # Any: JSON
        if known is not None and drift is not None:
            shown |= {
                "drift_ms": round(drift * 1000),
                "uncertainty_ms": round((known.agreement.high - known.agreement.low) * 500),
                "agreeing": known.agreement.agreeing,
                "compared_s_ago": round(self._monotonic() - known.at, 1),
            }
        return shown


def _no_time(code: str, message: str, expected: str, got: str) -> NoTime:
    return NoTime(
        code,
        message,
        subject="clock",
        expected=expected,
        got=got[:300],
        hint="look at the time synchronisation of this machine, and at QCOS_TIME_SOURCES",
        retry_after_s=_RETRY_S,
    )
