"""Spans and their travel: from the HTTP request through the queue to the worker, one trace (R7.1, R8.10)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PROPAGATOR = TraceContextTextMapPropagator()


def tracer() -> trace.Tracer:
    """Return the tracer of QCOS."""
    return trace.get_tracer("qcos")


@contextlib.contextmanager
def span(name: str, attributes: Mapping[str, str] | None = None, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
    """Open a span; an exception that leaves it is recorded and marks it as failed."""
    with tracer().start_as_current_span(name, context, kind, attributes=dict(attributes or {})) as opened:
        yield opened


@contextlib.contextmanager
def continued(traceparent: str, name: str, attributes: Mapping[str, str] | None = None) -> Iterator[Span]:
    """Open a span that continues the trace a job was submitted in."""
    context = _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None
    with span(name, attributes, context, SpanKind.CONSUMER) as opened:
        yield opened


def inject() -> str:
    """Return the W3C traceparent of the current span; empty when there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def trace_id() -> str:
    """Return the current trace's id, 32 hex digits; empty when there is none."""
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else ""


class HttpSpans:
    """ASGI middleware: a server span for each request, continuing the caller's trace when there is one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"] if k in (b"traceparent", b"tracestate")}
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with span(f"{scope['method']} {scope['path'].split('/')[2] if scope['path'].count('/') > 1 else ''}", attributes, _PROPAGATOR.extract(headers), SpanKind.SERVER) as opened:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    opened.set_attribute("http.response.status_code", message["status"])
                    route = scope.get("route")
                    if route is not None:
                        opened.update_name(f"{scope['method']} {route.path}")
                    if message["status"] >= 500:
                        opened.set_status(StatusCode.ERROR)
                await send(message)

            await self._app(scope, receive, noting)
