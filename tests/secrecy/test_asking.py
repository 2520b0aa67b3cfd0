"""A key store that hangs holds up nobody for long: asked once for the same, by few threads, and left alone while it is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from qcos.base.errors import Integrity, QcosError, Unavailable
from qcos.base.limits import KEY_STORE_ASKED, KEY_STORE_CROWD, KEY_STORE_REST_S, KEY_STORE_WAITING
from qcos.secrecy.asking import Asking

LONG_S = 600.0


class Store:
    """A key store that answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.let = threading.Event()

    def call(self, what: str) -> Callable[[], str]:
        def make() -> str:
            self.asked.append(what)
            assert self.let.wait(LONG_S)
            self.answered.append(what)
            return what.upper()

        return make


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refused(asking: Asking[str], what: str, make: Callable[[], str]) -> QcosError:
    with pytest.raises(QcosError) as error:
        asking.ask(what, make)
    return error.value


def fails(error: QcosError) -> Callable[[], str]:
    def make() -> str:
        raise error

    return make


def test_who_asks_for_the_same_gets_the_same_answer() -> None:
    store, asking = Store(), Asking[str](wait_s=LONG_S)
    with ThreadPoolExecutor(KEY_STORE_WAITING) as pool:
        answers = [pool.submit(asking.ask, "a", store.call("a")) for _ in range(KEY_STORE_WAITING)]
        until(lambda: asking._waiting == KEY_STORE_WAITING)
        store.let.set()
        assert {answer.result() for answer in answers} == {"A"}
    assert store.asked == ["a"]


def test_a_call_that_hangs_is_given_up_and_the_store_left_alone_for_a_moment() -> None:
    """R8.7: and what it brings in the end is not lost."""
    at = [0.0]
    store, asking = Store(), Asking[str](clock=lambda: at[0], wait_s=0.05)
    asking.ask_ahead("a", store.call("a"))
    until(lambda: store.asked == ["a"])
    for what in ("a", "a", "b"):
        error = refused(asking, what, store.call(what))
        assert (error.code, error.family) == ("payload.keystore", "unavailable")
        assert error.retry_after_s == KEY_STORE_REST_S
    assert store.asked == ["a"]

    def asked_again() -> bool:  # whoever goes on asking for "a" keeps nobody from asking for "b"
        at[0] += KEY_STORE_REST_S
        refused(asking, "a", store.call("a"))
        refused(asking, "b", store.call("b"))
        return store.asked == ["a", "b"]

    until(asked_again)
    store.let.set()
    until(lambda: sorted(store.answered) == ["a", "b"] and not asking._calls)
    asking._wait_s = LONG_S
    assert asking.ask("c", lambda: "C") == "C"  # it answers again: no need to let the moment pass


def test_one_call_that_hangs_does_not_mean_that_the_store_is_away() -> None:
    store, asking = Store(), Asking[str](wait_s=LONG_S)
    asking.ask_ahead("a", store.call("a"))
    assert asking.ask("b", lambda: "B") == "B"
    asking._wait_s = 0.0
    assert refused(asking, "a", store.call("a")).code == "payload.keystore"
    asking._wait_s = LONG_S
    assert asking.ask("c", lambda: "C") == "C"
    store.let.set()


def test_few_calls_are_under_way_and_few_threads_wait() -> None:
    store, asking = Store(), Asking[str](wait_s=LONG_S)
    with ThreadPoolExecutor(KEY_STORE_CROWD) as pool:
        waiting = [pool.submit(asking.ask, str(n), store.call(str(n))) for n in range(KEY_STORE_WAITING)]
        until(lambda: asking._waiting == KEY_STORE_WAITING and len(store.asked) == KEY_STORE_ASKED)
        more = [
            pool.submit(refused, asking, "more", store.call("more"))
            for _ in range(KEY_STORE_CROWD - KEY_STORE_WAITING)
        ]
        assert {error.result().code for error in more} == {"payload.keystore"}
        assert len(store.asked) == KEY_STORE_ASKED and not any(answer.done() for answer in waiting)
        store.let.set()
        assert [answer.result() for answer in waiting] == [str(n) for n in range(KEY_STORE_WAITING)]


def test_a_store_that_is_away_is_not_asked_by_everybody() -> None:
    at, asked = [0.0], []
    asking = Asking[str](clock=lambda: at[0])
    assert refused(asking, "a", fails(Unavailable("keys.store_away", "away"))).code == "keys.store_away"
    for what in ("a", "b"):
        assert refused(asking, what, lambda: asked.append(0) or "").code == "keys.store_away"
        asking.ask_ahead(what, lambda: asked.append(0) or "")
    assert not asked
    at[0] += KEY_STORE_REST_S
    assert asking.ask("b", lambda: "B") == "B"


def test_a_key_that_does_not_open_keeps_no_other_from_it() -> None:
    at = [0.0]
    asking = Asking[str](clock=lambda: at[0])
    assert refused(asking, "a", fails(Integrity("keys.unwrap", "changed"))).code == "keys.unwrap"
    assert refused(asking, "a", lambda: "A").code == "keys.unwrap"
    assert asking.ask("b", lambda: "B") == "B"
    at[0] += KEY_STORE_REST_S
    assert asking.ask("a", lambda: "A") == "A"


def test_what_the_call_raises_is_raised_and_not_taken_for_silence() -> None:
    def bug() -> str:
        raise TimeoutError("of the call itself")

    asking = Asking[str]()
    for _ in range(2):
        with pytest.raises(TimeoutError, match="of the call itself"):
            asking.ask("a", bug)
    assert asking.ask("a", lambda: "A") == "A"
