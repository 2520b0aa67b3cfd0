"""Counting operations and the longest path through them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from qcos.base.errors import Limit
from qcos.base.limits import MAX_GATES
from qcos.circuits.gates import Gate


class Tally:
    """What a piece of program does: depth by wire, operations, gates.

    A wire is a number: a qubit or a classical bit. Depth is counted as Qiskit's ``QuantumCircuit.depth()``
    counts it: an operation stands one level above the highest of its wires, a barrier on their level.
    """

    __slots__ = ("counts", "levels", "measured", "size", "two_qubit")

    def __init__(self) -> None:
        self.levels: dict[int, int] = {}
        self.size = 0
        self.counts: dict[str, int] = {}
        self.two_qubit = 0
        self.measured: set[int] = set()

    @property
    def depth(self) -> int:
        """Return the longest path."""
        return max(self.levels.values(), default=0)

    def place(self, wires: Sequence[int], levels: int) -> None:
        """Put something on wires that is ``levels`` deep."""
        mine = self.levels
        if len(wires) == 1:
            mine[wires[0]] = mine.get(wires[0], 0) + levels
            return
        top = max([mine.get(wire, 0) for wire in wires], default=0) + levels
        for wire in wires:
            mine[wire] = top

    def operation(self, wires: Sequence[int]) -> None:
        """Count an operation that is no gate: measurement, reset, delay."""
        self.place(wires, 1)
        self.size += 1

    def gate(self, gate: Gate, name: str, wires: Sequence[int], controls: int) -> None:
        """Count one application of a gate.

        Args:
            gate: The gate.
            name: Its name with its modifiers.
            wires: Where it acts, controls first.
            controls: Control qubits added by modifiers.
        """
        self.place(wires, gate.depth)
        self.size += gate.size
        if gate.counts is None:
            self.counts[name] = self.counts.get(name, 0) + 1
            self.two_qubit += gate.qubits + controls == 2
            return
        prefix = name.removesuffix(gate.name)
        self._add(gate.counts, 1, prefix)
        self.two_qubit += gate.two_qubit if not controls else 0
        self.check()

    def block(self, body: Tally, times: int, more: Iterable[int] = ()) -> None:
        """Count a block that runs some times in a row, as deep on each of its wires as on its deepest."""
        wires = [*dict.fromkeys([*body.levels, *more])]
        if wires:
            self.place(wires, body.depth * times)
        self.size += body.size * times
        self.two_qubit += body.two_qubit * times
        self._add(body.counts, times, "")
        self.measured |= body.measured
        self.check()

    def check(self) -> None:
        """Refuse what is too large to be governed.

        Raises:
            Limit: ``circuit.gates``.
        """
        if self.size > MAX_GATES:
            raise Limit(
                "circuit.gates",
                "too many operations after expanding loops and definitions",
                expected=f"at most {MAX_GATES}",
                got=str(self.size) if self.size < 10**30 else "more than 10^30",
            )

    def _add(self, counts: Mapping[str, int], times: int, prefix: str) -> None:
        for name, count in counts.items():
            full = prefix + name
            self.counts[full] = self.counts.get(full, 0) + count * times


def either(first: Tally, second: Tally) -> Tally:
    """Return what bounds both of two branches: the larger of each number, all wires of both."""
    both = Tally()
    top = max(first.depth, second.depth)
    both.levels = dict.fromkeys([*first.levels, *second.levels], top)
    both.size = max(first.size, second.size)
    both.two_qubit = max(first.two_qubit, second.two_qubit)
    names = [*dict.fromkeys([*first.counts, *second.counts])]
    both.counts = {name: max(first.counts.get(name, 0), second.counts.get(name, 0)) for name in names}
    both.measured = first.measured | second.measured
    return both
