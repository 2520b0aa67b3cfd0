"""The gates a program may use without defining them: number of angles and of qubits.

Sources: OpenQASM 3 specification, "Standard library" (stdgates.inc) and "Built-in gates"; OpenQASM 2 paper
(arXiv:1707.03429) figure 3, with the additions Qiskit ships in its qelib1.inc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


def _table(text: str) -> dict[str, tuple[int, int]]:
    table = {}
    for line in text.strip().splitlines():
        shape, names = line.split(":")
        angles, qubits = (int(n) for n in shape.split(","))
        table.update(dict.fromkeys(names.split(), (angles, qubits)))
    return table


STDGATES: Final = _table("""
0,1: x y z h s sdg t tdg sx id
1,1: p rx ry rz phase u1
2,1: u2
3,1: u3
0,2: cx cy cz ch swap CX
1,2: cp crx cry crz cphase
4,2: cu
0,3: ccx cswap
""")

QELIB1: Final = _table("""
0,1: id x y z h s sdg t tdg sx sxdg
1,1: u0 u1 p rx ry rz
2,1: u2
3,1: u3 u
0,2: cx cy cz ch swap csx
1,2: crx cry crz cu1 cp rxx rzz
3,2: cu3
4,2: cu
0,3: ccx cswap rccx
0,4: rc3x c3x c3sqrtx
0,5: c4x
""")

BUILT_IN: Final = {"QASM3": _table("3,1: U\n1,0: gphase"), "QASM2": _table("3,1: U\n0,2: CX")}
LIBRARIES: Final = {"stdgates.inc": STDGATES, "qelib1.inc": QELIB1}


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate that may be applied.

    Attributes:
        name: Name in the program.
        angles: Number of parameters.
        qubits: Number of qubits.
        depth: Longest path through its expansion, 1 for a gate that is not defined in the program.
        size: Operations of its expansion.
        counts: Its expansion by gate; None for a gate that is not defined in the program.
        two_qubit: Two-qubit gates of its expansion.
    """

    name: str
    angles: int
    qubits: int
    depth: int = 1
    size: int = 1
    counts: dict[str, int] | None = None
    two_qubit: int = 0


def known(table: dict[str, tuple[int, int]]) -> dict[str, Gate]:
    """Return a table's gates."""
    return {
        name: Gate(name, angles, qubits, two_qubit=int(qubits == 2))
        for name, (angles, qubits) in table.items()
    }
