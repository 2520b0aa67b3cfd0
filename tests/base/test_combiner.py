"""Calls that wait together are written together, by one of them, and nobody is forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from qcos.base.combiner import Combiner

WAIT_S = 120  # longer than anything here takes, on any machine; a test that reaches it has failed


class Book:
    """Keeps what was written; the first batch of a key waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.writers: list[int] = []
        self.began, self.go = threading.Event(), threading.Event()

    def write(self, key: str, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append((key, list(items)))
        self.writers.append(threading.get_ident())
        if key == "slow" and not self.began.is_set():
            self.began.set()
            assert self.go.wait(WAIT_S)
        if -2 in items:
            raise OSError("the disk is full")
        return [ValueError("odd") if item == -1 else item * 10 for item in items]


def until(condition: bool | object) -> None:
    while not condition():  # type: ignore[operator]
        time.sleep(0.001)


def test_a_lone_call_is_written_by_its_own_thread() -> None:
    book = Book()
    combiner = Combiner(book.write, limit=3)
    assert combiner.call("a", 1) == 10
    assert combiner.call("a", 2) == 20
    assert book.batches == [("a", [1]), ("a", [2])]
    assert book.writers == [threading.get_ident()] * 2


def test_what_waits_is_written_together_in_order_up_to_the_limit_and_other_keys_do_not_wait() -> None:
    book = Book()
    combiner = Combiner(book.write, limit=3)
    with ThreadPoolExecutor(10) as threads:
        first = threads.submit(combiner.call, "slow", 0)
        assert book.began.wait(WAIT_S)
        others = []
        for n in range(1, 6):
            others.append(threads.submit(combiner.call, "slow", n))
            until(lambda n=n: combiner.waiting("slow") == n)
        assert combiner.call("other", 7) == 70
        book.go.set()
        assert [f.result(WAIT_S) for f in (first, *others)] == [0, 10, 20, 30, 40, 50]
    assert book.batches == [("slow", [0]), ("other", [7]), ("slow", [1, 2, 3]), ("slow", [4, 5])]
    assert combiner.waiting("slow") == 0


def test_an_error_is_its_callers_alone_and_a_failed_write_is_everybodys() -> None:
    book = Book()
    combiner = Combiner(book.write, limit=2)
    with ThreadPoolExecutor(10) as threads:
        first = threads.submit(combiner.call, "slow", -2)
        assert book.began.wait(WAIT_S)
        others = []
        for place, n in enumerate((-1, 2, -2, 3, 4), 1):
            others.append(threads.submit(combiner.call, "slow", n))
            until(lambda place=place: combiner.waiting("slow") == place)
        book.go.set()
        outcomes = [f.exception(WAIT_S) or f.result() for f in (first, *others)]
    assert [type(o) for o in outcomes] == [OSError, ValueError, int, OSError, OSError, int]
    assert outcomes[2] == 20 and outcomes[5] == 40
    assert combiner.call("slow", 5) == 50, "the line goes on"


def test_wrong_numbers_of_results_are_told_to_all() -> None:
    combiner: Combiner[str, int, int] = Combiner(lambda _, items: [], limit=2)
    with pytest.raises(RuntimeError):
        combiner.call("a", 1)


def test_many_threads_get_each_its_own_result() -> None:
    combiner: Combiner[int, int, int] = Combiner(lambda key, items: [item + key for item in items], limit=4)
    with ThreadPoolExecutor(16) as threads:
        results = list(threads.map(lambda n: combiner.call(n % 3, n), range(3000)))
    assert results == [n + n % 3 for n in range(3000)]
