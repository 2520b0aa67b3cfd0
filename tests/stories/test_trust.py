"""Whoever holds a trust document follows its successors, and has to trust no server on the way (law 2, R4.2, R10.5)."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from qcos.client import Client
from qcos.evidence.succession import hold, update
from qcos.evidence.verify import verify

from .house import House, furnish
from .installation import QCOS, Installation, running
from .test_customer_ca import Ca


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation of these stories' own: its keys are changed."""
    with running(tmp_path_factory.mktemp("trust") / "data", "aer") as ready:
        yield ready


@pytest.fixture(scope="module")
def operator(own: Installation) -> Client:
    return Client(own.url, own.admin_token)


@pytest.fixture(scope="module")
def tenant(own: Installation) -> Iterator[House]:
    with furnish(own) as made:
        yield made


@dataclass(frozen=True)
class Auditor:
    """Somebody with a folder and the command line, and no token."""

    folder: Path
    environment: dict[str, str]

    def qcos(self, *words: str | Path, code: int = 0, offline: bool = False) -> Any:
        environment = dict(self.environment)
        if offline:
            del environment["QCOS_URL"]
        done = subprocess.run(
            [QCOS, *map(str, words), "--json"], env=environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout or done.stderr)

    def holds(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name).read_text())

    def keeps(self, name: str, value: Any) -> Path:
        file = self.folder / name
        file.write_text(json.dumps(value))
        return file


@pytest.fixture
def auditor(own: Installation, tmp_path: Path, clean_environment: dict[str, str]) -> Auditor:
    return Auditor(tmp_path, clean_environment | {"QCOS_URL": own.url})


def steps(own: Installation) -> list[Any]:
    """Return all steps there are, page by page."""
    found: list[Any] = []
    after = 0
    while True:
        page = updates(own, after)
        found += page["items"]
        if page["next"] is None:
            return found
        after = page["next"]


def updates(own: Installation, after: int = 0, **more: int) -> dict[str, Any]:
    response = httpx.get(f"{own.url}/v1/trust/updates", params={"after": after} | more, trust_env=False)
    assert response.status_code == 200, response.text
    return dict(response.json())


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def in_force(operator: Client, role: str) -> dict[str, str]:
    return {
        key["algorithm"]: key["key_id"]
        for key in operator.keys.list()["items"]
        if key["role"] == role and key["state"] == "active"
    }


def certify(operator: Client, ca: Ca) -> None:
    for item in operator.keys.request("evidence")["items"]:
        operator.keys.certify(ca.issue(item["request"]))


