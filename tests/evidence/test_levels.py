"""Evidence levels: what a bundle claims it holds, or it does not verify (R1.1 to R1.7, R3.6, R12.5)."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcos.base.canonical import canonical, digest
from qcos.base.errors import Integrity, Invalid, Limit
from qcos.base.limits import CLIENT_ANSWER_BYTES
from qcos.evidence.bundle import attach, detached_digest, seal_all
from qcos.evidence.folder import read_materials, write_material
from qcos.evidence.levels import LEVELS, asked, check_level
from qcos.evidence.model import Provenance, Sealed, SealFacts
from qcos.evidence.report import Check, Report
from qcos.evidence.statement import compose, subject_digests
from qcos.evidence.trust import Trust
from qcos.evidence.verify import verify

from .conftest import (
    CALIBRATION,
    NOW,
    RESPONSE,
    TRANSPILED,
    Instance,
    at_level,
    decision,
    facts,
    full_facts,
)

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="session")
def full(instance: Instance) -> Sealed:
    return instance.seal(full_facts())


@pytest.fixture
def bundle(instance: Instance, full: Sealed) -> dict[str, Any]:
    return instance.bundle(full)


@pytest.fixture(scope="session")
def trust(instance: Instance) -> Trust:
    return Trust.load(instance.trust)


def _failed(report: Report) -> dict[str, Check]:
    assert not report.ok
    return {check.name: check for check in report.checks if not check.ok}


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_verifies_and_is_told(instance: Instance, trust: Trust, level: str) -> None:
    report = verify(instance.bundle(instance.seal(at_level(facts(), level))), trust, level=level)
    assert report.ok, report.reason
    assert report.facts["level"] == level
    names = [check.name for check in report.checks]
    assert ("ledger decision" in names) == (level == "full")


def test_a_level_has_what_the_one_below_has_and_more(instance: Instance) -> None:
    """R12.5: and a lower level is smaller, for it does not carry what it does not promise."""
    statements = [compose(at_level(facts(), level), "evidence-1", NOW) for level in LEVELS]
    subjects = [set(subject_digests(statement)) for statement in statements]
    assert subjects[0] < subjects[1] < subjects[2]
    assert subjects[1] - subjects[0] == {"decision-input"}
    assert subjects[2] - subjects[1] == {"transpiled/0", "vendor-response"}
    sizes = [len(json.dumps(statement)) for statement in statements]
    assert sizes == sorted(sizes)
    assert "lines" not in statements[0]["predicate"]["result"]["charge"]
    assert statements[0]["predicate"]["result"]["usage"], "R1.6 holds at every level"


@pytest.mark.parametrize(("have", "want"), [("basic", "standard"), ("standard", "full"), ("basic", "full")])
def test_who_demands_more_than_is_there_is_told(
    instance: Instance, trust: Trust, have: str, want: str
) -> None:
    failed = _failed(verify(instance.bundle(instance.seal(at_level(facts(), have))), trust, level=want))
    assert set(failed) == {"level"}
    assert (failed["level"].expected, failed["level"].got) == (want, have)


def test_an_unknown_level_cannot_be_demanded(bundle: dict[str, Any], trust: Trust) -> None:
    with pytest.raises(Invalid) as refused:
        verify(bundle, trust, level="extreme")
    assert refused.value.code == "evidence.no_level"


def _without(*path: str) -> Change:
    def change(statement: dict[str, Any]) -> None:
        node = statement["predicate"]
        for part in path[:-1]:
            node = node[part]
        del node[path[-1]]

    return change


def _set(*path: str, to: Any) -> Change:
    def change(statement: dict[str, Any]) -> None:
        node = statement["predicate"]
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = to

    return change


def _no_subject(name: str) -> Change:
    def change(statement: dict[str, Any]) -> None:
        statement["subject"] = [one for one in statement["subject"] if one["name"] != name]

    return change


STRIPPED: dict[str, tuple[str, Change]] = {
    "decision": ("record of the decision", _without("evidence", "decision")),
    "decision's digest": ("record of the decision", _set("evidence", "decision", "digest", to="")),
    "decision's input": ("decision's input", _no_subject("decision-input")),
    "another decision's input": (
        "decision's input",
        _set("governance", "decisionDigest", to=digest(b"another")),
    ),
    "calibration": ("calibration", _no_subject("calibration")),
    "placement": ("this backend", _set("where", "placement", to={})),
    "usage": ("usage", _set("result", "usage", to={})),
    "charge lines": ("lines", _without("result", "charge", "lines")),
    "toolchain": ("toolchain's driver", _without("evidence", "toolchain")),
    "seeds": ("toolchain's seeds", _without("evidence", "toolchain", "seeds")),
    "versions": ("toolchain's packages", _without("evidence", "toolchain", "packages")),
    "transpiled": ("transpiled/0", _no_subject("transpiled/0")),
    "transpiled, listed": ("transpiled/0", _without("evidence", "materials", "transpiled/0")),
    "calibration, executed": ("calibration as it was", _without("evidence", "materials", "calibration")),
    "response": ("vendor-response", _no_subject("vendor-response")),
    "materials": ("transpiled/0", _set("evidence", "materials", to=[])),
    "two levels": ("", _set("governance", "evidenceLevel", to="standard")),
    "unknown level": ("", _set("evidence", "level", to="extreme")),
    "no object": ("", _set("evidence", to="full")),
    "absent decision": ("", _set("evidence", "absent", to={"decision": "lost"})),
    "absent without reason": ("", _set("evidence", "absent", to={"calibration": " "})),
}


@pytest.mark.parametrize(("said", "change"), STRIPPED.values(), ids=list(STRIPPED))
def test_a_bundle_that_lacks_a_member_of_its_level_does_not_verify(
    instance: Instance, trust: Trust, said: str, change: Change
) -> None:
    """Truly signed, stamped and recorded by this instance's keys: only what it claims is not there."""
    statement = compose(full_facts(), "evidence-1", NOW)
    with pytest.raises(Integrity) as refused:
        change(statement)
        check_level(statement, subject_digests(statement))
    assert refused.value.code == "evidence.level"
    assert said in f"{refused.value.message} {refused.value.expected}"


