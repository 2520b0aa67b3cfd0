"""A process that does one of everything and ends; run with the variables an operator would set."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys

from qcos.base.clock import now
from qcos.telemetry import configure, instruments, shutdown, tracing

configure("qcos-test")
log = logging.getLogger("qcos.test")
with tracing.span("request", {"qcos.job": "j1"}):
    carried = tracing.inject()
    log.info("submitted with qcos_%s", "A" * 43, extra={"job": "j1"})
with tracing.continued(carried, "job.execute"):
    log.warning("working")
    instruments.stage("run", 0.25)
instruments.outcome("completed", "qiskit-aer")
instruments.outcome("completed", "qiskit-aer")
instruments.outcome("denied", "")
instruments.set_queue_depths({"local": 7, "gone": 1})
instruments.set_queue_depths({"local": 3})
instruments.set_archive_failing(now() - dt.timedelta(hours=2))
try:
    with tracing.span("fails"):
        raise RuntimeError("broken")
except RuntimeError:
    log.exception("failed")
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 0):
    with tracing.span("many"):
        pass
print(json.dumps({"traceparent": carried}), flush=True)
shutdown()
log.info("after the end")
