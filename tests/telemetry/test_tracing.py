"""The trace travels as a W3C traceparent; a bad one starts a new trace and breaks nothing (R7.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from qcos.telemetry import tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # W3C Trace Context, section 3.2.3


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("test"))
    yield memory
    provider.shutdown()


def _only(memory: InMemorySpanExporter) -> ReadableSpan:
    (span,) = memory.get_finished_spans()
    return span


def test_a_traceparent_is_continued(spans: InMemorySpanExporter) -> None:
    with tracing.continued(PARENT, "job.execute", {"qcos.job": "j"}):
        assert tracing.trace_id() == PARENT.split("-")[1]
        assert tracing.inject().startswith(PARENT[:36])
    span = _only(spans)
    assert span.parent is not None
    assert format(span.parent.span_id, "016x") == PARENT.split("-")[2]
    assert span.kind is SpanKind.CONSUMER


def test_outside_of_a_span_there_is_nothing_to_carry() -> None:
    assert (tracing.inject(), tracing.trace_id()) == ("", "")


@pytest.mark.parametrize(
    "bad", ["", "nonsense", PARENT[:-1], PARENT.replace("0af7", "zzzz"), "00-" + "0" * 32 + PARENT[35:]]
)
def test_a_malformed_traceparent_starts_a_new_trace(spans: InMemorySpanExporter, bad: str) -> None:
    assert tracing.extract(bad) is None
    with tracing.continued(bad, "job.execute"):
        assert len(tracing.trace_id()) == 32
    assert _only(spans).parent is None


@given(st.text())
def test_no_text_breaks_extraction(text: str) -> None:
    tracing.extract(text)


class _Route:
    path = "/v1/jobs/{id}"


async def _app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    scope["route"] = _Route()
    scope["seen"] = tracing.trace_id()
    await send({"type": "http.response.start", "status": scope["answer"], "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _request(answer: int, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/v1/jobs/j1",
        "headers": headers,
        "answer": answer,
    }

    async def nothing(*_: object) -> Any:
        return None

    asyncio.run(tracing.HttpSpans(_app)(scope, nothing, nothing))  # type: ignore[arg-type]
    return scope


def test_a_request_is_one_server_span_named_by_its_route(spans: InMemorySpanExporter) -> None:
    scope = _request(200, [(b"traceparent", PARENT.encode()), (b"accept", b"*/*")])
    span = _only(spans)
    assert span.name == "GET /v1/jobs/{id}"
    assert span.kind is SpanKind.SERVER
    assert scope["seen"] == PARENT.split("-")[1]
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["http.route"] == "/v1/jobs/{id}"


def test_an_answer_of_the_500s_marks_the_span(spans: InMemorySpanExporter) -> None:
    _request(503, [])
    assert _only(spans).status.status_code is trace.StatusCode.ERROR


def test_an_answer_of_the_400s_does_not(spans: InMemorySpanExporter) -> None:
    _request(403, [])
    assert _only(spans).status.status_code is trace.StatusCode.UNSET
