"""R4.2: anyone with the trust document verifies a bundle offline; no change of it passes."""

from __future__ import annotations

import base64
import copy
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcos.base.canonical import canonical, loads_strict
from qcos.base.errors import Invalid, QcosError
from qcos.base.limits import MAX_BUNDLE_BYTES
from qcos.evidence.bundle import attach
from qcos.evidence.envelope import sign
from qcos.evidence.model import Sealed
from qcos.evidence.report import Report
from qcos.evidence.shape import demand_equal
from qcos.evidence.trust import Trust
from qcos.evidence.verify import REQUIRED, REQUIRED_LEDGER, verify

from .conftest import JOB_SPEC, OUTPUT, Instance, make_instance

Path = tuple[str | int, ...]


@pytest.fixture(scope="session")
def trust(instance: Instance) -> Trust:
    return Trust.load(instance.trust)


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, value


def _with(bundle: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(bundle)
    inner: Any = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return changed


def _failed(report: Report) -> set[str]:
    assert not report.ok
    assert report.reason
    return {check.name for check in report.checks if not check.ok}


def test_a_true_bundle_verifies_and_says_what_was_checked(bundle: dict[str, Any], instance: Instance) -> None:
    report = verify(json.dumps(bundle), json.dumps(instance.trust))
    assert report.ok, report.reason
    assert report.reason == ""
    assert not report.pending
    assert [check.name for check in report.checks] == [*REQUIRED, *REQUIRED_LEDGER]
    assert report.lines()[-1] == "VERIFIED"
    assert all(check.detail for check in report.checks)
    assert report.facts["predicate"]["who"]["actor"] == "user:alice@company.com"
    assert report.facts["ledgerIndex"] == 1
    assert -1 <= report.facts["clockDriftMs"] < 60_000  # the time from naming an instant to stamping it
    assert json.loads(json.dumps(report.as_dict()))["ok"] is True


def test_bytes_text_and_object_are_the_same(bundle: dict[str, Any], trust: Trust) -> None:
    text = json.dumps(bundle, indent=2)
    reports = [verify(form, trust) for form in (bundle, text, text.encode())]
    assert all(report.ok for report in reports)
    assert reports[0] == reports[1] == reports[2]


def test_a_bundle_not_in_the_ledger_yet_says_so(sealed: Sealed, trust: Trust) -> None:
    pending = attach(sealed.document, None)
    report = verify(pending, trust)
    assert _failed(report) == {"ledger"}
    assert "not yet in the ledger" in report.reason
    allowed = verify(pending, trust, allow_pending=True)
    assert allowed.ok
    assert allowed.pending
    assert "ledger" in allowed.lines()[-1]


@pytest.mark.parametrize(
    ("path", "value", "expected", "got"),
    [
        (("job_id",), "another", '"qcos-job-2026-01-09-a7f3"', '"another"'),
        (("execution_metadata", "shots_executed"), 1001, "1000", "1001"),
        (("execution_metadata", "backend"), "ibm", '"aer-ideal"', '"ibm"'),
        (("governance_record", "actor"), "user:bob", '"user:alice@company.com"', '"user:bob"'),
        (("governance_record", "policies_applied", 1), "none", '"classification-enforcement"', '"none"'),
        (("governance_record", "policy_decisions"), [], '["allow"]', "[]"),
    ],
)
def test_a_changed_field_is_named_with_what_was_signed(
    bundle: dict[str, Any], trust: Trust, path: Path, value: Any, expected: str, got: str
) -> None:
    report = verify(_with(bundle, path, value), trust)
    assert {"reader's fields"} <= _failed(report)
    (check,) = [check for check in report.checks if check.name == "reader's fields"]
    assert check.pointer == "/" + "/".join(map(str, path))
    assert (check.expected, check.got) == (expected, got)
    assert check.pointer in report.reason
    others = {check.name for check in report.checks if check.ok}
    assert {"signature ML-DSA-65", "signature Ed25519", "timestamp"} <= others, "the rest is told to be true"


@pytest.mark.parametrize(
    ("path", "fails"),
    [
        (("proof", "envelope", "signatures", 0, "sig"), "signature ML-DSA-65"),
        (("proof", "envelope", "signatures", 1, "sig"), "signature Ed25519"),
        (("proof", "envelope", "payload"), "signature ML-DSA-65"),
        (("proof", "timestamp"), "timestamp"),
        (("signatures", "qcos_signature"), "signatures shown"),
        (("signatures", "timestamp_authority"), "signatures shown"),
        (("proof", "ledger", "checkpoint"), "ledger checkpoint"),
        (("proof", "ledger", "record"), "ledger inclusion"),
        (("proof", "ledger", "hashes", 0), "ledger inclusion"),
        (("proof", "ledger", "tlogProof"), "ledger inclusion"),
    ],
)
def test_a_changed_proof_fails_the_check_it_belongs_to(
    bundle: dict[str, Any], trust: Trust, path: Path, fails: str
) -> None:
    text = dict(_leaves(bundle))[path]
    middle = len(text) // 2
    other = "A" if text[middle] != "A" else "B"
    assert fails in _failed(verify(_with(bundle, path, text[:middle] + other + text[middle + 1 :]), trust))


def _others(value: Any) -> list[Any]:
    """Other values for a leaf: close ones, other types, nothing."""
    if isinstance(value, bool) or value is None:
        return [{}, "x", 0]
    if isinstance(value, int):
        return [value + 1, -value - 1, float(value), str(value), True, None, 10**400]
    swapped = value.swapcase() if value.swapcase() != value else value + "A"
    return [
        "",
        value + " ",
        value[:-1],
        value + "=",
        "A" + value[1:] + "B",
        swapped,
        value + value,
        None,
        1,
        [value],
        {},
    ]


def test_every_leaf_counts(bundle: dict[str, Any], trust: Trust) -> None:
    for path, value in _leaves(bundle):
        for other in _others(value):
            report = verify(_with(bundle, path, other), trust)
            assert not report.ok, f"{path}: {str(other)[:50]!r} passes"
            assert report.reason


def test_every_member_counts(bundle: dict[str, Any], trust: Trust) -> None:
    """No member can be left out, and none added, at any depth."""
    for path in {leaf[:n] for leaf, _ in _leaves(bundle) for n in range(1, len(leaf) + 1)}:
        without = copy.deepcopy(bundle)
        inner: Any = without
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]
        assert not verify(without, trust).ok, f"{path} may be missing"
        if isinstance(inner, dict):
            added = copy.deepcopy(bundle)
            inner = added
            for step in path[:-1]:
                inner = inner[step]
            inner["more"] = None
            assert not verify(added, trust).ok, f"a member may be added beside {path}"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_single_byte_can_be_changed(
    sealed: Sealed, proof: dict[str, Any], trust: Trust, data: st.DataObject
) -> None:
    """Any byte of the file, to any other byte: refused, unless JSON says it is the same value."""
    bundle = attach(sealed.document, proof)
    text = json.dumps(bundle).encode()
    position = data.draw(st.integers(0, len(text) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != text[position]))
    changed = text[:position] + bytes([byte]) + text[position + 1 :]
    report = verify(changed, trust)
    if report.ok:
        assert _same(loads_strict(changed), bundle), f"byte {position} may be {byte:#x}"
    else:
        assert report.reason


