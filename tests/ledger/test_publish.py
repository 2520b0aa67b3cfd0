"""Checkpoints are witnessed before they are published; nobody is shown two histories."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from qcos.base.errors import Integrity, Invalid
from qcos.db.engine import make_engine, scope
from qcos.ledger import prove, publish, store
from qcos.ledger.audit import audit
from qcos.ledger.checkpoint import encode
from qcos.ledger.collect import Witnesses
from qcos.ledger.note import COSIGNATURE_MLDSA44, Vkey, sign_line
from qcos.ledger.publish import read_status
from qcos.ledger.quorum import read_policy
from qcos.ledger.sequence import Sequencer, Step
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.store import Head
from qcos.ledger.submission import SIZE_TYPE, read_submission
from qcos.ledger.verify import verify_checkpoint, verify_proof

from .conftest import ORIGIN, make_signers, record_acts
from .servers import Serving, answering, policy_of, say, say_packed, witnesses

SEED = bytes(range(32))
# For witnesses that answer: longer than any of them takes, on any machine. What is tested here is what they say, not how soon.
PATIENT = {"timeout_s": 60.0, "grace_s": 60.0}


@pytest.fixture
def three(tmp_path: Path, signers: LedgerSigners) -> Iterator[list[Serving]]:
    with witnesses(tmp_path, signers, 3) as running:
        yield running


def outcomes(log: Path) -> dict[str, str]:
    status = read_status(log)
    assert status is not None
    return {one["name"]: one["outcome"] for one in status["witnesses"]}


def published(log: Path) -> str | None:
    path = log / "checkpoint"
    return path.read_text() if path.exists() else None


def test_the_published_checkpoint_carries_the_cosignatures(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID, three: list[Serving]
) -> None:
    """R5.5: what is published, and every proof, meets the policy that verifiers pin."""
    log = tmp_path / "log"
    policy = policy_of(three, 2)
    sequencer = Sequencer(engine, log, signers, ORIGIN, witnesses=Witnesses(policy, **PATIENT))
    for count in (3, 1, 300, 7):
        acts = record_acts(engine, tenant, count)
        size = sequencer.step().size
        checkpoint, signatures = verify_checkpoint((log / "checkpoint").read_text(), signers.vkeys, policy)
        assert checkpoint.size == size
        assert len(policy.demand(signatures)) == 3
        with scope(engine, tenant) as connection:
            proof = prove.proof_of(connection, tenant, acts[0].record_id)
        assert proof is not None
        verify_proof(proof, signers.vkeys, witnesses=policy)
    assert set(outcomes(log).values()) == {"cosigned"}


def test_one_of_three_may_be_away_and_two_may_not(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID, three: list[Serving]
) -> None:
    """Nothing is published that too few have cosigned; acts go on, and all is covered when they are back."""
    log = tmp_path / "log"
    policy = policy_of(three, 2)
    sequencer = Sequencer(engine, log, signers, ORIGIN, witnesses=Witnesses(policy, timeout_s=60.0))
    record_acts(engine, tenant, 3)
    sequencer.step()
    three[0].stop()
    record_acts(engine, tenant, 3)
    assert sequencer.step().size == 6
    assert verify_checkpoint(published(log) or "", signers.vkeys, policy)[0].size == 6
    three[1].stop()
    acts = record_acts(engine, tenant, 300)
    for _ in range(3):
        acts += record_acts(engine, tenant, 3)
        sequencer.step()
    before = published(log)
    assert before is not None and verify_checkpoint(before, signers.vkeys)[0].size == 6
    status = read_status(log)
    assert status is not None and status["met"] is False and status["withheld_s"] >= 0
    assert outcomes(log) == {
        "w0.example": "unreachable",
        "w1.example": "unreachable",
        "w2.example": "cosigned",
    }
    with scope(engine, tenant) as connection:
        assert store.latest_checkpoint(connection)[0] == 6  # type: ignore[index]
        assert prove.proof_of(connection, tenant, acts[0].record_id) is None
    three[0].start()
    three[1].start()
    while published(log) == before:  # the pause between two rounds is bounded
        sequencer.step()
        time.sleep(0.02)
    checkpoint, _ = verify_checkpoint(published(log) or "", signers.vkeys, policy)
    assert checkpoint.size == 315
    assert audit(log, signers.vkeys).ok
    with scope(engine, tenant) as connection:
        proof = prove.proof_of(connection, tenant, acts[0].record_id)
    assert proof is not None
    verify_proof(proof, signers.vkeys, witnesses=policy)


@pytest.mark.parametrize("deadly", ["numbered", "written", "witnessed", "signed", "published"])
def test_a_sequencer_killed_anywhere_goes_on_with_its_witnesses(
    database, engine: sa.Engine, tmp_path: Path, tenant: UUID, deadly: str
) -> None:
    """kill -9 after each write: the witnesses cosign the same tree again, and one checkpoint is kept."""
    signers = make_signers(seed=SEED)
    log = tmp_path / "log"
    with witnesses(tmp_path, signers, 2) as running:
        policy = policy_of(running, "all")
        lines = "".join(f"witness w{n} {one.vkey} {one.url}\n" for n, one in enumerate(running))
        (tmp_path / "policy").write_text(lines + "group both all w0 w1\nquorum both\n")
        record_acts(engine, tenant, 300)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ledger.dying", database.app_url, str(log), SEED.hex(), deadly),
                str(tmp_path / "policy"),
            ],
            cwd=Path(__file__).parents[1],
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
        if deadly != "published":  # else nothing is left to do for the same size
            assert published(log) is None
        sequencer = Sequencer(engine, log, signers, ORIGIN, witnesses=Witnesses(policy, timeout_s=60.0))
        assert sequencer.step().size == 300
        verify_checkpoint(published(log) or "", signers.vkeys, policy)
        record_acts(engine, tenant, 5)
        assert sequencer.step().size == 305
        verify_checkpoint(published(log) or "", signers.vkeys, policy)
        assert set(outcomes(log).values()) == {"cosigned"}


def race(url: str, log: str, policy: str, rounds: int) -> None:
    """Sequence in a process of its own, and write down every checkpoint that was published meanwhile."""
    signers, folder = make_signers(seed=SEED), Path(log)
    engine = make_engine(url, pool_size=3)
    sequencer = Sequencer(
        engine,
        folder,
        signers,
        ORIGIN,
        witnesses=Witnesses(read_policy(Path(policy).read_text()), timeout_s=60.0),
        batch=40,
    )
    with (folder / f"seen-{multiprocessing.current_process().pid}").open("w") as seen:
        for _ in range(rounds):
            sequencer.step()
            if note := published(folder):
                seen.write(json.dumps(note) + "\n")


def test_sequencers_in_different_processes_publish_one_root_for_a_size(
    database, engine: sa.Engine, tmp_path: Path, tenant: UUID
) -> None:
    """R5.5: compare-and-swap: two on one folder, and one on a stale copy of it, while acts are recorded."""
    signers = make_signers(seed=SEED)
    with witnesses(tmp_path, signers, 2) as running:
        lines = "".join(f"witness w{n} {one.vkey} {one.url}\n" for n, one in enumerate(running))
        (tmp_path / "policy").write_text(lines + "group one any w0 w1\nquorum one\n")
        policy = read_policy((tmp_path / "policy").read_text())
        record_acts(engine, tenant, 300)
        shared, stale = tmp_path / "shared", tmp_path / "stale"
        first = Sequencer(engine, shared, signers, ORIGIN, witnesses=Witnesses(policy, timeout_s=60.0))
        first.step()
        shutil.copytree(shared, stale)
        record_acts(engine, tenant, 200)
        first.step()
        spawn = multiprocessing.get_context("spawn")
        racing = [
            spawn.Process(target=race, args=(database.app_url, str(log), str(tmp_path / "policy"), 25))
            for log in (shared, shared, stale)
        ]
        for process in racing:
            process.start()
        while any(process.is_alive() for process in racing):
            record_acts(engine, tenant, 7)
            time.sleep(0.02)  # else so much waits, where the others are slow, that the ledger takes no more
        assert [process.exitcode for process in racing] == [0, 0, 0]
        roots: dict[int, set[str]] = {}
        for file in (*shared.glob("seen-*"), *stale.glob("seen-*")):
            for line in file.read_text().splitlines():
                checkpoint, _ = verify_checkpoint(json.loads(line), signers.vkeys, policy)
                roots.setdefault(checkpoint.size, set()).add(encode(checkpoint.root))
        assert len(roots) > 3
        assert all(len(found) == 1 for found in roots.values())
        for log in (shared, stale):
            while (
                Sequencer(engine, log, signers, ORIGIN, witnesses=Witnesses(policy, timeout_s=60.0))
                .step()
                .added
            ):
                pass
            for left in log.glob("seen-*"):
                left.unlink()
            assert audit(log, signers.vkeys).ok


@pytest.fixture
def restore(postgres, database, engine: sa.Engine) -> Iterator[Callable[[], sa.Engine]]:
    """Copies the database as it is now; what it returns is the copy, restored."""
    name = f"{sa.make_url(database.app_url).database}_copy"
    admin = sa.create_engine(postgres.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    made: list[sa.Engine] = []

    def copy() -> sa.Engine:
        engine.dispose()
        with admin.connect() as connection:
            source = sa.make_url(database.app_url).database
            connection.exec_driver_sql(f"create database {name} template {source}")
        url = sa.make_url(database.app_url).set(database=name).render_as_string(hide_password=False)
        made.append(make_engine(url))
        return made[-1]

    yield copy
    for one in made:
        one.dispose()
    with admin.connect() as connection:
        connection.exec_driver_sql(f"drop database if exists {name} with (force)")


@pytest.mark.parametrize(
    ("acts", "code", "outcome"),
    [(3, "rolled_back", "ahead"), (15, "forked", "refused")],
    ids=["shorter than what was witnessed", "longer"],
)
def test_a_restored_database_with_a_new_folder_finds_no_witness_for_another_history(
    engine: sa.Engine,
    restore: Callable[[], sa.Engine],
    tmp_path: Path,
    tenant: UUID,
    signers: LedgerSigners,
    three: list[Serving],
    acts: int,
    code: str,
    outcome: str,
) -> None:
    """The folder would have told; without it the witnesses do, and nothing is published (R5.5)."""
    policy = policy_of(three, 2)
    record_acts(engine, tenant, 2)
    Sequencer(engine, tmp_path / "log", signers, ORIGIN, witnesses=Witnesses(policy, timeout_s=60.0)).step()
    backup = restore()
    record_acts(engine, tenant, 8)
    Sequencer(engine, tmp_path / "log", signers, ORIGIN, witnesses=Witnesses(policy, **PATIENT)).step()
    honest = published(tmp_path / "log")
    new = tmp_path / "new"
    record_acts(backup, tenant, acts)
    with pytest.raises(Integrity) as caught:
        Sequencer(backup, new, signers, ORIGIN, witnesses=Witnesses(policy, **PATIENT)).step()
    assert caught.value.code == f"ledger.{code}"
    assert set(outcomes(new).values()) == {outcome}
    with scope(backup, None) as connection:
        assert store.latest_checkpoint(connection)[0] == 2  # type: ignore[index]
    shown = json.loads((new / "split-view.json").read_text())
    theirs, ours = [verify_checkpoint(shown[name], signers.vkeys)[0] for name in ("old", "new")]
    assert (theirs.size, ours.size) == (10, 2 + acts)
    assert honest is not None and verify_checkpoint(honest, signers.vkeys)[0].root == theirs.root
    shown_still = published(new)  # of the history before the backup
    assert shown_still is not None and verify_checkpoint(shown_still, signers.vkeys)[0].size == 2


def test_two_databases_on_one_folder_publish_one_history(
    engine: sa.Engine,
    restore: Callable[[], sa.Engine],
    tmp_path: Path,
    signers: LedgerSigners,
    tenant: UUID,
) -> None:
    """A copy of the database, started beside the original on the same folder: the second one stops."""
    record_acts(engine, tenant, 3)
    Sequencer(engine, tmp_path, signers, ORIGIN).step()
    other = restore()
    first, second = (Sequencer(one, tmp_path, signers, ORIGIN) for one in (engine, other))
    first.step(), second.step()
    record_acts(engine, tenant, 300)
    record_acts(other, tenant, 5)  # its tiles have other names: only the checkpoint can tell
    second.step()
    honest = published(tmp_path)
    with pytest.raises(Integrity) as caught:
        first.step()
    assert caught.value.code == "ledger.forked"
    assert published(tmp_path) == honest


def test_an_idle_log_shows_that_it_is_alive(
    engine: sa.Engine,
    tmp_path: Path,
    signers: LedgerSigners,
    tenant: UUID,
    three: list[Serving],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its checkpoint is signed and witnessed again with new times; the one that proofs carry stays, and nothing goes back."""
    monkeypatch.setattr(publish, "CHECKPOINT_FRESH_S", 0.0)
    log, policy = tmp_path / "log", policy_of(three, 2)
    sequencer, other = (
        Sequencer(engine, log, signers, ORIGIN, witnesses=Witnesses(policy, **PATIENT)) for _ in range(2)
    )
    record_acts(engine, tenant, 3)
    first = sequencer.step()
    before = published(log)
    with scope(engine, None) as connection:
        kept = store.checkpoint_of(connection, 3)
    assert kept is not None and kept[1] == before

    def times(note: str | None) -> list[int]:
        checkpoint, signatures = verify_checkpoint(note or "", signers.vkeys, policy)
        assert (checkpoint.size, checkpoint.root) == (3, first.root)
        assert len(policy.demand(signatures)) == 3
        return [one.time for one in signatures if one.time]

    while min(times(published(log))) <= max(times(before)):
        assert sequencer.step() == Step(3, 0, first.root)
        time.sleep(0.05)
    with scope(engine, None) as connection:
        assert store.checkpoint_of(connection, 3) == kept
    three[0].stop(), three[1].stop()
    standing = published(log)
    sequencer.step()
    assert published(log) == standing, "too few witnesses: the old one stands"
    assert (read_status(log) or {})["met"] is False
    three[0].start(), three[1].start()
    record_acts(engine, tenant, 2)
    while other.step().size < 5 or verify_checkpoint(published(log) or "", signers.vkeys)[0].size < 5:
        time.sleep(0.05)
    later = published(log)
    sequencer._publisher._again = 0.0
    sequencer._publisher.freshen(Head(3, first.root))
    assert published(log) == later, "another sequencer has gone on meanwhile"
    assert audit(log, signers.vkeys).ok


