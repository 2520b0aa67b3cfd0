"""Group commit: nothing is lost, nothing waits for a timer, a bad item fails alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from qcos.base.batcher import Batcher

WAIT_S = 120  # longer than anything here takes, on any machine; a test that reaches it has failed


class Writer:
    """Doubles numbers; can be held, refuses negative ones."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.open = threading.Event()
        self.entered = threading.Event()
        self.open.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.entered.set()
        assert self.open.wait(WAIT_S)
        self.calls.append(list(items))
        if any(item < 0 for item in items):
            raise ValueError(f"refused {list(items)}")
        return [2 * item for item in items]


def _held(writer: Writer, batcher: Batcher[int, int], first: int) -> Future[int]:
    """Hand in an item and wait until it is being written."""
    writer.open.clear()
    writer.entered.clear()
    future = batcher.submit(first)
    assert writer.entered.wait(WAIT_S)
    return future


def test_a_lone_item_is_written_at_once() -> None:
    writer = Writer()
    batcher = Batcher(writer, limit=10, name="test")
    assert batcher.submit(21).result(WAIT_S) == 42
    assert writer.calls == [[21]]
    batcher.close()


def test_what_waits_is_written_together_in_order_up_to_the_limit() -> None:
    writer = Writer()
    batcher = Batcher(writer, limit=3, name="test")
    first = _held(writer, batcher, 0)
    rest = [batcher.submit(n) for n in range(1, 8)]
    writer.open.set()
    assert [f.result(WAIT_S) for f in [first, *rest]] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert writer.calls == [[0], [1, 2, 3], [4, 5, 6], [7]]
    batcher.close()


def test_a_bad_item_fails_only_itself() -> None:
    writer = Writer()
    batcher = Batcher(writer, limit=10, name="test")
    first = _held(writer, batcher, 0)
    rest = [batcher.submit(n) for n in (1, -2, 3)]
    writer.open.set()
    assert first.result(WAIT_S) == 0
    assert rest[0].result(WAIT_S) == 2
    with pytest.raises(ValueError, match=r"refused \[-2\]"):
        rest[1].result(WAIT_S)
    assert rest[2].result(WAIT_S) == 6
    assert batcher.submit(5).result(WAIT_S) == 10, "it goes on"
    batcher.close()


def test_closing_writes_what_waits() -> None:
    writer = Writer()
    batcher = Batcher(writer, limit=2, name="test")
    futures = [_held(writer, batcher, 0), *(batcher.submit(n) for n in range(1, 6))]
    closer = threading.Thread(target=batcher.close)
    closer.start()
    writer.open.set()
    closer.join(WAIT_S)
    assert not closer.is_alive()
    assert [future.result(0) for future in futures] == [0, 2, 4, 6, 8, 10]


def test_many_threads_get_their_own_answers() -> None:
    batcher = Batcher(lambda items: [2 * item for item in items], limit=7, name="test")
    answers: dict[int, int] = {}

    def ask(base: int) -> None:
        for n in range(base, base + 100):
            answers[n] = batcher.submit(n).result(WAIT_S)

    threads = [threading.Thread(target=ask, args=(base,)) for base in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: 2 * n for n in range(800)}
    batcher.close()


def test_an_item_handed_in_after_the_end_is_refused() -> None:
    batcher = Batcher(lambda items: list(items), limit=7, name="test")
    batcher.close()
    with pytest.raises(RuntimeError, match="test is closed"):
        batcher.submit(1)


def test_a_cancelled_item_does_not_stop_the_others() -> None:
    writer = Writer()
    batcher = Batcher(writer, limit=10, name="test")
    first = _held(writer, batcher, 0)
    gone, kept = batcher.submit(1), batcher.submit(2)
    assert gone.cancel()
    writer.open.set()
    assert (first.result(WAIT_S), kept.result(WAIT_S)) == (0, 4)
    assert batcher.submit(3).result(WAIT_S) == 6
    batcher.close()


def test_a_writer_that_answers_too_little_fails_its_batch() -> None:
    batcher = Batcher(lambda items: [], limit=10, name="test")
    for n in (1, 2):
        with pytest.raises(RuntimeError, match="0 results for 1 items"):
            batcher.submit(n).result(WAIT_S)
    batcher.close()


def test_even_an_exit_fails_only_its_item() -> None:
    def leave(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise SystemExit("no Exception")
        return list(items)

    batcher = Batcher(leave, limit=10, name="test")
    with pytest.raises(SystemExit):
        batcher.submit(1).result(WAIT_S)
    assert batcher.submit(2).result(WAIT_S) == 2
    batcher.close()