def _same(one: Any, two: Any) -> bool:
    try:
        demand_equal(one, two, "x", "x")
    except QcosError:
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_bit_of_a_signed_part_can_be_changed(
    sealed: Sealed, proof: dict[str, Any], trust: Trust, data: st.DataObject
) -> None:
    """The bytes below the base64, changed in both places where the bundle shows them."""
    bundle = attach(sealed.document, proof)
    where = data.draw(st.sampled_from(["payload", "mldsa", "ed25519", "token"]))
    paths: dict[str, Path] = {
        "payload": ("proof", "envelope", "payload"),
        "mldsa": ("proof", "envelope", "signatures", 0, "sig"),
        "ed25519": ("proof", "envelope", "signatures", 1, "sig"),
        "token": ("proof", "timestamp"),
    }
    raw = bytearray(base64.b64decode(dict(_leaves(bundle))[paths[where]]))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= 1 << data.draw(st.integers(0, 7))
    text = base64.b64encode(raw).decode()
    changed = _with(bundle, paths[where], text)
    if where == "mldsa":
        changed["signatures"]["qcos_signature"] = "ML-DSA-65:" + text
    if where == "token":
        changed["signatures"]["timestamp_authority"] = "RFC3161:" + text
    failed = _failed(verify(changed, trust))
    wanted = {"payload": "signature Ed25519", "mldsa": "signature ML-DSA-65", "ed25519": "signature Ed25519"}
    assert wanted.get(where, "timestamp") in failed
    assert "ledger record" in failed, "the ledger commits to the whole document"


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_no_json_breaks_the_verifier(trust: Trust, value: Any) -> None:
    report = verify(json.dumps(value), trust)
    assert [check.name for check in report.checks if not check.ok] == ["document"]


