"""When to send a request again, and after how long (pure).

A request may be sent again without harm when it is *repeatable* (GET, PUT, DELETE, or a POST under an
``Idempotency-Key`` that the server honours). Any other request is sent again only when the server certainly
did not carry it out: no connection came about, or it said so (429, 503).
"""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from dataclasses import dataclass

from qcos.base.limits import CLIENT_ATTEMPTS, CLIENT_BACKOFF_MAX_S, CLIENT_BACKOFF_S, CLIENT_RETRY_AFTER_MAX_S

_PASSING = frozenset({429, 502, 503, 504})
_NOT_CARRIED_OUT = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Retry:
    """How patient a client is.

    Attributes:
        attempts: Sendings of one request, the first included.
        base_s: First pause, seconds; doubles with each sending.
        longest_s: Longest pause chosen here, seconds.
        longest_asked_s: Longest pause a server may ask for, seconds; beyond it the error goes to the caller.
    """

    attempts: int = CLIENT_ATTEMPTS
    base_s: float = CLIENT_BACKOFF_S
    longest_s: float = CLIENT_BACKOFF_MAX_S
    longest_asked_s: float = CLIENT_RETRY_AFTER_MAX_S

    def pause_s(self, sent: int, asked_s: float | None, chance: Callable[[], float]) -> float | None:
        """Return the seconds to wait before the next sending, or None when there shall be none.

        Args:
            sent: Sendings so far, at least 1.
            asked_s: What the server asked for (``Retry-After``), if it did.
            chance: Uniform random numbers in [0, 1); pauses are spread over their upper half so that clients
                do not come back together.
        """
        if sent >= self.attempts:
            return None
        if asked_s is not None:
            return asked_s if asked_s <= self.longest_asked_s else None
        pause = min(self.longest_s, self.base_s * 2.0 ** min(sent - 1, 32))
        return pause * (0.5 + chance() / 2)


def again_after_status(status: int, *, repeatable: bool) -> bool:
    """Tell whether an answer with this HTTP status allows another sending."""
    return status in (_PASSING if repeatable else _NOT_CARRIED_OUT)


def retry_after_s(value: str | None, now_s: float) -> float | None:
    """Read a ``Retry-After`` header (RFC 9110, 10.2.3): seconds, or an HTTP date; None when absent or
    unreadable.

    Args:
        value: The header's value.
        now_s: Present time, seconds since the epoch; a date in the past means no pause.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, TypeError, OverflowError):
        return None
