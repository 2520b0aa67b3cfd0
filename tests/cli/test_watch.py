"""The ledger is checked from outside: a copied folder, two checkpoints, a log on the network (R5.5, R4.2)."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.conftest import make_signers
from ledger.log import grow
from ledger.servers import witnesses
from qcos.ledger.checkpoint import encode
from qcos.ledger.edge import Edge
from qcos.ledger.files import LogFolder
from qcos.ledger.nodes import consistency_of
from qcos.ledger.note import join, parse, parse_vkey
from qcos.ledger.quorum import read_witnesses
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.submission import read_submission, write_submission
from qcos.ledger.verify import verify_checkpoint

from .conftest import Run

SIGNERS = make_signers()
ENTRIES = [f"entry {n}".encode() for n in range(1000)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of 300 entries; its first checkpoint, of 100, is kept."""
    edge = Edge()
    (tmp_path / "old").write_text(grow(tmp_path / "log", edge, ENTRIES[:100], SIGNERS))
    grow(tmp_path / "log", edge, ENTRIES[100:300], SIGNERS)
    return tmp_path / "log"


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    return write_trust(tmp_path / "trust.json", SIGNERS)


def write_trust(file: Path, signers: LedgerSigners, **more: Any) -> Path:
    file.write_text(json.dumps({"ledger": [{"vkey": vkey} for vkey in signers.vkeys], **more}))
    return file


