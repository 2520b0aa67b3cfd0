"""Telemetry: traces, metrics and logs, exported over OTLP when the standard OTEL_* variables say so."""

from __future__ import annotations

import logging


def configure(service: str) -> None:
    """Set up providers and logging for a process (placeholder until exporters are wired)."""
    logging.basicConfig(level=logging.INFO)


def shutdown() -> None:
    """Flush and end."""
