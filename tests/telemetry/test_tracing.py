"""The trace travels as a W3C traceparent; a bad one starts a new trace and breaks nothing (R7.1)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    assert tracing.extract(text) is None, "random text is no traceparent"
