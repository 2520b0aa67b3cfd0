"""Nothing is published that the witnesses have not cosigned, and evidence says who they are (R5.5, R4.2)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcos.base.errors import Integrity
from qcos.evidence.verify import verify
from qcos.ledger.trust import read_ledger_trust
from qcos.ledger.verify import verify_checkpoint

from .house import House, furnish
from .installation import QCOS, running
from .test_keys import until


class Away:
    """`qcos witness serve` on a folder; its operator stops it and starts it again."""

    def __init__(self, data: Path, name: str, trust: Path) -> None:
        self._command = [QCOS, "witness", "serve", "--data", data, "--name", name, "--trust", trust, "--json"]
        self._held = socket.socket()  # bound and not listening: nobody else gets the port while it is stopped
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self._port = str(self._held.getsockname()[1])
        self.start()

    def start(self) -> None:
        command = [*self._command, "--port", self._port]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        with self._process as process:
            process.terminate()

    def close(self) -> None:
        self._held.close()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qcos-witnessed-") as folder:
        yield Path(folder)


def status(house: House) -> dict[str, Any]:
    found: dict[str, Any] = house.auditor.http.get("/ledger/status").json()
    return found


def test_evidence_is_witnessed_and_without_witnesses_it_waits(place: Path) -> None:
    """R5.5, R4.2: two of two witnesses; both away: jobs run, proofs wait, nothing is published; both back: all is covered."""
    data, policy = place / "data", place / "policy"
    with running(data, "aer") as qcos:
        trust = place / "log.json"
        trust.write_text(qcos.trust_file.read_text())
        assert "witnesses" not in qcos.trust
    pair = [Away(place / name, f"{name}.example", trust) for name in ("w1", "w2")]
    lines = [f"witness {one.ready['name']} {one.ready['vkeys'][0]} {one.ready['url']}\n" for one in pair]
    policy.write_text("".join(lines) + "group both all w1.example w2.example\nquorum both\n")
    try:
        with running(data, "aer", {"QCOS_WITNESSES": str(policy)}) as qcos, furnish(qcos) as house:
            witnessed(house)
            waits(house, pair)
    finally:
        for one in pair:
            one.stop()
            one.close()


def witnessed(house: House) -> None:
    """Evidence names both witnesses; a cosignature stripped is one too few."""
    trust = house.qcos.trust
    report = verify(house.bundle(house.run()["job_id"]), trust)
    assert report.ok, report.reason
    assert {one["name"] for one in report.facts["witnesses"]} == {"w1.example", "w2.example"}
    until(lambda: status(house)["witnesses"]["met"])  # one that was slow in the last round is asked again
    assert status(house)["quorum"] == "2 of (w1.example, w2.example)"
    shown = house.qcos_get("/v1/ledger/checkpoint").text
    pinned = read_ledger_trust(trust)
    verify_checkpoint(shown, pinned.vkeys, pinned.witnesses)
    stripped = "".join(line for line in shown.splitlines(True) if not line.startswith("\u2014 w2."))
    with pytest.raises(Integrity):
        verify_checkpoint(stripped, pinned.vkeys, pinned.witnesses)
    assert house.qcos_get("/v1/trust").json()["witnesses"] == trust["witnesses"]


def waits(house: House, pair: list[Away]) -> None:
    """With one witness away jobs are run and nothing is published; once it is back, all is."""
    pair[1].stop()
    job = house.run()
    pending = house.engineer.http.get(f"/jobs/{job['job_id']}/evidence").json()
    assert pending["proof"]["ledger"] is None

    def held_up() -> bool:
        """Tell whether the sequencer has numbered it, and one witness of two has cosigned."""
        told = status(house)
        outcomes = {one["name"]: one["outcome"] for one in told["witnesses"]["witnesses"]}
        return (
            told["published"] < told["size"]
            and told["witnesses"]["met"] is False
            and outcomes == {"w1.example": "cosigned", "w2.example": "unreachable"}
        )

    until(held_up)
    ran = subprocess.run(
        [QCOS, "ledger", "status"],
        env={"QCOS_URL": house.qcos.url, "QCOS_TOKEN": house.auditor.token, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "too few witnesses" in ran.stdout and "unreachable" in ran.stdout
    pair[1].start()
    report = verify(house.bundle(job["job_id"]), house.qcos.trust)
    assert report.ok, report.reason