_HOSTILE = [
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"bundle_id":1,"bundle_id":1}',
    b'{"bundle_id":' + b"9" * 100_000 + b"}",
    b" " * (MAX_BUNDLE_BYTES + 1),
    b'{"x":NaN}',
]


@pytest.mark.parametrize("hostile", _HOSTILE, ids=range(len(_HOSTILE)))
def test_hostile_documents_are_refused_with_a_reason(trust: Trust, hostile: bytes) -> None:
    assert _failed(verify(hostile, trust)) == {"document"}


def test_objects_that_are_not_json_are_refused(trust: Trust, bundle: dict[str, Any]) -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    for odd in ({"a": b"x"}, {"a": {1}}, endless, {**bundle, "job_id": float("nan")}):
        assert _failed(verify(odd, trust)) == {"document"}


@pytest.mark.parametrize(
    "payload",
    [b"", b"x", b"[]", b"{}", b'{"predicate":{}}', b'{"predicate":1}', b"[" * 10_000, b'{"subject":{}}'],
)
def test_payloads_signed_by_nobody_are_read_safely(
    bundle: dict[str, Any], trust: Trust, payload: bytes
) -> None:
    text = base64.b64encode(payload).decode()
    failed = _failed(verify(_with(bundle, ("proof", "envelope", "payload"), text), trust))
    assert {"signature ML-DSA-65", "signature Ed25519", "statement"} <= failed


def _resigned(instance: Instance, bundle: dict[str, Any], payload: bytes) -> dict[str, Any]:
    """A bundle over another payload, truly signed, stamped and recorded by this instance's keys."""
    envelope, (mldsa, _) = sign(payload, instance.keyring.evidence)
    token = base64.b64encode(instance.authority.stamp(mldsa)).decode()
    made = copy.deepcopy(bundle)
    made["proof"] |= {"envelope": envelope, "timestamp": token}
    made["signatures"] = {
        "qcos_signature": "ML-DSA-65:" + base64.b64encode(mldsa).decode(),
        "timestamp_authority": "RFC3161:" + token,
    }
    return made


@pytest.mark.parametrize(
    ("member", "value", "fails"),
    [
        ("predicateType", "urn:other", "statement"),
        ("_type", "https://in-toto.io/Statement/v0.1", "statement"),
        ("predicate", {}, "reader's fields"),
        ("predicate", None, "statement"),
        ("subject", [], "hashes"),
        ("subject", "none", "hashes"),
    ],
)
def test_a_signed_statement_of_another_kind_is_refused(
    bundle: dict[str, Any], instance: Instance, trust: Trust, member: str, value: Any, fails: str
) -> None:
    statement = json.loads(base64.b64decode(bundle["proof"]["envelope"]["payload"]))
    made = _resigned(instance, bundle, canonical({**statement, member: value}))
    assert fails in _failed(verify(made, trust))


