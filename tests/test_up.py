"""What the supervisor has done in a process apart comes back: results, and errors whole."""

from __future__ import annotations

import os
import signal

import pytest

from qcos.base.errors import Conflict, Invalid, Problem, Unavailable
from qcos.up import _apart


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


@pytest.mark.parametrize("end", ["killed", "a fault of ours"])
def test_a_process_that_ends_before_it_is_done_is_told(end: str, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ZeroDivisionError("a fault of ours")

    with pytest.raises(Unavailable) as caught:
        _apart(fail)
    assert caught.value.code == "up.failed"
    assert ("ZeroDivisionError: a fault of ours" in capfd.readouterr().err) is (end != "killed")
