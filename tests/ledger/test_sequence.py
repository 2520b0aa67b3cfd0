"""The sequencer covers what was committed, in order, once."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from qcos.base.errors import Integrity
from qcos.db.engine import scope
from qcos.ledger import prove, store
from qcos.ledger.append import append
from qcos.ledger.files import LogFolder
from qcos.ledger.record import Record
from qcos.ledger.sequence import Sequencer, Step
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.tree import EMPTY_ROOT, fold, leaf_hash
from qcos.ledger.verify import verify_checkpoint, verify_consistency, verify_proof

from .conftest import ORIGIN, make_signers, record_acts


def test_an_act_is_covered_by_a_signed_checkpoint_and_its_proof_verifies_offline(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    """R4.2, R5.1, R5.5."""
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    assert sequencer.step() == Step(0, 0, EMPTY_ROOT)
    acts = record_acts(engine, tenant, 5)
    with scope(engine, tenant) as connection:
        assert prove.proof_of(connection, tenant, acts[2].record_id) is None
    step = sequencer.step()
    assert (step.size, step.added) == (5, 5)
    assert step.root == fold([leaf_hash(act.entry_bytes) for act in acts])
    with scope(engine, tenant) as connection:
        proof = prove.proof_of(connection, tenant, acts[2].record_id)
        assert proof is not None
        from_files = prove.proof_of(connection, tenant, acts[2].record_id, LogFolder(tmp_path))
    assert from_files == proof
    held = verify_proof(
        proof.as_dict(), signers.vkeys, {"act": "job.submitted", "object": "job-2", "details": {"n": 2}}
    )
    assert held.index == 2
    assert {signature.vkey.algorithm for signature in held.signatures} == {
        "Ed25519",
        "ML-DSA-44 cosignature",
        "ML-DSA-65",
    }
    checkpoint, _ = verify_checkpoint((tmp_path / "checkpoint").read_bytes(), signers.vkeys)
    assert (checkpoint.size, checkpoint.root) == (5, step.root)


def test_the_tree_grows_over_tile_borders_and_every_record_is_proved(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN, batch=300)
    acts = []
    for count in (1, 255, 1, 300, 700):
        acts += record_acts(engine, tenant, count)
        while sequencer.step().added == 300:
            pass
    step = sequencer.step()
    assert (step.size, step.added) == (len(acts), 0)
    assert step.root == fold([leaf_hash(act.entry_bytes) for act in acts])
    folder = LogFolder(tmp_path)
    with scope(engine, tenant) as connection:
        proofs = prove.proofs_of(connection, tenant, [act.record_id for act in acts])
        some = [act.record_id for act in acts[::97]]
        assert prove.proofs_of(connection, tenant, some, folder) == {name: proofs[name] for name in some}
        consistency = prove.consistency(connection, 257, len(acts)).as_dict()
        assert prove.consistency(connection, 257, len(acts), folder).as_dict() == consistency
    assert [proofs[act.record_id].index for act in acts] == list(range(len(acts)))
    for act in acts[::97]:
        verify_proof(proofs[act.record_id], signers.vkeys, {"id": act.record_id})
    verify_consistency(
        consistency["oldCheckpoint"], consistency["newCheckpoint"], consistency["hashes"], signers.vkeys
    )


def test_a_rolled_back_act_leaves_nothing(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    with pytest.raises(RuntimeError), scope(engine, tenant) as connection:
        append(connection, tenant, [Record("budget.set", "user:a", "p1")])
        raise RuntimeError("the act failed")
    assert Sequencer(engine, tmp_path, signers, ORIGIN).step().size == 0
    with scope(engine, tenant) as connection:
        assert store.search(connection, tenant).items == ()


def test_the_application_can_neither_change_nor_remove_what_is_recorded(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    """R5.5: append-only by the database's own grants and policies."""
    record_acts(engine, tenant, 3)
    Sequencer(engine, tmp_path, signers, ORIGIN).step()
    for statement in (
        "delete from qcos.ledger_entry",
        "update qcos.ledger_entry set digest = sha256('')",
        "update qcos.ledger_run set index = index + 10",
        "delete from qcos.ledger_run",
        "delete from qcos.ledger_record",
        "update qcos.ledger_record set actor = 'mallory'",
        "update qcos.ledger_checkpoint set note = ''",
        "delete from qcos.ledger_checkpoint",
        "delete from qcos.ledger_state",
        "update qcos.ledger_node set hash = ''",
        "truncate qcos.ledger_entry",
    ):
        with (
            pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|row-level security"),
            scope(engine, tenant) as connection,
        ):
            connection.exec_driver_sql(statement)


def test_tenants_do_not_see_each_others_records(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners
) -> None:
    ours, theirs = uuid4(), uuid4()
    acts = record_acts(engine, ours, 2)
    record_acts(engine, theirs, 1)
    Sequencer(engine, tmp_path, signers, ORIGIN).step()
    with scope(engine, theirs) as connection:
        assert prove.proof_of(connection, theirs, acts[0].record_id) is None
        assert prove.proof_of(connection, ours, acts[0].record_id) is None
        assert len(store.search(connection, theirs).items) == 1


def test_search_pages_through_everything_newest_first(engine: sa.Engine, tenant: UUID) -> None:
    """R5.1: who did what to which object, page by page."""
    first = record_acts(engine, tenant, 7)
    second = record_acts(engine, tenant, 6, actor="user:bob@example.com")
    expected = [act.record_id for act in reversed(first + second)]
    with scope(engine, tenant) as connection:
        found, after = [], None
        while True:
            page = store.search(connection, tenant, after=after, limit=4)
            found += [item.record_id for item in page.items]
            after = page.next
            if after is None:
                break
        assert found == expected
        assert [item.index for item in store.search(connection, tenant, limit=1).items] == [None]
        bobs = store.search(connection, tenant, actor="user:bob@example.com").items
        assert [item.record_id for item in bobs] == [act.record_id for act in reversed(second)]
        both = store.search(connection, tenant, object="job-3", act="job.submitted", project="p1").items
        assert [item.record["details"] for item in both] == [{"n": 3}, {"n": 3}]
        assert len(store.search(connection, tenant, since=second[0].at).items) == 6
        assert len(store.search(connection, tenant, until=second[0].at).items) == 7
        assert store.search(connection, tenant, after="rec-none").items == ()
        assert store.search(connection, tenant, act="no.such").items == ()


def test_a_folder_of_another_log_is_refused(
    engine: sa.Engine, tmp_path: Path, signers: LedgerSigners, tenant: UUID
) -> None:
    Sequencer(engine, tmp_path, signers, ORIGIN).step()
    record_acts(engine, tenant, 1)
    with pytest.raises(Integrity) as caught:
        Sequencer(engine, tmp_path, make_signers("other"), "other").step()
    assert caught.value.code == "ledger.origin"
