"""Killable work: whatever a request does to the child, only that request fails, and with a reason."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qcos.base.errors import Unavailable
from qcos.base.process import ChildFailed, DeadlineExceeded, KillableProcess, Line, ProcessPool

CHILDREN = Path(__file__).parent / "children"
MEMORY = 512 * 1024 * 1024
PLENTY_S = 50  # for what answers at once, on a machine that stands still for a while; a child lives 60


@pytest.fixture(autouse=True)
def _children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CHILDREN))
    monkeypatch.setenv("QCOS_TOKEN", "secret")


@pytest.fixture
def child() -> Iterator[KillableProcess]:
    made = KillableProcess("obedient", memory_bytes=MEMORY)
    yield made
    made.close()


def test_an_answer_comes_back_whole(child: KillableProcess) -> None:
    assert child.call(b"echo ", PLENTY_S) == b""
    big = b"echo " + os.urandom(3_000_000)
    assert child.call(big, PLENTY_S) == big[5:]


def test_an_endless_request_is_stopped_and_the_next_one_answered(child: KillableProcess) -> None:
    before = child.pid
    with pytest.raises(DeadlineExceeded) as caught:
        child.call(b"loop", 0.2)
    assert (caught.value.code, caught.value.family) == ("process.deadline", "limit")
    assert child.call(b"echo again", PLENTY_S) == b"again"
    assert child.pid != before


def test_processor_time_is_bounded_on_a_busy_machine_too(child: KillableProcess) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        child.call(b"loop", PLENTY_S, processor_s=0.2)
    assert not caught.value.starved
    assert child.call(b"echo again", PLENTY_S, processor_s=PLENTY_S) == b"again"
    assert child.spent_s < 5


def test_a_child_that_got_no_processor_is_told_from_one_that_is_slow(child: KillableProcess) -> None:
    child.call(b"echo", PLENTY_S)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(DeadlineExceeded) as caught:
        child.call(b"loop", 0.2, processor_s=0.1)
    assert caught.value.starved
    assert child.call(b"echo again", PLENTY_S) == b"again"


def test_an_answer_that_is_there_is_taken_however_late() -> None:
    """The caller, too, may have stood still."""
    ready, ask = os.pipe()
    os.write(ask, b"x" * 10)
    assert KillableProcess._read(ready, 10, lambda: -1.0) == b"x" * 10
    with pytest.raises(TimeoutError):
        KillableProcess._read(ready, 1, lambda: -1.0)
    os.close(ready)
    os.close(ask)


def test_a_crash_fails_only_its_request(child: KillableProcess) -> None:
    with pytest.raises(ChildFailed) as caught:
        child.call(b"crash", PLENTY_S)
    assert caught.value.code == "process.died"
    assert child.call(b"echo again", PLENTY_S) == b"again"


def test_memory_is_bounded(child: KillableProcess) -> None:
    with pytest.raises(ChildFailed, match="out of memory"):
        child.call(b"memory %d" % (2 * MEMORY), PLENTY_S)
    assert child.call(b"echo alive", PLENTY_S) == b"alive"


@pytest.mark.parametrize(
    ("request_", "text"), [(b"fail because", "because"), (b"panic", "SystemExit: not an Exception")]
)
def test_an_error_is_told_and_the_child_lives_on(child: KillableProcess, request_: bytes, text: str) -> None:
    child.call(b"echo", PLENTY_S)
    before = child.pid
    with pytest.raises(ChildFailed) as caught:
        child.call(request_, PLENTY_S)
    assert caught.value.code == "process.error"
    assert caught.value.message == text
    assert child.pid == before


def test_printing_does_not_disturb_the_frames(child: KillableProcess) -> None:
    assert child.call(b"print", PLENTY_S) == b"quiet"
    assert child.call(b"echo next", PLENTY_S) == b"next"


def test_it_works_in_an_empty_directory_without_our_secrets(child: KillableProcess) -> None:
    where, files = child.call(b"where", PLENTY_S).decode().split()
    assert files == "0"
    assert Path(where).name.startswith("qcos-child-")
    assert "QCOS_TOKEN" not in child.call(b"environment", PLENTY_S).decode().split()
    child.close()
    assert not Path(where).exists()


def test_a_child_killed_while_idle_is_replaced(child: KillableProcess) -> None:
    child.call(b"echo", PLENTY_S)
    pid = child.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert child.call(b"echo back", PLENTY_S) == b"back"
    assert child.pid != pid


def test_imports_do_not_count_against_the_deadline() -> None:
    slow = KillableProcess("slow_start", memory_bytes=MEMORY)
    try:
        assert slow.call(b"echo first", 4) == b"first"  # it needs six seconds to start
        with pytest.raises(DeadlineExceeded):
            slow.call(b"loop", 0.1)
        assert slow.call(b"echo replaced", 4) == b"replaced"
    finally:
        slow.close()


def test_a_child_that_does_not_start_is_unavailable_not_the_callers_fault() -> None:
    broken = KillableProcess("stillborn", memory_bytes=MEMORY)
    try:
        with pytest.raises(Unavailable) as caught:
            broken.call(b"echo", PLENTY_S)
        assert caught.value.code == "process.start"
        assert "python -m stillborn" in caught.value.hint
    finally:
        broken.close()


def test_a_sealed_child_opens_no_file() -> None:
    sealed = KillableProcess("confined", memory_bytes=MEMORY)
    try:
        assert sealed.call(b"echo works", PLENTY_S) == b"works"
        with pytest.raises(ChildFailed, match="Too many open files"):
            sealed.call(b"read /etc/hostname", PLENTY_S)
    finally:
        sealed.close()


def test_an_interrupted_call_leaves_no_answer_for_the_next(child: KillableProcess) -> None:
    child.call(b"echo", PLENTY_S)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()  # in here: whenever it comes, it is caught
        child.call(b"loop", PLENTY_S)
    timer.join()
    assert child.call(b"echo mine", PLENTY_S) == b"mine"


def test_a_pool_gives_each_thread_its_own_answer() -> None:
    pool = ProcessPool("obedient", size=2, memory_bytes=MEMORY)
    try:
        with ThreadPoolExecutor(8) as threads:
            texts = [b"%d" % n for n in range(200)]
            assert list(threads.map(lambda t: pool.call(b"echo " + t, PLENTY_S), texts)) == texts
    finally:
        pool.close()


def test_a_pool_without_a_free_child_says_busy() -> None:
    pool = ProcessPool("obedient", size=1, memory_bytes=MEMORY, wait_s=0.0)
    try:
        pool.call(b"echo", PLENTY_S)
        with pool.child() as busy:
            with pytest.raises(Unavailable) as caught:
                pool.call(b"echo", PLENTY_S)
            assert caught.value.code == "process.busy"
            assert caught.value.retry_after_s is not None
            with pytest.raises(DeadlineExceeded):
                busy.call(b"loop", 0.2)
        assert pool.call(b"echo free", PLENTY_S) == b"free"
    finally:
        pool.close()


def test_a_line_serves_in_the_order_of_asking() -> None:
    """Who gives a thing back and asks again at once comes after those who wait: nobody starves."""
    line, order = Line(["thing"]), []

    def ask(name: str) -> None:
        with line.lend(60):
            order.append(name)

    with ThreadPoolExecutor(3) as threads:
        with line.lend(60):
            first = threads.submit(ask, "first")
            while line.waiting < 1:
                pass
            second = threads.submit(ask, "second")
            while line.waiting < 2:
                pass
        ask("greedy")
        first.result()
        second.result()
    assert order == ["first", "second", "greedy"]
    assert (line.free, line.waiting) == (1, 0)


def test_who_gives_up_waiting_takes_nothing_away() -> None:
    line = Line([1])
    with line.lend(0) as thing:
        assert thing == 1
        with pytest.raises(TimeoutError), line.lend(0):
            pass
        assert line.waiting == 0
    with line.lend(0) as thing:
        assert thing == 1


def test_a_line_loses_nothing_to_those_who_hurry() -> None:
    """Giving up and being served at the same moment."""
    line = Line([1, 2])

    def hurry(n: int) -> bool:
        try:
            with line.lend(n % 3 * 0.0002):
                return True
        except TimeoutError:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert any(threads.map(hurry, range(3_000)))
    assert (line.free, line.waiting) == (2, 0)


def test_an_interrupt_gives_a_place_in_the_line_back() -> None:
    line = Line([1])
    with line.lend(0):
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()  # in here: whenever it comes, it is caught
            with line.lend(PLENTY_S):
                pass
        timer.join()
    assert (line.free, line.waiting) == (1, 0)


def test_a_pool_serves_its_callers_in_turn() -> None:
    """One caller with many requests does not hold the pool against another with one."""
    pool = ProcessPool("obedient", size=1, memory_bytes=MEMORY)
    told: list[bytes] = []
    try:
        with ThreadPoolExecutor(2) as threads:

            def ask(what: bytes) -> None:
                with (
                    pool.child() as child
                ):  # told before it is given back: else the next one may be quicker to tell
                    told.append(child.call(b"echo " + what, PLENTY_S))

            with pool.child():
                waiting = threads.submit(ask, b"other")
                while not pool._line.waiting:
                    pass
            for _ in range(20):
                ask(b"many")
            waiting.result()
        assert told.index(b"other") == 0
    finally:
        pool.close()
