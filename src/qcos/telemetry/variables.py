"""Reading the standard variables (OpenTelemetry: "Environment variables", "OTLP exporter configuration").

One thing differs on purpose: without any ``OTEL_EXPORTER_OTLP_*ENDPOINT`` nothing is exported, where the
specification would export to localhost, because most installations have no collector.
"""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

SIGNALS: Final = ("traces", "metrics", "logs")
KINDS: Final = ("otlp", "console", "none")
GRPC_PORT: Final = 4317  # the port registered for OTLP over gRPC; 4318 is HTTP


def disabled() -> bool:
    """Return whether ``OTEL_SDK_DISABLED`` says so."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def exporters(signal: str) -> tuple[str, ...]:
    """Return what a signal is exported by: any of ``otlp`` and ``console``.

    Raises:
        ValueError: ``OTEL_<SIGNAL>_EXPORTER`` names something else.
    """
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    text = os.environ.get(variable, "").strip()
    if not text:
        return ("otlp",) if endpoint(signal) else ()
    names = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for name in names:
        if name not in KINDS:
            raise ValueError(f"{variable}: {name!r} is none of {', '.join(KINDS)}")
    return tuple(name for name in names if name != "none")


def endpoint(signal: str) -> str:
    """Return the address a signal goes to, as it was given; empty when none was."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    return own or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()


def protocol(signal: str) -> str:
    """Return ``grpc`` or ``http/protobuf``; when neither variable says it, the port does.

    Raises:
        ValueError: The variable names another protocol.
    """
    variable = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
    text = os.environ.get(variable, "").strip() or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip()
    if not text:
        try:
            port = urlsplit(endpoint(signal)).port
        except ValueError:
            port = None
        return "grpc" if port == GRPC_PORT else "http/protobuf"
    if text not in ("grpc", "http/protobuf"):
        raise ValueError(f"{variable}: {text!r} is neither grpc nor http/protobuf")
    return text


def service_is_named() -> bool:
    """Return whether the operator named the service, which then has precedence over our own name."""
    attributes = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = any(part.split("=")[0].strip() == "service.name" for part in attributes.split(","))
    return bool(os.environ.get("OTEL_SERVICE_NAME", "").strip()) or named
