"""What reading circuits costs, next to two parsers on the same text in the same run.

    python benchmarks/circuits_bench.py

Ours is measured from the caller: text check, the way to the warm child and back, JSON, nothing from the cache. The
peers run in this process: Qiskit's native importer (facts included; it reads fewer programs) and the reference
grammar (tree only, no facts).
"""

from __future__ import annotations

import random
import statistics
import time
import warnings
from collections.abc import Callable

import openqasm3
import psutil
from qiskit import qasm3
from rich.console import Console
from rich.table import Table

from qcos.circuits.reader import CircuitReader

STD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
BELL = STD + "qubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n"
LOOP = (
    STD + "qubit[20] q;\nbit[20] c;\nfor int i in [0:18] { cx q[i], q[i + 1]; }\nif (c[0] == 1) { x q[0]; }\n"
)


def random_program(qubits: int, gates: int, seed: int, *, whole: bool = False) -> str:
    """Return a flat program of one- and two-qubit gates; every angle is different unless ``whole``."""
    draw = random.Random(seed)
    lines = [STD, f"qubit[{qubits}] q;\nbit[{qubits}] c;\n"]
    for _ in range(gates):
        name = draw.choice(["h", "x", "t", "rx", "rz", "cx", "cz", "cp"])
        angle = ("(pi/4)" if whole else f"({draw.random() * 6:.12f})") if name in ("rx", "rz", "cp") else ""
        first, second = draw.sample(range(qubits), 2)
        operands = f"q[{first}], q[{second}]" if name in ("cx", "cz", "cp") else f"q[{first}]"
        lines.append(f"{name}{angle} {operands};\n")
    return "".join([*lines, "c = measure q;\n"])


def measure(work: Callable[[str], object], sources: list[str]) -> tuple[float, float]:
    """Return the median and the largest time, in milliseconds."""
    times = []
    for source in sources:
        began = time.perf_counter()
        work(source)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times), max(times)


def native(source: str) -> object:
    """Read with Qiskit's native importer, facts included; None when it refuses."""
    try:
        circuit = qasm3.loads_experimental(source)
    except BaseException:  # its panics are no Exception
        return None
    return circuit.depth(), circuit.size(), circuit.count_ops()


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    began = time.perf_counter()
    reader = CircuitReader(1)
    reader.read(b"qubit q;", "QASM3")
    start_ms = (time.perf_counter() - began) * 1000
    cases: list[tuple[str, list[str], float | None, bool]] = [
        ("Bell", [BELL + f"// {n}\n" for n in range(300)], 5, True),
        ("100 qubits, 100 gates", [random_program(100, 100, n) for n in range(50)], 5, True),
        ("loop and branch (grammar)", [LOOP + f"// {n}\n" for n in range(100)], None, True),
        ("100 qubits, 10,000 gates", [random_program(100, 10_000, n) for n in range(8)], 400, True),
        ("the same, angles pi/4", [random_program(100, 10_000, n, whole=True) for n in range(8)], 400, True),
        ("1,000 qubits, 45,000 gates", [random_program(1000, 45_000, n) for n in range(3)], None, False),
    ]
    table = Table(
        "program", "median ms", "slowest ms", "at most ms", "native importer ms", "grammar ms", "ratio"
    )
    for name, sources, bar, with_grammar in cases:
        median, slowest = measure(lambda s: reader.read(s.encode(), "QASM3"), sources)
        few = sources[:3]
        importer = "refuses" if native(few[0]) is None else f"{measure(native, few)[0]:.1f}"
        grammar = measure(openqasm3.parse, few[:2])[0] if with_grammar else None
        ratio = f"{median / grammar:.3f}" if grammar else ""
        row = [f"{median:.2f}", f"{slowest:.2f}", f"{bar:g}" if bar else "", importer]
        table.add_row(name, *row, f"{grammar:.1f}" if grammar else "", ratio)
    Console(width=110).print(table)
    (child,) = reader._pool._children
    memory = psutil.Process(child.pid).memory_info().rss / 2**20
    print(
        f"start to first facts {start_ms:.0f} ms; child {memory:.0f} MB; this is {psutil.cpu_count()} cores"
    )
    reader.close()


if __name__ == "__main__":
    main()