def test_a_signature_over_something_else_does_not_count(
    bundle: dict[str, Any], instance: Instance, trust: Trust
) -> None:
    """The same keys, the same payload, but not in a DSSE envelope."""
    payload = base64.b64decode(bundle["proof"]["envelope"]["payload"])
    raw = base64.b64encode(instance.keyring.evidence[1].sign(payload)).decode()
    changed = _with(bundle, ("proof", "envelope", "signatures", 1, "sig"), raw)
    assert "signature Ed25519" in _failed(verify(changed, trust))


def test_the_signatures_cannot_change_places(bundle: dict[str, Any], trust: Trust) -> None:
    """The algorithm belongs to the pinned key."""
    swapped = copy.deepcopy(bundle)
    swapped["proof"]["envelope"]["signatures"].reverse()
    assert "envelope" in _failed(verify(swapped, trust))


def test_one_signature_is_not_enough(bundle: dict[str, Any], trust: Trust) -> None:
    for signatures in ([], [0], [1], [0, 0], [1, 1], [0, 1, 1]):
        changed = copy.deepcopy(bundle)
        given = changed["proof"]["envelope"]["signatures"]
        changed["proof"]["envelope"]["signatures"] = [given[n] for n in signatures]
        assert "envelope" in _failed(verify(changed, trust))


def test_another_instance_is_not_trusted(
    bundle: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = make_instance(tmp_path_factory.mktemp("other"))
    report = verify(bundle, other.trust)
    assert {"envelope", "timestamp", "ledger checkpoint"} <= _failed(report)
    assert "not trusted" in report.reason


def test_a_token_of_another_bundle_is_refused(
    bundle: dict[str, Any], instance: Instance, trust: Trust
) -> None:
    other = attach(instance.seal().document, None)
    changed = _with(bundle, ("proof", "timestamp"), other["proof"]["timestamp"])
    changed["signatures"]["timestamp_authority"] = other["signatures"]["timestamp_authority"]
    report = verify(changed, trust)
    (check,) = [check for check in report.checks if check.name == "timestamp"]
    assert (check.code, check.pointer) == ("timestamp.imprint", "/proof/timestamp")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"act": "job.submitted"}, "/act"),
        ({"object": "evidence-another"}, "/object"),
        ({"details": {}}, "/details/job"),
        ({"actor": "user:mallory@company.com"}, "/actor"),
        ({"project": "another"}, "/project"),
        ({"details": {"job": "qcos-job-2026-01-09-a7f3", "statement": "sha256:00"}}, "/details/statement"),
    ],
)
def test_a_record_of_something_else_does_not_prove_a_bundle(
    sealed: Sealed, instance: Instance, trust: Trust, changes: dict[str, Any], pointer: str
) -> None:
    """R5.3: the entry must be the record of this bundle's sealing."""
    report = verify(attach(sealed.document, instance.prove(sealed, **changes)), trust)
    assert _failed(report) == {"ledger record"}
    assert report.checks[-1].pointer == pointer


def test_the_record_commits_to_the_whole_document(instance: Instance, trust: Trust) -> None:
    """Even another token that is valid by itself is not the one that was sealed."""
    sealed = instance.seal()
    bundle = attach(sealed.document, instance.prove(sealed))
    mldsa = base64.b64decode(bundle["proof"]["envelope"]["signatures"][0]["sig"])
    token = base64.b64encode(instance.authority.stamp(mldsa)).decode()
    bundle["proof"]["timestamp"] = token
    bundle["signatures"]["timestamp_authority"] = "RFC3161:" + token
    report = verify(bundle, trust)
    assert _failed(report) == {"ledger record"}
    assert report.checks[-1].pointer == "/details/document"


