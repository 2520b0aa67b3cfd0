"""A witness cosigns what continues, refuses what does not, and survives a kill (C2SP tlog-witness)."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcos.base.errors import Conflict, Integrity, Invalid
from qcos.base.limits import WITNESS_CONNECTIONS
from qcos.ledger.checkpoint import Checkpoint, encode, parse_body
from qcos.ledger.note import Vkey, join, parse, parse_vkey, sign_line, verify
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.submission import MAX_SUBMISSION_BYTES, write_submission
from qcos.ledger.tree import EMPTY_ROOT
from qcos.ledger.witness import Answer, Witness
from qcos.ledger.witness_server import WitnessServer
from qcos.ledger.witness_state import WitnessFolder, WitnessKeys

from . import reference
from .conftest import ORIGIN, make_signers

NAME = "witness.example/w1"
NOW = 1_790_000_000
ENTRIES = [f"entry {n}".encode() for n in range(40)]
FORKED = [*ENTRIES[:20], *(b"other " + entry for entry in ENTRIES[20:])]
SEED = bytes(range(32))


class Log:
    """A log of entries, as honest as its callers want it."""

    def __init__(self, signers: LedgerSigners, entries: Sequence[bytes] = ENTRIES) -> None:
        self.signers = signers
        self.entries = entries

    def note(self, size: int) -> str:
        return self.signers.sign(Checkpoint(ORIGIN, size, reference.mth(self.entries[:size])), NOW)

    def proof(self, old: int, new: int) -> list[bytes]:
        return reference.proof(old, self.entries[:new]) if old < new else []

    def body(self, old: int, new: int) -> bytes:
        return write_submission(old, self.proof(old, new), self.note(new))


@pytest.fixture(scope="module")
def log() -> Log:
    return Log(make_signers(seed=SEED))


@pytest.fixture(scope="module")
def fork() -> Log:
    return Log(make_signers(seed=SEED), FORKED)


@pytest.fixture
def folder(tmp_path: Path) -> WitnessFolder:
    return WitnessFolder(tmp_path / "witness")


@pytest.fixture
def keys(folder: WitnessFolder) -> WitnessKeys:
    return folder.open_or_create(NAME)


@pytest.fixture
def witness(folder: WitnessFolder, keys: WitnessKeys, log: Log) -> Witness:
    return Witness(folder, keys, [parse_vkey(vkey) for vkey in log.signers.vkeys], clock=lambda: NOW)


def kept(witness: Witness) -> Checkpoint | None:
    answer = witness.monitored(sha256(ORIGIN.encode()).hexdigest())
    return parse_body(parse(answer.body)[0]) if answer.status == 200 else None


def check_cosigned(answer: Answer, note: str, keys: WitnessKeys, time: int = NOW) -> None:
    """The client's way: append the answer to the checkpoint and verify the note."""
    assert answer.status == 200, answer
    _, signed = verify(note + answer.body, keys.vkeys)
    assert {(held.vkey.algorithm, held.time) for held in signed} == {
        ("ML-DSA-44 cosignature", time),
        ("Ed25519 cosignature", time),
    }


def test_it_cosigns_every_checkpoint_that_continues_the_last(
    witness: Witness, keys: WitnessKeys, log: Log
) -> None:
    old = 0
    for new in (0, 1, 1, 2, 7, 8, 9, 33, 40, 40):
        answer = witness.add_checkpoint(log.body(old, new))
        check_cosigned(answer, log.note(new), keys)
        shown = witness.monitored(sha256(ORIGIN.encode()).hexdigest())
        text, signed = verify(shown.body, [*keys.vkeys, *map(parse_vkey, log.signers.vkeys)])
        assert parse_body(text).size == new
        assert len(signed) == 5  # the log's three signatures and both of the witness
        old = new


