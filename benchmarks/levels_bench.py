"""What an evidence level costs: processor time and bytes a job, by level, on one running installation.

    python benchmarks/levels_bench.py [--jobs 400] [--rounds 3]

Jobs of the three levels alternate in rounds, so that what the machine does meanwhile falls on all of them. Processor time (user and system)
of every process of the installation is counted, the simulator's and PostgreSQL's too, not that of this client.
"""

from __future__ import annotations

import argparse
import base64
import json
import signal
import statistics
import tempfile
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import bench
from qcos.client import Client
from qcos.evidence.levels import LEVELS
from qcos.evidence.verify import verify


def body(level: str, backend: str) -> bytes:
    spec = json.loads(bench.spec("ghz5"))
    spec["execution"]["backend"] = backend
    return json.dumps(spec | {"evidence_requirements": {"level": level}}).encode()


def run(ready: dict[str, Any], client: Client, token: str, level: str, backend: str, count: int) -> str:
    """Run jobs from two clients at once until all are sealed; returns the id of one."""
    last: list[str] = []

    def submit_all() -> None:
        submitter = bench.Submitter(ready["url"], token)
        last.extend(submitter.submit(body(level, backend))["job_id"] for _ in range(count // 2))

    threads = [threading.Thread(target=submit_all) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for state in ("queued", "submitting", "running", "collected"):
        while client.jobs.page(state=state, limit=1)["items"]:
            time.sleep(0.1)
    return last[-1]


def sizes(client: Client, trust: dict[str, Any], job: str) -> dict[str, float]:
    document = client.jobs.evidence(job, wait_s=30)
    statement = base64.b64decode(json.loads(document)["proof"]["envelope"]["payload"])
    extra = {
        i["name"]: client.jobs.material(job, i["name"]) for i in client.jobs.materials(job) if "bytes" in i
    }
    began = time.process_time()
    for _ in range(20):
        assert verify(document, trust).ok
    return {
        "statement, bytes": len(statement),
        "bundle, bytes": len(document),
        "documents kept, bytes": sum(map(len, extra.values())),
        "verify, ms CPU": (time.process_time() - began) / 20 * 1000,
    }


def measure(ready: dict[str, Any], data: Path, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    token = Path(ready["token_file"]).read_text().strip()
    trust = json.loads(Path(ready["trust_file"]).read_text())
    client = Client(ready["url"], token)
    client.identity.create_project(bench.PROJECT, team="benchmark", cost_center="CC-0")
    client.metering.set_budget(bench.PROJECT, Decimal("1000000"), "USD")
    used: dict[str, list[float]] = {level: [] for level in LEVELS}
    found: dict[str, dict[str, float]] = {}
    for level in LEVELS:
        job = run(ready, client, token, level, given.backend, 40)
        found[level] = sizes(client, trust, job)
    for _ in range(given.rounds):
        for level in LEVELS:
            before = bench.cpu_times(ready["pid"], data)
            run(ready, client, token, level, given.backend, given.jobs)
            after = bench.cpu_times(ready["pid"], data)
            spent = sum(after[role] - before.get(role, 0.0) for role in after if role != "clients")
            used[level].append(1000 * spent / given.jobs)
    for level in LEVELS:
        found[level] = {"job, ms CPU": statistics.median(used[level]), **found[level]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=400, help="jobs of a level in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", default="aer-ideal")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qcos-levels-") as folder:
        data = Path(folder) / "data"
        process, ready = bench.start(data)
        try:
            found = measure(ready, data, given)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    table = Table(title=f"5 qubits, {bench.SHOTS} shots on {given.backend}; {bench.machine()}")
    for column in ("", *LEVELS):
        table.add_column(column, justify="left" if not column else "right")
    for name in found[LEVELS[0]]:
        table.add_row(name, *(f"{found[level][name]:,.1f}" for level in LEVELS))
    Console(width=100).print(table)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
