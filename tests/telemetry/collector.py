"""Two real OTLP collectors, on the published protocol's own stubs: gRPC and HTTP. Each keeps what came."""

from __future__ import annotations

import gzip
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc


class Received:
    """What arrived."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.logs: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []

    def take(self, request: Any) -> None:
        if isinstance(request, traces.ExportTraceServiceRequest):
            for resource in request.resource_spans:
                self._resource(resource.resource)
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        elif isinstance(request, metrics.ExportMetricsServiceRequest):
            for resource in request.resource_metrics:
                self._resource(resource.resource)
                self.metrics.update({m.name: m for scope in resource.scope_metrics for m in scope.metrics})
        else:
            for resource in request.resource_logs:
                self._resource(resource.resource)
                self.logs += [record for scope in resource.scope_logs for record in scope.log_records]

    def _resource(self, resource: Any) -> None:
        self.resources.append(attributes(resource))


class _Service(
    traces_grpc.TraceServiceServicer, metrics_grpc.MetricsServiceServicer, logs_grpc.LogsServiceServicer
):
    def __init__(self, received: Received) -> None:
        self._received = received

    def Export(self, request: Any, context: Any) -> Any:
        self._received.headers.append(dict(context.invocation_metadata()))
        self._received.take(request)
        if isinstance(request, traces.ExportTraceServiceRequest):
            return traces.ExportTraceServiceResponse()
        if isinstance(request, metrics.ExportMetricsServiceRequest):
            return metrics.ExportMetricsServiceResponse()
        return logs.ExportLogsServiceResponse()


class GrpcCollector(Received):
    def __init__(self) -> None:
        super().__init__()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        service = _Service(self)
        traces_grpc.add_TraceServiceServicer_to_server(service, self._server)
        metrics_grpc.add_MetricsServiceServicer_to_server(service, self._server)
        logs_grpc.add_LogsServiceServicer_to_server(service, self._server)
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(0.2).wait()


class HttpCollector(Received):
    def __init__(self) -> None:
        super().__init__()
        received = self
        kinds = {
            "/v1/traces": traces.ExportTraceServiceRequest,
            "/v1/metrics": metrics.ExportMetricsServiceRequest,
            "/v1/logs": logs.ExportLogsServiceRequest,
        }

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = kinds[self.path]()
                request.ParseFromString(body)
                received.headers.append({name.lower(): value for name, value in self.headers.items()})
                received.take(request)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def attributes(carrier: Any) -> dict[str, Any]:
    """Return OTLP attributes as a dictionary."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in carrier.attributes}
