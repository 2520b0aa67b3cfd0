"""When a payload may be erased. Pure.

Erasing cannot be undone, so a clock that is wrong must not erase: what is due waits `ERASURE_GRACE_DAYS` more, and
when the clock has moved on by more than `CLOCK_STEP_DAYS` since it was last looked at, nothing is erased until
somebody says what day it is. A clock that is ahead by less erases nothing before its time.
"""

from __future__ import annotations

import datetime as dt

from qcos.base.clock import rfc3339
from qcos.base.errors import Conflict
from qcos.base.limits import CLOCK_STEP_DAYS, ERASURE_GRACE_DAYS

STEP = dt.timedelta(days=CLOCK_STEP_DAYS)
GRACE = dt.timedelta(days=ERASURE_GRACE_DAYS)
CONFIRMED_WITHIN = dt.timedelta(days=1)
_FIRST = dt.datetime.min.replace(tzinfo=dt.UTC) + GRACE


def due_before(at: dt.datetime) -> dt.datetime:
    """Return the instant: what had to be kept until then, or less, is erased at ``at``."""
    return max(at, _FIRST) - GRACE


def check_clock(known: dt.datetime, at: dt.datetime) -> None:
    """Demand that the clock is plausible.

    Args:
        known: The latest instant at which the installation was seen running.
        at: What the clock says.

    Raises:
        Conflict: ``erasure.clock``: the clock jumped, or nothing ran for long; a person has to say which.
    """
    if at - known > STEP:
        raise Conflict(
            "erasure.clock",
            "the clock is far ahead of when this installation was last seen running: nothing is erased",
            expected=f"at most {CLOCK_STEP_DAYS} days after {rfc3339(known)}",
            got=rfc3339(at),
            hint="if the date is right: qcos evidence resume-erasing --today YYYY-MM-DD; else set the clock",
        )


def check_confirmation(said: dt.date, at: dt.datetime) -> None:
    """Demand that the day somebody names is the clock's, give or take one (time zones).

    Raises:
        Conflict: ``erasure.clock``.
    """
    middle = dt.datetime.combine(said, dt.time(12), dt.UTC)
    if abs(at - middle) > CONFIRMED_WITHIN + dt.timedelta(hours=12):
        raise Conflict(
            "erasure.clock",
            "the clock says another day than you: set the clock first",
            expected=said.isoformat(),
            got=rfc3339(at),
        )


def rule_of(retention_days: int) -> str:
    """Return what an erasing by time is under, as records and verifiers say it."""
    return f"retention {retention_days} day{'' if retention_days == 1 else 's'}"
