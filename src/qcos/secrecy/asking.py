"""Asking a key store that may hang: few threads ask it, nobody waits for it long, and one that is away is left alone for a moment.

A call of a token's library or of a server cannot be ended from outside. So calls are made by threads of their own; who needs an
answer waits for it with a limit, and a call that comes back later still does some good: what it brings is kept by whoever made it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

from qcos.base.errors import QcosError, Unavailable
from qcos.base.limits import (
    KEY_STORE_ASKED,
    KEY_STORE_CROWD,
    KEY_STORE_MOMENT_S,
    KEY_STORE_REST_S,
    KEY_STORE_WAIT_S,
    KEY_STORE_WAITING,
)

Answer = TypeVar("Answer")
_REFUSALS_KEPT: Final = 1_000  # beyond, refusals that have passed are forgotten


class _Call(Generic[Answer]):
    """One call of the key store: in a row until a thread makes it, then under way."""

    def __init__(self, make: Callable[[], Answer], began: float) -> None:
        self.make = make
        self.began = began
        self.given_up = False  # by somebody who waited
        self.answer: Future[Answer] = Future()


class Asking(Generic[Answer]):
    """Calls of one key store, for many threads.

    Args:
        clock: Monotonic time, seconds; how long an answer is waited for is always real time.
        wait_s: Seconds an answer is waited for, from the beginning of the call.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, wait_s: float = KEY_STORE_WAIT_S
    ) -> None:
        self._clock = clock
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._calls: dict[Hashable, _Call[Answer]] = {}
        self._row: deque[tuple[Hashable, _Call[Answer]]] = deque()
        self._threads = 0
        self._waiting = 0
        self._answered = 0.0  # real monotonic time of the last answer
        self._away: tuple[float, QcosError] | None = None
        self._refused: dict[Hashable, tuple[float, QcosError]] = {}

    def ask(self, what: Hashable, make: Callable[[], Answer]) -> Answer:
        """Return what the call returns; who asks for the same meanwhile gets the same answer.

        Args:
            what: What is asked for.
            make: Asks the key store.

        Raises:
            Unavailable: ``payload.keystore``: no answer in time, or too many wait for one. What the call raised, again for
                `KEY_STORE_REST_S` without asking: to all when the store is away, else to those who ask for the same.
            Exception: Whatever else the call raises.
        """
        with self._lock:
            call = self._calls.get(what)
            if call is None:
                self._refuse(what)
            if self._waiting >= KEY_STORE_CROWD:
                raise self._silent(f"{self._waiting} threads wait for its answers")
            if call is None:
                call = self._begin(what, make)
            overdue = call.began + self._wait_s
            patience = self._wait_s if self._waiting < KEY_STORE_WAITING else KEY_STORE_MOMENT_S
            self._waiting += 1
        try:
            return call.answer.result(max(0.0, min(patience, overdue - time.monotonic())))
        except TimeoutError:
            if call.answer.done():  # in this moment; or it was the call that raised it
                return call.answer.result()
            if time.monotonic() < overdue:
                raise self._silent(f"no answer yet, and {KEY_STORE_WAITING} threads wait for it") from None
            raise self._given_up(what, call) from None
        finally:
            with self._lock:
                self._waiting -= 1

    def ask_ahead(self, what: Hashable, make: Callable[[], Answer]) -> None:
        """Begin a call that nobody waits for, when the store seems well and a thread is free; whatever it raises is only remembered."""
        with self._lock:
            busy = what in self._calls or self._threads >= KEY_STORE_ASKED
            if not busy and self._remembered(what) is None:
                self._begin(what, make)

    def _begin(self, what: Hashable, make: Callable[[], Answer]) -> _Call[Answer]:
        if self._threads < KEY_STORE_ASKED:
            threading.Thread(target=self._serve, name="key store", daemon=True).start()
            self._threads += 1
        call = self._calls[what] = _Call(make, time.monotonic())
        self._row.append((what, call))
        return call

    def _serve(self) -> None:
        """Make calls until none is left in the row."""
        while True:
            with self._lock:
                if not self._row:
                    self._threads -= 1
                    return
                what, call = self._row.popleft()
            self._make(what, call)
            del call  # with its answer, which may be a key

    def _make(self, what: Hashable, call: _Call[Answer]) -> None:
        try:
            answer = call.make()
        except BaseException as error:
            self._end(what, error)
            call.answer.set_exception(error)
        else:
            self._end(what, None)
            call.answer.set_result(answer)

    def _end(self, what: Hashable, error: BaseException | None) -> None:
        with self._lock:
            del self._calls[what]
            if error is None:
                self._answered, self._away = time.monotonic(), None
                self._refused.pop(what, None)
            elif isinstance(error, QcosError):
                self._remember(what, error)

    def _given_up(self, what: Hashable, call: _Call[Answer]) -> Unavailable:
        """Return the error for an answer that did not come in time; the first time, the store counts as away for a moment."""
        error = self._silent(f"none for {self._wait_s:g} s")
        with self._lock:
            if (what, call) in self._row:  # no thread came to it: it is not made at all
                self._row.remove((what, call))
                del self._calls[what]
            if not call.given_up and self._answered <= call.began:  # nor did anybody else get one
                self._remember(what, error)
            call.given_up = True
        return error

    def _remember(self, what: Hashable, error: QcosError) -> None:
        until = self._clock() + KEY_STORE_REST_S
        if isinstance(error, Unavailable):
            self._away = (until, error)
            return
        if len(self._refused) >= _REFUSALS_KEPT:
            self._refused = {k: kept for k, kept in self._refused.items() if kept[0] > self._clock()}
        self._refused[what] = (until, error)

    def _remembered(self, what: Hashable) -> QcosError | None:
        for kept in (self._away, self._refused.get(what)):
            if kept is not None and kept[0] > self._clock():
                return kept[1]
        return None

    def _refuse(self, what: Hashable) -> None:
        error = self._remembered(what)
        if error is not None:
            raise error.with_traceback(None)

    def _silent(self, got: str) -> Unavailable:
        return Unavailable(
            "payload.keystore",
            "the key store that opens tenants' keys does not answer",
            expected=f"an answer within {self._wait_s:g} s",
            got=got,
            hint="look at the key store; a process whose calls of it never come back has to be started again",
            retry_after_s=KEY_STORE_REST_S,
        )
