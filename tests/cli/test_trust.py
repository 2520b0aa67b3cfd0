"""``qcos trust update`` and ``show``: what they write, and what they leave alone."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.wire import Wire, told
from evidence.site import Site
from faults.house import has_open
from faults.world import until
from qcos.cli import options
from qcos.keys.make import make_keys
from qcos.ledger.note import COSIGNATURE_ED25519, Vkey

from .conftest import Run


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Three documents that follow each other."""
    made = Site(tmp_path / "keys")
    made.publish()
    made.rotate("evidence", "Ed25519")
    made.publish()
    made.revoke(made.key("ledger", "ML-DSA-44"))
    made.publish()
    return made


@pytest.fixture
def trust(site: Site, tmp_path: Path) -> Path:
    """The first of them, as somebody holds it."""
    file = tmp_path / "trust.json"
    file.write_text(json.dumps(site.documents[0]))
    file.chmod(0o600)
    return file


def page(items: list[Any], following: int | None = None) -> Any:
    return told({"items": items, "next": following, "complete": following is None})


def test_it_follows_page_by_page_and_tells_what_changed(
    run: Run, wire: Wire, site: Site, trust: Path
) -> None:
    wire.on("GET", "trust/updates", page(site.steps[:1], 1), page(site.steps[1:2], 2), page(site.steps[2:]))
    ran = run("trust", "update", "--trust", trust)
    assert ran.code == 0, ran.err
    for word in ("added", "retired", "revoked", "stolen", "2027-01-0", "version 1 to 3"):
        assert word in ran.out
    assert [asked.query["after"] for asked in wire.asked] == ["0", "1", "2"]
    assert json.loads(trust.read_text()) == site.documents[2]
    assert stat.S_IMODE(trust.stat().st_mode) == 0o600


def test_a_file_that_stands_beside_it_is_not_written_through(
    run: Run, wire: Wire, site: Site, trust: Path, tmp_path: Path
) -> None:
    """Somebody who may write to the folder foresaw a name and laid a link there."""
    other = tmp_path / "other"
    other.write_text("mine")
    for name in (f".trust.json.{os.getpid()}", "trust.json.new", "trust.json.tmp"):
        (tmp_path / name).symlink_to(other)
    beside = {path.name for path in tmp_path.iterdir()}
    wire.on("GET", "trust/updates", page(site.steps))
    assert run("trust", "update", "--trust", trust).code == 0
    assert json.loads(trust.read_text()) == site.documents[2]
    assert other.read_text() == "mine" and {path.name for path in tmp_path.iterdir()} == beside
    ran = run("trust", "update", "--trust", trust, "-o", tmp_path / "none" / "trust.json", "--json")
    assert ran.error()["code"] == "cli.file"