def test_long_texts_are_shown_where_they_part(bundle: dict[str, Any], trust: Trust) -> None:
    """An auditor sees what was changed, not the first characters of what is the same."""
    token = bundle["signatures"]["timestamp_authority"]
    at = len(token) // 2
    other = "A" if token[at] != "A" else "B"
    changed = _with(bundle, ("signatures", "timestamp_authority"), token[:at] + other + token[at + 1 :])
    (check,) = [one for one in verify(changed, trust).checks if one.name == "signatures shown"]
    assert check.expected.startswith(f'"...{token[at - 20 : at + 1]}')
    assert check.got.startswith(f'"...{token[at - 20 : at]}{other}')
    assert check.got.endswith(f"(character {at + 1})")
    shorter = _with(bundle, ("signatures", "timestamp_authority"), token[:at])
    (check,) = [one for one in verify(shorter, trust).checks if one.name == "signatures shown"]
    assert check.got == f'"...{token[at - 20 : at]}" (character {at + 1})'


def test_what_the_ledger_refuses_has_its_place(bundle: dict[str, Any], trust: Trust) -> None:
    note = bundle["proof"]["ledger"]["checkpoint"]
    last = note.rstrip("\n").rindex(" ") + 20
    forged = note[:last] + ("A" if note[last] != "A" else "B") + note[last + 1 :]
    report = verify(_with(bundle, ("proof", "ledger", "checkpoint"), forged), trust)
    (check,) = [one for one in report.checks if one.name == "ledger checkpoint"]
    assert (check.code, check.pointer) == ("ledger.signature", "/proof/ledger/checkpoint")
    assert "ML-DSA-65 key" in check.detail, "which signature"
    (check,) = [one for one in report.checks if one.name == "ledger inclusion"]
    assert check.pointer == "/proof/ledger"


def test_a_checkpoint_of_another_log_is_refused(bundle: dict[str, Any], instance: Instance) -> None:
    report = verify(bundle, {**instance.trust, "origin": "qcos.test/another"})
    assert _failed(report) == {"ledger checkpoint"}


def test_materials_are_compared_with_what_was_signed(bundle: dict[str, Any], trust: Trust) -> None:
    """R9.2: the Job Spec and the result in the reader's hands are those of the job."""
    report = verify(
        bundle, trust, materials={"input": JOB_SPEC, "output": OUTPUT, "circuit/0": b"OPENQASM 3.0;"}
    )
    assert report.ok, report.reason
    for materials in ({"input": OUTPUT}, {"output": OUTPUT + b" "}, {"unknown": b""}):
        (name,) = materials
        assert _failed(verify(bundle, trust, materials=materials)) == {f"material {name}"}


def test_keys_count_only_in_their_time(bundle: dict[str, Any], instance: Instance) -> None:
    for member, instant, reason in (
        ("notBefore", "2100-01-01T00:00:00Z", "before its key was made"),
        ("notAfter", "2020-01-01T00:00:00Z", "after its key was retired"),
        ("revokedAt", "2020-01-01T00:00:00Z", "after its key was revoked"),
    ):
        changed = copy.deepcopy(instance.trust)
        changed["evidence"][0][member] = instant
        report = verify(bundle, changed)
        assert _failed(report) == {"key validity"}
        assert reason in report.reason


def test_evidence_older_than_a_revocation_verifies_and_says_so(
    bundle: dict[str, Any], instance: Instance
) -> None:
    changed = copy.deepcopy(instance.trust)
    changed["evidence"][1] |= {"revokedAt": "2100-01-01T00:00:00Z", "reason": "its HSM was lost"}
    report = verify(bundle, changed)
    assert report.ok, report.reason
    assert any("revoked later, at 2100-01-01T00:00:00Z (its HSM was lost)" in line for line in report.lines())


