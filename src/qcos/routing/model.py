"""Values: what a job needs, why a backend was dropped, how the others scored."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from qcos.backends.model import BackendStatus
from qcos.base.errors import Invalid

PPM = (
    1_000_000  # scores and weights are integers in parts per million: equal everywhere, canonical in evidence
)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job needs of a backend.

    Attributes:
        qubits: Of its largest circuit.
        depth: Of its deepest circuit.
        circuits: How many.
        shots: Of each circuit.
        formats: Languages of the circuits.
        min_qubits: Smallest backend the job accepts (Job Spec, ``backend_constraints``).
        max_depth: Deepest circuit the job may have.
        allowed_providers: Providers the job may go to; None for any, empty for none.
        backend: The one backend the job asks for, if it does.
    """

    qubits: int
    depth: int
    circuits: int
    shots: int
    formats: tuple[str, ...]
    min_qubits: int | None = None
    max_depth: int | None = None
    allowed_providers: tuple[str, ...] | None = None
    backend: str | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A backend that cannot or may not run a job.

    Attributes:
        backend: Its name.
        code: Stable code of the first reason, ``routing.*`` or a policy's.
        message: All reasons.
    """

    backend: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Option:
    """A backend that can run a job.

    Attributes:
        status: The backend and what is known of it.
        price: What the job costs there at most, micro-units.
    """

    status: BackendStatus
    price: int

    @property
    def name(self) -> str:
        """Return the backend's name."""
        return self.status.backend.name


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each part of a score counts, parts per million; they sum to `PPM`."""

    cost: int = 500_000
    queue: int = 300_000
    history: int = 200_000

    def __post_init__(self) -> None:
        parts = (self.cost, self.queue, self.history)
        if min(parts) < 0 or sum(parts) != PPM:
            raise Invalid(
                "routing.weights", "weights must not be negative and must sum to one million", got=str(parts)
            )


@dataclass(frozen=True, slots=True)
class Score:
    """How a backend scored; every part from 0 to `PPM`, more is better."""

    backend: str
    total: int
    cost: int
    queue: int
    history: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a job goes, and why.

    Attributes:
        backend: The chosen backend.
        provider: Its provider.
        scores: Of all candidates, best first.
        dropped: The backends that were no candidates, ordered by name.
        weights: What the scores were made with.
    """

    backend: str
    provider: str
    scores: tuple[Score, ...]
    dropped: tuple[Dropped, ...]
    weights: Weights

    def as_dict(self) -> dict[str, Any]:
        """Return the placement as JSON-ready members."""
        members = asdict(self)
        return {**members, "scores": list(members["scores"]), "dropped": list(members["dropped"])}
