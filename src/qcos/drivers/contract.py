"""The contract between QCOS and a vendor's runtime (R8.5).

A driver knows one vendor, and nothing of tenants, policy or money. What it promises, and the conformance
suite (`qcos.drivers.conformance`) checks:

* **One key, one execution.** `Driver.submit` with a key it has seen on that backend gives the handle it gave
  before, whatever happened since; it never starts the work again. The key goes to the vendor wherever the
  vendor takes one.
* **Nothing is lost in between.** A worker that dies after `submit` and before it wrote the handle down asks
  `Driver.find` with the key. None means that no execution with this key exists or will appear.
* **Bits have one order.** A key of `Outcome.counts` has one digit for each classical bit the program
declares,
  the last declared first; ``x q[0]`` measured into ``c[0]`` of two bits is ``01`` on every backend. Bits
  that nothing was measured into are ``0``.
* **What cannot be done is refused by name**, never approximated: `DriverError` ``driver.unsupported``.
* **The full record on request.** When `Work.provenance` is set, the outcome says what compiled and ran the
  programs, holds each program as it was executed, the calibration and the vendor's raw answer, and names what
  of it the backend has no notion of. Otherwise nothing of it is made, for it costs time.
* **Cancelling is best effort**, and says whether it will have been in vain; a run that ends as cancelled owes
  nothing.

A refusal comes either from `submit` or as a run that failed; both mean that nothing is owed. A run on this machine
may have executed some of its circuits before it failed, and what that took is nobody's charge: a vendor that charges for
runs that failed does not fit this contract yet. All methods may be called from any thread.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Protocol, Self, runtime_checkable

from qcos.backends.model import Backend
from qcos.base.canonical import digest
from qcos.base.limits import MAX_MATERIAL_BYTES

State = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL: Final[tuple[State, ...]] = ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Circuit:
    """A program.

    Attributes:
        source: Its text, already checked by `qcos.circuits`.
        format: ``QASM3`` or ``QASM2``.
        parameters: Value of each ``input`` the program declares, by name.
    """

    source: str
    format: str = "QASM3"
    parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be run.

    Attributes:
        circuits: The programs; each is run on its own, and circuit ``i`` with seed ``seed + i``.
        shots: Of each circuit.
        seed: Makes the outcome repeatable where the backend can; None lets the driver draw one.
        options: Vendor-specific settings; each driver lists those it knows and refuses others.
        provenance: Whether the outcome is to hold a `Provenance` (evidence level ``full``).
    """

    circuits: tuple[Circuit, ...]
    shots: int
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    provenance: bool = False


@dataclass(frozen=True, slots=True)
class Handle:
    """A receipt of submitted work; JSON through and through, so that it can be written down.

    Attributes:
        backend: Where it went.
        remote_id: The vendor's name for it.
        data: What else the driver needs to find it again.
    """

    backend: str
    remote_id: str
    data: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON

    def as_dict(self) -> dict[str, Any]:
        """Return the handle as JSON-ready members."""
        return {"backend": self.backend, "remote_id": self.remote_id, "data": dict(self.data)}

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> Self:
        """Return the handle that `as_dict` gave."""
        return cls(members["backend"], members["remote_id"], members["data"])


