"""Values: a backend as its driver describes it, and what is known of it now."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from qcos.base.errors import Invalid
from qcos.base.limits import MAX_NAME

KINDS = ("simulator", "qpu")
ZONES = ("sovereign", "cloud", "local")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_COUNTS = ("qubits", "max_shots", "max_circuits")
_LISTS = ("formats", "gates")


@dataclass(frozen=True, slots=True)
class Backend:
    """Something that runs circuits, as its driver describes it.

    Attributes:
        name: Unique name, lower case, e.g. ``aer-ideal``.
        provider: Who sells or gives it, e.g. ``aws-braket``; what a job's ``allowed_providers`` names.
        kind: ``simulator`` or ``qpu``.
        driver: Name of the driver that serves it.
        qubits: Largest circuit, in qubits.
        max_shots: Most shots of one circuit.
        max_depth: Deepest circuit it takes; None when it states none.
        max_circuits: Most circuits of one job.
        formats: Languages it takes, ``QASM3`` or ``QASM2``.
        gates: Gates it runs without rewriting; ``("*",)`` for any.
        region: Where it stands, in the provider's words; ``local`` for this installation.
        zone: Compliance zone: ``sovereign``, ``cloud`` or ``local``.
        on_premise: True when it stands in the house of whoever runs this installation.
        price_key: Its entry in the price book.
        description: One sentence for people.
        calibration: Digest of the calibration or noise data in force, ``sha256:...``; None when there is
            none.
    """

    name: str
    provider: str
    kind: str
    driver: str
    qubits: int
    max_shots: int
    max_depth: int | None
    max_circuits: int
    formats: tuple[str, ...]
    gates: tuple[str, ...]
    region: str
    zone: str
    on_premise: bool
    price_key: str
    description: str = ""
    calibration: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > MAX_NAME:
            raise Invalid("backends.name", "not a backend's name", subject=self.name, expected=_NAME.pattern)
        if self.kind not in KINDS:
            raise Invalid(
                "backends.kind",
                "no such kind of backend",
                subject=self.name,
                expected=" or ".join(KINDS),
                got=self.kind,
            )
        if self.zone not in ZONES:
            raise Invalid(
                "backends.zone", "no such zone", subject=self.name, expected=", ".join(ZONES), got=self.zone
            )
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise Invalid(
                    "backends.count",
                    f"{name} must be positive",
                    subject=self.name,
                    got=str(getattr(self, name)),
                )
        if not self.formats or not self.provider or not self.driver:
            raise Invalid(
                "backends.incomplete", "formats, provider and driver must be given", subject=self.name
            )

    def where(self) -> dict[str, Any]:
        """Return what evidence says of the place (R1.3), JSON-ready."""
        members = ("provider", "region", "zone", "on_premise", "calibration")
        return {name: value for name in members if (value := getattr(self, name)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-ready members."""
        members = asdict(self)
        return {**members, **{name: list(members[name]) for name in _LISTS}}

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> Self:
        """Return the backend that `as_dict` gave."""
        return cls(**{**members, **{name: tuple(members[name]) for name in _LISTS}})


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """A backend and what is known of it now.

    Attributes:
        backend: The facts its driver gave last.
        online: A worker that serves it was seen within `qcos.base.limits.BACKEND_SILENCE_S`.
        queue_depth: Jobs waiting for it, as its worker said last.
        seen_at: When its worker was last seen.
        mean_seconds: Mean execution time of its jobs in the last `BACKEND_HISTORY_DAYS`; 0 when there are
            none.
        success_rate: Share of these jobs that ended well, 0 to 1; 1 when there are none.
        jobs: How many these are.
    """

    backend: Backend
    online: bool
    queue_depth: int
    seen_at: dt.datetime | None
    mean_seconds: float = 0.0
    success_rate: float = 1.0
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How one job went on a backend.

    Attributes:
        backend: Its name.
        succeeded: The job gave a result.
        seconds: Execution time, without waiting.
    """

    backend: str
    succeeded: bool
    seconds: float
