"""The way in: source bytes to facts, without parsing anything in this process."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import Any, Final

from qcos.base.canonical import digest
from qcos.base.errors import Invalid, Limit, QcosError
from qcos.base.limits import CIRCUIT_DEADLINE_S, CIRCUIT_MEMORY_BYTES
from qcos.base.process import ChildFailed, DeadlineExceeded, ProcessPool
from qcos.circuits.model import CircuitFacts
from qcos.circuits.openqasm import check

CACHED: Final = 4_096  # circuits remembered; an entry is about 1 kB
_FAMILIES: Final[dict[str, type[QcosError]]] = {"invalid": Invalid, "limit": Limit}


class CircuitReader:
    """Reads circuits in killable processes and remembers what it read. Safe for many threads.

    Args:
        pool_size: Processes that read; each takes 50 MB and is used by one caller at a time.
        deadline_s: Seconds one circuit may take.
    """

    def __init__(self, pool_size: int = 1, *, deadline_s: float = CIRCUIT_DEADLINE_S) -> None:
        self._pool = ProcessPool("qcos.circuits.child", size=pool_size, memory_bytes=CIRCUIT_MEMORY_BYTES)
        self._deadline_s = deadline_s
        self._cache: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()  # Any: the child's JSON
        self._lock = threading.Lock()

    def read(self, source: bytes, format: str) -> CircuitFacts:
        """Return a program's facts.

        Args:
            source: The program.
            format: ``QASM3`` or ``QASM2``.

        Raises:
            Invalid: ``circuit.*``: what is wrong with it, with the line where it is known.
            Limit: ``circuit.*``: what it has too much of; ``circuit.deadline`` when reading took too long.
            Unavailable: ``process.busy`` or ``process.start``: nothing is wrong with the circuit.
        """
        name = digest(source)
        with self._lock:
            answer = self._cache.get((format, name))
            if answer is not None:
                self._cache.move_to_end((format, name))
        if answer is None:
            bare = check(source, format)
            answer = self._ask(f"{format} {name}\n{bare}".encode())
            with self._lock:
                self._cache[format, name] = answer
                if len(self._cache) > CACHED:
                    self._cache.popitem(last=False)
        if "facts" in answer:
            return CircuitFacts.from_dict(answer["facts"])
        error = dict(answer["error"])
        raise _FAMILIES[error.pop("family")](error.pop("code"), error.pop("message"), **error)

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def _ask(self, request: bytes) -> dict[str, Any]:  # Any: the child's JSON
        for attempt in (1, 2):
            try:
                answer: dict[str, Any] = json.loads(self._pool.call(request, self._deadline_s))
                return answer
            except DeadlineExceeded:
                raise Limit(
                    "circuit.deadline",
                    "reading the program took too long",
                    expected=f"at most {self._deadline_s:g} s",
                    hint="simplify it: fewer nested blocks and expressions",
                ) from None
            except ChildFailed as error:
                if error.code == "process.died" and attempt == 1:
                    continue  # somebody may have killed the process: ask a new one once
                if error.message == "out of memory":
                    raise Limit("circuit.memory", "reading the program takes too much memory") from None
                raise Invalid(
                    "circuit.unreadable", "the program cannot be read", got=error.message[:200]
                ) from None
        raise AssertionError("unreachable")  # the second attempt returns or raises