def test_it_cosigns_one_history_only(
    witness: Witness, keys: WitnessKeys, log: Log, fork: Log, folder: WitnessFolder
) -> None:
    """R5.5: no split view: whoever forks the log finds no witness for the second history."""
    check_cosigned(witness.add_checkpoint(log.body(0, 30)), log.note(30), keys)
    honest = kept(witness)
    for old, new in ((30, 30), (30, 35), (30, 40)):
        assert witness.add_checkpoint(fork.body(old, new)).status == 422
    for old, new in ((0, 30), (20, 30), (20, 40), (0, 5)):
        assert witness.add_checkpoint(fork.body(old, new)) == Answer(409, "30\n", "text/x.tlog.size")
    assert kept(witness) == honest
    refused = list(folder.directory.glob("*/refused/*"))
    text, _ = verify(refused[0].read_text(), [parse_vkey(vkey) for vkey in fork.signers.vkeys])
    shown = parse_body(text)
    assert (shown.size, shown.root) == (
        30,
        reference.mth(FORKED[:30]),
    )  # with the kept one: two roots, one size
    assert honest is not None and honest.root != shown.root
    check_cosigned(witness.add_checkpoint(log.body(30, 40)), log.note(40), keys)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda log: b"", 400),
        (lambda log: b"\xff" + log.body(0, 5), 400),
        (lambda log: log.body(0, 5).replace(b"old 0", b"old 00"), 400),
        (lambda log: log.body(0, 5).replace(b"old 0", b"old -1"), 400),
        (lambda log: log.body(0, 5).replace(b"old 0", b"old 99999999999999999999"), 400),
        (lambda log: log.body(0, 5).replace(b"old 0\n", b"old 0\r\n"), 400),
        (lambda log: log.body(0, 5).replace(b"old 0\n", b"size 0\n"), 400),
        (lambda log: log.body(0, 5).replace(b"old 0\n\n", b"old 0\n"), 400),
        (lambda log: log.body(0, 5)[:-1], 400),
        (lambda log: write_submission(0, [], log.note(5).replace(f"\n{5}\n", "\n05\n")), 400),
        (lambda log: write_submission(0, [b"x" * 31], log.note(5)), 400),
        (lambda log: write_submission(0, [b"x" * 32] * 64, log.note(5)), 400),
        (lambda log: log.body(0, 5) + b"\xe2\x80\x94 a " + b"A" * MAX_SUBMISSION_BYTES + b"\n", 400),
        (lambda log: log.body(6, 5), 400),
        (lambda log: write_submission(0, [], Log(make_signers("other.example")).note(5)), 403),
        (lambda log: write_submission(0, [], log.note(5).replace(ORIGIN, "nobody.example")), 404),
        (lambda log: write_submission(0, [], log.note(5).replace("\n5\n", "\n6\n")), 403),
        (lambda log: write_submission(0, [], parse(log.note(5))[0] + "\n\u2014 x AAAAAAA=\n"), 403),
        (lambda log: write_submission(0, [b"x" * 32], log.note(5)), 422),
        (lambda log: write_submission(0, [], log.signers.sign(Checkpoint(ORIGIN, 0, b"x" * 32), NOW)), 422),
        (lambda log: log.body(3, 5), 409),
    ],
)
def test_what_it_refuses(witness: Witness, log: Log, change: Callable[[Log], bytes], status: int) -> None:
    """The statuses of the specification; nothing is kept of what is refused."""
    assert witness.add_checkpoint(change(log)).status == status
    assert kept(witness) is None


def test_a_note_with_one_wrong_signature_of_the_log_is_refused(witness: Witness, log: Log) -> None:
    """As of the signed-note specification: known key, wrong signature: malformed."""
    text, lines = parse(log.note(5))
    wrong = sign_line(parse_vkey(log.signers.vkeys[0]), text + "x\n", log.signers.ed25519.sign)
    for signed, status in (([wrong, *lines[1:]], 403), (lines[:1], 200)):
        assert witness.add_checkpoint(write_submission(0, [], join(text, signed))).status == status


def test_proofs_of_other_trees_are_refused(witness: Witness, log: Log) -> None:
    assert witness.add_checkpoint(log.body(0, 7)).status == 200
    good = log.proof(7, 30)
    for proof in ([], good[:-1], [*good, good[0]], [EMPTY_ROOT, *good[1:]], good[::-1]):
        assert witness.add_checkpoint(write_submission(7, proof, log.note(30))).status == 422
    assert witness.add_checkpoint(write_submission(7, [good[0]], log.note(7))).status == 422
    assert witness.add_checkpoint(write_submission(7, good, log.note(30))).status == 200


def test_time_does_not_go_back(folder: WitnessFolder, keys: WitnessKeys, log: Log) -> None:
    """A later tree cosigned at an earlier time would contradict what the witness stated."""
    clock = iter([NOW, NOW - 100, NOW - 4000, NOW + 5])
    vkeys = [parse_vkey(vkey) for vkey in log.signers.vkeys]
    witness = Witness(folder, keys, vkeys, clock=lambda: next(clock))
    check_cosigned(witness.add_checkpoint(log.body(0, 5)), log.note(5), keys)
    check_cosigned(witness.add_checkpoint(log.body(5, 6)), log.note(6), keys)
    assert witness.add_checkpoint(log.body(6, 7)).status == 503
    check_cosigned(witness.add_checkpoint(log.body(6, 7)), log.note(7), keys, NOW + 5)


