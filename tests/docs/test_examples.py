"""What the pages tell a reader to type does what the pages say, on a running installation."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from ledger.servers import Serving
from qcos.db import embedded
from qcos.ledger import tree
from qcos.ledger.submission import write_submission
from stories.installation import Installation, running

from .pages import ROOT, examples, page, table

pytestmark = pytest.mark.xdist_group("docs")  # one installation for all of them
README = page("README.md")
TUTORIAL = page("docs/tutorials/first-job.md")
VERIFY = page("docs/how-to/verify-offline-with-openssl.md")
BY_HAND = page("docs/how-to/verify-the-ledger-by-hand.md")
AUDIT = page("docs/how-to/audit-a-year.md")
API = page("docs/reference/api.md")


@dataclass(frozen=True)
class Reader:
    """Somebody with a fresh home who types what the pages say."""

    qcos: Installation
    home: Path

    def types(self, text: str, *, expected: int = 0, **variables: str) -> str:
        """Run lines of a shell, with the pages' addresses replaced by those of this installation."""
        for told, real in (
            ("http://127.0.0.1:8114", self.qcos.url),
            (".data/admin.token", str(self.qcos.token_file)),
            (".data/ledger", str(self.qcos.data / "ledger")),
        ):
            text = text.replace(told, real)
        return self._run(["sh", "-e", "-c", text], expected, variables)

    def runs(self, program: str, **variables: str) -> str:
        """Run a Python program."""
        return self._run([sys.executable, "-W", "ignore", "-c", program], 0, variables)

    def _run(self, command: list[str], expected: int, variables: dict[str, str]) -> str:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("QCOS_", "OTEL_"))}
        environment = kept | {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        environment |= {"XDG_CONFIG_HOME": str(self.home / ".config")} | variables
        done = subprocess.run(
            command, cwd=self.home, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == expected, f"{command[-1]}\n{said}"
        return said


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with (
        tempfile.TemporaryDirectory(prefix="qcos-docs-") as folder,
        running(Path(folder) / "data", "aer") as qcos,
    ):
        home = Path(folder) / "home"
        home.mkdir()
        (home / "demo").symlink_to(ROOT / "demo")
        yield Reader(qcos, home)


@pytest.fixture(scope="module")
def auditor(reader: Reader) -> Reader:
    """Somebody who typed the README's second terminal, up to its end, and asked for the exact Job Spec and result as well."""
    home = reader.home.parent / "auditor"
    home.mkdir()
    (home / "demo").symlink_to(ROOT / "demo")
    auditor = Reader(reader.qcos, home)
    (block,) = [e.text for e in examples(README, language="sh") if "qcos login" in e.text]
    assert "VERIFIED: all" in auditor.types(block)
    auditor.types("qcos evidence get hello-bell -o bundle.json --spec spec.json --result result.json")
    return auditor


def test_the_readme_leads_to_verified_evidence(auditor: Reader) -> None:
    """R4.2, R8.2: what the README says to type ends in a bundle that verifies."""
    assert json.loads((auditor.home / "bundle.json").read_text())["job_id"] == "hello-bell"


def test_the_tutorial_leads_through(reader: Reader) -> None:
    """Every command of the tutorial, in its order; the refusal is refused."""
    text = TUTORIAL.read_text()
    (program,) = re.findall(r"Save this as `bell.qasm`:\n\n((?:    .*\n)+)", text)
    (reader.home / "bell.qasm").write_text("".join(line[4:] for line in program.splitlines(True)))
    lines = [line.removeprefix("    $ ") for line in text.splitlines() if line.startswith("    $ qcos ")]
    assert len(lines) > 12
    for line in lines:
        if not line.startswith("qcos up"):
            said = reader.types(line, expected=3 if "--classification classified" in line else 0)
    assert "VERIFIED" in said


def test_the_ledger_is_verified_by_hand(auditor: Reader, tmp_path: Path) -> None:
    """R4.2, R5.5: checkpoint, record, whole log, growth and a witness, without any code of QCOS."""
    texts = {
        word.removeprefix("run="): example.text
        for example in examples(BY_HAND)
        for word in example.words
        if word.startswith("run=")
    }
    (record,) = json.loads(auditor.types("qcos ledger search --act evidence.sealed -n 1 --json"))["items"]
    auditor.types("qcos trust -o trust.json; cp checkpoint old-checkpoint 2>/dev/null || true")
    auditor.types(texts["fetch"], RECORD=record["id"])
    assert "Signature Verified Successfully" in auditor.types(texts["signature"])
    assert auditor.runs(texts["inclusion"]).splitlines()[0] == "in the ledger: True"
    shutil.copy(auditor.home / "checkpoint", auditor.home / "old-checkpoint")
    assert [line.rpartition(" ")[2] for line in auditor.runs(texts["whole"]).splitlines()] == ["True", "True"]
    witness = Serving(tmp_path / "witness", "w.example", list(auditor.qcos.vkeys))
    try:
        body = write_submission(0, [], (auditor.home / "checkpoint").read_text())
        assert (
            httpx.post(f"{witness.url}/add-checkpoint", content=body, timeout=60, trust_env=False).status_code
            == 200
        )
        seen = {"WITNESS": witness.url, "VKEY": str(witness.keys.vkeys[1]), "NO_PROXY": "127.0.0.1"}
        assert "Signature Verified Successfully" in auditor.types(texts["witness"], **seen)
    finally:
        witness.stop()
    old = (auditor.home / "old-checkpoint").read_text().splitlines(True)
    root = hashlib.sha256(b"forged").digest()
    forged = [old[0], old[1], base64.b64encode(root).decode() + "\n", *old[3:]]
    (auditor.home / "old-checkpoint").write_text("".join(forged))
    assert auditor.runs(texts["whole"]).splitlines()[1].endswith("False")
    shutil.copy(auditor.home / "old-checkpoint", auditor.home / "checkpoint")
    assert "Failure" in auditor.types(texts["signature"], expected=1)


def test_a_year_is_audited_as_the_page_says(auditor: Reader) -> None:
    """R4.2, R5.1-R5.4: the auditor's page, from the first checkpoint to the money."""
    steps = {
        run: text
        for run in ("begin", "ledger", "records", "sample", "evidence", "money")
        for text in [examples(AUDIT, run=run)[0].text]
    }
    auditor.types(steps["begin"])
    auditor.types("qcos project create audited --team research --cost-center CC-2")
    _copy_ledger(auditor, (auditor.home / "checkpoint-begin").read_bytes())
    assert "VERIFIED" in auditor.types(steps["ledger"])
    auditor.types(steps["records"].replace("2026-01-01", "2020-01-01"))
    assert "VERIFIED" in auditor.types(steps["sample"])
    assert "VERIFIED: all" in auditor.types(steps["evidence"])
    auditor.types(steps["money"])
    assert json.loads((auditor.home / "usage.json").read_text())


def _copy_ledger(auditor: Reader, begin: bytes) -> None:
    """Copy the ledger's folder once a later checkpoint stands in it, and as it is between two of them: it may grow meanwhile."""
    ledger, deadline = auditor.qcos.data / "ledger", time.monotonic() + 120
    while True:
        assert time.monotonic() < deadline, "no later checkpoint is published"
        before = (ledger / "checkpoint").read_bytes()
        if before != begin:
            shutil.rmtree(auditor.home / "ledger", ignore_errors=True)
            with contextlib.suppress(shutil.Error):  # a file was put in another's place under the copier
                shutil.copytree(ledger, auditor.home / "ledger")
                if (ledger / "checkpoint").read_bytes() == before:
                    return
        time.sleep(0.1)


def test_openssl_verifies_what_the_page_says_it_does(auditor: Reader) -> None:
    """R4.2: Ed25519 signature, RFC 3161 token, statement and ledger, without any code of QCOS."""
    (unpack,) = examples(VERIFY, run="unpack")
    auditor.runs(unpack.text)
    signature, stamp = (e.text for e in examples(VERIFY, run="openssl"))
    assert "Signature Verified Successfully" in auditor.types(signature)
    told = auditor.types(stamp)
    assert "Verification: OK" in told
    assert re.search(r"^Time stamp: \w+ +\d+ [\d:.]+ \d{4} GMT$", told, re.MULTILINE)
    (compare,) = examples(VERIFY, run="compare")
    assert auditor.runs(compare.text).splitlines() == [
        "shown is signed: True",
        "spec.json is the input: True",
        "result.json is the output: True",
    ]
    (ledger,) = examples(VERIFY, run="ledger")
    assert auditor.runs(ledger.text).splitlines() == [
        "in the ledger: True",
        "the record is of this statement: True",
    ]
    message = (auditor.home / "message").read_bytes()
    (auditor.home / "message").write_bytes(message[:-1] + bytes([message[-1] ^ 1]))
    assert "Failure" in auditor.types(signature, expected=1)
    stamped = (auditor.home / "ml-dsa-65.sig").read_bytes()
    (auditor.home / "ml-dsa-65.sig").write_bytes(bytes([stamped[0] ^ 1]) + stamped[1:])
    assert "FAILED" in auditor.types(stamp.splitlines()[0], expected=1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the page opens files as one does in a hurry
def test_the_pages_ledger_check_holds_for_every_place_in_a_tree(tmp_path: Path) -> None:
    """The dozen lines of the page agree with the tree on all shapes up to 20 entries, and refuse another root."""
    (block,) = examples(VERIFY, run="ledger")
    (tmp_path / "statement.json").write_text("{}")
    code = compile(block.text.replace('open("', f'open("{tmp_path}/'), "page", "exec")
    records = [b'{"details":{}}' + b" " * n for n in range(20)]
    leaves = [
        tree.leaf_hash(
            b'{"record":"sha256:%s","schema":"qcos.ledger.entry/v1"}' % hashlib.sha256(r).hexdigest().encode()
        )
        for r in records
    ]
    for size in range(1, 21):
        for index in range(size):
            for root, holds in ((_root(leaves[:size]), True), (bytes(32), False)):
                proof = {"record": _text(records[index]), "index": index, "size": size}
                proof["hashes"] = [_text(h) for h in _path(index, leaves[:size])]
                proof["checkpoint"] = f"origin\n{size}\n{_text(root)}\n"
                (tmp_path / "bundle.json").write_text(json.dumps({"proof": {"ledger": proof}}))
                said: list[str] = []
                exec(code, {"print": lambda *words, said=said: said.append(" ".join(map(str, words)))})
                assert said[0] == f"in the ledger: {holds}", (index, size)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


def _root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1."""
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return hashlib.sha256(b"\1" + _root(leaves[:k]) + _root(leaves[k:])).digest()


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 9162, section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*_path(index, leaves[:k]), _root(leaves[k:])]
    return [*_path(index - k, leaves[k:]), _root(leaves[:k])]


def test_the_python_example_submits_and_shows_counts(reader: Reader) -> None:
    reader.types("qcos project create py --team research --cost-center CC-1; qcos budget set py 1.00")
    shutil.copy(ROOT / "demo" / "circuits" / "bell.qasm", reader.home / "bell.qasm")
    (example,) = examples(API, run="installation")
    program = example.text.replace('project="first-steps"', 'project="py"')
    here = {"QCOS_URL": reader.qcos.url, "QCOS_TOKEN": reader.qcos.admin_token}
    assert re.fullmatch(r"completed \{('(00|11)': \d+(, )?)+\} 0\.\d{6}\n", reader.runs(program, **here))
    assert json.loads((reader.home / "from-python.json").read_text())["proof"]["ledger"]
    refused = reader.runs(
        program.replace("shots=1000,", "shots=1_000_000,"), **here
    )  # costs 2 USD, and 1 is left
    assert "budget.exceeded" in refused


def test_only_the_routes_that_the_page_names_are_open(reader: Reader) -> None:
    """Each GET route refuses who has no token, except those listed under Authentication."""
    text = API.read_text()
    (open_,) = re.findall(r"everywhere, except (.*?), which hold nothing secret", text, re.DOTALL)
    patterns = [name.replace("*", "") for name in re.findall(r"`(/v1/[^`]+)`", open_)]
    routes = [row[0].strip("`").split()[1] for row in table(API) if row[0].startswith("`GET ")]
    assert len(routes) > 15
    with httpx.Client(base_url=reader.qcos.url, timeout=60, trust_env=False) as http:
        for route in routes:
            answered = http.get(re.sub(r"\{\w+\}", "x", route), params={"old": 0, "new": 0}).status_code
            is_open = route.startswith(tuple(patterns))
            assert (answered != 401) == is_open, route
        for route in ("/v1/jobs", "/v1/jobs/validate", "/v1/estimates"):
            assert http.post(route, json={}).status_code == 401, route


def test_roles_of_the_page_are_enough_for_a_database_of_ones_own() -> None:
    """The how-to's SQL on an empty server, then its migration: the owner is no superuser, and tenants stay apart."""
    how_to = page("docs/how-to/run-on-your-own-postgresql.md")
    (sql,), (program,) = examples(how_to, language="sql"), examples(how_to, language="python")
    with tempfile.TemporaryDirectory(prefix="qcos-docs-pg-") as folder:
        server = embedded.start(Path(folder))
        try:
            address = f"127.0.0.1:{server.port}"
            with psycopg.connect(server.admin_url.replace("+psycopg", ""), autocommit=True) as admin:
                for statement in filter(str.strip, sql.text.split(";")):
                    admin.execute(statement)
            owner = f"postgresql+psycopg://qcos_owner:owner-secret@{address}/qcos"
            subprocess.run(
                [sys.executable, "-c", program.text],
                env=os.environ | {"QCOS_DATABASE_ADMIN_URL": owner},
                check=True,
                timeout=60,
            )
            with psycopg.connect(f"postgresql://qcos_app:app-secret@{address}/qcos") as app:
                assert app.execute("select count(*) from qcos.job").fetchone() == (0,)
                bound = app.execute(
                    "select not rolsuper and not rolbypassrls, pg_has_role('qcos_app', 'qcos_owner', 'member')"
                    " from pg_roles where rolname = 'qcos_app'"
                ).fetchone()
                assert bound == (True, False)
        finally:
            embedded.stop(Path(folder))
