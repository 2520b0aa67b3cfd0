"""Runs on this machine: one execution a key, killable, and nobody waits for ever (R8.5, R12.1)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qcos.base.errors import Conflict, DriverError, NotFound, Unavailable
from qcos.drivers.contract import Circuit, Handle, Work
from qcos.drivers.runs import Runs

CHILDREN = Path(__file__).parent / "children"
WAIT_S = 60.0  # longer than anything here takes; a test that reaches it has failed


def work(*orders: str, seed: int | None = 7) -> Work:
    return Work(tuple(Circuit(order) for order in orders), 10, seed)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second: it ended between opening and reading
        return True


@pytest.fixture(scope="module")
def shared() -> Iterator[Runs]:
    """One process for all tests that leave it usable."""
    yield from _runs(processes=1)


@pytest.fixture
def runs() -> Iterator[Runs]:
    yield from _runs(processes=1)


def _runs(processes: int, keep: int = 100) -> Iterator[Runs]:
    old = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(CHILDREN)
    made = Runs("pretending", "pretending", processes=processes, draw_seed=lambda: 99, keep=keep)
    try:
        yield made
    finally:
        made.close()
        if old is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = old


def test_one_key_is_one_execution_for_many_callers_at_once(shared: Runs, tmp_path: Path) -> None:
    """R8.5: forty submissions of one key from eight threads run once, and all get the same outcome."""
    lines = tmp_path / "lines"

    def submit_and_wait(_: int) -> object:
        return shared.result(shared.submit("b", work(f"count {lines}"), "same"), None)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(submit_and_wait, range(40)))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert lines.read_text() == "7\n"
    with pytest.raises(Conflict) as other:
        shared.submit("b", work(f"count {lines}", seed=8), "same")
    assert other.value.code == "driver.key"
    shared.result(shared.submit("c", work(f"count {lines}"), "same"), None)  # another backend, another run
    assert lines.read_text() == "7\n7\n"


def test_each_circuit_has_its_own_seed_and_a_drawn_one_is_told(shared: Runs, tmp_path: Path) -> None:
    """R1.1: circuit i runs with seed + i, and what was drawn is recorded."""
    lines = tmp_path / "lines"
    outcome = shared.result(shared.submit("b", work(*[f"count {lines}"] * 3, seed=None), "seeds"), None)
    assert lines.read_text() == "99\n100\n101\n"
    assert outcome.seed == 99
    assert outcome.counts == ({"0": 10},) * 3
    assert outcome.meters["shots"] == outcome.shots_executed == 30
    assert outcome.meters["memory_peak_bytes"] > 1_000_000
    assert outcome.metadata == {"runtime": "pretending-1", "seed_honoured": True, "order": "count"}


def test_a_run_that_nobody_waits_for_is_run(shared: Runs, tmp_path: Path) -> None:
    """R8.5: submit returns at once and the work goes on without its caller."""
    handle = shared.submit("b", work(f"count {tmp_path / 'lines'}"), "alone")
    assert shared.result(handle, WAIT_S).counts == ({"0": 10},)
    assert shared.observe(handle).state == "done"


@pytest.mark.parametrize(
    ("order", "backend", "code", "said"),
    [
        ("crash", "b", "driver.crashed", "died"),
        ("memory", "b", "driver.memory", "memory"),
        ("fail", "b", "driver.vendor", "inside the SDK"),
        ("refuse while", "b", "driver.unsupported", "while"),
        ("count", "broken", "driver.not_installed", "no such SDK"),
    ],
)
def test_whatever_goes_wrong_fails_that_run_alone(
    shared: Runs, tmp_path: Path, order: str, backend: str, code: str, said: str
) -> None:
    """R8.5: a crash, an error, a refusal or a missing SDK each come back by name, and the next work runs."""
    handle = shared.submit(backend, work(order), order)
    with pytest.raises(DriverError, match=said) as failed:
        shared.result(handle, None)
    assert failed.value.code == code
    assert shared.observe(handle).state == "failed"
    assert said in shared.observe(handle).message
    assert not shared.cancel(handle)
    assert shared.result(shared.submit("b", work(f"count {tmp_path / 'x'}"), "after " + order), None).counts


def test_a_refusal_names_the_circuit(shared: Runs, tmp_path: Path) -> None:
    """R12.1: of several circuits the one that cannot be run is named."""
    with pytest.raises(DriverError) as refused:
        shared.result(shared.submit("b", work(f"count {tmp_path / 'x'}", "refuse reset"), "second"), None)
    assert refused.value.subject == "circuit 1: reset"


def test_cancelling_kills_what_runs_and_drops_what_waits(runs: Runs, tmp_path: Path) -> None:
    """R8.5: a computing run is killed, a waiting one never starts, and the next one runs."""
    pid_file, lines = tmp_path / "pid", tmp_path / "lines"
    computing = runs.submit("b", work(f"hang {pid_file}"), "computing")
    waiting = runs.submit("b", work(f"count {lines}"), "waiting")
    next_one = runs.submit("b", work(f"count {lines}"), "next")
    until(lambda: pid_file.exists() and pid_file.read_text() != "")
    pid = int(pid_file.read_text())
    assert runs.observe(computing).state == "running"
    assert [runs.observe(h).queue_position for h in (computing, waiting, next_one)] == [None, 0, 1]
    assert runs.queue_depth("b") == 2
    with pytest.raises(Unavailable) as early:
        runs.result(waiting, 0)
    assert (early.value.code, early.value.got) == ("driver.not_done", "queued")
    assert runs.cancel(waiting)
    assert runs.cancel(computing)
    assert runs.result(next_one, WAIT_S).counts == ({"0": 10},)
    until(lambda: ended(pid))
    for handle in (waiting, computing):
        assert runs.cancel(handle)
        assert runs.observe(handle).state == "cancelled"
        with pytest.raises(DriverError) as cancelled:
            runs.result(handle, None)
        assert cancelled.value.code == "driver.cancelled"
    assert lines.read_text() == "7\n"
    assert runs.find("b", "waiting") == waiting


def test_closing_ends_everything(tmp_path: Path) -> None:
    """R8.5: a driver that is closed leaves no process, no thread and no waiting caller behind."""
    pid_file = tmp_path / "pid"
    for runs in _runs(processes=1):
        computing = runs.submit("b", work(f"hang {pid_file}"), "computing")
        until(lambda: pid_file.exists() and pid_file.read_text() != "")
        runs.close()
        assert runs.observe(computing).state == "cancelled"
        assert ended(int(pid_file.read_text()))
        with pytest.raises(Unavailable, match="closed"):
            runs.submit("b", work("count x"), "late")


def test_old_runs_are_forgotten(tmp_path: Path) -> None:
    """R8.5: memory is bounded; what is forgotten is said to be unknown, as after a restart."""
    for runs in _runs(processes=1, keep=2):
        handles = []
        for index in range(4):
            handles.append(runs.submit("b", work(f"count {tmp_path / 'lines'}"), f"k{index}"))
            runs.result(handles[-1], None)
        with pytest.raises(NotFound) as forgotten:
            runs.observe(handles[0])
        assert forgotten.value.code == "driver.handle"
        assert runs.find("b", "k0") is None
        assert runs.find("b", "k3") == handles[3]
        assert runs.observe(handles[3]).state == "done"
        with pytest.raises(NotFound):
            runs.result(Handle("b", "somebody else's"), None)


_PARENT = """
import sys
from qcos.drivers.contract import Circuit, Work
from qcos.drivers.runs import Runs
runs = Runs("pretending", "pretending", processes=1, draw_seed=lambda: 1)
runs.result(runs.submit("b", Work((Circuit("hang " + sys.argv[1]),), 1), "k"), None)
"""


def test_a_killed_worker_leaves_no_simulation_behind(tmp_path: Path) -> None:
    """R8.5: kill -9 of the worker ends what computes for it, at once and whatever it is doing."""
    pid_file = tmp_path / "pid"
    environment = {**os.environ, "PYTHONPATH": str(CHILDREN)}
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(pid_file)], env=environment)
    try:
        until(lambda: pid_file.exists() and pid_file.read_text() != "")
        child = int(pid_file.read_text())
        assert not ended(child)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until(lambda: ended(child))
