"""Frozen values of metering. Amounts are integer micro-units (1e-6 of a currency unit), times are UTC."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Group = Literal["project", "team", "cost_center", "backend"]
Ended = Literal["settled", "released", "expired"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one job consumed by one meter (R6.1).

    Attributes:
        meter: One of `qcos.metering.measure.METERS`.
        quantity: Not negative.
        unit: The meter's unit.
    """

    meter: str
    quantity: int
    unit: str


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One line of a price or charge: ``amount`` is ``quantity * unit_price / per``, rounded as `price` says.

    Attributes:
        item: What is priced: ``task``, ``shot``, ``qpu_time``, ``cpu_time``, or ``minimum``, ``cap``,
            ``free``.
        quantity: In ``unit``.
        unit: ``task``, ``shot``, ``us`` (microseconds) or ``job``.
        unit_price: Micro-units for ``per`` units; negative for ``cap`` only.
        per: How many units the unit price is for (1,000,000 where prices are by the second).
        amount: Micro-units.
    """

    item: str
    quantity: int
    unit: str
    unit_price: int
    per: int
    amount: int

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return JSON members."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Price:
    """What a job will cost at most (R12.1); this is what gets reserved.

    Attributes:
        amount: Micro-units; the sum of the lines.
        price_book: Version and digest of the price book.
        capped: Whether the charge can never be more than the amount.
    """

    amount: int
    currency: str
    lines: tuple[ChargeLine, ...]
    price_key: str
    price_book: str
    capped: bool

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return JSON members."""
        return {
            "amount": self.amount,
            "currency": self.currency,
            "lines": [line.as_dict() for line in self.lines],
            "price_key": self.price_key,
            "price_book": self.price_book,
            "capped": self.capped,
        }


@dataclass(frozen=True, slots=True)
class Ask:
    """A wish to reserve money and shots for one job.

    Attributes:
        id: Id of the reservation; the same id again is the same ask again.
        job: A job has at most one reservation, ever.
        project: Whose budget.
        team: Whose quota.
        amount: Micro-units, 0 for what is free.
        currency: Of the amount; must be the budget's.
        shots: Of all circuits together.
        at: When; decides the month of the budget and the day of the quota (UTC).
    """

    id: str
    job: str
    project: str
    team: str
    amount: int
    currency: str
    shots: int
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a job really cost (micro-units) and how many shots it really took."""

    job: str
    amount: int
    shots: int


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A project's budget in one month (R3.2). Amounts in micro-units.

    Attributes:
        month: ``2026-11``.
        limit: Most that may be reserved and settled together.
        reserved: For jobs that have not ended.
        settled: Charged. More than the limit only where a vendor charged more than was reserved, or the
            limit was lowered.
    """

    project: str
    month: str
    currency: str
    limit: int
    reserved: int
    settled: int

    @property
    def available(self) -> int:
        """Return what a new job may cost; never negative."""
        return max(0, self.limit - self.reserved - self.settled)

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return JSON members, with ``available``; the form that policies read."""
        return {**asdict(self), "available": self.available}


@dataclass(frozen=True, slots=True)
class QuotaState:
    """A team's shots of one day (R3.5); as `BudgetState`, in shots.

    Attributes:
        day: ``2026-11-30``.
    """

    team: str
    day: str
    limit: int
    reserved: int
    used: int

    @property
    def available(self) -> int:
        """Return how many shots a new job may take; never negative."""
        return max(0, self.limit - self.reserved - self.used)

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return JSON members, with ``available``; the form that policies read."""
        return {**asdict(self), "available": self.available}


@dataclass(frozen=True, slots=True)
class Funds:
    """What a job of a project may draw on. No budget: only free jobs. No quota: any number of shots."""

    budget: BudgetState | None
    quota: QuotaState | None


@dataclass(frozen=True, slots=True)
class Bill:
    """All that is written about the cost of one settled job (R8.9).

    Attributes:
        price_book: Version and digest of the price book that made the lines.
        at: When the job was settled.
    """

    job: str
    project: str
    team: str
    cost_center: str
    backend: str
    currency: str
    price_key: str
    price_book: str
    usages: tuple[Usage, ...]
    lines: tuple[ChargeLine, ...]
    at: dt.datetime

    @property
    def amount(self) -> int:
        """Return the sum of the lines, micro-units."""
        return sum(line.amount for line in self.lines)


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge line as it is kept (R5.4, R8.9).

    Attributes:
        n: Position among all charge lines; the cursor of listings.
        month: The month whose budget it counts in: the one of the reservation.
        line: Number of the line within the job, from 0.
    """

    n: int
    job: str
    line: int
    item: str
    quantity: int
    unit: str
    unit_price: int
    per: int
    amount: int
    currency: str
    price_key: str
    price_book: str
    project: str
    team: str
    cost_center: str
    backend: str
    month: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Total:
    """Cost and consumption of one group (R6.3).

    Attributes:
        group: The project, team, cost center or backend.
        currency: Of the amount; a group that was charged in two currencies has two totals.
        amount: Micro-units.
        jobs: Settled jobs.
        meters: Sum by meter; for depth and memory the largest.
    """

    group: str
    currency: str
    amount: int
    jobs: int
    meters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Two figures in the books that should agree and do not."""

    what: str
    subject: str
    expected: int
    got: int


@dataclass(frozen=True, slots=True)
class Overrun:
    """A job that cost more than was reserved for it: micro-units, or shots."""

    job: str
    project: str
    amount: int
    settled_amount: int
    shots: int
    settled_shots: int