def test_an_auditor_follows_the_keys_through_every_kind_of_change(
    own: Installation, operator: Client, tenant: House, auditor: Auditor
) -> None:
    """Evidence of each era verifies with the document that was followed, and not with the one of before."""
    auditor.qcos("trust", "-o", auditor.folder / "first.json")
    first = auditor.folder / "first.json"
    assert auditor.holds("first.json")["version"] == 1
    trust = auditor.keeps("trust.json", auditor.holds("first.json"))
    acts: list[Callable[[], object]] = [
        lambda: operator.keys.rotate("evidence"),
        lambda: operator.keys.rotate("tsa"),
        lambda: operator.keys.rotate("ledger"),
        lambda: operator.keys.revoke(in_force(operator, "evidence")["ML-DSA-65"], reason="disk lost"),
        lambda: operator.keys.rotate("tsa-ca"),
        lambda: certify(operator, Ca.make("Customer")),
    ]
    bundles = [tenant.bundle(tenant.run()["job_id"])]
    for act in acts:
        act()
        bundles.append(tenant.bundle(tenant.run()["job_id"]))
        time.sleep(2)  # until every process has noticed, so that each era has evidence of its own
        bundles.append(tenant.bundle(tenant.run()["job_id"]))
    assert not verify(bundles[-1], auditor.holds("first.json")).ok

    told = auditor.qcos("trust", "update", "--trust", trust)
    assert told["before"] == 1 and told["version"] == len(told["steps"]) + 1 >= 8
    assert auditor.holds("trust.json") == httpx.get(f"{own.url}/v1/trust", trust_env=False).json()
    changed = {(one["change"], one["role"]) for one in told["changes"]}
    assert changed >= {
        *(("added", role) for role in ("evidence", "ledger", "tsa")),
        *(("retired", role) for role in ("evidence", "ledger", "tsa")),
        ("revoked", "evidence"),
    }
    revoked = [one for one in told["changes"] if one["change"] == "revoked"]
    assert [one["reason"] for one in revoked] == ["disk lost"] and all(one["at"] for one in revoked)
    for bundle in bundles:
        report = verify(tenant.bundle(bundle["job_id"]), auditor.holds("trust.json"))
        assert report.ok, report.reason

    again = auditor.qcos("trust", "update", "--trust", trust)
    assert again["steps"] == [] and again["digest"] == told["digest"]
    shown = auditor.qcos("trust", "show", trust, offline=True)
    assert (shown["version"], shown["digest"]) == (told["version"], told["digest"])
    listed = {key["key_id"] for key in operator.keys.list()["items"] if key["role"] != "tsa-ca"}
    assert {key["key"] for key in shown["keys"]} == listed

    # The same from a file, on a machine that reaches no server; and from a document of before the succession.
    file = auditor.keeps("updates.json", updates(own))
    moved = auditor.qcos(
        "trust", "update", "--trust", first, "--from", file, "-o", auditor.folder / "new.json", offline=True
    )
    assert auditor.holds("new.json") == auditor.holds("trust.json") and moved["digest"] == told["digest"]
    assert auditor.holds("first.json")["version"] == 1, "what is held stays when another file is named"
    old = {k: v for k, v in auditor.holds("first.json").items() if k not in ("version", "issued")}
    before = auditor.keeps("before.json", old)
    assert auditor.qcos("trust", "update", "--trust", before)["before"] == 0
    assert auditor.holds("before.json") == auditor.holds("trust.json")


def test_every_document_stands_in_the_ledger(own: Installation, operator: Client) -> None:
    operator.keys.rotate("evidence", algorithm="Ed25519")
    found = [hold(one) for one in _documents(own)]
    records = {record["object"]: record["details"] for record in operator.ledger.each(act="trust.issued")}
    assert {one.digest: one.version for one in found}.items() <= {
        name: details["version"] for name, details in records.items()
    }.items()
    assert all(records[one.digest]["previous"] == (one.trust.previous or None) for one in found)
    assert records[found[-1].digest]["decision"], "it was decided by policy, as the act that it tells of"


def _documents(own: Installation) -> list[Any]:
    return [json.loads(base64.b64decode(step["payload"]))["predicate"] for step in steps(own)]


def test_pages_follow_each_other(own: Installation, operator: Client) -> None:
    while len(steps(own)) < 3:
        operator.keys.rotate("evidence", algorithm="Ed25519")
    every, after, pages = steps(own), 0, []
    while True:
        page = updates(own, after, limit=1)
        assert len(page["items"]) == 1 and page["complete"] == (page["next"] is None)
        pages += page["items"]
        if page["next"] is None:
            break
        after = page["next"]
    assert pages[: len(every)] == every
    assert updates(own, 10**9)["items"] == []
    for wrong in ({"after": -1}, {"after": "x"}, {"limit": 0}, {"limit": 10**6}):
        response = httpx.get(f"{own.url}/v1/trust/updates", params=wrong, trust_env=False)
        assert response.status_code == 400, response.text