def test_the_verifier_finds_what_is_missing_in_a_signed_bundle(
    instance: Instance, bundle: dict[str, Any], trust: Trust
) -> None:
    from .test_verify import _resigned

    statement = json.loads(base64.b64decode(bundle["proof"]["envelope"]["payload"]))
    _without("evidence", "toolchain")(statement)
    failed = _failed(verify(_resigned(instance, bundle, canonical(statement)), trust))
    assert failed["level"].code == "evidence.level"
    assert failed["level"].expected == "the toolchain's driver"
    assert {"signature ML-DSA-65", "signature Ed25519", "timestamp"}.isdisjoint(failed)


def test_a_seal_that_nobody_would_accept_is_not_made(instance: Instance) -> None:
    bare = dataclasses.replace(full_facts(), provenance=Provenance())
    with pytest.raises(Integrity) as refused:
        instance.seal(bare)
    assert refused.value.code == "evidence.level"


def _without_calibration(level: str) -> SealFacts:
    given = at_level(facts(), level)
    told = given.provenance
    return dataclasses.replace(
        given,
        where=dataclasses.replace(given.where, calibration=None),
        provenance=dataclasses.replace(
            told,
            materials=tuple(m for m in told.materials if m.name != "calibration"),
            absent={"calibration": "a simulator without noise"},
        ),
    )


@pytest.mark.parametrize("level", ["standard", "full"])
def test_what_a_backend_has_no_notion_of_is_named_with_its_reason(
    instance: Instance, trust: Trust, level: str
) -> None:
    """R12.5: honest about a simulator."""
    report = verify(instance.bundle(instance.seal(_without_calibration(level))), trust)
    assert report.ok, report.reason
    assert report.facts["absent"] == {"calibration": "a simulator without noise"}
    (check,) = [check for check in report.checks if check.name == "level"]
    assert "no calibration: a simulator without noise" in check.detail


def test_bundles_from_before_levels_meant_anything_stay_valid(
    instance: Instance, bundle: dict[str, Any], trust: Trust
) -> None:
    from .test_verify import _resigned

    statement = json.loads(base64.b64decode(bundle["proof"]["envelope"]["payload"]))
    _without("evidence")(statement)
    old = _resigned(instance, bundle, canonical(statement))
    del old["proof"]["decision"]
    failed = _failed(verify(old, trust))
    assert set(failed) == {"ledger record"}, "only the record, which is of another document"
    failed = _failed(verify(old, trust, level="full"))
    assert "level" in failed, "it satisfies no demand"


def test_full_carries_the_proof_of_its_decision(bundle: dict[str, Any], trust: Trust) -> None:
    """R3.6: the ledger's record of the decision, by inclusion in the same checkpoint."""
    report = verify(bundle, trust)
    assert report.ok, report.reason
    assert report.facts["decisionRecord"]["act"] == "policy.decided"
    assert report.facts["decisionRecord"]["details"]["job"] == bundle["job_id"]
    assert set(bundle["proof"]["decision"]) == {"record", "index", "hashes"}


def test_full_without_that_proof_does_not_verify(bundle: dict[str, Any], trust: Trust) -> None:
    del bundle["proof"]["decision"]
    failed = _failed(verify(bundle, trust))
    assert set(failed) == {"ledger decision"}
    assert (failed["ledger decision"].code, failed["ledger decision"].pointer) == (
        "evidence.level",
        "/proof/decision",
    )


def test_the_proof_is_attached_after_sealing(full: Sealed, bundle: dict[str, Any]) -> None:
    assert detached_digest(bundle) == full.document_digest
    assert "decision" not in json.loads(full.document)["proof"]


