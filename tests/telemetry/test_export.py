"""Telemetry reaches real collectors by the standard variables; a dead one stops nothing (R7.1, R8.10)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .collector import GrpcCollector, HttpCollector, Received, attributes

SCRIPT = Path(__file__).parent / "one_process.py"


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )


@pytest.fixture
def grpc_collector() -> Iterator[GrpcCollector]:
    collector = GrpcCollector()
    yield collector
    collector.close()


@pytest.fixture
def http_collector() -> Iterator[HttpCollector]:
    collector = HttpCollector()
    yield collector
    collector.close()


def _check(received: Received, ran: subprocess.CompletedProcess[str]) -> None:
    spans = {span.name: span for span in received.spans}
    assert sorted(spans) == ["fails", "job.execute", "request"]
    request, execute = spans["request"], spans["job.execute"]
    assert execute.trace_id == request.trace_id, "one trace through the queue"
    assert execute.parent_span_id == request.span_id
    assert attributes(request) == {"qcos.job": "j1"}
    _, trace_id, span_id, flags = json.loads(ran.stdout)["traceparent"].split("-")
    assert (trace_id, span_id) == (request.trace_id.hex(), request.span_id.hex())
    assert int(flags, 16) & 1, "sampled"
    assert spans["fails"].status.code == 2, "ERROR"
    assert spans["fails"].events[0].name == "exception"

    assert {r["service.name"] for r in received.resources} == {"qcos-test"}
    assert {r["service.namespace"] for r in received.resources} == {"qcos"}

    outcomes = {
        (attributes(p)["outcome"], attributes(p)["provider"]): p.as_int
        for p in received.metrics["qcos.job.outcomes"].sum.data_points
    }
    assert outcomes == {("completed", "qiskit-aer"): 2, ("denied", ""): 1}
    depths = {
        attributes(p)["queue"]: p.as_int for p in received.metrics["qcos.queue.depth"].gauge.data_points
    }
    assert depths == {"local": 3, "gone": 0}
    (failing,) = received.metrics["qcos.worm.failing"].gauge.data_points
    assert failing.as_double >= 7200
    (stage,) = received.metrics["qcos.stage.duration"].histogram.data_points
    assert attributes(stage) == {"stage": "run"}
    assert (stage.count, stage.sum) == (1, 0.25)
    assert 0.01 in stage.explicit_bounds

    logs = {record.body.string_value: record for record in received.logs}
    assert "submitted with qcos_***" in logs, "no token leaves the process"
    assert logs["submitted with qcos_***"].trace_id == request.trace_id
    assert logs["submitted with qcos_***"].span_id == request.span_id
    assert attributes(logs["submitted with qcos_***"]) == {"logger": "qcos.test", "job": "j1"}
    assert attributes(logs["failed"])["exception.type"] == "RuntimeError"
    assert "after the end" not in logs


def test_all_three_signals_arrive_over_grpc(grpc_collector: GrpcCollector) -> None:
    ran = _run(
        OTEL_EXPORTER_OTLP_ENDPOINT=grpc_collector.url,
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=acme",
    )
    _check(grpc_collector, ran)
    assert {headers["x-tenant"] for headers in grpc_collector.headers} == {"acme"}


def test_all_three_signals_arrive_over_http(http_collector: HttpCollector) -> None:
    ran = _run(
        OTEL_EXPORTER_OTLP_ENDPOINT=http_collector.url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=acme",
    )
    _check(http_collector, ran)
    assert {headers["x-tenant"] for headers in http_collector.headers} == {"acme"}


def test_each_signal_has_its_own_variables(
    grpc_collector: GrpcCollector, http_collector: HttpCollector
) -> None:
    _run(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=grpc_collector.url,
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http_collector.url + "/v1/metrics",
        OTEL_SERVICE_NAME="named-by-the-operator",
    )
    assert len(grpc_collector.spans) == 3
    assert not grpc_collector.metrics
    assert "qcos.job.outcomes" in http_collector.metrics
    assert not http_collector.spans
    assert not http_collector.logs + grpc_collector.logs
    assert {r["service.name"] for r in grpc_collector.resources} == {"named-by-the-operator"}


def test_a_signal_can_be_turned_off(http_collector: HttpCollector) -> None:
    _run(
        OTEL_EXPORTER_OTLP_ENDPOINT=http_collector.url,
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )
    assert len(http_collector.spans) == 3
    assert not http_collector.metrics
    assert not http_collector.logs


def test_the_sampler_is_the_standard_one(http_collector: HttpCollector) -> None:
    _run(OTEL_EXPORTER_OTLP_ENDPOINT=http_collector.url, OTEL_TRACES_SAMPLER="always_off")
    assert not http_collector.spans
    assert http_collector.logs


@pytest.mark.parametrize(
    "variables", [{}, {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_without_an_exporter_everything_still_runs(variables: dict[str, str]) -> None:
    ran = _run(**variables)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [line["message"] for line in lines] == [
        "submitted with qcos_***",
        "working",
        "failed",
        "after the end",
    ]


def test_without_an_exporter_logs_still_carry_one_trace() -> None:
    ran = _run()
    first, second = (json.loads(line) for line in ran.stderr.splitlines()[:2])
    assert first["trace_id"] == second["trace_id"] == json.loads(ran.stdout)["traceparent"].split("-")[1]
    assert first["span_id"] != second["span_id"]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_collector_that_never_answers_stops_nothing(protocol: str) -> None:
    """The process does more spans than the queue holds and ends by itself; `_run` would time out otherwise."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        ran = _run(
            "5000",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        )
    assert json.loads(ran.stderr.splitlines()[-1])["message"] == "after the end"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_collector_that_is_gone_stops_nothing(protocol: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    ran = _run(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    messages = [json.loads(line)["message"] for line in ran.stderr.splitlines()]
    ours = ["working", "failed", "after the end"]
    assert [message for message in messages if message in ours] == ours


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon",
        },
    ],
)
def test_a_variable_that_is_wrong_is_logged_and_turns_its_signal_off(variables: dict[str, str]) -> None:
    ran = _run(**variables)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert lines[0]["message"].startswith("telemetry is off for traces: ")
    assert lines[-1]["message"] == "after the end"
