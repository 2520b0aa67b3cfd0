"""Identifiers: readable, dated, unguessable."""

from __future__ import annotations

import secrets

from qcos.base.clock import now


def new_id(prefix: str) -> str:
    """Return ``<prefix>-2026-01-09-<16 hex digits>``."""
    return f"{prefix}-{now():%Y-%m-%d}-{secrets.token_hex(8)}"
