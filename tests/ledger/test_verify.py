"""The offline verifier (R4.2): holds what is true, names what is not, survives anything."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcos.base.clock import now
from qcos.base.errors import Integrity, Limit, QcosError
from qcos.ledger.checkpoint import Checkpoint, decode, encode
from qcos.ledger.note import join, parse
from qcos.ledger.proof import LedgerProof, parse_tlog_proof, read_proof
from qcos.ledger.record import Record, entry_of, prepare, read_record
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.tile import Pyramid
from qcos.ledger.tree import consistency_ranges, fold, hash_range, inclusion_ranges, leaf_hash
from qcos.ledger.verify import verify_checkpoint, verify_consistency, verify_proof

from .conftest import ORIGIN, make_signers

TENANT = uuid4()
RECORDS = [
    prepare(
        TENANT,
        Record("evidence.sealed", "service:qcos", f"job-{n}", details={"statement": f"sha256:{n:064x}"}),
        now(),
    )
    for n in range(9)
]
LEAVES = [leaf_hash(entry_of(item.record_bytes)) for item in RECORDS]


def make_proof(signers: LedgerSigners, index: int = 4, size: int = 9) -> LedgerProof:
    node = Pyramid(LEAVES[:size]).node
    hashes = tuple(hash_range(start, end, node) for start, end in inclusion_ranges(index, size))
    note = signers.sign(Checkpoint(ORIGIN, size, fold(LEAVES[:size])), 1_767_953_400)
    return LedgerProof(RECORDS[index].record_bytes, index, size, hashes, note)


@pytest.fixture(scope="module")
def proof(signers: LedgerSigners) -> dict:
    return make_proof(signers).as_dict()


def test_a_true_proof_holds(proof: dict, signers: LedgerSigners) -> None:
    held = verify_proof(
        proof, signers.vkeys, {"act": "evidence.sealed", "details": {"statement": f"sha256:{4:064x}"}}
    )
    assert held.record["object"] == "job-4"
    assert held.record["tenant"] == str(TENANT)
    assert (held.index, held.checkpoint.size) == (4, 9)


def test_the_record_must_say_what_is_expected(proof: dict, signers: LedgerSigners) -> None:
    for expected, pointer in (
        ({"act": "budget.set"}, "/act"),
        ({"details": {"statement": "sha256:0"}}, "/details/statement"),
        ({"details": {"other": None}}, "/details/other"),
        ({"details": "text"}, "/details"),
    ):
        with pytest.raises(Integrity) as caught:
            verify_proof(proof, signers.vkeys, expected)
        assert (caught.value.code, caught.value.subject) == ("ledger.record_member", pointer)


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_changed_byte_of_a_proof_passes(proof: dict, signers: LedgerSigners, data: st.DataObject) -> None:
    """Any character of record, hashes, checkpoint, .tlog-proof; any index and size."""
    changed = copy.deepcopy(proof)
    member = data.draw(st.sampled_from(["record", "index", "size", "hashes", "checkpoint", "tlogProof"]))
    if member in ("index", "size"):
        changed[member] = data.draw(st.integers(0, 2**64))
    elif member == "hashes":
        position = data.draw(st.integers(0, len(changed["hashes"]) - 1))
        changed["hashes"][position] = _mutate(data, changed["hashes"][position])
    else:
        changed[member] = _mutate(data, changed[member])
    if changed != proof:
        with pytest.raises(Integrity):
            verify_proof(changed, signers.vkeys)
        if member != "tlogProof":
            del changed["tlogProof"]
            with pytest.raises(Integrity):
                verify_proof(changed, signers.vkeys)


def _mutate(data: st.DataObject, text: str) -> str:
    position = data.draw(st.integers(0, len(text) - 1))
    return text[:position] + data.draw(st.sampled_from("AB+/=x\n 0\u2014")) + text[position + 1 :]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    value=_JSON,
    members=st.dictionaries(
        st.sampled_from(["record", "index", "size", "hashes", "checkpoint", "tlogProof"]), _JSON
    ),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_a_proof_or_refused(
    proof: dict, signers: LedgerSigners, value: object, members: dict
) -> None:
    for hostile in (value, {**proof, **members}):
        if hostile != proof:
            with pytest.raises(Integrity):
                verify_proof(hostile, signers.vkeys)


def test_a_checkpoint_without_its_post_quantum_signatures_is_refused(signers: LedgerSigners) -> None:
    """Whoever breaks Ed25519 one day cannot strip what he cannot forge."""
    note = make_proof(signers).checkpoint
    text, lines = parse(note)
    for left_out in range(3):
        with pytest.raises(Integrity) as caught:
            verify_checkpoint(
                join(text, [line for n, line in enumerate(lines) if n != left_out]), signers.vkeys
            )
        assert caught.value.code == "ledger.unsigned"


def test_retired_keys_beside_new_ones_do_no_harm(proof: dict, signers: LedgerSigners) -> None:
    held = verify_proof(proof, [*make_signers().vkeys, *signers.vkeys])
    assert held == verify_proof(proof, signers.vkeys)


def test_a_log_that_is_not_trusted_is_refused(proof: dict, signers: LedgerSigners) -> None:
    for vkeys in ((), make_signers("other.test/log").vkeys):
        with pytest.raises(Integrity) as caught:
            verify_proof(proof, vkeys)
        assert caught.value.code == "ledger.origin"
    with pytest.raises(Integrity) as caught:
        verify_proof(proof, make_signers().vkeys)
    assert caught.value.code == "ledger.unsigned"


def test_a_record_of_another_schema_is_refused(signers: LedgerSigners) -> None:
    for record in (
        b"[]",
        b"{}",
        b'{"schema":"x"}',
        b"\xff",
        b"[" * 100_000,
        b'{"schema":"qcos.ledger.record/v1","a":1,"a":2}',
    ):
        leaf = leaf_hash(entry_of(record))
        note = signers.sign(Checkpoint(ORIGIN, 1, leaf), 1)
        with pytest.raises(Integrity) as caught:
            verify_proof(LedgerProof(record[:65_535], 0, 1, (), note), signers.vkeys)
        assert caught.value.code in ("ledger.record", "ledger.inclusion")


def test_checkpoints_that_continue_each_other_do_and_a_rewritten_past_does_not(
    signers: LedgerSigners,
) -> None:
    """R5.5: an auditor who kept one old checkpoint catches a rewritten log."""
    notes = {n: signers.sign(Checkpoint(ORIGIN, n, fold(LEAVES[:n])), 1) for n in range(10)}
    node = Pyramid(LEAVES).node
    for old in range(10):
        hashes = [encode(hash_range(*r, node)) for r in consistency_ranges(old, 9)]
        assert verify_consistency(notes[old], notes[9], hashes, signers.vkeys)[1].size == 9
    forged = [leaf_hash(b"forged"), *LEAVES[1:]]
    rewritten = signers.sign(Checkpoint(ORIGIN, 9, fold(forged)), 1)
    hashes = [encode(hash_range(*r, Pyramid(forged).node)) for r in consistency_ranges(5, 9)]
    with pytest.raises(Integrity) as caught:
        verify_consistency(notes[5], rewritten, hashes, signers.vkeys)
    assert caught.value.code == "ledger.consistency"
    with pytest.raises(Integrity, match="shrank"):
        verify_consistency(notes[9], notes[5], [], signers.vkeys)
    for hostile in (["x"], [encode(bytes(31))], [None], ["A"] * 100):
        with pytest.raises(Integrity):
            verify_consistency(notes[5], notes[9], hostile, signers.vkeys)


def test_the_proof_file_is_that_of_c2sp_and_reads_back(signers: LedgerSigners) -> None:
    proof = make_proof(signers)
    lines = proof.tlog_proof.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1] == "extra " + encode(proof.record)
    assert lines[2] == "index 4"
    assert [decode(line) for line in lines[3 : lines.index("")]] == list(proof.hashes)
    assert proof.tlog_proof.endswith("\n\n" + proof.checkpoint)
    assert parse_tlog_proof(proof.tlog_proof) == (proof.record, 4, proof.hashes, proof.checkpoint)
    assert read_proof(proof.as_dict()) == proof


@given(st.text() | st.text().map(lambda text: "c2sp.org/tlog-proof@v1\nindex 0\n" + text))
def test_any_text_is_a_proof_file_or_refused(text: str) -> None:
    try:
        parse_tlog_proof(text)
    except Integrity as error:
        assert error.code == "ledger.proof"


def test_two_equal_records_have_different_entries() -> None:
    """The salt: nobody can guess a record and test the guess against the public entry."""
    at = now()
    first, second = (prepare(TENANT, Record("job.submitted", "user:a", "job-1"), at) for _ in range(2))
    assert first.entry_bytes != second.entry_bytes
    salts = {read_record(item.record_bytes)["salt"] for item in (first, second)}
    assert len(salts) == 2
    assert all(len(salt) == 32 for salt in salts)
    assert b"job-1" not in first.entry_bytes


def test_a_record_that_is_too_large_is_refused() -> None:
    with pytest.raises(Limit) as caught:
        prepare(TENANT, Record("job.submitted", "user:a", "job-1", details={"x": "y" * 70_000}), now())
    assert caught.value.code == "ledger.record_size"


def test_the_verifier_loads_no_database_and_no_network() -> None:
    """R4.2."""
    program = (
        "import sys, qcos.ledger.verify\n"
        "names = ('sqlalchemy', 'psycopg', 'httpx', 'urllib.request', 'http.client', 'qcos.db')\n"
        "bad = [name for name in names if name in sys.modules]\n"
        "print(bad)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]")


def test_errors_of_the_verifier_are_of_our_families(signers: LedgerSigners) -> None:
    with pytest.raises(QcosError):
        verify_checkpoint(b"", ["nonsense"])
