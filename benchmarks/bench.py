"""`make bench`: what governing costs, against the floor and the peer, in one run on one machine.

Starts a real installation (embedded PostgreSQL, fsync on, one worker for Aer) and measures

* submit to decision and submit to sealed, one client, one job after the other;
* governed jobs a second to sealed, several clients at once, and the processor time of each process for one of them;
* the same circuits on Aer alone (the peer);
* the floor: the same number of commits and ML-DSA-65 signatures, nothing else.

Prints a table and writes it to build/bench.json: a list of {name, value, unit, floor, ratio, peer, peer_value}.
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import http.client
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
from cryptography.hazmat.primitives.asymmetric import mldsa
from rich.console import Console
from rich.table import Table

import circuits_bench
from qcos.circuits.reader import CircuitReader
from qcos.client import Client
from qcos.policy.bundle import shipped
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.samples import sample

CIRCUITS = {
    "bell": (
        2,
        'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n',
    ),
    "ghz5": (
        5,
        'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[5] q;\nbit[5] c;\nh q[0];\n'
        + "".join(f"cx q[{i}], q[{i + 1}];\n" for i in range(4))
        + "c = measure q;\n",
    ),
}
ROLES = {
    "qcos: api": "api",
    "qcos: worker aer": "worker",
    "qcos: duties": "duties",
    "qcos.policy.engine": "policy_engine",
    "qcos.circuits.child": "circuit_reader",
    "qcos.drivers.aer.child": "aer",
}  # by the title of a process, or the module that it runs
SHOTS = 1000
PROJECT = "benchmark"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    peer: str | None = None
    peer_value: float | None = None

    def as_dict(self) -> dict[str, Any]:
        ratio = round(self.value / self.floor, 3) if self.floor else None
        return {"name": self.name, "value": round(self.value, 3), "unit": self.unit, "floor": round(self.floor, 3) if self.floor else None,
                "ratio": ratio, "peer": self.peer, "peer_value": round(self.peer_value, 3) if self.peer_value else None}  # fmt: skip


class Submitter:
    """A client with one kept-alive connection and as little work of its own as can be."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        self._connection.connect()
        self._connection.sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )  # headers and body go out as two packets
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def submit(self, body: bytes) -> dict[str, Any]:
        self._connection.request("POST", "/v1/jobs", body, self._headers)
        answer = self._connection.getresponse()
        document = json.loads(answer.read())
        if answer.status != 201:
            raise RuntimeError(f"{answer.status}: {document}")
        return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequential", type=int, default=300, help="jobs of the one client")
    parser.add_argument("--parallel", type=int, default=2000, help="jobs of all clients together")
    parser.add_argument("--clients", type=int, default=16, help="clients of the second part, at once")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"))
    given = parser.parse_args()
    console = Console(width=118)
    with tempfile.TemporaryDirectory(prefix="qcos-bench-") as folder:
        data = Path(folder) / "data"
        with console.status("starting QCOS ..."):
            process, ready = start(data)
        try:
            rows = measure(ready, data, given, console)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    show(rows, console)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps([row.as_dict() for row in rows], indent=2) + "\n")
    console.print(f"written to {given.output}")


