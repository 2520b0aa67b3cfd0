"""The periods that limits hold for: months of a budget, days of a quota, both UTC. Pure."""

from __future__ import annotations

import datetime as dt


def month_of(at: dt.datetime) -> str:
    """Return ``2026-11``."""
    return f"{at.astimezone(dt.UTC):%Y-%m}"


def day_of(at: dt.datetime) -> str:
    """Return ``2026-11-30``."""
    return f"{at.astimezone(dt.UTC):%Y-%m-%d}"