def test_another_decision_does_not_pass(instance: Instance, full: Sealed, trust: Trust) -> None:
    """Not one of another job, not one with a byte changed, not at another place."""
    bundle = instance.bundle(full)
    other = base64.b64encode(decision("another-job").record_bytes).decode()
    changes = {"record": other, "index": 1, "hashes": []}
    for name, value in changes.items():
        changed = copy.deepcopy(bundle)
        changed["proof"]["decision"][name] = value
        assert set(_failed(verify(changed, trust))) == {"ledger decision"}, name


@pytest.mark.parametrize("odd", [None, {}, [], {"record": "", "index": 0, "hashes": [], "more": 1}, "x"])
def test_its_shape_is_demanded(bundle: dict[str, Any], trust: Trust, odd: Any) -> None:
    bundle["proof"]["decision"] = odd
    assert set(_failed(verify(bundle, trust))) == {"document"}


def test_without_a_checkpoint_it_proves_nothing(full: Sealed, bundle: dict[str, Any], trust: Trust) -> None:
    bundle["proof"]["ledger"] = None
    assert "ledger decision" in _failed(verify(bundle, trust, allow_pending=True))
    assert verify(attach(full.document, None), trust, allow_pending=True).ok


def test_full_has_a_time_stamp_of_its_own(instance: Instance, trust: Trust) -> None:
    """A bundle of level full that shares its token is refused, however it was made."""
    two = [at_level(facts(f"job-{n}"), "standard") for n in range(2)]
    shared = instance.bundle(seal_all(two, instance.keyring.evidence, instance.authority)[0])
    statement = json.loads(base64.b64decode(shared["proof"]["envelope"]["payload"]))
    assert verify(shared, trust).ok
    made = copy.deepcopy(shared)
    claimed = compose(full_facts("job-0"), statement["predicate"]["bundle"]["bundle_id"], NOW)
    from .test_verify import _resigned

    made = _resigned(instance, made, canonical(claimed))
    made["proof"]["evidenceRecord"] = shared["proof"]["evidenceRecord"]
    made["proof"]["timestamp"] = shared["proof"]["timestamp"]
    failed = _failed(verify(made, trust))
    assert failed["timestamp"].code in ("evidence.level", "timestamp.tree")


@pytest.mark.parametrize(
    ("spec", "level"),
    [
        ({}, "standard"),
        ({"evidence_requirements": {"level": "full"}}, "full"),
        ({"evidence_requirements": {"level": "basic"}}, "basic"),
        ({"evidence_requirements": {"level": "extreme"}}, "full"),
        ([], "standard"),
    ],
)
def test_the_level_a_job_asked_for_is_read_from_its_spec(spec: Any, level: str) -> None:
    assert asked(spec) == level


@pytest.mark.parametrize(("level", "ok"), [("basic", False), ("standard", False), ("full", True)])
def test_a_bundle_cannot_hold_less_than_its_job_asked_for(
    instance: Instance, trust: Trust, level: str, ok: bool
) -> None:
    """The Job Spec is in the input digest, and the level in the Job Spec."""
    spec = canonical({"evidence_requirements": {"level": "full"}})
    given = at_level(facts(), level)
    given = dataclasses.replace(given, what=dataclasses.replace(given.what, job_spec=spec))
    report = verify(instance.bundle(instance.seal(given)), trust, materials={"input": spec})
    assert report.ok == ok
    if not ok:
        assert set(_failed(report)) == {"level asked"}


def test_the_documents_of_full_are_compared(bundle: dict[str, Any], trust: Trust) -> None:
    given = {"transpiled/0": TRANSPILED, "calibration": CALIBRATION, "vendor-response": RESPONSE}
    assert verify(bundle, trust, materials=given).ok
    for name, data in given.items():
        failed = _failed(verify(bundle, trust, materials={name: data + b" "}))
        assert set(failed) == {f"material {name}"}


def test_a_folder_of_materials(tmp_path: Path) -> None:
    given = {"input": b"{}", "transpiled/0": TRANSPILED, "calibration": CALIBRATION}
    for name, data in given.items():
        write_material(tmp_path / "m", name, data)
    assert read_materials(tmp_path / "m") == given
    (tmp_path / "m" / "README.md").write_text("x")
    with pytest.raises(Invalid, match="no material"):
        read_materials(tmp_path / "m")
    with pytest.raises(Invalid, match="no such folder"):
        read_materials(tmp_path / "none")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "circuit/0/1", "", "A", "a\n", "circuit/.."])
def test_a_server_cannot_choose_other_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        write_material(tmp_path / "m", name, b"x")
    assert refused.value.code == "evidence.name"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as sparse:
        sparse.truncate(CLIENT_ANSWER_BYTES + 1)
    with pytest.raises(Limit):
        read_materials(tmp_path)
