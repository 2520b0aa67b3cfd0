"""The reader remembers, survives its process's death, and blames a circuit only for what the circuit does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from qcos.base.errors import Invalid, Limit
from qcos.circuits import reader as module
from qcos.circuits.reader import CircuitReader


def _program(gates: int) -> bytes:
    return b'include "stdgates.inc";\nqubit q;\n' + b"h q;\n" * gates


@pytest.fixture
def own() -> Iterator[CircuitReader]:
    made = CircuitReader(1)
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
        while own._pool._free.qsize():
            pass
        os.kill(pid, signal.SIGKILL)
        assert waiting.result().size == 2
    assert _pid(own) != pid


def test_too_slow_is_a_limit_and_the_next_is_read() -> None:
    hasty = CircuitReader(1, deadline_s=0.05)
    try:
        with pytest.raises(Limit) as caught:
            hasty.read(_program(1) + b"if (true) { h q; }\n" * 5_000, "QASM3")
        assert caught.value.code == "circuit.deadline"
        assert hasty.read(_program(1), "QASM3").size == 1
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
