"""Several authorities in the order of preference; one that does not answer is left alone for a while.

The first that can stamps. After a failure an authority is not asked again before a pause is over, which
doubles from failure to failure; then one caller tries it, and the others go on to the next meanwhile: a dead
authority costs one caller its timeout now and then, and nobody else anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from qcos.base.errors import Problem
from qcos.telemetry import instruments
from qcos.timestamp.authority import NoTime

_log = logging.getLogger("qcos.timestamp")
LOCAL: Final = "local"  # the name of the installation's own authority in the order
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0


class Authority(Protocol):
    """A time-stamping authority."""

    def stamp_digest(self, digest: bytes, hash_name: str = "sha512") -> bytes:
        """Return a DER TimeStampToken over a digest; raises `NoTime`."""
        ...


class _Breaker:
    """Whether an authority may be asked now. Not locked: its owner does."""

    def __init__(self, name: str, authority: Authority) -> None:
        self.name = name
        self.authority = authority
        self.error: NoTime | None = None
        self._pause_s = 0.0
        self._not_before = 0.0

    def take(self, at: float) -> bool:
        """Return whether the caller shall try; while it has failed, one caller a pause."""
        if self.error is None:
            return True
        if at < self._not_before:
            return False
        self._not_before = at + self._pause_s
        return True

    def failed(self, error: NoTime, at: float) -> None:
        self.error = error
        self._pause_s = min(max(FIRST_PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
        self._not_before = at + self._pause_s

    def held(self) -> None:
        self.error, self._pause_s = None, 0.0


class Authorities:
    """Authorities, the preferred one first. Safe for many threads.

    Args:
        authorities: With the names they are reported under.
        monotonic: A clock that never jumps, seconds.
    """

    def __init__(
        self,
        authorities: Sequence[tuple[str, Authority]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._breakers = [_Breaker(name, authority) for name, authority in authorities]
        self._monotonic = monotonic
        self._lock = threading.Lock()

    def stamp_digest(self, digest: bytes, hash_name: str = "sha512") -> bytes:
        """Return a token of the first authority that gives one.

        Raises:
            NoTime: ``timestamp.unavailable`` with what each of them said.
        """
        for breaker in self._breakers:
            with self._lock:
                if not breaker.take(self._monotonic()):
                    continue
            try:
                token = breaker.authority.stamp_digest(digest, hash_name)
            except NoTime as error:
                with self._lock:
                    breaker.failed(error, self._monotonic())
                instruments.authority_failed(breaker.name)
                _log.warning("no time stamp from %s: %s", breaker.name, error)
                continue
            with self._lock:
                breaker.held()
            return token
        raise NoTime(
            "timestamp.unavailable",
            "no time-stamping authority gives a token now",
            expected="one of " + ", ".join(breaker.name for breaker in self._breakers),
            problems=[_problem(breaker) for breaker in self._breakers],
            hint="look at the authorities, and at QCOS_TSA_URLS; what waits for a time stamp goes on by itself",
            retry_after_s=FIRST_PAUSE_S,
        )


def _problem(breaker: _Breaker) -> Problem:
    error = breaker.error
    if error is None:  # it has recovered while the others were asked
        return Problem(breaker.name, "not asked")
    return Problem(breaker.name, error.message, error.expected, error.got, code=error.code)