@pytest.fixture
def offline(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.delenv("QCOS_URL")
    monkeypatch.delenv("QCOS_TOKEN")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return run


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder as plain files: all that a monitor needs."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_copied_folder_is_verified_offline(offline: Run, log: Path, trust: Path, tmp_path: Path) -> None:
    """Every entry hashed, every tile compared; one changed byte is found and named."""
    copy = tmp_path / "copy"
    shutil.copytree(log, copy)
    report = offline("ledger", "verify", copy, "--trust", trust, "--json").json()
    assert report["ok"] is True and report["size"] == 300 and report["tiles"] == 3
    for name in ("tile/entries/000", "tile/0/001.p/44", "tile/1/000.p/1", "checkpoint"):
        good = (copy / name).read_bytes()
        (copy / name).write_bytes(good[:40] + bytes([good[40] ^ 1] if len(good) > 40 else b"x") + good[41:])
        ran = offline("ledger", "verify", copy, "--trust", trust, "--json")
        assert ran.code == 1
        if name != "checkpoint":
            assert any(
                name in problem["subject"] or "bundle" in problem["subject"] or "tree" in problem["subject"]
                for problem in ran.json()["problems"]
            )
        (copy / name).write_bytes(good)
    assert offline("ledger", "verify", tmp_path, "--trust", trust).code == 1
    assert offline("ledger", "verify", copy, "--trust", trust).code == 0


def test_consistency_of_two_files_needs_no_server(
    offline: Run, log: Path, trust: Path, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", log / "checkpoint"
    for arguments in (
        (old, new, "--tiles", log),
        (old, "--tiles", log),
        (old, new, "--proof", proof_file(log, tmp_path / "p1", as_json=True)),
        (old, new, "--proof", proof_file(log, tmp_path / "p2", as_json=False)),
    ):
        found = offline("ledger", "consistency", *arguments, "--trust", trust, "--json").json()
        assert (found["ok"], found["since"], found["size"]) == (True, 100, 300)
    (tmp_path / "p3").write_text("")
    for arguments in (
        (old, new, "--proof", tmp_path / "p3"),
        (new, old, "--proof", tmp_path / "p2"),
        (old, forked(tmp_path / "fork", 300), "--tiles", log),
        (old, "--tiles", forked(tmp_path / "fork2", 400).parent),
    ):
        ran = offline("ledger", "consistency", *arguments, "--trust", trust, "--json")
        assert ran.code == 1, ran.out
        assert ran.json()["ok"] is False
    assert offline("ledger", "consistency", old, "--proof", tmp_path / "p2", "--trust", trust).code == 2


def proof_file(log: Path, file: Path, *, as_json: bool) -> Path:
    hashes = [encode(value) for value in consistency_of(LogFolder(log), 100, 300)]
    file.write_text(json.dumps({"old": 100, "new": 300, "hashes": hashes}) if as_json else "\n".join(hashes))
    return file


def forked(folder: Path, size: int) -> Path:
    """Make another history with the log's own keys; return its checkpoint."""
    grow(folder, Edge(), [b"forged", *ENTRIES[1:size]], SIGNERS)
    return folder / "checkpoint"


def test_witnesses_are_demanded_of_folders_and_checkpoints(
    offline: Run, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with witnesses(tmp_path, SIGNERS, 2) as running:
        member = {"quorum": 2, "keys": [{"vkey": str(one.vkey)} for one in running]}
        strict = write_trust(tmp_path / "strict.json", SIGNERS, witnesses=member)
        ran = offline("ledger", "verify", log, "--trust", strict, "--json")
        assert ran.code == 1 and ran.json()["problems"][0]["code"] == "ledger.unwitnessed"
        assert offline("ledger", "consistency", tmp_path / "old", "--tiles", log, "--trust", strict).code == 1
        import httpx

        note = (log / "checkpoint").read_text()
        answers = [
            httpx.post(
                f"{one.url}/add-checkpoint",
                content=write_submission(0, [], note),
                timeout=60,
                trust_env=False,
            )
            for one in running
        ]
        (log / "checkpoint").write_text(note + "".join(answer.text for answer in answers))
    assert offline("ledger", "verify", log, "--trust", strict).code == 0
    found = offline(
        "ledger", "consistency", tmp_path / "old", "--tiles", log, "--trust", strict, "--json"
    ).json()
    assert [one["name"] for one in found["witnesses"]] == ["w0.example", "w1.example"]


@pytest.fixture
def watch(run: Run, trust: Path, tmp_path: Path) -> Any:
    def look(url: str, *more: object) -> Any:
        return run(
            *(
                "ledger",
                "monitor",
                "--url",
                url + "/",
                "--trust",
                trust,
                "--state",
                tmp_path / "state",
                "--once",
            ),
            *more,
            "--json",
        )

    return look


def test_a_monitor_follows_a_log_of_plain_files(watch: Any, tmp_path: Path) -> None:
    """R5.5: consistency is computed from tiles; the server proves nothing."""
    site, edge = tmp_path / "site", Edge()
    with serving(tmp_path) as url:
        at = f"{url}/site"
        assert watch(at).code == 6  # nothing is there yet
        for size, entries in ((100, True), (300, False), (300, True), (1000, True)):
            grow(site, edge, ENTRIES[edge.size : size], SIGNERS)
            before = edge.size
            found = watch(at, *(["--entries"] if entries else [])).json()
            assert found["ok"] is True and found["size"] == size == before
        assert json.loads((tmp_path / "state").read_text())["checkpoint"] == (site / "checkpoint").read_text()


def test_a_monitor_proves_a_split_view(watch: Any, log: Path, tmp_path: Path) -> None:
    """R5.5: both signed checkpoints are kept in a file that convinces others; the kept state stays."""
    with serving(tmp_path) as url:
        assert watch(f"{url}/log").code == 0
        state = (tmp_path / "state").read_text()
        for size in (300, 400, 250):
            forked(tmp_path / f"fork-{size}", size)
            place = "log" if size < 300 else f"fork-{size}"
            if size < 300:  # a smaller tree of another history, shown with the tiles of the larger one
                shutil.copy(tmp_path / f"fork-{size}/checkpoint", log / "checkpoint")
            ran = watch(f"{url}/{place}")
            assert ran.code == 1
            assert ran.json()["code"] == "ledger.split_view"
            shown = json.loads(Path(ran.json()["evidence"]).read_text())
            roots = {
                (one.size, one.root)
                for one in (verify_checkpoint(shown[name], SIGNERS.vkeys)[0] for name in ("old", "new"))
            }
            assert len(roots) == 2 and {one[0] for one in roots} == {300, size}
            assert (tmp_path / "state").read_text() == state


def test_a_monitor_sees_a_log_that_goes_back_or_stands_still(watch: Any, log: Path, tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        assert watch(f"{url}/log").code == 0
        stale = watch(f"{url}/log", "--max-age", "60")
        assert stale.code == 6 and stale.json()["code"] == "ledger.stale"
        shutil.copy(tmp_path / "old", log / "checkpoint")
        back = watch(f"{url}/log")
        assert back.code == 1 and back.json()["code"] == "ledger.rolled_back"
        assert Path(back.json()["evidence"]).exists()


def test_a_monitor_asks_witnesses_what_they_were_shown(watch: Any, log: Path, tmp_path: Path) -> None:
    """The log shows us one history and the witness another: neither alone can know."""
    import httpx

    with witnesses(tmp_path, SIGNERS, 2) as running, serving(tmp_path) as url:
        honest, forged = (log / "checkpoint").read_text(), forked(tmp_path / "fork", 280).read_text()
        for one, note in zip(running, (honest, forged), strict=True):
            body = write_submission(0, [], note)
            assert read_submission(body).old == 0
            answer = httpx.post(f"{one.url}/add-checkpoint", content=body, timeout=60, trust_env=False)
            assert answer.status_code == 200
        assert watch(f"{url}/log", "--witness", running[0].url).code == 0
        ran = watch(f"{url}/log", "--witness", running[0].url, "--witness", running[1].url)
        assert ran.code == 1 and ran.json()["code"] == "ledger.split_view"


def test_a_monitor_runs_until_it_is_told_to_stop(log: Path, trust: Path, tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        command = [Path(sys.executable).with_name("qcos"), "ledger", "monitor", "--url", f"{url}/log"]
        command += ["--trust", trust, "--state", tmp_path / "state", "--interval", "0.1", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert [json.loads(process.stdout.readline())["size"] for _ in range(2)] == [300, 300]
            second = subprocess.run([*command, "--once"], capture_output=True, text=True, check=False)
            assert second.returncode == 5 and "another monitor" in second.stderr
            (log / "checkpoint").rename(log / "away")
            while (told := json.loads(process.stdout.readline()))["ok"]:
                pass
            assert told["code"] == "ledger.empty"
            (log / "away").rename(log / "checkpoint")
            while not json.loads(process.stdout.readline())["ok"]:
                pass
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def test_a_damaged_state_is_not_taken_for_none(watch: Any, log: Path, tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        for text in ("{}", "[]", "", '{"schema": "x", "checkpoint": "y"}'):
            (tmp_path / "state").write_text(text)
            assert watch(f"{url}/log").code == 2


def test_the_quorum_counts_what_the_trust_document_says(log: Path) -> None:
    """The helper above would hide a policy that is never met."""
    text, lines = parse((log / "checkpoint").read_text())
    policy = read_witnesses({"quorum": 0, "keys": []})
    assert verify_checkpoint(join(text, lines), SIGNERS.vkeys, policy)
    assert all(parse_vkey(vkey) for vkey in SIGNERS.vkeys)