def test_many_requests_at_once_advance_one_line(
    folder: WitnessFolder, keys: WitnessKeys, log: Log, fork: Log
) -> None:
    """The race of the specification, and a fork racing the honest log, on two witnesses of one folder."""
    vkeys = [parse_vkey(vkey) for vkey in log.signers.vkeys]
    witnesses = [Witness(folder, keys, vkeys, clock=lambda: NOW) for _ in range(2)]
    cosigned: list[tuple[int, bytes]] = []

    def submit(witness: Witness, source: Log) -> None:
        old = 0
        for new in range(1, 41):
            answer = witness.add_checkpoint(source.body(old, new))
            while answer.status == 409 and int(answer.body) <= new:
                old = int(answer.body)
                answer = witness.add_checkpoint(source.body(old, new))
            if answer.status == 200:
                cosigned.append((new, parse_body(parse(source.note(new))[0]).root))
                old = new

    threads = [
        threading.Thread(target=submit, args=(witness, source))
        for witness in witnesses
        for source in (log, fork)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    roots: dict[int, set[bytes]] = {}
    for size, root in cosigned:
        roots.setdefault(size, set()).add(root)
    assert all(len(found) == 1 for found in roots.values())
    last = kept(witnesses[0])
    assert last is not None and last.size == max(roots)
    line = ENTRIES if last.root == reference.mth(ENTRIES[: last.size]) else FORKED
    assert all(found == {reference.mth(line[:size])} for size, found in roots.items())


@pytest.mark.parametrize("deadly", ["checked", "kept"])
def test_a_kill_before_or_after_the_write_changes_nothing_for_the_log(
    tmp_path: Path, log: Log, deadly: str
) -> None:
    """kill -9 between persisting and replying: the log asks again and gets its cosignature."""
    data = tmp_path / "witness"
    folder = WitnessFolder(data)
    keys = folder.open_or_create(NAME)
    vkeys = [parse_vkey(vkey) for vkey in log.signers.vkeys]
    assert Witness(folder, keys, vkeys).add_checkpoint(log.body(0, 9)).status == 200
    done = subprocess.run(
        [sys.executable, "-m", "ledger.dying_witness", str(data), deadly, *log.signers.vkeys],
        input=log.body(9, 30),
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    again = WitnessFolder(data)
    witness = Witness(again, again.open_or_create(None), vkeys)
    answer = witness.add_checkpoint(log.body(9, 30))
    if deadly == "kept":
        assert answer == Answer(409, "30\n", "text/x.tlog.size")
        answer = witness.add_checkpoint(log.body(30, 30))
    assert answer.status == 200
    verify(log.note(30) + answer.body, keys.vkeys)


def test_what_cannot_be_written_is_not_cosigned(
    witness: Witness, folder: WitnessFolder, log: Log, keys: WitnessKeys
) -> None:
    assert witness.add_checkpoint(log.body(0, 9)).status == 200
    path = next(folder.directory.glob("*/checkpoint"))
    text = path.read_text()
    path.unlink()
    path.mkdir()  # root writes everywhere: a folder in the file's place stops it as surely
    assert witness.add_checkpoint(log.body(9, 10)).status == 503
    path.rmdir()
    path.write_text(text)
    check_cosigned(witness.add_checkpoint(log.body(9, 10)), log.note(10), keys)


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"x" * 300_000, b"no note\n"])
def test_damaged_state_stops_the_witness(
    witness: Witness, folder: WitnessFolder, log: Log, data: bytes
) -> None:
    """It must never be taken for `never cosigned`."""
    assert witness.add_checkpoint(log.body(0, 9)).status == 200
    path = next(folder.directory.glob("*/checkpoint"))
    path.write_bytes(data)
    assert witness.add_checkpoint(log.body(9, 10)).status == 500
    assert witness.add_checkpoint(log.body(0, 10)).status == 500


def test_state_changed_by_somebody_else_is_noticed(
    witness: Witness, folder: WitnessFolder, fork: Log, log: Log
) -> None:
    assert witness.add_checkpoint(log.body(0, 30)).status == 200
    path = next(folder.directory.glob("*/checkpoint"))
    path.write_text(fork.note(30))
    assert witness.add_checkpoint(fork.body(30, 40)).status == 500


