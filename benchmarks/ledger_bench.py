"""`make bench-ledger`: how fast the ledger takes, proves, finds and checks entries, beside the floor and the peer.

Real parts on one machine: the embedded PostgreSQL (fsync on), writer processes that append groups of records through
`GroupAppender`, the real sequencer with the installation's own key files, a reader that fetches and verifies inclusion and
consistency proofs all the while. Then the log is filled up to ``--entries`` for proofs, search and fsck.

The floor, in the same run: the same bytes brought in by COPY with fsynced commits into a table without index, hashed, and
written to files that are fsynced. The peer: Tessera's published figures of its POSIX driver (transparency-dev/tessera,
docs/performance.md). Prints a table and writes it to build/ledger_bench.json: rows as of build/bench.json.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import multiprocessing
import os
import platform
import random
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg
import sqlalchemy as sa
from rich.console import Console
from rich.progress import Progress

from bench import Row, percentile, show
from qcos.db import embedded
from qcos.db.engine import make_engine, scope
from qcos.db.migrate import migrate
from qcos.keys.file import FileKeyring
from qcos.ledger import prove, store
from qcos.ledger.append import GroupAppender
from qcos.ledger.files import LogFolder
from qcos.ledger.fsck import fsck
from qcos.ledger.record import Record, prepare
from qcos.ledger.sequence import Sequencer
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.tree import fold, leaf_hash
from qcos.ledger.verify import verify_consistency, verify_proof

ORIGIN = "qcos.bench/ledger"
TENANTS = [UUID(int=n) for n in range(1, 4)]
ACTS = (
    "job.submitted",
    "policy.decided",
    "evidence.sealed",
    "cost.charged",
    "access.denied",
    "job.cancelled",
)
TESSERA = "Tessera POSIX, 12 cores, SAS mirror, no antispam"
TESSERA_WRITES = 2900.0  # writes/s, and below the mean time to integrate in ms: docs/performance.md
TESSERA_INTEGRATE_MS = 6019.0

Spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Place:
    """What every process of a run is told."""

    url: str
    log: Path
    keys: Path
    batch: int
    callers: int

    @property
    def signers(self) -> LedgerSigners:
        return LedgerSigners(*FileKeyring(self.keys, passphrase=None).open_or_create().ledger, ORIGIN)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries to fill the log up to")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="length of the measured run of writers and readers"
    )
    parser.add_argument("--writers", type=int, default=2, help="writer processes")
    parser.add_argument("--callers", type=int, default=4, help="threads of each that append at once")
    parser.add_argument("--batch", type=int, default=100, help="records a call")
    parser.add_argument("--samples", type=int, default=1000, help="proofs and searches to time")
    parser.add_argument("--output", type=Path, default=Path("build/ledger_bench.json"))
    given = parser.parse_args()
    console = Console(width=128)
    console.print(f"[dim]{machine()}[/]")
    with tempfile.TemporaryDirectory(prefix="qcos-ledger-bench-") as folder:
        base = Path(folder)
        server = embedded.start(base / "postgres")
        try:
            migrate(server.admin_url, app_password=server.app_password)
            place = Place(server.app_url, base / "log", base / "keys", given.batch, given.callers)
            _ = place.signers  # makes the keys
            rows = measure(server, place, given, console)
        finally:
            embedded.stop(base / "postgres")
    show(rows, console)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps([row.as_dict() for row in rows], indent=2) + "\n")
    console.print(f"written to {given.output}; {machine()}")


def measure(
    server: embedded.EmbeddedServer, place: Place, given: argparse.Namespace, console: Console
) -> list[Row]:
    with console.status("the floor ..."):
        floor = floor_per_s(server, place)
    rows = sustained(server, place, given, floor, console)
    filled = fill(place, given, console)
    console.print(f"[dim]log of {filled:,} entries[/]")
    rows += proofs(place, given.samples, console)
    rows += searches(server, place, given.samples, console)
    rows += checks(place, console)
    return rows


# --- the measured run


def records(rng: random.Random, count: int) -> list[Record]:
    made = []
    for _ in range(count):
        job = rng.randrange(1 << 60)
        made.append(
            Record(
                rng.choices(ACTS, (30, 30, 20, 15, 4, 1))[0],
                f"user:{min(int(rng.expovariate(0.1)), 199)}@company.com",
                f"job-2026-11-29-{job:016x}",
                f"project-{rng.randrange(20)}",
                delegation=("service:ci",),
                details={
                    "decision": f"dec-2026-11-29-{job:016x}",
                    "spec": f"sha256:{job:064x}",
                    "shots": 1000,
                    "backend": "aer-ideal",
                },
            )
        )
    return made


def write_until(
    place: Place, seed: int, stop: Any, counted: Any, results: Any
) -> None:  # Any: of multiprocessing
    """A writer process: callers append groups until told to stop; latencies and a sample of records go back."""
    engine = make_engine(place.url, pool_size=2)
    appender = GroupAppender(engine)
    took: list[float] = []
    sample: list[tuple[str, float]] = []

    def call(number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        tenant = TENANTS[0] if number else TENANTS[seed % len(TENANTS)]
        supply = records(rng, 20 * place.batch)  # what the acts are costs nothing of the ledger's time
        while not stop.is_set():
            start = rng.randrange(19 * place.batch)
            began = time.perf_counter()
            items = appender.append(tenant, supply[start : start + place.batch])
            took.append((time.perf_counter() - began) * 1000)
            with counted.get_lock():
                counted.value += len(items)
            if tenant == TENANTS[0] and len(took) % 3 == 0:
                sample.append((items[-1].record_id, time.time()))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(place.callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    appender.close()
    results.put((took, sample))


def sequence_until(place: Place, stop: Any, results: Any) -> None:
    """The sequencer process; tells when which size was published."""
    published: list[tuple[int, float]] = []
    engine = make_engine(place.url, pool_size=2)

    def on_stage(stage: str) -> None:
        if stage == "published":
            published.append((int((place.log / "checkpoint").read_text().split("\n")[1]), time.time()))

    Sequencer(engine, place.log, place.signers, ORIGIN, on_stage=on_stage).run(stop)
    results.put(published)


def read_until(place: Place, stop: Any, results: Any) -> None:
    """The verifying reader: a proof of a random record of the newest, and consistency with the checkpoint before."""
    engine = make_engine(place.url, pool_size=1)
    folder, vkeys, rng = LogFolder(place.log), place.signers.vkeys, random.Random(1)
    took: list[float] = []
    known: list[str] = []
    steps, before = 0, None
    while not stop.is_set():
        with scope(engine, TENANTS[0]) as connection:
            for _ in range(4):
                began = time.perf_counter()
                proof = prove.proof_of(connection, TENANTS[0], rng.choice(known), folder) if known else None
                if proof is not None:  # else no checkpoint covers it yet
                    took.append((time.perf_counter() - began) * 1000)
                    verify_proof(proof.as_dict(), vkeys)
            known += [item.record_id for item in store.search(connection, TENANTS[0], limit=20).items]
            latest = store.latest_checkpoint(connection)
            if latest and before and latest[0] > before[0]:
                shown = prove.consistency(connection, before[0], latest[0], folder).as_dict()
                verify_consistency(before[1], latest[1], shown["hashes"], vkeys)
                steps += 1
            before = latest
        time.sleep(0.05)
    results.put((took, steps))


def sustained(
    server: embedded.EmbeddedServer, place: Place, given: argparse.Namespace, floor: float, console: Console
) -> list[Row]:
    stop, counted = Spawn.Event(), Spawn.Value("q", 0)
    queues = [Spawn.Queue() for _ in range(3)]
    writers = [
        Spawn.Process(target=write_until, args=(place, n, stop, counted, queues[0]))
        for n in range(given.writers)
    ]
    sequencing = Spawn.Event()
    sequencer = Spawn.Process(target=sequence_until, args=(place, sequencing, queues[1]))
    reader = Spawn.Process(target=read_until, args=(place, stop, queues[2]))
    for process in (sequencer, reader, *writers):
        process.start()
    while counted.value < 20_000:
        time.sleep(0.05)
    groups = {"writers": writers, "sequencer": [sequencer], "reader": [reader]}
    first, used, head, began = counted.value, cpu(groups, server.pid), size(place), time.perf_counter()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("writers, sequencer, verifying reader", total=given.seconds)
        while (passed := time.perf_counter() - began) < given.seconds:
            progress.update(task, completed=passed)
            time.sleep(0.2)
    last, seconds = counted.value, time.perf_counter() - began
    now_used, now_head = cpu(groups, server.pid), size(place)
    stop.set()
    calls = [queues[0].get() for _ in writers]
    proofs_took, steps = queues[2].get()
    for process in (reader, *writers):
        process.join()
    with console.status("the sequencer takes the rest ..."):
        while size(place) < entries(place):
            time.sleep(0.1)
    sequencing.set()
    published = queues[1].get()
    sequencer.join()
    took = [one for times, _ in calls for one in times]
    covered = time_to_covered(place, [one for _, sample in calls for one in sample], published)
    count = last - first
    shares = {name: (now_used[name] - used[name]) * 1e6 / count for name in used}
    console.print(
        f"[dim]{given.writers} writer processes of {given.callers} callers, {given.batch} records a call; {steps} consistency proofs and "
        f"{len(proofs_took)} inclusion proofs verified meanwhile; {len(published)} checkpoints; CPU an entry: "
        + ", ".join(f"{name} {us:.1f} us" for name, us in shares.items())
        + "[/]"
    )
    rate = min(count, now_head - head) / seconds  # what was both durable and numbered: no backlog counts
    return [
        Row("ledger_durable_entries_per_s", rate, "1/s", floor, TESSERA, TESSERA_WRITES),
        Row("ledger_appended_entries_per_s", count / seconds, "1/s", floor),
        Row("ledger_cpu_us_per_entry", sum(shares.values()), "us"),
        Row("ledger_append_call_p50_ms", percentile(took, 50), "ms"),
        Row("ledger_append_call_p99_ms", percentile(took, 99), "ms"),
        Row(
            "ledger_append_to_checkpoint_p50_ms",
            percentile(covered, 50),
            "ms",
            None,
            TESSERA,
            TESSERA_INTEGRATE_MS,
        ),
        Row("ledger_append_to_checkpoint_p99_ms", percentile(covered, 99), "ms"),
        Row("ledger_proof_under_load_p99_ms", percentile(proofs_took, 99), "ms"),
    ]


def time_to_covered(
    place: Place, sample: list[tuple[str, float]], published: list[tuple[int, float]]
) -> list[float]:
    """Return ms from the commit's return until a checkpoint that covers the record was published."""
    published.sort()
    sizes = [one for one, _ in published]
    engine, found = make_engine(place.url, pool_size=1), []
    with scope(engine, TENANTS[0]) as connection:
        for start in range(0, len(sample), 1000):
            part = dict(sample[start : start + 1000])
            for item in store.placed(connection, TENANTS[0], list(part)):
                if item.index is not None and (at := bisect_right(sizes, item.index)) < len(published):
                    found.append(max(0.0, (published[at][1] - part[item.record_id]) * 1000))
    engine.dispose()
    return found


