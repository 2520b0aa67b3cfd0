"""The supervisor: what it has done in a process apart comes back, results and errors whole; and it starts what it can."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qcos.base.errors import Conflict, Invalid, Problem, Unavailable
from qcos.settings import Settings
from qcos.up import Child, _apart, _Supervisor


def test_a_result_comes_back_and_the_process_is_gone() -> None:
    pid, answer = _apart(lambda: (os.getpid(), {"a": [1, 2]}))
    assert answer == {"a": [1, 2]}
    assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    "error",
    [
        Conflict("keys.state", "it is not so", subject="key", expected="this", got="that", hint="look again"),
        Invalid(
            "spec.invalid", "two faults", problems=[Problem("/a", "no"), Problem("/b", "nor this", hint="b")]
        ),
        Unavailable("keys.unread", "away", details={"store": "token"}, retry_after_s=2.5),
    ],
    ids=lambda error: error.family,
)
def test_an_error_comes_back_whole(error: Conflict | Invalid | Unavailable) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        _apart(fail)
    assert (str(caught.value), caught.value.as_dict()) == (str(error), error.as_dict())
    assert caught.value.retry_after_s == error.retry_after_s


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was ended"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: Path("/dev/full").write_text("x"), "OSError: [Errno 28] No space left on device"),
    ],
    ids=["killed", "a fault of ours", "a full disk"],
)
def test_what_ends_before_it_is_done_is_one_error_with_its_reason(
    end: Callable[[], object], why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Unavailable) as caught:
        _apart(end)
    assert caught.value.code == "up.failed"
    assert why in caught.value.got
    assert capfd.readouterr().err == ""


def test_whoever_stops_does_not_wait_for_what_hangs(tmp_path: Path) -> None:
    """A key store's library may hang in a call that no signal ends."""
    started = tmp_path / "pid"

    def hang() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        started.with_suffix(".making").write_text(str(os.getpid()))
        started.with_suffix(".making").rename(started)
        signal.pause()

    def stop() -> None:
        while not started.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    stopping = threading.Thread(target=stop)
    stopping.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            _apart(hang)
    finally:
        stopping.join()
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_where_there_is_no_room_for_a_process_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    child = Child("duties", signal.pause)
    supervisor = _Supervisor(Settings(data=tmp_path), [child], None, [])
    try:
        with monkeypatch.context() as full:
            full.setattr(os, "fork", no_room)
            supervisor._tend()
        assert (child.process, child.failures) == (None, 1)
        supervisor.stop()  # stops what there is
        while child.process is None:
            supervisor._tend()
        assert child.process.is_alive()
    finally:
        supervisor.stop()
    assert child.process.exitcode == -signal.SIGTERM
