"""Providers of one process: made once, flushed within a bound at its end.

Without an exporter spans are made but not recorded (20 µs each), so that logs still carry trace ids;
metrics cost nothing. With one, exporting happens on threads of its own from bounded queues: a dead
collector costs dropped telemetry, never a job.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    ConsoleLogRecordExporter,
    LogRecordExporter,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from qcos import __version__
from qcos.telemetry import logs, variables

SHUTDOWN_S: Final = 3.0  # longest wait for the last telemetry of a process; a supervisor kills after 10 s

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_ends: list[Callable[[], None]] | None = None  # None until configured; a process is configured once
_CLASSES: Final = {"traces": "OTLPSpanExporter", "metrics": "OTLPMetricExporter", "logs": "OTLPLogExporter"}
_MODULES: Final = {"traces": "trace_exporter", "metrics": "metric_exporter", "logs": "_log_exporter"}


def configure(service: str, level: int = logging.INFO) -> None:
    """Set up logging and providers from the ``OTEL_*`` variables, once; further calls change nothing.

    A variable that cannot be understood turns its signal off and is logged: telemetry never keeps a service
    from starting.

    Args:
        service: ``service.name`` of the process, unless the operator names it.
        level: Lowest level that is logged.
    """
    global _ends
    with _lock:
        if _ends is not None:
            return
        _ends = []
        logs.configure_logging(service, level)
        if variables.disabled():
            return
        resource = _resource(service)
        _traces(resource, _ends)
        _metrics(resource, _ends)
        _logs(resource, _ends)
        atexit.register(shutdown)


def shutdown() -> None:
    """Send what is left, for at most `SHUTDOWN_S` seconds, and end the providers."""
    with _lock:
        ends = list(_ends or ())
        if _ends:
            _ends.clear()
    threads = [threading.Thread(target=end, name="telemetry-end", daemon=True) for end in ends]
    for thread in threads:
        thread.start()
    until = time.monotonic() + SHUTDOWN_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _resource(service: str) -> Resource:
    attributes = {"service.namespace": "qcos", "service.version": __version__}
    if not variables.service_is_named():
        attributes["service.name"] = service
    return Resource.create(attributes)


def _exporters(signal: str) -> list[Any]:  # Any: the SDK's exporters share no type
    """Make a signal's exporters; none when its variables cannot be understood."""
    made: list[Any] = []
    try:
        for kind in variables.exporters(signal):
            if kind == "console":
                made.append(_CONSOLE[signal]())
            else:
                # loaded only when used: gRPC takes 60 ms and 15 MB
                way = "grpc" if variables.protocol(signal) == "grpc" else "http"
                module = import_module(f"opentelemetry.exporter.otlp.proto.{way}.{_MODULES[signal]}")
                made.append(getattr(module, _CLASSES[signal])())
    except Exception as error:  # exporters read more variables, and raise what they like about them
        _log.warning("telemetry is off for %s: %s", signal, error)
        return []
    return made


_CONSOLE: Final[dict[str, Callable[[], SpanExporter | MetricExporter | LogRecordExporter]]] = {
    "traces": ConsoleSpanExporter,
    "metrics": ConsoleMetricExporter,
    "logs": ConsoleLogRecordExporter,
}


def _traces(resource: Resource, ends: list[Callable[[], None]]) -> None:
    made = _exporters("traces")
    if not made:
        trace.set_tracer_provider(
            TracerProvider(sampler=ALWAYS_OFF, resource=resource, shutdown_on_exit=False)
        )
        return
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in made:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    ends.append(provider.shutdown)


def _metrics(resource: Resource, ends: list[Callable[[], None]]) -> None:
    readers = [PeriodicExportingMetricReader(exporter) for exporter in _exporters("metrics")]
    if readers:
        provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        metrics.set_meter_provider(provider)
        ends.append(provider.shutdown)


def _logs(resource: Resource, ends: list[Callable[[], None]]) -> None:
    made = _exporters("logs")
    if not made:
        return
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in made:
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    handler = logs.ExportHandler(provider)
    logging.getLogger().addHandler(handler)

    def end() -> None:
        logging.getLogger().removeHandler(handler)
        provider.shutdown()

    ends.append(end)