def test_a_pipe_is_written_to_and_not_replaced(
    run: Run, wire: Wire, site: Site, trust: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        wire.on("GET", "trust/updates", page(site.steps[:1]))
        assert run("trust", "update", "--trust", trust, "-o", pipe).code == 0
        assert json.loads(os.read(reader, 2**20)) == site.documents[0]
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_is_the_newest_is_left_as_it_is(run: Run, wire: Wire, site: Site, trust: Path) -> None:
    before = trust.stat().st_ino, trust.stat().st_mtime_ns
    wire.on("GET", "trust/updates", page(site.steps[:1]))
    assert "version 1 is the newest" in run("trust", "update", "--trust", trust).out
    assert (trust.stat().st_ino, trust.stat().st_mtime_ns) == before


def test_a_server_that_lags_behind_or_goes_round_is_refused(
    run: Run, wire: Wire, site: Site, trust: Path
) -> None:
    trust.write_text(json.dumps(site.documents[2]))
    wire.on("GET", "trust/updates", page([]), page(site.steps[2:], 2))
    ran = run("trust", "update", "--trust", trust, "--json")
    assert (ran.code, ran.error()["code"]) == (10, "trust.rollback")
    ran = run("trust", "update", "--trust", trust, "--json")
    assert (ran.code, ran.error()["code"]) == (1, "trust.update")
    assert json.loads(trust.read_text()) == site.documents[2]


@pytest.mark.parametrize("first, more", [(1, []), (1, [0]), (2, [1])])
def test_a_server_whose_pages_never_end_is_left(
    run: Run, wire: Wire, site: Site, trust: Path, first: int, more: list[int]
) -> None:
    """Each page may say that there is another: only a step that leads on is a reason to ask for it."""
    before = trust.read_text()
    again = page([site.steps[n] for n in more], 10**6)
    wire.on("GET", "trust/updates", page(site.steps[:first], first), again)
    ran = run("trust", "update", "--trust", trust, "--json")
    assert (ran.code, ran.error()["code"]) == (1, "trust.update")
    assert len(wire.asked) == 2 and trust.read_text() == before


@pytest.mark.parametrize("answer", [None, [], 3, {}, {"items": None}, {"items": {}}, {"items": 3, "next": 4}])
def test_an_answer_that_is_no_page_is_refused(
    run: Run, wire: Wire, site: Site, trust: Path, answer: Any
) -> None:
    wire.on("GET", "trust/updates", told(answer))
    ran = run("trust", "update", "--trust", trust, "--json")
    assert (ran.code, ran.error()["code"]) == (1, "trust.update")


@pytest.mark.parametrize("following", [0, -1, True, "1", 1.5, []])
def test_a_next_page_that_is_no_later_version_is_refused(
    run: Run, wire: Wire, site: Site, trust: Path, following: Any
) -> None:
    wire.on("GET", "trust/updates", page(site.steps[:1], following))
    ran = run("trust", "update", "--trust", trust, "--json")
    assert (ran.code, ran.error()["code"]) == (1, "trust.update")


def test_a_file_of_updates_needs_no_server_and_may_hold_nothing_new(
    run: Run, wire: Wire, site: Site, trust: Path, tmp_path: Path
) -> None:
    updates, new = tmp_path / "updates.json", tmp_path / "new.json"
    updates.write_text(json.dumps({"items": site.steps[1:]}))
    done = run("trust", "update", "--trust", trust, "--from", updates, "-o", new, "--json").json()
    assert [step["version"] for step in done["steps"]] == [2, 3]
    updates.write_text(json.dumps({"items": []}))
    again = run("trust", "update", "--trust", new, "--from", updates, "--json").json()
    assert (again["steps"], again["version"]) == ([], 3)
    for wrong in ({}, {"items": 3}):
        updates.write_text(json.dumps(wrong))
        ran = run("trust", "update", "--trust", new, "--from", updates, "--json")
        assert (ran.code, ran.error()["code"]) == (1, "trust.update")
    assert wire.asked == [] and json.loads(trust.read_text()) == site.documents[0]


def test_other_witnesses_are_accepted_when_told_so(run: Run, wire: Wire, site: Site, trust: Path) -> None:
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    witness = str(Vkey("w.test", COSIGNATURE_ED25519, key))
    site.documents, site.steps = [], []
    site.publish(witnesses={"quorum": 1, "keys": [{"vkey": witness}]})
    trust.write_text(json.dumps(site.documents[0]))
    site.publish()
    wire.on("GET", "trust/updates", page(site.steps), page(site.steps))
    ran = run("trust", "update", "--trust", trust, "--json")
    assert (ran.code, ran.error()["code"]) == (1, "trust.witnesses")
    assert json.loads(trust.read_text()) == site.documents[0]
    done = run("trust", "update", "--trust", trust, "--accept-witnesses", "--json").json()
    assert {"removed", "witnesses"} == {one["change"] for one in done["changes"]}


def test_the_countersigner_goes_only_when_told_so(run: Run, wire: Wire, site: Site, trust: Path) -> None:
    """Who has every key but that of the HSM could sign so, and seal evidence without the HSM from then on."""
    site.documents, site.steps = [], []
    site.change({}, make_keys(site.stores, site.entries, "evidence", ["ECDSA-P384"], site.at, "file"))
    site.publish()
    site.rotate("evidence", "ECDSA-P384")  # replaced, by its own signature too
    site.publish()
    site.revoke(site.key("evidence", "ECDSA-P384"))
    site.publish()
    site.publish()
    trust.write_text(json.dumps(site.documents[0]))
    wire.on("GET", "trust/updates", page(site.steps[:2]), page(site.steps[1:]))
    assert run("trust", "update", "--trust", trust, "--json").json()["version"] == 2
    ran = run("trust", "update", "--trust", trust, "--json")
    assert (ran.code, ran.error()["code"]) == (1, "trust.countersigner")
    assert json.loads(trust.read_text()) == site.documents[1]
    done = run("trust", "update", "--trust", trust, "--accept-countersigner", "--json").json()
    assert done["version"] == 4


def test_show_tells_keys_periods_version_and_digest(run: Run, site: Site, trust: Path) -> None:
    shown = run("trust", "show", trust, "--json").json()
    assert (shown["version"], shown["origin"]) == (1, "qcos.test/ledger")
    text = run("trust", "show", trust).out
    for key in shown["keys"]:
        assert key["key"] in text
    assert shown["digest"] in text and "2027-01-01" in text
    trust.write_text("{}")
    assert run("trust", "show", trust, "--json").error()["code"] == "trust.malformed"


def test_two_at_once_take_one_step_after_the_other(site: Site, trust: Path, tmp_path: Path) -> None:
    """The slower one holds an older list of updates: it reads what the faster one wrote, and takes nothing back."""
    updates = tmp_path / "updates.json"
    updates.write_text(json.dumps({"items": site.steps[:2]}))
    command = [
        str(Path(sys.executable).parent / "qcos"),
        "trust",
        "update",
        "--trust",
        str(trust),
        "--from",
        str(updates),
        "--json",
    ]
    with trust.open("rb") as faster:
        fcntl.flock(faster, fcntl.LOCK_EX)
        slower = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(lambda: has_open(slower.pid, trust), "the slower one waits for the file")
        newest = tmp_path / "newest"
        newest.write_text(json.dumps(site.documents[2]))
        newest.rename(trust)
    out, err = slower.communicate(timeout=60)
    assert (slower.returncode, json.loads(err)["code"]) == (10, "trust.rollback"), out
    assert json.loads(trust.read_text()) == site.documents[2]


def test_who_keeps_the_file_is_not_waited_for_without_end(
    run: Run, wire: Wire, site: Site, trust: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may read it can lock it."""
    monkeypatch.setattr(options, "LOCK_WAIT_S", 0.1)
    wire.on("GET", "trust/updates", page(site.steps))
    with trust.open("rb") as kept:
        fcntl.flock(kept, fcntl.LOCK_SH)
        ran = run("trust", "update", "--trust", trust, "--json")
    assert ran.error()["code"] == "cli.locked"
    assert json.loads(trust.read_text()) == site.documents[0] and wire.asked == []