def fill(place: Place, given: argparse.Namespace, console: Console) -> int:
    """Go on without reader until the log has all entries."""
    have = entries(place)
    if have < given.entries:
        stop, sequencing, counted = Spawn.Event(), Spawn.Event(), Spawn.Value("q", 0)
        results, published = Spawn.Queue(), Spawn.Queue()
        writers = [
            Spawn.Process(target=write_until, args=(place, 100 + n, stop, counted, results))
            for n in range(given.writers)
        ]
        sequencer = Spawn.Process(target=sequence_until, args=(place, sequencing, published))
        for process in (sequencer, *writers):
            process.start()
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(f"fill the log up to {given.entries:,}", total=given.entries)
            while have + counted.value < given.entries:
                progress.update(task, completed=have + counted.value)
                time.sleep(0.2)
        stop.set()
        for _ in writers:
            results.get()
        for process in writers:
            process.join()
        while size(place) < entries(place):
            time.sleep(0.2)
        sequencing.set()
        published.get()
        sequencer.join()
    return entries(place)


# --- proofs, search, fsck


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def proofs(place: Place, samples: int, console: Console) -> list[Row]:
    """Return what a proof takes, from files, any record of the log; each is verified."""
    engine, rng, vkeys = make_engine(place.url, pool_size=1), random.Random(2), place.signers.vkeys
    folder, tenant = LogFolder(place.log), TENANTS[0]
    with scope(engine, tenant) as connection, console.status("proofs ..."):
        total = store.glance(connection).head.size
        ids = some_ids(connection, tenant, samples, rng)
        took = [timed(lambda one=one: prove.proof_of(connection, tenant, one, folder)) for one in ids]
        for one in ids[::50]:
            proof = prove.proof_of(connection, tenant, one, folder)
            assert proof is not None
            verify_proof(proof.as_dict(), vkeys)
        sizes = store.checkpoint_sizes(connection, 0, total)
        steps = [
            timed(lambda old=old: prove.consistency(connection, old, total, folder))
            for old in rng.choices(sizes, k=min(samples, 300))
        ]
    engine.dispose()
    return [
        Row("ledger_inclusion_proof_p50_ms", percentile(took, 50), "ms"),
        Row("ledger_inclusion_proof_p99_ms", percentile(took, 99), "ms"),
        Row("ledger_consistency_proof_p99_ms", percentile(steps, 99), "ms"),
    ]


