"""Traces, metrics and logs, exported over OTLP when the standard OTEL_* variables say so (R7.1, R7.2)."""

from qcos.telemetry.providers import configure, shutdown

__all__ = ["configure", "shutdown"]