def test_what_does_not_follow_is_refused_and_nothing_is_written(
    own: Installation, operator: Client, auditor: Auditor, tmp_path: Path
) -> None:
    """Each with an exit code and an error code of its own."""
    while len(steps(own)) < 4:
        operator.keys.rotate("evidence", algorithm="Ed25519")
    good, documents = steps(own)[:4], _documents(own)[:4]
    held = documents[1]
    tampered = json.loads(json.dumps(good))
    tampered[2]["signatures"][0]["sig"] = good[3]["signatures"][0]["sig"]
    other = held | {"issued": "2000-01-01T00:00:00Z"}
    for items, document, exit_code, code in (
        (good, other, 8, "trust.fork"),
        ([good[1], good[3]], held, 9, "trust.gap"),
        (good[3:], held, 9, "trust.gap"),
        (good[:1], held, 10, "trust.rollback"),
        (tampered, held, 1, "trust.signature"),
        ([{"payload": ""}], held, 1, "trust.update"),
    ):
        trust = auditor.keeps("trust.json", document)
        before = trust.read_bytes()
        file = auditor.keeps("updates.json", {"items": items})
        answer = auditor.qcos("trust", "update", "--trust", trust, "--from", file, code=exit_code)
        assert answer["code"] == code, answer
        assert trust.read_bytes() == before
        assert not [name for name in auditor.folder.iterdir() if name.name.startswith(".")]
    assert auditor.qcos("trust", "update", "--trust", trust)["version"] >= 4, (
        "the way is open for the true ones"
    )


def test_a_stranger_moves_nobody(
    own: Installation,
    auditor: Auditor,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Another installation that answers under the same address, with a ledger of the same name."""
    with running(tmp_path_factory.mktemp("stranger") / "data", "aer") as stranger:
        Client(stranger.url, stranger.admin_token).keys.rotate("evidence")
        mine = _documents(own)[0]
        trust = auditor.keeps("trust.json", mine)
        auditor.environment["QCOS_URL"] = stranger.url
        assert stranger.trust["origin"] == mine["origin"]
        assert auditor.qcos("trust", "update", "--trust", trust, code=8)["code"] == "trust.fork"
        old = {k: v for k, v in mine.items() if k not in ("version", "issued")}
        auditor.keeps("trust.json", old)
        assert auditor.qcos("trust", "update", "--trust", trust, code=1)["code"] == "trust.signer"
        assert auditor.holds("trust.json") == old


def test_two_rotations_at_once_make_one_line_of_documents(own: Installation, operator: Client) -> None:
    """Of different roles both come about, one after the other; of one role one wins, and the other is told."""
    first = len(steps(own))
    headers = {"Authorization": f"Bearer {own.admin_token}"}

    def rotate(role: str) -> int:
        url = f"{own.url}/v1/keys/{role}/rotate"
        return httpx.post(url, headers=headers, json={}, trust_env=False, timeout=60).status_code

    roles = ["evidence", "ledger", "tsa", "evidence", "ledger"]
    with ThreadPoolExecutor(len(roles)) as threads:
        answers = list(threads.map(rotate, roles))
    assert set(answers) <= {201, 409} and answers.count(201) >= 3, answers
    chain = _documents(own)
    assert [one["version"] for one in chain] == list(range(1, len(chain) + 1))
    assert len(chain) == first + answers.count(201)
    origin = hold(chain[0])
    assert update(origin, steps(own))[-1].document == httpx.get(f"{own.url}/v1/trust", trust_env=False).json()


def test_a_revoked_authority_gets_the_ledgers_size_by_a_further_document(
    own: Installation, operator: Client, tenant: House, auditor: Auditor
) -> None:
    trust = auditor.keeps("trust.json", _documents(own)[-1])
    before = tenant.bundle(tenant.run()["job_id"])
    tsa = in_force(operator, "tsa")["ECDSA-P384"]
    operator.keys.revoke(tsa, reason="copied")

    def told() -> list[int]:
        """Return what the documents say of it, one after the other."""
        authorities = [one for document in _documents(own) for one in document["timestamp"]]
        return [one["ledgerSize"] for one in authorities if one.get("reason") == "copied"]

    at_the_act = told()[0]
    tenant.run()
    assert before["proof"]["ledger"]["index"] < at_the_act, "it was in the ledger long before"
    until(lambda: told()[-1] > at_the_act)
    assert [*dict.fromkeys(told())] == [at_the_act, told()[-1]], "one further document, and no more"
    done = auditor.qcos("trust", "update", "--trust", trust)
    assert {one["change"] for one in done["changes"]} >= {"added", "retired", "revoked"}
    report = verify(before, auditor.holds("trust.json"))
    assert report.ok, report.reason
