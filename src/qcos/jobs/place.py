"""Stage "placed": which backends could run the job, what each would cost, and the best of those that policy permits (R8.4, R12.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qcos.backends.model import BackendStatus
from qcos.base.errors import Invalid, Limit
from qcos.circuits.model import CircuitFacts
from qcos.jobs.spec import JobSpec
from qcos.metering.model import Price
from qcos.metering.price import PriceBook, estimate
from qcos.policy.model import Decision
from qcos.routing.choose import choose
from qcos.routing.constrain import constrain
from qcos.routing.model import Dropped, Needs, Option, Placement


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend that can run the job, with the most it would cost."""

    status: BackendStatus
    price: Price

    @property
    def backend(self) -> str:
        """Return the backend's name."""
        return self.status.backend.name

    def as_policy_input(self) -> dict[str, Any]:
        """Return what policies may know of the backend."""
        backend = self.status.backend
        return {
            "backend": backend.name,
            "provider": backend.provider,
            "kind": backend.kind,
            "region": backend.region,
            "zone": backend.zone,
            "on_premise": backend.on_premise,
            "price": self.price.amount,
            "currency": self.price.currency,
        }


def candidates(
    statuses: Sequence[BackendStatus], spec: JobSpec, facts: Sequence[CircuitFacts], book: PriceBook
) -> tuple[tuple[Candidate, ...], tuple[Dropped, ...]]:
    """Return the backends that can run a job, priced, and those that cannot, each with its reason."""
    needs = Needs(
        qubits=max(f.qubits for f in facts),
        depth=max(f.depth for f in facts),
        circuits=len(facts),
        shots=spec.shots,
        formats=tuple(sorted({c.format for c in spec.circuits})),
        min_qubits=spec.min_qubits,
        max_depth=spec.max_depth,
        allowed_providers=spec.allowed_providers,
        backend=spec.backend,
    )
    able, dropped = constrain(statuses, needs)
    priced, unpriced = [], []
    for status in able:
        try:
            priced.append(Candidate(status, _price(book, status, spec, facts)))
        except (Invalid, Limit) as error:  # no known price, or none that can be counted: not free
            unpriced.append(Dropped(status.backend.name, error.code, error.message))
    return tuple(priced), (*dropped, *unpriced)


def place(
    decision: Decision, able: Sequence[Candidate], dropped: Sequence[Dropped]
) -> tuple[Placement, Candidate]:
    """Choose the best of the candidates that the decision permits."""
    excluded = {reason.backend: reason for reason in decision.excluded}
    permitted = [candidate for candidate in able if candidate.backend not in excluded]
    by_policy = tuple(
        Dropped(name, reason.code, reason.message) for name, reason in sorted(excluded.items()) if name
    )
    placement = choose([Option(c.status, c.price.amount) for c in permitted], (*dropped, *by_policy))
    return placement, next(c for c in permitted if c.backend == placement.backend)


def where(candidate: Candidate) -> dict[str, Any]:
    """Return where the job will run, as recorded: what evidence and settlement need to know of the backend (R1.3)."""
    backend = candidate.status.backend
    return {**backend.where(), "kind": backend.kind, "price_key": backend.price_key, "qubits": backend.qubits}


def _price(book: PriceBook, status: BackendStatus, spec: JobSpec, facts: Sequence[CircuitFacts]) -> Price:
    backend = status.backend
    seconds_us = sum(expected_us(backend.kind, f, spec.shots) for f in facts)
    return estimate(book, backend.price_key, spec.total_shots, len(facts), seconds_us)


def expected_us(kind: str, facts: CircuitFacts, shots: int) -> int:
    """Return a generous bound, in microseconds, on the time one circuit takes on a backend of a kind.

    A state-vector simulator touches 2^qubits amplitudes a gate (about 1 ns each on one core, taken as 4) and draws shots; a QPU repeats
    the circuit at about 1 kHz. Prices of local simulators are capped at what was reserved, so a bound that is too low costs the
    provider, never the budget.
    """
    if kind == "qpu":
        return shots * 1_000
    amplitudes = 1 << min(facts.qubits, 40)
    return 50_000 + (amplitudes * max(facts.size, 1) * 4 + shots * max(facts.measured_bits, 1) * 20) // 1_000
