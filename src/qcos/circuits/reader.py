"""The way in: source bytes to facts, without parsing anything in this process."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from qcos.base.canonical import digest
from qcos.base.errors import Invalid, Limit, QcosError, Unavailable
from qcos.base.limits import (
    CIRCUIT_DEADLINE_S,
    CIRCUIT_MEMORY_BYTES,
    READ_JOB_S,
    READ_JOBS_PER_TENANT,
    READ_JOBS_WAITING,
    READ_WAIT_S,
)
from qcos.base.process import ChildFailed, DeadlineExceeded, Line, ProcessPool
from qcos.circuits.model import CircuitFacts
from qcos.circuits.openqasm import check

_PATIENCE: Final = (
    3  # a busy machine may take so many times the deadline; the processor time is what is bounded
)
CACHED: Final = 4_096  # circuits remembered; an entry is about 1 kB
_FAMILIES: Final[dict[str, type[QcosError]]] = {"invalid": Invalid, "limit": Limit}
Answer = dict[str, Any]  # Any: the child's JSON


class CircuitReader:
    """Reads circuits in killable processes and remembers what it read. Safe for many threads.

    Nobody can keep it from others: a tenant has at most `READ_JOBS_PER_TENANT` jobs in reading, and one less than there are processes, each
    at most `READ_JOB_S` seconds; the processes are lent for one circuit at a time, in the order of asking.

    Args:
        pool_size: Processes that read; each takes 30 MB and is used by one caller at a time.
        deadline_s: Processor seconds one circuit may take.
        job_s: Processor seconds all circuits of one job may take.
        wait_s: Seconds a job waits while others of its tenant are read.
    """

    def __init__(
        self,
        pool_size: int = 1,
        *,
        deadline_s: float = CIRCUIT_DEADLINE_S,
        job_s: float = READ_JOB_S,
        wait_s: float = READ_WAIT_S,
    ) -> None:
        self._pool = ProcessPool("qcos.circuits.child", size=pool_size, memory_bytes=CIRCUIT_MEMORY_BYTES)
        self._deadline_s, self._job_s, self._wait_s = deadline_s, job_s, wait_s
        self._at_once = max(1, min(READ_JOBS_PER_TENANT, pool_size - 1))
        self._cache: OrderedDict[tuple[str, str], Answer] = OrderedDict()
        self._turns: dict[UUID, Line[None]] = {}
        self._lock = threading.Lock()

    def read(self, source: bytes, format: str) -> CircuitFacts:
        """Return a program's facts.

        Args:
            source: The program.
            format: ``QASM3`` or ``QASM2``.

        Raises:
            Invalid: ``circuit.*``: what is wrong with it, with the line where it is known.
            Limit: ``circuit.*``: what it has too much of; ``circuit.deadline`` when reading took too long.
            Unavailable: ``process.busy``, ``process.start``, or ``circuit.starved`` when the machine gave the reading process little
                processor time: nothing is wrong with the circuit.
        """
        return self._read(source, format, _Allowance(self._job_s))

    def read_job(self, programs: Sequence[tuple[bytes, str]], tenant: UUID) -> tuple[CircuitFacts, ...]:
        """Return the facts of a job's programs, each given with its format.

        Raises:
            Invalid: As `read`.
            Limit: As `read`; ``circuit.deadline`` also when all of them together take too long.
            Unavailable: As `read`; ``circuit.crowded`` when too many jobs of the tenant are being read.
        """
        allowance = _Allowance(self._job_s)
        with self._turn(tenant):
            return tuple(self._read(source, format, allowance) for source, format in programs)

    def recall(self, programs: Sequence[tuple[bytes, str]]) -> tuple[CircuitFacts, ...] | None:
        """Return the facts of programs when all of them were read before, and None otherwise; never waits.

        Raises:
            Invalid: As `read`, for one that was refused before.
            Limit: As `read`.
        """
        answers = [self._remembered(format, digest(source)) for source, format in programs]
        known = [answer for answer in answers if answer is not None]
        return tuple(_facts(answer) for answer in known) if len(known) == len(answers) else None

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def _read(self, source: bytes, format: str, allowance: _Allowance) -> CircuitFacts:
        name = digest(source)
        answer = self._remembered(format, name)
        if answer is None:
            bare = check(source, format)
            answer = self._ask(f"{format} {name}\n{bare}".encode(), allowance)
            with self._lock:
                self._cache[format, name] = answer
                if len(self._cache) > CACHED:
                    self._cache.popitem(last=False)
        return _facts(answer)

    def _remembered(self, format: str, name: str) -> Answer | None:
        with self._lock:
            answer = self._cache.get((format, name))
            if answer is not None:
                self._cache.move_to_end((format, name))
            return answer

    @contextlib.contextmanager
    def _turn(self, tenant: UUID) -> Iterator[None]:
        """Wait until another job of the tenant may be read."""
        with contextlib.ExitStack() as stack:
            with self._lock:
                turns = self._turns.get(tenant)
                if turns is None:
                    turns = self._turns[tenant] = Line([None] * self._at_once)
            try:
                if turns.waiting >= READ_JOBS_WAITING:
                    raise TimeoutError
                stack.enter_context(turns.lend(self._wait_s))
            except TimeoutError:
                raise Unavailable(
                    "circuit.crowded",
                    "the circuits of other jobs of this tenant are still being read",
                    expected=f"{self._at_once} at once",
                    hint="try again; circuits that were read before are known and need no reading",
                    retry_after_s=1.0,
                ) from None
            yield

    def _ask(self, request: bytes, allowance: _Allowance) -> Answer:
        for attempt in (1, 2):
            deadline_s = min(self._deadline_s, allowance.left_s)
            try:
                with self._pool.child() as child:
                    answer: Answer = json.loads(
                        child.call(request, _PATIENCE * deadline_s, processor_s=deadline_s)
                    )
                    allowance.left_s -= child.spent_s  # waiting is on nobody's account
                return answer
            except DeadlineExceeded as late:
                if late.starved:
                    raise Unavailable(
                        "circuit.starved",
                        "the machine had no processor time to read the program",
                        hint="try again; if it happens often, the machine is too busy",
                        retry_after_s=1.0,
                    ) from None
                if deadline_s < self._deadline_s:
                    raise Limit(
                        "circuit.deadline",
                        "reading the circuits of the job took too long",
                        expected=f"at most {self._job_s:g} s",
                        hint="simplify them, or split the job",
                    ) from None
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


class _Allowance:
    """The seconds that are left to read the circuits of one job."""

    def __init__(self, left_s: float) -> None:
        self.left_s = left_s


def _facts(answer: Answer) -> CircuitFacts:
    if "facts" in answer:
        return CircuitFacts.from_dict(answer["facts"])
    error = dict(answer["error"])
    raise _FAMILIES[error.pop("family")](error.pop("code"), error.pop("message"), **error)
