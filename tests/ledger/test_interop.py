"""Others' implementation of the same standards meets ours: witness, log, verifier (C2SP tlog-witness, tlog-tiles).

`aics-witness` and `aics-tlog` know Ed25519 only and nothing of QCOS; requirements/oracle.txt installs them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from qcos.ledger.collect import Witnesses
from qcos.ledger.edge import Edge
from qcos.ledger.files import LogFolder
from qcos.ledger.nodes import consistency_of
from qcos.ledger.note import COSIGNATURE_ED25519, parse_vkey, verify
from qcos.ledger.publish import read_status
from qcos.ledger.sequence import Sequencer
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.verify import verify_checkpoint
from real_keystores import START_S, free_port

from .conftest import ORIGIN, make_signers, record_acts
from .log import grow
from .servers import Serving, policy_of

if importlib.util.find_spec("aics_witness") is None:
    pytest.skip(
        "NOT COMPARED: aics-witness is not installed (requirements/oracle.txt)", allow_module_level=True
    )

ENTRIES = [b"entry %d" % n for n in range(1000)]


def tool(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=200)


@contextlib.contextmanager
def their_witness(folder: Path, signers: LedgerSigners) -> Iterator[tuple[str, str]]:
    """Run their witness; yields its verifier key and address."""
    folder.mkdir()
    config = folder / "witness.json"
    made = tool("aics_witness", "init", "--config", config, "--name", "theirs.example/w")
    assert made.returncode == 0, made.stderr
    vkey = next(word for word in made.stdout.split() if word.startswith("theirs.example/w+"))
    added = tool(
        *("aics_witness", "add-log", "--config", config, "--origin", ORIGIN, "--vkey", signers.vkeys[0])
    )
    assert added.returncode == 0, added.stderr
    port = free_port()
    command = [sys.executable, "-m", "aics_witness", "serve", "--config", str(config)]
    with subprocess.Popen([*command, "--listen", f"127.0.0.1:{port}"], stderr=subprocess.PIPE) as process:
        try:
            until = time.monotonic() + START_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None and time.monotonic() < until, "their witness does not answer"
                time.sleep(0.05)
            yield vkey, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.communicate()


def test_their_witness_cosigns_our_checkpoints_and_refuses_our_fork(
    database, engine: sa.Engine, tmp_path: Path, tenant: UUID
) -> None:
    signers = make_signers()
    with their_witness(tmp_path / "theirs", signers) as (text, url):
        vkey = parse_vkey(text)
        policy = policy_of([], "all", (vkey, url))
        log = tmp_path / "log"
        sequencer = Sequencer(engine, log, signers, ORIGIN, witnesses=Witnesses(policy, timeout_s=60.0))
        for size, count in ((3, 3), (259, 256), (700, 441)):
            record_acts(engine, tenant, count)
            assert sequencer.step().size == size
            note = (log / "checkpoint").read_text()
            assert verify_checkpoint(note, signers.vkeys, policy)[0].size == size
            assert (read_status(log) or {})["met"] is True
        again = Sequencer(
            engine, tmp_path / "again", signers, ORIGIN, witnesses=Witnesses(policy, timeout_s=60.0)
        )
        record_acts(engine, tenant, 1)
        again.step()  # a process that knows nothing of what it has: 409 and a proof
        assert (
            verify_checkpoint((tmp_path / "again/checkpoint").read_text(), signers.vkeys, policy)[0].size
            == 701
        )
        fork = grow(tmp_path / "fork", Edge(), ENTRIES[:800], signers, int(time.time()))
        checkpoint, _ = verify_checkpoint(fork, signers.vkeys)
        files = LogFolder(tmp_path / "fork")
        refused = Witnesses(policy, timeout_s=60.0).collect(
            checkpoint, fork, lambda old: consistency_of(files, old, 800)
        )
        assert not refused.met
        (told,) = refused.told
        assert told.outcome == "refused" and told.shown
        assert verify_checkpoint(told.shown, signers.vkeys[:1])[0].size == 701


FEEDER = """
import json, sys
from aics_witness.feeder import WitnessClient
url, vkey, notes, proofs = json.loads(sys.stdin.read())
client = WitnessClient(url, vkey, max_attempts=1)
said = []
for size, note in notes:
    try:
        said.append(client.submit(note, lambda old, new: [bytes.fromhex(x) for x in proofs[f"{old}-{new}"]]))
    except Exception as error:
        said.append(type(error).__name__)
print(json.dumps(said))
"""


def test_their_log_is_witnessed_by_us(tmp_path: Path) -> None:
    """Their client checks our cosignatures, our 409 and our 422."""
    signers, edge = make_signers(), Edge()
    sizes = (1, 5, 300, 300, 700)
    notes = [(size, grow(tmp_path / "log", edge, ENTRIES[edge.size : size], signers)) for size in sizes]
    fork = grow(tmp_path / "fork", Edge(), [b"forged", *ENTRIES[1:700]], signers)
    files = LogFolder(tmp_path / "log")
    proofs = {
        f"{old}-{new}": [value.hex() for value in consistency_of(files, old, new)] if old < new else []
        for old in (0, *sizes)
        for new in sizes
        if old <= new
    }
    witness = Serving(tmp_path / "ours", "ours.example/w", signers.vkeys[:1])
    (vkey,) = [key for key in witness.keys.vkeys if key.kind == COSIGNATURE_ED25519]
    given = json.dumps([witness.url, str(vkey), [*notes, (700, fork), notes[1]], proofs])
    try:
        done = subprocess.run(
            [sys.executable, "-c", FEEDER],
            input=given,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"NO_PROXY": "127.0.0.1"},
        )
    finally:
        witness.stop()
    *good, forged, old = json.loads(done.stdout)
    for (_, note), lines in zip(notes, good, strict=True):
        _, signed = verify(note + lines, [vkey])
        assert signed[0].time
    assert (forged, old) == ("WitnessRejected", "WitnessAhead")


def test_their_verifier_reads_our_log(tmp_path: Path) -> None:
    """Checkpoint, inclusion of every kind of leaf, and growth, from our folder of tiles."""
    signers, edge = make_signers(), Edge()
    old = grow(tmp_path / "log", edge, ENTRIES[:300], signers)
    grow(tmp_path / "log", edge, ENTRIES[300:], signers)
    (tmp_path / "old").write_text(old)
    key = ("--log-key", signers.vkeys[0], "--origin", ORIGIN, "--tiles", tmp_path / "log")
    checked = tool("aics_tlog", "verify-checkpoint", *key)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    grown = tool("aics_tlog", "verify-consistency", "--old-checkpoint", tmp_path / "old", *key)
    assert grown.returncode == 0, grown.stdout + grown.stderr
    for index in (0, 255, 256, 511, 767, 768, 999):
        (tmp_path / "entry").write_bytes(ENTRIES[index])
        found = tool(*("aics_tlog", "verify-inclusion", "--index", index, "--leaf", tmp_path / "entry", *key))
        assert found.returncode == 0, found.stdout + found.stderr
    other = grow(tmp_path / "fork", Edge(), [b"forged", *ENTRIES[1:300]], signers)
    (tmp_path / "old").write_text(other)
    assert tool("aics_tlog", "verify-consistency", "--old-checkpoint", tmp_path / "old", *key).returncode != 0
