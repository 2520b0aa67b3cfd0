"""Time: UTC instants from the system clock, and their RFC 3339 text.

Durations are always measured with a monotonic clock.
"""

from __future__ import annotations

import datetime as dt


def now() -> dt.datetime:
    """Return the present instant, UTC, microseconds."""
    return dt.datetime.now(dt.UTC)


def rfc3339(instant: dt.datetime) -> str:
    """Return ``2026-01-09T10:30:00.123456Z``; the fraction is left out when it is zero."""
    text = instant.astimezone(dt.UTC).isoformat()
    return text.replace("+00:00", "Z")


def parse_rfc3339(text: str) -> dt.datetime:
    """Read an RFC 3339 instant; raises ValueError when it is none, carries no offset, or lies outside the years 1 to 9999 in UTC."""
    instant = dt.datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    try:
        return instant.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is no instant of the years 1 to 9999") from None
