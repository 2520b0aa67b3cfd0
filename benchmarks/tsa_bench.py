"""`make bench-tsa`: time-stamp tokens a second a core, beside the signature alone and `openssl ts` in the same run.

What counts is processor time, user and system together, of whoever makes the tokens: a neighbour on the machine
does not change it, as he changes wall time.

* in process: one token after the other;
* over HTTP: `qcos tsa serve`, one process, several clients at once on connections kept alive; the server's time only;
* a batch: one token over a hash tree of 64 bundles, a bundle's share, tree and record included;
* the floor: the ECDSA P-384 signature in each token, nothing else;
* the peer: `openssl ts -reply`, which is a process for each reply.

Prints a table and writes build/tsa_bench.json: a list of {name, value, unit, floor, ratio, peer, peer_value}.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from rich.console import Console
from rich.table import Table

from qcos.keys.certify import to_pem
from qcos.keys.file import FileKeyring
from qcos.timestamp.archive import ArchiveStamp, EvidenceRecord
from qcos.timestamp.authority import LocalAuthority
from qcos.timestamp.request import request_for
from qcos.timestamp.tree import grow

DATA = b"x" * 3309  # an ML-DSA-65 signature
BAR = 500  # tokens a second a core that were promised


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=3000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("build/tsa_bench.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qcos-tsa-bench-") as name:
        rows = measure(Path(name), given.tokens, given.clients)
    given.output.parent.mkdir(exist_ok=True)
    given.output.write_text(json.dumps(rows, indent=2) + "\n")
    show(rows)
    served = next(row["value"] for row in rows if row["name"] == "tsa_http_tokens_per_cpu_s")
    if served < BAR:
        sys.exit(f"under the bar of {BAR} tokens a second a core")


def measure(folder: Path, tokens: int, clients: int) -> list[dict[str, Any]]:
    keyring = FileKeyring(folder / "keys").open_or_create()
    authority = LocalAuthority(keyring.tsa_key, keyring.tsa_chain)
    query = request_for(DATA).encode()
    sign_s = cpu(lambda: keyring.tsa_key.sign(DATA), tokens)
    reply_s = cpu(lambda: authority.reply(query), tokens)
    batch_s = cpu(lambda: batch(authority), tokens // 64 + 1) / 64
    served_s, wall_s = over_http(folder, query, tokens, clients)
    openssl_s = cpu_of_openssl(folder, keyring.tsa_chain, query)
    floor, peer = 1 / sign_s, ("openssl ts -reply", 1 / openssl_s)
    return [
        row("tsa_in_process_tokens_per_cpu_s", 1 / reply_s, floor, *peer),
        row("tsa_http_tokens_per_cpu_s", 1 / served_s, floor, *peer),
        row("tsa_http_tokens_per_wall_s", 1 / wall_s, floor, None, None),
        row("tsa_batch_of_64_bundles_per_cpu_s", 1 / batch_s, floor, *peer),
    ]


def row(name: str, value: float, floor: float, peer: str | None, peer_value: float | None) -> dict[str, Any]:
    return {"name": name, "value": round(value, 1), "unit": "1/s", "floor": round(floor, 1), "ratio": round(value / floor, 3),
            "peer": peer, "peer_value": round(peer_value, 1) if peer_value else None}  # fmt: skip


def cpu(work: Callable[[], object], count: int) -> float:
    """Return the processor seconds of one call."""
    work()
    began = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - began) / count


def batch(authority: LocalAuthority) -> list[bytes]:
    leaves = [hashlib.sha512(DATA + bytes([number])).digest() for number in range(64)]
    root, trees = grow(leaves)
    token = authority.stamp_digest(root)
    return [EvidenceRecord(((ArchiveStamp(token, tree),),)).encode() for tree in trees]


def over_http(folder: Path, query: bytes, tokens: int, clients: int) -> tuple[float, float]:
    """Return the server's processor seconds, and the wall seconds, of one token over HTTP."""
    command = [
        str(Path(sys.executable).with_name("qcos")),
        "tsa",
        "serve",
        "--json",
        "--port",
        "0",
        "--data",
        str(folder),
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        client(ready["url"], query, 50)
        process = psutil.Process(ready["pid"])
        before, began = process.cpu_times(), time.perf_counter()
        threads = [
            threading.Thread(target=client, args=(ready["url"], query, tokens // clients))
            for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall, after = time.perf_counter() - began, process.cpu_times()
        made = tokens // clients * clients
        return (after.user + after.system - before.user - before.system) / made, wall / made
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def client(url: str, query: bytes, count: int) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    for _ in range(count):
        connection.request("POST", "/", query, {"Content-Type": "application/timestamp-query"})
        answer = connection.getresponse()
        if answer.status != 200 or len(answer.read()) < 1000:
            raise RuntimeError(f"no token: {answer.status}")


def cpu_of_openssl(folder: Path, chain: tuple[bytes, ...], query: bytes, count: int = 40) -> float:
    """Return the processor seconds of one `openssl ts -reply` with the same key, certificate and query."""
    (folder / "leaf.pem").write_text(to_pem(chain[0]))
    (folder / "query").write_bytes(query)
    (folder / "serial").write_text("01\n")
    (folder / "ts.cnf").write_text(
        f"[tsa]\ndefault_tsa = here\n[here]\nserial = {folder}/serial\ndigests = sha512\nsigner_digest = sha512\n"
        "default_policy = 1.2.3.4.1\naccuracy = secs:1\ness_cert_id_alg = sha256\n"
    )
    command = ["openssl", "ts", "-reply", "-config", "ts.cnf", "-queryfile", "query", "-out", "reply",
               "-signer", "leaf.pem", "-inkey", "keys/tsa.pem"]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(count):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / count


def show(rows: list[dict[str, Any]]) -> None:
    columns = ("name", "value", "unit", "floor", "ratio", "peer", "peer_value")
    table = Table(*columns)
    for one in rows:
        table.add_row(*("" if one[column] is None else str(one[column]) for column in columns))
    Console(width=118).print(table)
    print("floor: ECDSA P-384 signatures alone; processor time unless the name says wall")


if __name__ == "__main__":
    main()
