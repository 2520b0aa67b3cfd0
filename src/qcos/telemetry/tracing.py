"""Spans and their travel: from the HTTP request through the queue to the worker, one trace (R7.1, R8.10)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACER = trace.get_tracer("qcos")  # a proxy until `configure` sets a provider


def tracer() -> trace.Tracer:
    """Return the tracer of QCOS."""
    return _TRACER


@contextlib.contextmanager
def span(
    name: str,
    attributes: Mapping[str, str] | None = None,
    context: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
) -> Iterator[Span]:
    """Open a span; an exception that leaves it is recorded and marks it as failed."""
    with _TRACER.start_as_current_span(name, context, kind, attributes=dict(attributes or {})) as opened:
        yield opened


@contextlib.contextmanager
def continued(traceparent: str, name: str, attributes: Mapping[str, str] | None = None) -> Iterator[Span]:
    """Open a span that continues the trace a job was submitted in."""
    with span(name, attributes, extract(traceparent), SpanKind.CONSUMER) as opened:
        yield opened


def inject() -> str:
    """Return the W3C traceparent of the current span; empty when there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def extract(traceparent: str) -> Context | None:
    """Return the context of a W3C traceparent; None when there is none, or a malformed one."""
    context = _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None
    return context if context and trace.get_current_span(context).get_span_context().is_valid else None


def trace_id() -> str:
    """Return the current trace's id, 32 hex digits; empty when there is none."""
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else ""
