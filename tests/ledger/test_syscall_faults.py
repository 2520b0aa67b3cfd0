"""The operating system fails the sequencer, call by call: full disk, broken disk. Nothing false is published, and it goes on.

`strace` puts an error in the place of the n-th call of a kind, in a sequencer of its own process. Each case is only counted when
the trace shows that it was hit.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from qcos.ledger.checkpoint import parse_body
from qcos.ledger.fsck import fsck
from qcos.ledger.note import parse
from qcos.ledger.sequence import Sequencer

from .conftest import ORIGIN, make_signers, record_acts

SEED = bytes(range(32))
# Each kind of call with the error it is made to have, which of them fail (every one, every fourth), and how many a step of 300
# entries makes at least: tiles, partial tiles, folders, the checkpoint.
CASES = [
    ("write", "ENOSPC", 1, 5),
    ("write", "EIO", 4, 1),
    ("fsync", "EIO", 1, 9),
    ("fsync", "ENOSPC", 4, 2),
    ("rename", "EIO", 1, 5),
    ("rename", "ENOSPC", 4, 1),
    ("mkdir", "ENOSPC", 1, 1),
    ("openat", "ENOSPC", 4, 4),
    ("openat", "EMFILE", 5, 3),
    ("flock", "EIO", 1, 1),
    ("read", "EIO", 1, 1),
]


@dataclass
class Sequencing:
    """The process, and what it says."""

    process: subprocess.Popen[bytes]
    told: socket.socket
    directory: Path

    def step(self) -> str:
        self.told.sendall(b"step")
        return self.told.recv(100).decode()

    @property
    def published(self) -> int:
        note = self.directory / "checkpoint"
        return parse_body(parse(note.read_text())[0]).size if note.exists() else 0


@pytest.fixture
def sequencing(database, tmp_path: Path) -> Iterator[Sequencing]:
    ours, theirs = socket.socketpair()
    ours.settimeout(120)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ledger.faulty",
            str(theirs.fileno()),
            database.app_url,
            str(tmp_path / "log"),
            SEED.hex(),
        ],
        cwd=Path(__file__).parents[1],
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    yield Sequencing(process, ours, tmp_path / "log")
    ours.close()
    process.wait(60)


def step_with_fault(
    strace: Path, one: Sequencing, call: str, error: str, when: int, trace: Path
) -> tuple[str, bool]:
    """Let it step while the ``when``-th call of a kind fails; returns its answer and whether that call was made."""
    command = [
        str(strace), "-f", "-qq", "-p", str(one.process.pid), "-o", str(trace), "-e", f"trace={call}",
        "-e", f"inject={call}:error={error}:when={when}",
    ]  # fmt: skip
    tracer = subprocess.Popen(command)
    status = Path(f"/proc/{one.process.pid}/status")
    while f"TracerPid:\t{tracer.pid}\n" not in status.read_text():
        if tracer.poll() is not None:
            pytest.skip("strace may not attach to a process here")
    answer = one.step()
    tracer.terminate()
    tracer.wait(60)
    return answer, "(INJECTED)" in trace.read_text()


@pytest.mark.parametrize(("call", "error", "every", "least"), CASES)
def test_a_failing_call_is_survived_and_the_log_stays_whole(
    component: Callable[[str], Path],
    sequencing: Sequencing,
    engine: sa.Engine,
    tenant: UUID,
    tmp_path: Path,
    call: str,
    error: str,
    every: int,
    least: int,
) -> None:
    """R5.5: after every fault the same process goes on, nothing is lost, and fsck finds nothing."""
    strace, signers = component("strace"), make_signers(seed=SEED)
    record_acts(engine, tenant, 10)
    assert sequencing.step() == "size 10"  # everything is imported and connected now
    total, hits = 10, 0
    for when in itertools.count(1, every):
        record_acts(engine, tenant, 300)
        before, total = sequencing.published, total + 300
        answer, hit = step_with_fault(strace, sequencing, call, error, when, tmp_path / f"trace-{when}")
        if not hit:  # a step makes no more of them
            assert answer == f"size {total}"
            break
        hits += 1
        assert answer == f"errno {getattr(errno, error)}"
        assert sequencing.published in (before, total)  # whole, whichever it is
        assert sequencing.step() == f"size {total}"
        assert sequencing.published == total
        assert sorted(path.name for path in (sequencing.directory / ".making").iterdir()) == ["lock"]
    assert hits >= least
    report = fsck(sequencing.directory, signers.vkeys, engine, tenants=[tenant])
    assert report.ok, report.problems
    assert (report.size, report.records) == (total, total)


def test_another_process_goes_on_after_one_that_failed(
    component: Callable[[str], Path],
    sequencing: Sequencing,
    engine: sa.Engine,
    tenant: UUID,
    tmp_path: Path,
) -> None:
    """The first one dies of the fault instead of trying again."""
    signers = make_signers(seed=SEED)
    record_acts(engine, tenant, 10)
    assert sequencing.step() == "size 10"
    record_acts(engine, tenant, 600)
    answer, hit = step_with_fault(component("strace"), sequencing, "fsync", "EIO", 6, tmp_path / "trace")
    assert (answer, hit) == (f"errno {errno.EIO}", True)
    os.kill(sequencing.process.pid, 9)
    assert Sequencer(engine, sequencing.directory, signers, ORIGIN).step().size == 610
    report = fsck(sequencing.directory, signers.vkeys, engine, tenants=[tenant])
    assert report.ok, report.problems
