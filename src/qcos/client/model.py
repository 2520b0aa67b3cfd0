"""The shapes of the API's answers, as typed dictionaries: what the server sends is kept as it is, members
added later included.
"""

from __future__ import annotations

from typing import Any, Generic, NotRequired, TypedDict, TypeVar

Json = dict[str, Any]  # Any: a JSON value
Item = TypeVar("Item")

FINAL_STATES = frozenset({"denied", "completed", "failed", "cancelled"})


class Reason(TypedDict):
    """Why a policy denies a job, or excludes a backend from it."""

    policy: str
    code: str
    message: str
    hint: NotRequired[str]
    backend: NotRequired[str | None]


class Decision(TypedDict):
    """What policy said about a job."""

    decision_id: str
    allow: bool
    reasons: list[Reason]
    excluded: list[Reason]
    policy_version: str


class Price(TypedDict):
    """An amount of money: ``micro`` is exact (1e-6 of the currency unit), ``amount`` the same as decimal
    text.
    """

    amount: str
    micro: int
    currency: str
    lines: NotRequired[list[Json]]


class Step(TypedDict):
    """One step of a job's life; ``n`` is its number in Workflow A (white paper 4.1)."""

    n: int
    step: str
    at: str
    detail: NotRequired[Json]


class Job(TypedDict):
    """A governed job."""

    job_id: str
    state: str
    project: str
    actor: str
    backend: str | None
    provider: str | None
    created_at: str
    updated_at: str
    decision: Decision | None
    placement: NotRequired[Json | None]
    price: NotRequired[Price | None]
    reservation: NotRequired[Json | None]
    charge: NotRequired[Json | None]
    bundle_id: NotRequired[str | None]
    error: NotRequired[Json | None]
    steps: NotRequired[list[Step]]


class Page(TypedDict, Generic[Item]):
    """One page of a listing; ``next`` is the cursor of the following page, null on the last."""

    items: list[Item]
    next: str | None