def some_ids(connection: sa.Connection, tenant: UUID, count: int, rng: random.Random) -> list[str]:
    """Return record ids spread over the whole log."""
    low, high = connection.execute(
        sa.select(sa.func.min(store.record_table.c.id), sa.func.max(store.record_table.c.id)).where(
            store.record_table.c.tenant == tenant
        )
    ).one()
    ids, (first, last) = [], (int(low[-16:], 16), int(high[-16:], 16))
    for _ in range(count):
        text = f"{low[:-16]}{rng.randrange(min(first, last), max(first, last)):016x}"
        found = connection.exec_driver_sql(
            "select id from qcos.ledger_record where tenant = %s and id >= %s order by id limit 1",
            (tenant, text),
        ).scalar()
        ids.append(found or low)
    return ids


def searches(server: embedded.EmbeddedServer, place: Place, samples: int, console: Console) -> list[Row]:
    """Return what searches take: right after a restart of the server, and warm."""
    with console.status("searches ..."):
        rows, tenant, rng = [], TENANTS[0], random.Random(3)
        engine = make_engine(place.url, pool_size=1)
        with psycopg.connect(server.admin_url.replace("+psycopg", ""), autocommit=True) as owner:
            owner.execute("vacuum analyze qcos.ledger_record")  # as autovacuum does, once it comes round
        with scope(engine, tenant) as connection:
            ids = some_ids(connection, tenant, samples, rng)
            known = [one.record for one in store.placed(connection, tenant, ids)]
        times = sorted(dt.datetime.fromisoformat(one["time"]) for one in known)
        kinds: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "object": lambda one: {"object": one["object"]},
            "actor": lambda one: {"actor": one["actor"]},
            "actor_since": lambda one: {"actor": one["actor"], "since": rng.choice(times)},
            "since_until": lambda one: {
                "since": (at := rng.choice(times)),
                "until": at + dt.timedelta(seconds=5),
            },
            "act_actor_project": lambda one: {name: one[name] for name in ("act", "actor", "project")},
            "rare_act": lambda one: {"act": "key.created"},
            "everything": lambda one: (
                {name: one[name] for name in ("act", "actor", "object", "project")} | {"since": times[0]}
            ),
        }
        for name, filters in kinds.items():
            engine.dispose()
            embedded.stop(server.directory)  # its cache is empty then; the operating system's is not
            embedded.start(server.directory, port=server.port)
            took = []
            for one in rng.choices(known, k=max(samples // 5, 20)):
                with scope(engine, tenant) as connection:
                    given = filters(one)
                    took.append(timed(lambda c=connection, g=given: store.search(c, tenant, **g)))
            rows += [
                Row(f"ledger_search_{name}_first_ms", took[0], "ms"),
                Row(f"ledger_search_{name}_p50_ms", percentile(took, 50), "ms"),
                Row(f"ledger_search_{name}_p99_ms", percentile(took, 99), "ms"),
            ]
        engine.dispose()
    return rows


def checks(place: Place, console: Console) -> list[Row]:
    """Return the seconds fsck takes: of the files alone, and with the database and every record."""
    rows = []
    engine = make_engine(place.url, pool_size=2)
    kinds: dict[str, dict[str, Any]] = {"files": {}, "everything": {"engine": engine, "tenants": TENANTS}}
    for name, more in kinds.items():
        began, used = time.perf_counter(), time.process_time()
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(f"fsck, {name}", total=None)
            report = fsck(
                place.log,
                place.signers.vkeys,
                progress=lambda done, total, t=task, p=progress: p.update(t, completed=done, total=total),
                **more,
            )
        assert report.ok, report.problems
        counts = f"{report.size:,} entries, {report.tiles:,} tiles, {report.checkpoints:,} checkpoints"
        console.print(f"[dim]fsck, {name}: {counts}, {report.records:,} records[/]")
        rows.append(Row(f"ledger_fsck_{name}_s", time.perf_counter() - began, "s"))
        rows.append(Row(f"ledger_fsck_{name}_cpu_s", time.process_time() - used, "s"))
    engine.dispose()
    return rows


# --- the floor and the machine


def floor_per_s(server: embedded.EmbeddedServer, place: Place, groups: int = 200) -> float:
    """Return entries a second of what cannot be left out: the bytes on the disk, hashed, in files."""
    items = [
        prepare(TENANTS[0], one, dt.datetime.now(dt.UTC)) for one in records(random.Random(0), place.batch)
    ]
    with psycopg.connect(server.admin_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("create table public.floor (digest bytea, record bytea)")
        target = place.log.parent / "floor"
        target.mkdir()
        began = time.perf_counter()
        hashes: list[bytes] = []
        for _ in range(groups):
            with connection.cursor().copy("copy public.floor from stdin (format binary)") as copy:
                copy.set_types(["bytea", "bytea"])
                for item in items:
                    copy.write_row((item.digest, item.record_bytes))
            hashes += [leaf_hash(item.entry_bytes) for item in items]
        for start in range(0, len(hashes), 256):
            part = hashes[start : start + 256]
            fold(part)
            for name in ("entries", "tile"):
                with (target / f"{name}{start}").open("wb") as handle:
                    handle.write(b"".join(part) * (4 if name == "entries" else 1))
                    handle.flush()
                    os.fsync(handle.fileno())
        seconds = time.perf_counter() - began
        connection.execute("drop table public.floor")
    return groups * len(items) / seconds


def cpu(groups: dict[str, list[Any]], postmaster: int) -> dict[str, float]:
    """Return the CPU seconds of the run's processes."""
    used = {
        name: sum(sum(psutil.Process(p.pid).cpu_times()[:2]) for p in members)
        for name, members in groups.items()
    }
    used["postgres"] = sum(
        sum(p.cpu_times()[:2]) for p in [psutil.Process(postmaster), *psutil.Process(postmaster).children()]
    )
    return used


def size(place: Place) -> int:
    return int((place.log / "checkpoint").read_text().split("\n")[1])


def entries(place: Place) -> int:
    with psycopg.connect(place.url.replace("+psycopg", "")) as connection:
        row = connection.execute("select count(*) from qcos.ledger_entry").fetchone()
    assert row is not None
    return int(row[0])


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "?")
    system = f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {system}, fsync on"


if __name__ == "__main__":
    main()
