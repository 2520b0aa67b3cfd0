"""Hostile programs are refused in bounded time and memory, with a reason (R2.2)."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from qcos.base.errors import Invalid, Limit
from qcos.circuits.reader import CircuitReader

from .hostile import HOSTILE

BELL = b'include "stdgates.inc";\nqubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n'
CHILD_BYTES = 400 * 1024 * 1024  # what the child may hold after the whole corpus


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_with_its_reason(reader: CircuitReader, name: str) -> None:
    source, format, codes = HOSTILE[name]
    with pytest.raises((Invalid, Limit)) as caught:
        reader.read(source, format)
    assert caught.value.code in codes
    assert caught.value.message
    assert len(str(caught.value)) < 1_000, "a reason, not the program"


def test_after_all_of_them_the_reader_reads(reader: CircuitReader) -> None:
    for source, format, _ in HOSTILE.values():
        with pytest.raises((Invalid, Limit)):
            reader.read(source, format)
    assert reader.read(BELL, "QASM3").gates == {"h": 1, "cx": 1}
    (child,) = reader._pool._children
    assert psutil.Process(child.pid).memory_info().rss < CHILD_BYTES


def test_the_child_can_open_nothing(reader: CircuitReader) -> None:
    reader.read(BELL, "QASM3")
    (child,) = reader._pool._children
    limits = Path(f"/proc/{child.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert line.split()[3:5] == ["0", "0"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("h q[0];\n\nfoo q[0];", 7),
        ("// foo\n/* \n\n */ foo q[0];", 8),
        ("if (c[0] == 1) {\n  h q[0];\n  foo q[0];\n}", 7),
        ("h q[0];\nif (c[0] == 1) {\n\n\n  foo q[0];\n}\nh q[1];", 9),
        ("gate g a {\n  foo a;\n}\ng q[0];", 6),
    ],
)
def test_an_undefined_gate_is_named_with_its_line(reader: CircuitReader, text: str, line: int) -> None:
    source = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\n' + text
    with pytest.raises(Invalid, match="the gate 'foo' is not defined") as caught:
        reader.read(source.encode(), "QASM3")
    assert caught.value.subject == f"line {line}"


def test_a_gate_of_the_library_is_hinted_at(reader: CircuitReader) -> None:
    with pytest.raises(Invalid) as caught:
        reader.read(b"qubit q;\nh q;", "QASM3")
    assert caught.value.hint == 'write include "stdgates.inc"; first'
