"""How far clocks may be apart (R1.2).

Sealing and verifying judge by the same rule, so no sealed bundle fails it later.
"""

from __future__ import annotations

import datetime as dt

from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity
from qcos.base.limits import MAX_CLOCK_DRIFT_S
from qcos.evidence.model import milliseconds


def check_times(
    started: dt.datetime, ended: dt.datetime, sealed_at: dt.datetime, token_time: dt.datetime
) -> int:
    """Demand that the times of one execution can be true together.

    Args:
        started: When execution began, by the backend's clock.
        ended: When it ended, by the backend's clock.
        sealed_at: When it was sealed, by the system's clock.
        token_time: When it was sealed, by the time-stamping authority.

    Returns:
        The drift: trusted time minus system time, milliseconds.

    Raises:
        Integrity: ``evidence.time``.
    """
    limit = dt.timedelta(seconds=MAX_CLOCK_DRIFT_S)
    if ended < started:
        raise _impossible("the execution ended before it began", f"after {rfc3339(started)}", rfc3339(ended))
    if abs(token_time - sealed_at) > limit:
        raise _impossible(
            "the system clock and the trusted time are too far apart",
            f"at most {MAX_CLOCK_DRIFT_S} s between them",
            f"{rfc3339(sealed_at)} and {rfc3339(token_time)}",
        )
    if ended > token_time + limit:
        raise _impossible(
            "the evidence was stamped before the execution ended",
            f"after {rfc3339(ended)}",
            rfc3339(token_time),
        )
    return milliseconds(token_time - sealed_at)


def _impossible(message: str, expected: str, got: str) -> Integrity:
    return Integrity(
        "evidence.time",
        message,
        expected=expected,
        got=got,
        hint="look at the clocks of this machine and of the backend",
    )
