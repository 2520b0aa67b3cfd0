"""Spans and their travel: from the HTTP request through the queue to the worker, one trace (R7.1, R8.10)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACE_HEADERS = ("traceparent", "tracestate")
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


class HttpSpans:
    """ASGI middleware: a server span for each request, continuing the caller's trace when there is one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request within its span."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        context = _PROPAGATOR.extract({name: headers[name] for name in _TRACE_HEADERS if name in headers})
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with span(scope["method"], attributes, context, SpanKind.SERVER) as opened:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    opened.set_attribute("http.response.status_code", message["status"])
                    route = scope.get("route")
                    if route is not None:
                        opened.update_name(f"{scope['method']} {route.path}")
                        opened.set_attribute("http.route", route.path)
                    if message["status"] >= 500:
                        opened.set_status(StatusCode.ERROR)
                await send(message)

            await self._app(scope, receive, noting)