IN_THE_WAY = {
    "nothing": (b"", "ledger.note"),
    "noise": (b"\xff\xfe" * 30, "ledger.note"),
    "a page": (b"<html>\n\n\xe2\x80\x94 x YWJjZGVm\n", "ledger.checkpoint"),
    "too much": (b"x" * 2_000_000, "ledger.file_size"),
    "another log": (
        b"other.example/log\n0\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 x YWJjZGVm\n",
        "ledger.origin",
    ),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
@pytest.mark.parametrize("running", [True, False], ids=["running", "started anew"])
def test_what_stands_in_the_checkpoints_place_is_told_and_left(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID, what: str, running: bool
) -> None:
    """Neither a stop without a reason nor an overwrite; moved away, all is published that waited."""
    data, code = IN_THE_WAY[what]
    record_acts(engine, tenant, 3)
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    sequencer.step()
    file = tmp_path / "checkpoint"
    file.write_bytes(data)
    record_acts(engine, tenant, 2)
    for _ in range(2):
        sequencer = sequencer if running else Sequencer(engine, tmp_path, signers, ORIGIN)
        with pytest.raises(Integrity) as caught:
            sequencer.step()
        assert (caught.value.code, caught.value.subject) == (code, str(file))
        assert file.read_bytes() == data
    file.unlink()
    assert sequencer.step().size == 5
    assert verify_checkpoint(file.read_text(), signers.vkeys)[0].size == 5


def test_a_pipe_in_the_checkpoints_place_holds_nobody_up(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    """The sequencer waits, as for a disk that fails, and says so."""
    os.mkfifo(tmp_path / "checkpoint")
    record_acts(engine, tenant, 1)
    with pytest.raises(OSError, match="not a regular file"):
        Sequencer(engine, tmp_path, signers, ORIGIN).step()


STRANGER = make_signers("evil.example")
EVIL = Vkey("evil.example", COSIGNATURE_MLDSA44, STRANGER.mldsa44.public_bytes)


def evil_line(body: bytes, time_: int) -> str:
    return str(sign_line(EVIL, read_submission(body).checkpoint.body, STRANGER.mldsa44.sign, time_))


def injected(body: bytes) -> bytes:
    """A blank line in the answer: the signature would hold over another text than the checkpoint."""
    given = read_submission(body)
    prefix = "\n" + "x\n"
    text = given.note + prefix
    return (prefix + "\n" + str(sign_line(EVIL, text, STRANGER.mldsa44.sign, 1))).encode()


HOSTILE = {
    "another size for ever": lambda h, b: say(h, 409, b"0\n", SIZE_TYPE),
    "a size that is none": lambda h, b: say(h, 409, b"-1\n", SIZE_TYPE),
    "a size of another type": lambda h, b: say(h, 409, b"5\n"),
    "an endless size": lambda h, b: say(h, 409, b"9" * 400, SIZE_TYPE),
    "a larger size than there is": lambda h, b: say(h, 409, b"999999\n", SIZE_TYPE),
    "refusal": lambda h, b: say(h, 422, b"no\n"),
    "an error": lambda h, b: say(h, 500, b"oops"),
    "a redirect": lambda h, b: say(h, 302, b""),
    "nothing": lambda h, b: say(h, 200, b""),
    "noise": lambda h, b: say(h, 200, b"\xff\xfe" * 30),
    "too much": lambda h, b: say(h, 200, b"x" * 2_000_000),
    "too much, packed": lambda h, b: say_packed(h, b"x" * 2_000_000),
    "no time": lambda h, b: say(h, 200, evil_line(b, 0).encode()),
    "a time long ago": lambda h, b: say(h, 200, evil_line(b, 1_000_000_000).encode()),
    "another text": lambda h, b: say(h, 200, injected(b)),
    "a broken signature": lambda h, b: say(
        h, 200, evil_line(b, int(time.time())).replace("A", "B", 1).encode()
    ),
    "a closed connection": lambda h, b: h.connection.close(),
    "silence": lambda h, b: h.rfile.read(1) and None,  # until the log hangs up
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_bad_witness_neither_counts_nor_harms(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID, how: str
) -> None:
    """With a good one beside it the log goes on; without it nothing is published."""
    record_acts(engine, tenant, 5)
    with witnesses(tmp_path, signers, 1) as good, answering(HOSTILE[how]) as url:
        lenient = policy_of(good, "any", (EVIL, url))
        log = tmp_path / "log"
        asked = Witnesses(lenient, timeout_s=60.0, grace_s=0.3)
        Sequencer(engine, log, signers, ORIGIN, witnesses=asked).step()
        note = published(log)
        assert note is not None
        assert "evil.example" not in note
        verify_checkpoint(note, signers.vkeys, lenient)
        assert outcomes(log)["w0.example"] == "cosigned"
        assert outcomes(log)["evil.example"] != "cosigned"
        asked.close()
        strict = Witnesses(policy_of(good, "all", (EVIL, url)), timeout_s=1.0)
        record_acts(engine, tenant, 5)
        Sequencer(engine, log, signers, ORIGIN, witnesses=strict).step()
        assert published(log) == note
        assert (read_status(log) or {})["met"] is False


def test_a_witness_that_says_two_times_is_kept_with_the_one_that_counts(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    """Else what is published and kept for ever would not meet the quorum for which it was published."""
    record_acts(engine, tenant, 5)

    def twice(body: bytes) -> bytes:
        return (evil_line(body, int(time.time())) + evil_line(body, 0)).encode()

    with witnesses(tmp_path, signers, 1) as good, answering(lambda h, b: say(h, 200, twice(b))) as url:
        policy = policy_of(good, "all", (EVIL, url))
        Sequencer(
            engine, tmp_path / "log", signers, ORIGIN, witnesses=Witnesses(policy, timeout_s=60.0)
        ).step()
        note = published(tmp_path / "log")
        assert note is not None
        verify_checkpoint(note, signers.vkeys, policy)


def test_a_good_answer_counts_as_the_bad_ones_are_made(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    """Else the test above proves nothing."""
    record_acts(engine, tenant, 5)
    with answering(lambda h, b: say(h, 200, evil_line(b, int(time.time())).encode())) as url:
        Sequencer(
            engine,
            tmp_path,
            signers,
            ORIGIN,
            witnesses=Witnesses(policy_of([], "all", (EVIL, url)), timeout_s=60.0),
        ).step()
        assert "evil.example" in (published(tmp_path) or "")


def test_a_slow_witness_does_not_hold_the_others_up(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    released = threading.Event()
    with (
        witnesses(tmp_path, signers, 2) as good,
        answering(lambda h, b: released.wait(60) and None) as url,
    ):
        policy = policy_of(good, 2, (EVIL, url))
        asked = Witnesses(policy, timeout_s=30.0)
        sequencer = Sequencer(engine, tmp_path / "log", signers, ORIGIN, witnesses=asked)
        for size in (4, 8, 12):
            record_acts(engine, tenant, 4)
            sequencer.step()
            note = published(tmp_path / "log") or ""
            assert verify_checkpoint(note, signers.vkeys, policy)[0].size == size
        assert outcomes(tmp_path / "log")["evil.example"] == "busy"
        released.set()
        asked.close()


def test_a_log_learns_what_its_witness_has(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID, three: list[Serving]
) -> None:
    """A new process knows nothing of its witnesses; a witness that was away is some checkpoints behind."""
    log, policy = tmp_path / "log", policy_of(three, "all")
    any_policy = policy_of(three, "any")
    for n in range(4):
        record_acts(engine, tenant, 90)
        if n in (1, 2):
            three[n].stop()
        Sequencer(engine, log, signers, ORIGIN, witnesses=Witnesses(any_policy, **PATIENT)).step()
        if n in (1, 2):
            three[n].start()
    record_acts(engine, tenant, 1)
    Sequencer(engine, log, signers, ORIGIN, witnesses=Witnesses(policy, timeout_s=60.0)).step()
    assert verify_checkpoint(published(log) or "", signers.vkeys, policy)[0].size == 361


def test_a_policy_that_can_never_be_met_is_refused() -> None:
    vkey = str(EVIL)
    with pytest.raises(Invalid, match="can never be enough"):
        Witnesses(read_policy(f"witness a {vkey}\nquorum a\n"))
    for url in ("ftp://x", "not-a-url", "http://", "https://h?x=1"):
        with pytest.raises(Invalid, match="address"):
            Witnesses(read_policy(f"witness a {vkey} {url}\nquorum a\n"))


def test_witnesses_that_are_not_demanded_are_asked_all_the_same(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, three: list[Serving]
) -> None:
    lines = "".join(f"witness w{n} {one.vkey} {one.url}\n" for n, one in enumerate(three))
    asked = Witnesses(read_policy(lines + "quorum none\n"), **PATIENT)
    record_acts(engine, uuid4(), 2)
    Sequencer(engine, tmp_path / "log", signers, ORIGIN, witnesses=asked).step()
    _, signatures = verify_checkpoint(
        published(tmp_path / "log") or "", signers.vkeys, policy_of(three, "all")
    )
    assert len(signatures) == 6