def test_its_identity_stays(folder: WitnessFolder, keys: WitnessKeys, log: Log) -> None:
    assert folder.open_or_create(None).vkeys == folder.open_or_create(NAME).vkeys == keys.vkeys
    assert all((path.stat().st_mode & 0o777) == 0o600 for path in folder.directory.glob("keys/*.pem"))
    with pytest.raises(Conflict):
        folder.open_or_create("witness.example/other")
    pem = folder.directory / "keys/ed25519.pem"
    pem.chmod(0o644)
    with pytest.raises(Integrity, match="others may read"):
        folder.open_or_create(None)
    pem.unlink()
    with pytest.raises(Integrity):
        folder.open_or_create(None)
    with pytest.raises(Invalid):
        WitnessFolder(folder.directory / "new").open_or_create(None)
    with pytest.raises(Invalid):
        WitnessFolder(folder.directory / "new").open_or_create("two words")
    with pytest.raises(Invalid):
        Witness(folder, keys, [])
    with pytest.raises(Invalid, match="own key"):
        Witness(folder, keys, [Vkey("log.example", vkey.kind, vkey.public) for vkey in keys.vkeys])


@pytest.fixture
def served(tmp_path: Path, log: Log) -> Iterator[dict[str, object]]:
    command = [Path(sys.executable).with_name("qcos"), "witness", "serve", "--data", tmp_path / "served"]
    for vkey in log.signers.vkeys:
        command += ["--log", vkey]
    process = subprocess.Popen(
        [*command, "--name", NAME, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        yield json.loads(process.stdout.readline())
        process.terminate()
        assert process.wait(120) == 0


def test_the_command_serves_the_protocol(served: dict[str, object], log: Log, fork: Log) -> None:
    """Statuses, media types and the monitor's copy, over HTTP by hand."""
    import httpx

    assert served["name"] == NAME and served["logs"] == [ORIGIN]
    vkeys = [parse_vkey(str(vkey)) for vkey in served["vkeys"]]  # type: ignore[attr-defined]
    with httpx.Client(base_url=str(served["url"]), timeout=60, trust_env=False) as http:
        place = f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
        assert http.get(place).status_code == 404
        first = http.post("/add-checkpoint", content=log.body(0, 30))
        assert first.status_code == 200
        verify(log.note(30) + first.text, vkeys)
        shown = http.get(place)
        assert shown.status_code == 200
        verify(shown.text, vkeys)
        conflict = http.post("/add-checkpoint", content=log.body(0, 40))
        assert (conflict.status_code, conflict.text) == (409, "30\n")
        assert conflict.headers["content-type"] == "text/x.tlog.size"
        assert http.post("/add-checkpoint", content=fork.body(30, 40)).status_code == 422
        assert http.post("/add-checkpoint", content=b"hello").status_code == 400
        assert http.post("/add-checkpoint", content=b"x" * (MAX_SUBMISSION_BYTES + 1)).status_code == 413
        assert http.post("/add-checkpoint", content=iter([b"old 0\n"])).status_code == 411
        assert http.post("/other", content=b"x").status_code == 404
        for path in ("/", place + "/../x", "/" + "0" * 64 + "/checkpoint", place.upper()):
            assert http.get(path).status_code == 404
        assert http.put("/add-checkpoint", content=b"x").status_code == 501
        assert http.post("/add-checkpoint", content=log.body(30, 40)).status_code == 200


def test_connections_that_say_nothing_or_little_do_not_keep_others_out(
    served: dict[str, object], log: Log
) -> None:
    import socket

    import httpx

    host, port = str(served["url"]).removeprefix("http://").split(":")
    opened = [socket.create_connection((host, int(port))) for _ in range(100)]
    for connection in opened[:50]:
        connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 1000\r\n\r\nold")
    try:
        answer = httpx.post(
            f"{served['url']}/add-checkpoint", content=log.body(0, 9), timeout=200, trust_env=False
        )
        assert answer.status_code == 200
    finally:
        for connection in opened:
            connection.close()


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_get_an_answer_and_no_cosignature(witness: Witness, log: Log, data: bytes) -> None:
    body = log.body(0, 3)
    for given_body in (data, body[: len(data)] + data, body.replace(b"old 0\n", b"old 0\n" + data)):
        if given_body != body:
            assert 400 <= witness.add_checkpoint(given_body).status < 500
    assert kept(witness) is None


def test_the_encoding_is_that_of_the_specification(log: Log) -> None:
    note = log.note(5)
    head, _, rest = write_submission(3, log.proof(3, 5), note).decode().partition("\n\n")
    assert head.split("\n") == ["old 3", *(encode(value) for value in log.proof(3, 5))]
    assert rest == note


def test_a_place_without_a_thread_is_free_again(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is out of threads for a moment a witness loses no place for ever."""
    server = WitnessServer(witness, "127.0.0.1", 0)

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        for _ in range(2 * WITNESS_CONNECTIONS):
            with socket.socket() as connection, pytest.raises(RuntimeError):
                server.process_request(connection, ("127.0.0.1", 1))
    server.server_close()