def test_a_revoked_authority_counts_where_the_ledger_is_older(
    bundle: dict[str, Any], instance: Instance
) -> None:
    """Who stole its key states any time; the order of the ledger he cannot change."""
    later = {"revokedAt": "2100-01-01T00:00:00Z", "reason": "stolen"}
    for size, ok in ((2, True), (1, False), (None, False)):
        changed = copy.deepcopy(instance.trust)
        changed["timestamp"][0] |= later | ({"ledgerSize": size} if size is not None else {})
        report = verify(bundle, changed)
        assert report.ok is ok, (size, report.reason)
        assert ok or _failed(report) == {"revoked authority"}
    pending = copy.deepcopy(bundle)
    pending["proof"]["ledger"] = None
    changed["timestamp"][0] |= {"ledgerSize": 2}
    assert not verify(pending, changed, allow_pending=True).ok
    for member in ("revokedAt", "notAfter"):
        changed["timestamp"][0] |= {member: "2020-01-01T00:00:00Z"}
        assert "key validity" in _failed(verify(bundle, changed))


@pytest.mark.parametrize(
    "harm",
    [
        lambda t: t.clear(),
        lambda t: t.update(schema="other"),
        lambda t: t["evidence"][0].update(keyId="0" * 16),
        lambda t: t["evidence"][0].update(algorithm="Ed25519"),
        lambda t: t["evidence"][0].update(publicKey="AAAA"),
        lambda t: t["evidence"][0].update(notBefore="yesterday"),
        lambda t: t["ledger"][0].update(vkey="nonsense"),
        lambda t: t["timestamp"][0].update(
            certificate="-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
        ),
        lambda t: t.update(evidence=1),
        lambda t: t["evidence"][0].update(onlyFor="another tenant"),
        lambda t: t["ledger"][0].update(onlyFor="another tenant"),
        lambda t: t["timestamp"][0].update(onlyFor="another tenant"),
        lambda t: t["timestamp"][0].update(ledgerSize=-1),
        lambda t: t["evidence"].append(t["evidence"][0]),
        lambda t: t["ledger"].append({"vkey": t["ledger"][0]["vkey"]}),
    ],
    ids=range(15),
)
def test_a_trust_document_that_is_wrong_is_the_callers_error(
    bundle: dict[str, Any], instance: Instance, harm: Any
) -> None:
    changed = copy.deepcopy(instance.trust)
    harm(changed)
    with pytest.raises(Invalid) as refused:
        verify(bundle, changed)
    assert refused.value.code == "trust.malformed"


def test_a_trust_document_without_keys_trusts_nothing(bundle: dict[str, Any], instance: Instance) -> None:
    for member in ("evidence", "ledger", "timestamp"):
        assert not verify(bundle, {**instance.trust, member: []}).ok


_ALONE = """
import sys
def hook(event, arguments):
    if event.startswith(("socket.", "sqlite3.", "subprocess.", "os.system", "urllib.")):
        raise SystemExit(f"the verifier does {event}")
sys.addaudithook(hook)
from qcos.evidence.verify import verify
report = verify(open(sys.argv[1]).read(), open(sys.argv[2]).read())
names = ("sqlalchemy", "psycopg", "httpx", "fastapi", "pydantic", "opentelemetry", "qcos.db", "ssl")
print(report.lines()[-1], [name for name in names if name in sys.modules])
"""


def test_the_verifier_needs_neither_database_nor_network(
    bundle: dict[str, Any], instance: Instance, tmp_path: pathlib.Path
) -> None:
    """R4.2: in a fresh interpreter that ends at the first socket, with nothing of a server loaded."""
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    (tmp_path / "trust.json").write_text(json.dumps(instance.trust))
    arguments = [sys.executable, "-c", _ALONE, "bundle.json", "trust.json"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("VERIFIED []", "")
