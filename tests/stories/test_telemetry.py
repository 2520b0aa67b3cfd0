"""Telemetry of a whole installation reaches a real collector: one trace, metrics, logs (R7.1, R7.2, R7.3, R8.10)."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from telemetry.collector import GrpcCollector, attributes

from .house import furnish
from .installation import running


class ByService(GrpcCollector):
    """Keeps the last metrics of each service."""

    def __init__(self) -> None:
        self.by_service: dict[str, dict[str, Any]] = {}
        super().__init__()

    def take(self, request: Any) -> None:
        super().take(request)
        for resource in getattr(request, "resource_metrics", ()):
            kept = self.by_service.setdefault(attributes(resource.resource)["service.name"], {})
            kept.update({m.name: m for scope in resource.scope_metrics for m in scope.metrics})


def depths(collector: ByService, since_ns: int = 0) -> dict[str, int]:
    """Return how many jobs wait, by queue, as it was told last, and not before an instant."""
    told = collector.by_service.get("qcos-duties", {}).get("qcos.queue.depth")
    points = [p for p in told.gauge.data_points if p.time_unix_nano >= since_ns] if told else []
    return {attributes(p)["queue"]: p.as_int for p in points}


@dataclass(frozen=True)
class Told:
    """What the collector received from an installation that ran two jobs and denied one, and what the processes logged."""

    collector: ByService
    trace_id: str
    job: dict[str, Any]
    denied_id: str
    logs: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder: Path = tmp_path_factory.mktemp("telemetry")
    collector = ByService()
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20for-the-collector",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    }
    trace_id = secrets.token_hex(16)
    with running(folder / "data", "aer", variables) as qcos:
        with furnish(qcos) as house:
            headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
            submitted = house.engineer.http.post("/jobs", json=house.spec(), headers=headers)
            assert submitted.status_code == 201, submitted.text
            job = dict(house.engineer.client.jobs.wait_for(submitted.json()["job_id"], timeout_s=90))
            house.run()
            denied = house.engineer.http.post("/jobs", json=house.spec(shots=60_000))
            assert denied.status_code == 403
            # The depths are looked at every few seconds, perhaps last while a job waited.
            deadline, ended = time.monotonic() + 120, time.time_ns()
            while depths(collector, ended) != {"run:aer": 0} and time.monotonic() < deadline:
                time.sleep(0.1)
        data = qcos.data
    collector.close()  # the installation has ended: whatever it had to tell has arrived
    logs = {}
    for file in sorted((data / "logs").glob("*.log")):
        logs[file.stem] = [json.loads(line) for line in file.read_text().splitlines()]
    yield Told(collector, trace_id, job, denied.json()["job_id"], logs)


def _ancestors(spans: dict[bytes, Any], span: Any) -> set[bytes]:
    """Return the ids of all spans above one."""
    above: set[bytes] = set()
    while span is not None and span.parent_span_id not in above:
        above.add(span.parent_span_id)
        span = spans.get(span.parent_span_id)
    return above


def test_one_trace_from_request_to_settlement(told: Told) -> None:
    """R7.1: the caller's trace goes on in the API, through the queue, in the worker, to evidence and settlement; parents link up."""
    spans = {span.span_id: span for span in told.collector.spans if span.trace_id.hex() == told.trace_id}
    named = {span.name: span for span in spans.values()}
    assert {"POST /v1/jobs", "job.admit", "job.execute"} <= set(named), sorted(named)
    request, admit, execute = named["POST /v1/jobs"], named["job.admit"], named["job.execute"]
    assert request.span_id in _ancestors(spans, admit)
    assert {admit.span_id, request.span_id} <= _ancestors(spans, execute)
    assert attributes(request)["http.response.status_code"] == 201
    assert attributes(admit)["qcos.job"] == attributes(execute)["qcos.job"] == told.job["job_id"]
    assert attributes(execute)["qcos.backend"] == "aer-ideal"
    assert (
        request.start_time_unix_nano
        <= admit.start_time_unix_nano
        <= admit.end_time_unix_nano
        <= execute.end_time_unix_nano
    )
    others = [
        span
        for span in told.collector.spans
        if span.name == "job.execute" and span.trace_id.hex() != told.trace_id
    ]
    assert len(others) == 1, "another job has another trace"


def test_the_job_names_its_trace(told: Told) -> None:
    """R7.1, R8.10: from the job one finds the trace."""
    detail = {step["step"]: step["detail"] for step in told.job["steps"]}
    assert detail["submitted"]["trace"] == told.trace_id
    assert told.trace_id in detail["exported"]["trace"]


def test_metrics_of_queues_outcomes_and_latencies(told: Told) -> None:
    """R7.2: queue depths, success rates, latency distributions."""
    told_by = told.collector.by_service

    def outcomes(service: str) -> dict[str, int]:
        points = told_by[service]["qcos.job.outcomes"].sum.data_points
        return {attributes(p)["outcome"]: p.as_int for p in points}

    def stages(service: str) -> dict[str, Any]:
        points = told_by[service]["qcos.stage.duration"].histogram.data_points
        return {attributes(p)["stage"]: p for p in points}

    assert outcomes("qcos-api") == {"denied": 1}
    assert outcomes("qcos-worker") == {"completed": 2}
    latencies = {"admit": stages("qcos-api")["admit"]} | stages("qcos-worker")
    assert {stage: p.count for stage, p in latencies.items()} == {"admit": 3, "run": 2, "seal_and_settle": 2}
    assert all(p.sum > 0 and sum(p.bucket_counts) == p.count for p in latencies.values())
    assert depths(told.collector) == {"run:aer": 0}


def test_logs_are_json_with_trace_ids_and_without_secrets(told: Told) -> None:
    """R7.3: structured event logs of every process; those of the request carry its trace; no token stands in them."""
    assert set(told.logs) >= {"api", "duties", "worker-aer"}
    for name, lines in told.logs.items():
        for line in lines:
            assert {"time", "level", "message", "service"} <= set(line), (name, line)
    lines = [line for log in told.logs.values() for line in log]
    assert "qcos_" not in json.dumps(lines).replace("qcos_***", "")
    mine = [line for line in lines if line.get("trace_id") == told.trace_id]
    assert {line["service"] for line in mine} >= {"qcos-api", "qcos-worker"}, (
        "the job's events are logged in its trace"
    )


def test_every_process_says_who_it_is(told: Told) -> None:
    """R7.1, R8.10: resources name the services; the collector's credentials came along."""
    assert {r["service.name"] for r in told.collector.resources} >= {"qcos-api", "qcos-worker", "qcos-duties"}
    assert all(h.get("authorization") == "Bearer for-the-collector" for h in told.collector.headers)