def start(data: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("QCOS_", "OTEL_"))}
    command = [
        str(Path(sys.executable).parent / "qcos"),
        "up",
        "--json",
        "--port",
        "0",
        "--data",
        str(data),
        "--drivers",
        "aer",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit(f"QCOS did not start; see {data}/logs")
    return process, json.loads(line)


def spec(name: str) -> bytes:
    source = base64.b64encode(CIRCUITS[name][1].encode()).decode()
    return json.dumps(
        {
            "circuit": {"format": "QASM3", "source": source},
            "execution": {"shots": SHOTS, "backend": "aer-ideal"},
            "governance": {"project": PROJECT, "classification": "internal", "purpose": "benchmark"},
        }
    ).encode()


def measure(ready: dict[str, Any], data: Path, given: argparse.Namespace, console: Console) -> list[Row]:
    token = Path(ready["token_file"]).read_text().strip()
    client = Client(ready["url"], token)
    client.identity.create_project(PROJECT, team="benchmark", cost_center="CC-0")
    client.metering.set_budget(PROJECT, Decimal("1000000"), "USD")
    bodies = [spec(name) for name in CIRCUITS]
    submitter = Submitter(ready["url"], token)
    with console.status("warming up ..."):
        for number in range(40):
            last = submitter.submit(bodies[number % len(bodies)])
        client.jobs.wait_for(last["job_id"], timeout_s=60)

    decisions, sealed = sequential(submitter, client, bodies, given.sequential, console)
    with psycopg.connect(admin_url(data), autocommit=True) as connection:
        before = commits(connection)
        per_second, cpu = parallel(ready, data, client, token, bodies, given, console)
        per_job = (commits(connection) - before) / given.parallel
        commit_ms = floor_commit_ms(connection)
    sign_ms = floor_sign_ms()
    # What cannot be had for less: admission commits once; a sealed job has its share of grouped commits and one ML-DSA-65 signature.
    job_ms = per_job * commit_ms + sign_ms
    aer_ms = aer_alone_ms()
    api = next(p for p in psutil.Process(ready["pid"]).children(recursive=True) if _role(p) == "api")
    console.print(
        f"[dim]{machine()}; {given.clients} clients; {per_job:.2f} commits a job, {commit_ms:.3f} ms a commit, "
        f"{sign_ms:.3f} ms an ML-DSA-65 signature[/]"
    )
    return [
        Row("submit_to_decision_p50_ms", percentile(decisions, 50), "ms", commit_ms),
        Row("submit_to_decision_p99_ms", percentile(decisions, 99), "ms", commit_ms),
        Row(
            "submit_to_sealed_p50_ms",
            percentile(sealed, 50),
            "ms",
            commit_ms * 5 + sign_ms,
            "Aer alone",
            aer_ms,
        ),
        Row(
            "submit_to_sealed_p99_ms",
            percentile(sealed, 99),
            "ms",
            commit_ms * 5 + sign_ms,
            "Aer alone",
            aer_ms,
        ),
        Row("governed_jobs_per_s", per_second, "1/s", 1000 / job_ms, "Aer alone", 1000 / aer_ms),
        Row("api_rss_mb", api.memory_info().rss / 1e6, "MB"),
        Row("commits_per_job", per_job, "1"),
        Row("cpu_ms_per_job", sum(cpu.values()), "ms"),
        *(Row(f"cpu_ms_per_job_{role}", ms, "ms") for role, ms in sorted(cpu.items())),
        *pieces(),
    ]


def pieces() -> list[Row]:
    """Return what the two killable processes cost a submission: reading a circuit, asking the policies."""
    reader = CircuitReader(1)
    rows = []
    for name, sources in (
        ("circuit_bell_ms", [circuits_bench.BELL + f"// {n}\n" for n in range(200)]),
        ("circuit_10000_gates_ms", [circuits_bench.random_program(100, 10_000, n) for n in range(6)]),
    ):
        ours = circuits_bench.measure(lambda source: reader.read(source.encode(), "QASM3"), sources)[0]
        peer = circuits_bench.measure(circuits_bench.native, sources[:3])[0]
        rows.append(Row(name, ours, "ms", peer="Qiskit's native importer", peer_value=peer))
    reader.close()
    with PolicyEngine() as engine:
        bundle, document = shipped(), sample("jobs")
        engine.warm(bundle)
        times = []
        for _ in range(300):
            began = time.perf_counter()
            engine.evaluate(bundle, "jobs", document)
            times.append((time.perf_counter() - began) * 1000)
    return [*rows, Row("policy_evaluation_p50_ms", percentile(times, 50), "ms")]


def sequential(
    submitter: Submitter, client: Client, bodies: list[bytes], count: int, console: Console
) -> tuple[list[float], list[float]]:
    """Return submit-to-decision (as the client sees it) and submit-to-sealed (until the sealing scope's time), in ms."""
    decisions, sealed = [], []
    with console.status(f"{count} jobs, one after the other ..."):
        for number in range(count):
            sent = time.time()
            began = time.perf_counter()
            job = submitter.submit(bodies[number % len(bodies)])
            decisions.append((time.perf_counter() - began) * 1000)
            done = client.jobs.get(job["job_id"])
            while done["state"] != "completed":
                time.sleep(0.002)
                done = client.jobs.get(job["job_id"])
            sealed.append((dt.datetime.fromisoformat(done["updated_at"]).timestamp() - sent) * 1000)
    return decisions, sealed


def parallel(
    ready: dict[str, Any],
    data: Path,
    client: Client,
    token: str,
    bodies: list[bytes],
    given: argparse.Namespace,
    console: Console,
) -> tuple[float, dict[str, float]]:
    """Return governed jobs a second from the first submission to the last sealing, and CPU milliseconds a job by process."""
    share = given.parallel // given.clients
    started = cpu_times(ready["pid"], data)
    began = time.time()
    last: list[str] = []

    def submit_all() -> None:
        submitter = Submitter(ready["url"], token)
        for number in range(share):
            job = submitter.submit(bodies[number % len(bodies)])
        last.append(job["job_id"])

    threads = [threading.Thread(target=submit_all) for _ in range(given.clients)]
    with console.status(f"{share * given.clients} jobs from {given.clients} clients ..."):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for state in ("queued", "submitting", "running", "collected"):
            while client.jobs.page(state=state, limit=1)["items"]:
                time.sleep(0.1)
    newest = [dt.datetime.fromisoformat(client.jobs.get(job)["updated_at"]).timestamp() for job in last]
    page = client.jobs.page(limit=200)["items"]
    finished = max([*newest, *(dt.datetime.fromisoformat(job["updated_at"]).timestamp() for job in page)])
    count = share * given.clients
    used = cpu_times(ready["pid"], data)
    spent = {role: 1000 * (seconds - started.get(role, 0)) / count for role, seconds in used.items()}
    return count / (finished - began), spent


def cpu_times(pid: int, data: Path) -> dict[str, float]:
    """Return CPU seconds of the installation's processes by role; PostgreSQL's are those of its living processes."""
    used: dict[str, float] = {"clients": sum(psutil.Process().cpu_times()[:2])}
    postmaster = int((data / "postgres" / "cluster" / "postmaster.pid").read_text().splitlines()[0])
    for process in [*psutil.Process(pid).children(recursive=True), *psutil.Process(postmaster).children()]:
        try:
            role = _role(process)
            if role is not None:
                used[role] = used.get(role, 0.0) + sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return used


def _role(process: psutil.Process) -> str | None:
    line = [part.rstrip() for part in process.cmdline()]
    named = next((part for part in line if part in ROLES), None)
    return ROLES[named] if named else "postgres" if "postgres" in process.name() else None


def admin_url(data: Path) -> str:
    postgres = data / "postgres"
    password = (postgres / "admin.password").read_text().strip()
    return f"postgresql://postgres:{password}@127.0.0.1:{(postgres / 'port').read_text().strip()}/postgres"


def commits(connection: psycopg.Connection[Any]) -> int:
    connection.execute("select pg_stat_force_next_flush()")
    time.sleep(1.2)  # other sessions flush their statistics once a second
    row = connection.execute(
        "select xact_commit from pg_stat_database where datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0])


def floor_commit_ms(connection: psycopg.Connection[Any], count: int = 500) -> float:
    connection.execute("create table if not exists public.floor (n bigint)")
    began = time.perf_counter()
    for number in range(count):
        connection.execute("insert into public.floor values (%s)", (number,))
    return (time.perf_counter() - began) * 1000 / count


def floor_sign_ms(count: int = 200) -> float:
    key = mldsa.MLDSA65PrivateKey.generate()
    began = time.perf_counter()
    for _ in range(count):
        key.sign(b"x" * 4000)
    return (time.perf_counter() - began) * 1000 / count


def aer_alone_ms(count: int = 200) -> float:
    """Return the time of the same circuits on Aer, parsed and run in a loop."""
    import qiskit.qasm3
    from qiskit_aer import AerSimulator

    simulator = AerSimulator()
    sources = [source for _, source in CIRCUITS.values()]
    for number in range(count + 20):
        if number == 20:
            began = time.perf_counter()
        circuit = qiskit.qasm3.loads_experimental(sources[number % len(sources)])
        simulator.run(circuit, shots=SHOTS, seed_simulator=number).result().get_counts()
    return (time.perf_counter() - began) * 1000 / count


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, fsync on"


def show(rows: list[Row], console: Console) -> None:
    table = Table("figure", "value", "unit", "floor", "ratio", "peer", "its value")
    for column in (1, 3, 4, 6):
        table.columns[column].justify = "right"
    for row in (row.as_dict() for row in rows):
        table.add_row(
            *(
                "" if row[key] is None else str(row[key])
                for key in ("name", "value", "unit", "floor", "ratio", "peer", "peer_value")
            )
        )
    console.print(table)


if __name__ == "__main__":
    main()
