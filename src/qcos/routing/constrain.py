"""Hard constraints: which backends can run a job, and why each other one cannot (R8.3, R8.4, R12.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qcos.backends.model import BackendStatus
from qcos.routing.model import Dropped, Needs


def constrain(
    statuses: Sequence[BackendStatus], needs: Needs
) -> tuple[tuple[BackendStatus, ...], tuple[Dropped, ...]]:
    """Part backends into those that can run a job and those that cannot; both by name, each in exactly one.

    Codes, in the order they are looked for: ``routing.backend`` (the job asks for another),
    ``routing.offline``, ``routing.provider``, ``routing.format``, ``routing.qubits``, ``routing.depth``,
    ``routing.circuits``, ``routing.shots``.
    """
    able: list[BackendStatus] = []
    dropped: list[Dropped] = []
    for status in sorted(statuses, key=lambda s: s.backend.name):
        if status.backend.name == needs.backend or needs.backend is None:
            reasons = list(_reasons(status, needs))
        else:
            reasons = [("routing.backend", f"the job asks for {needs.backend}")]
        if reasons:
            dropped.append(
                Dropped(status.backend.name, reasons[0][0], "; ".join(message for _, message in reasons))
            )
        else:
            able.append(status)
    return tuple(able), tuple(dropped)


def _reasons(status: BackendStatus, needs: Needs) -> Iterator[tuple[str, str]]:
    backend = status.backend
    if not status.online:
        yield "routing.offline", "no worker serves it now"
    if needs.allowed_providers is not None and backend.provider not in needs.allowed_providers:
        allowed = ", ".join(needs.allowed_providers) or "none"
        yield "routing.provider", f"its provider is {backend.provider}; the job allows {allowed}"
    if missing := sorted(set(needs.formats) - set(backend.formats)):
        yield "routing.format", f"it does not take {', '.join(missing)}"
    if needs.qubits > backend.qubits:
        yield "routing.qubits", f"it has {backend.qubits} qubits; the job uses {needs.qubits}"
    elif needs.min_qubits is not None and needs.min_qubits > backend.qubits:
        yield (
            "routing.qubits",
            f"it has {backend.qubits} qubits; the job asks for at least {needs.min_qubits}",
        )
    if needs.max_depth is not None and needs.depth > needs.max_depth:
        yield "routing.depth", f"the circuit's depth is {needs.depth}; the job allows {needs.max_depth}"
    elif backend.max_depth is not None and needs.depth > backend.max_depth:
        yield "routing.depth", f"it takes a depth of {backend.max_depth}; the circuit's is {needs.depth}"
    if needs.circuits > backend.max_circuits:
        yield (
            "routing.circuits",
            f"it takes {backend.max_circuits} circuits a job; the job has {needs.circuits}",
        )
    if needs.shots > backend.max_shots:
        yield "routing.shots", f"it takes {backend.max_shots} shots a circuit; the job asks for {needs.shots}"