@dataclass(frozen=True, slots=True)
class Observation:
    """How submitted work stands.

    Attributes:
        state: One of five; the last three are final.
        queue_position: Works before it, where the vendor says so.
        message: What the vendor adds, for instance why it failed.
    """

    state: State
    queue_position: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes that evidence commits to.

    Attributes:
        digest: ``sha256:<hex>`` of them.
        size: How many there are.
        media_type: What they are.
        data: The bytes; None when they are more than `qcos.base.limits.MAX_MATERIAL_BYTES` and only the
            digest is kept.
    """

    digest: str
    size: int
    media_type: str
    data: bytes | None

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Self:
        """Return the document of bytes, without them when they are too many to be kept."""
        kept = data if len(data) <= MAX_MATERIAL_BYTES else None
        return cls(digest(data), len(data), media_type, kept)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the evidence level ``full`` holds of a run (R1.1, R12.5).

    Attributes:
        toolchain: JSON with the members ``python``, ``driver``, ``packages`` (name to version), ``seeds`` and
            ``settings`` of compiling and running.
        executed: Each program as it was executed, in order; empty when the backend does not tell.
        calibration: The backend's properties at the time of the run.
        response: The vendor's answer as it came; of several circuits a JSON list of the answers.
        absent: Why there is no ``executed``, ``calibration`` or ``response``: name to reason.
    """

    toolchain: Mapping[str, Any]  # Any: JSON
    executed: tuple[Document, ...] = ()
    calibration: Document | None = None
    response: Document | None = None
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back.

    Attributes:
        counts: For each circuit how often each bit string came up.
        shots_executed: Sum over all circuits.
        started: When the backend began, UTC.
        ended: When it finished, UTC.
        queue_ms: Waiting before that, milliseconds.
        seed: What repeats the outcome; None where the backend cannot repeat.
        compiler: What read and compiled the programs, e.g. ``qiskit-2.6.2``.
        compiled_depth: Depth of the deepest program as it ran.
        metadata: What else is worth keeping as evidence; JSON.
        meters: Consumption, integers by meter: ``shots``, ``cpu_time_us``, ``memory_peak_bytes``,
            ``qpu_time_us``; only those that were really measured. Making the provenance is not metered.
        provenance: The full record, when the work asked for it.
    """

    counts: tuple[dict[str, int], ...]
    shots_executed: int
    started: dt.datetime
    ended: dt.datetime
    queue_ms: int
    seed: int | None
    compiler: str
    compiled_depth: int
    metadata: dict[str, Any]
    meters: dict[str, int]
    provenance: Provenance | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as members; times stay datetimes."""
        return {**asdict(self), "counts": [dict(counts) for counts in self.counts]}


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long work may take on a backend.

    Attributes:
        seconds_us: Upper bound, microseconds, for reserving money; not a promise.
        basis: What the bound was made from, one sentence.
    """

    seconds_us: int
    basis: str


class Facts(Protocol):
    """What a driver may know of a circuit before it runs; `qcos.circuits.model.CircuitFacts` is one."""

    @property
    def qubits(self) -> int:
        """Return the qubits declared."""
        ...

    @property
    def size(self) -> int:
        """Return the number of operations."""
        ...


@runtime_checkable
class Driver(Protocol):
    """A vendor's runtime.

    Making a driver is cheap and imports no SDK: `describe` and `estimate` work in any process; SDKs are
    loaded by `prepare` or the first `submit`.

    Attributes:
        name: As registered, e.g. ``aer``.
        extra: What to install for it, e.g. ``qcos[aer]``.
        requires: Top-level modules that must be importable for it to work.
        repeatable: The same work with the same seed gives the same counts.
        local: Work runs on this machine and ends with this process: `find` after a restart gives None, and
            submitting again costs nothing twice.
    """

    name: str
    extra: str
    requires: tuple[str, ...]
    repeatable: bool
    local: bool

    def describe(self) -> Sequence[Backend]:
        """Return the backends that take work now, in under 100 ms.

        A backend whose runtime is still loading is described (its work waits); one that cannot work is not.

        Raises:
            Unavailable: The vendor does not answer.
        """
        ...

    def estimate(self, backend: str, facts: Sequence[Facts], work: Work) -> Estimate:
        """Return a bound on the execution time of work, without asking the vendor.

        Args:
            backend: Where it would run.
            facts: Of each circuit of the work, in order.
            work: The work; its sources need not be read.
        """
        ...

    def prepare(self) -> None:
        """Load what the first work would have to wait for; may take many seconds, and may be called again."""
        ...

    def submit(self, backend: str, work: Work, key: str) -> Handle:
        """Hand work in and return at once; the same backend and key give one handle and one execution.

        Args:
            backend: One that `describe` names.
            work: What to run.
            key: Unique for this work, at most 255 characters.

        Raises:
            DriverError: ``driver.backend``, ``driver.unsupported``, ``driver.shots``, ``driver.circuits``,
                ``driver.option`` or the vendor's refusal; nothing was started.
            Conflict: ``driver.key`` when the key was used for other work.
            Unavailable: The vendor does not answer; whether the work was started is to be asked with `find`.
        """
        ...

    def observe(self, handle: Handle) -> Observation:
        """Return how work stands.

        Raises:
            NotFound: ``driver.handle`` when the driver knows no such work (any more).
        """
        ...

    def result(self, handle: Handle, wait_s: float | None = None) -> Outcome:
        """Wait for work to end and return its outcome; may be asked again.

        Args:
            handle: What `submit` gave.
            wait_s: Longest wait in seconds; None waits until the end, 0 not at all.

        Raises:
            NotFound: ``driver.handle``.
            Unavailable: ``driver.not_done`` when it has not ended in that time.
            DriverError: Why it failed; ``driver.cancelled`` when it was cancelled.
        """
        ...

    def cancel(self, handle: Handle) -> bool:
        """Ask for work to be stopped; True when no outcome will come, False when one will or did.

        Raises:
            NotFound: ``driver.handle``.
        """
        ...

    def find(self, backend: str, key: str) -> Handle | None:
        """Return the handle of work submitted with a key, or None when there is no such work."""
        ...

    def queue_depth(self, backend: str) -> int:
        """Return how many works wait for a backend, as far as the driver can tell; 0 when it cannot."""
        ...

    def close(self) -> None:
        """Stop what runs here and let go of the vendor; remote work goes on."""
        ...
