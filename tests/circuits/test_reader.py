"""The reader remembers, survives its process's death, and blames a circuit only for what the circuit does."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from qcos.base.errors import Invalid, Limit, Unavailable
from qcos.base.process import DeadlineExceeded, ProcessPool
from qcos.circuits import reader as module
from qcos.circuits.reader import CircuitReader


def _program(gates: int) -> bytes:
    return b'include "stdgates.inc";\nqubit q;\n' + b"h q;\n" * gates


@pytest.fixture
def own() -> Iterator[CircuitReader]:
    made = CircuitReader(1, wait_s=60)
    yield made
    made.close()


def _pid(reader: CircuitReader) -> int:
    (child,) = reader._pool._children
    assert child.pid is not None
    return child.pid


def test_facts_and_refusals_are_remembered(own: CircuitReader) -> None:
    facts = own.read(_program(3), "QASM3")
    with pytest.raises(Invalid) as first:
        own.read(b"nonsense", "QASM3")
    own.close()  # nobody is left to ask
    assert own.read(_program(3), "QASM3") == facts
    with pytest.raises(Invalid) as second:
        own.read(b"nonsense", "QASM3")
    assert second.value is not first.value
    assert second.value.as_dict() == first.value.as_dict()


def test_formats_are_remembered_apart(own: CircuitReader) -> None:
    own.read(_program(1), "QASM3")
    with pytest.raises(Invalid):
        own.read(_program(1), "QASM2")


def test_memory_is_bounded_by_forgetting_the_oldest(
    own: CircuitReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHED", 2)
    for gates in (1, 2, 1, 3):
        own.read(_program(gates), "QASM3")
    remembered = [answer["facts"]["size"] for answer in own._cache.values()]
    assert remembered == [1, 3], "2 was used longest ago"


def test_changing_given_facts_changes_nothing_remembered(own: CircuitReader) -> None:
    own.read(_program(2), "QASM3").gates.clear()
    assert own.read(_program(2), "QASM3").gates == {"h": 2}


def test_a_killed_process_is_not_the_circuits_fault(own: CircuitReader) -> None:
    own.read(_program(1), "QASM3")
    pid = _pid(own)
    os.kill(pid, signal.SIGSTOP)  # alive when asked, dead before it answers
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(own.read, _program(2), "QASM3")
        while own._pool._line.free:
            pass
        os.kill(pid, signal.SIGKILL)
        assert waiting.result().size == 2
    assert _pid(own) != pid


def test_too_slow_is_a_limit_and_the_next_is_read() -> None:
    hasty = CircuitReader(1, deadline_s=0.05, job_s=60)
    try:
        while True:
            try:
                hasty.read(_program(1) + b"if (true) { h q; }\n" * 5_000, "QASM3")
            except Unavailable as error:  # a busy machine had no time for it: as it says, try again
                assert error.code == "circuit.starved"
            except Limit as error:
                assert error.code == "circuit.deadline"
                break
        hasty._deadline_s = 50.0  # a single gate, too, may take longer than a moment on a busy machine
        assert hasty.read(_program(1), "QASM3").size == 1
    finally:
        hasty.close()


def test_a_process_that_gets_no_processor_is_not_the_circuits_fault() -> None:
    hasty = CircuitReader(1, deadline_s=50, job_s=60)
    try:
        assert hasty.read(_program(2), "QASM3").size == 2
        hasty._deadline_s = 0.5
        os.kill(_pid(hasty), signal.SIGSTOP)
        with pytest.raises(Unavailable) as caught:
            hasty.read(_program(3), "QASM3")
        assert (caught.value.code, caught.value.retry_after_s) == ("circuit.starved", 1.0)
        hasty._deadline_s = 50.0
        assert hasty.read(_program(3), "QASM3").size == 3
    finally:
        hasty.close()


def test_many_threads_get_their_own_facts() -> None:
    two = CircuitReader(2)
    try:
        with ThreadPoolExecutor(8) as threads:
            sizes = [
                facts.size for facts in threads.map(lambda n: two.read(_program(n), "QASM3"), range(1, 101))
            ]
        assert sizes == list(range(1, 101))
    finally:
        two.close()


class _Laborious:
    """A process, and the pool that lends it, that takes three seconds of its own clock for each circuit."""

    def __init__(self, inner: ProcessPool) -> None:
        self.inner, self.spent_s = inner, 3.0

    @contextlib.contextmanager
    def child(self) -> Iterator[_Laborious]:
        yield self

    def call(self, request: bytes, deadline_s: float, *, processor_s: float) -> bytes:
        assert processor_s <= deadline_s
        if processor_s < self.spent_s:
            raise DeadlineExceeded("process.deadline", "the work was stopped at its deadline")
        return self.inner.call(request, 30)


def test_all_circuits_of_a_job_share_one_allowance(own: CircuitReader) -> None:
    """Law 9: each is read in time, all together are not. The refusal says so, and what was read stays known."""
    pool = own._pool
    own._pool = _Laborious(pool)  # type: ignore[assignment]
    programs = [(_program(n), "QASM3") for n in range(1, 6)]
    try:
        with pytest.raises(Limit) as caught:
            own.read_job(programs, uuid.uuid4())
        assert (caught.value.code, caught.value.expected) == ("circuit.deadline", "at most 10 s")
        assert caught.value.message == "reading the circuits of the job took too long"
        known = own.recall(programs[:3])
        assert known is not None and [f.size for f in known] == [1, 2, 3]
        assert len(own.read_job(programs, uuid.uuid4())) == 5, "the rest fits into the next job's allowance"
    finally:
        own._pool = pool


def test_a_job_of_known_circuits_needs_no_process(own: CircuitReader) -> None:
    programs = [(_program(n), "QASM3") for n in (1, 2)]
    assert own.recall(programs) is None
    facts = own.read_job(programs, uuid.uuid4())
    assert [f.size for f in facts] == [1, 2]
    own.close()
    assert own.recall(programs) == facts
    assert own.recall([*programs, (_program(3), "QASM3")]) is None


def test_a_refusal_is_recalled_too(own: CircuitReader) -> None:
    with pytest.raises(Invalid) as first:
        own.read_job([(b"nonsense", "QASM3")], uuid.uuid4())
    with pytest.raises(Invalid) as second:
        own.recall([(b"nonsense", "QASM3")])
    assert second.value.as_dict() == first.value.as_dict()


def test_a_tenants_jobs_do_not_crowd_out_another_tenant() -> None:
    """A tenant waits for itself and leaves one process to others, whatever it has in reading."""
    reader, crowd, other = CircuitReader(2, wait_s=0.0), uuid.uuid4(), uuid.uuid4()
    try:
        with reader._turn(crowd):  # one of its jobs is being read
            with pytest.raises(Unavailable) as caught:
                reader.read_job([(_program(1), "QASM3")], crowd)
            assert (caught.value.code, caught.value.retry_after_s) == ("circuit.crowded", 1.0)
            assert reader.read_job([(_program(1), "QASM3")], other)[0].size == 1
        assert reader.read_job([(_program(1), "QASM3")], crowd)[0].size == 1
    finally:
        reader.close()


def test_only_so_many_of_a_tenants_jobs_wait(own: CircuitReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits holds a thread of the server: the rest is told at once to come again."""
    monkeypatch.setattr(module, "READ_JOBS_WAITING", 1)
    crowd = uuid.uuid4()
    with ThreadPoolExecutor(1) as threads:
        with own._turn(crowd):
            waiting = threads.submit(own.read_job, [(_program(1), "QASM3")], crowd)
            while not own._turns[crowd].waiting:
                pass
            with pytest.raises(Unavailable) as caught:
                own.read_job([(_program(2), "QASM3")], crowd)
            assert caught.value.code == "circuit.crowded"
        assert waiting.result()[0].size == 1
