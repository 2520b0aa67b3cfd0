"""Bundles are kept once a job, never change, and belong to one tenant; with the real ledger they verify."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from qcos.base.errors import Conflict, NotFound
from qcos.db.engine import scope
from qcos.evidence import store
from qcos.evidence.bundle import attach
from qcos.evidence.store import StoredBundle
from qcos.evidence.verify import verify
from qcos.ledger.append import append
from qcos.ledger.prove import proof_of
from qcos.ledger.record import Record
from qcos.ledger.sequence import Sequencer

from .conftest import ACTOR, ORIGIN, PROJECT, TENANT, Instance, facts


def _keep(engine: sa.Engine, tenant: UUID, instance: Instance, jobs: list[str]) -> list[StoredBundle]:
    """Seal, record and keep in one scope, as the worker does."""
    sealed = [instance.seal(facts(job)) for job in jobs]
    with scope(engine, tenant) as connection:
        appended = append(
            connection,
            tenant,
            [
                Record("evidence.sealed", ACTOR, s.bundle_id, PROJECT, details=s.ledger_details)
                for s in sealed
            ],
        )
        rows = [StoredBundle.of(s, a.record_id) for s, a in zip(sealed, appended, strict=True)]
        store.insert_bundles(connection, tenant, rows)
    return rows


def test_bundles_come_back_as_they_were_kept(engine: sa.Engine, instance: Instance) -> None:
    """R4.1."""
    tenant = uuid4()
    rows = _keep(engine, tenant, instance, ["job-1", "job-2", "job-3"])
    with scope(engine, tenant) as connection:
        assert store.get(connection, tenant, rows[0].id) == rows[0]
        assert store.of_job(connection, tenant, "job-2") == rows[1]
        assert store.of_job(connection, tenant, "job-9") is None
        assert store.of_jobs(connection, tenant, ["job-1", "job-3", "job-9"]) == {
            "job-1": rows[0],
            "job-3": rows[2],
        }
        ordered = sorted(rows, key=lambda row: row.id)
        assert store.page(connection, tenant, limit=2) == ordered[:2]
        assert store.page(connection, tenant, after=ordered[1].id) == ordered[2:]
        with pytest.raises(NotFound):
            store.get(connection, tenant, "evidence-none")
        store.insert_bundles(connection, tenant, [])


def test_a_job_has_one_bundle(engine: sa.Engine, instance: Instance) -> None:
    tenant = uuid4()
    (kept,) = _keep(engine, tenant, instance, ["job-1"])
    with pytest.raises(Conflict) as refused:
        _keep(engine, tenant, instance, ["job-2", "job-1"])
    assert refused.value.code == "evidence.exists"
    with scope(engine, tenant) as connection:
        assert store.page(connection, tenant) == [kept], "nothing of the refused scope was kept"


@pytest.mark.parametrize(
    "change", ["update qcos.evidence_bundle set job = 'x'", "delete from qcos.evidence_bundle"]
)
def test_a_bundle_cannot_be_changed_or_removed(engine: sa.Engine, instance: Instance, change: str) -> None:
    """R4.1: immutable, by the grants of the application's role."""
    tenant = uuid4()
    _keep(engine, tenant, instance, ["job-1"])
    with (
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
        scope(engine, tenant) as connection,
    ):
        connection.exec_driver_sql(change)


def test_tenants_do_not_see_each_others_bundles(engine: sa.Engine, instance: Instance) -> None:
    alice, bob = uuid4(), uuid4()
    (kept,) = _keep(engine, alice, instance, ["job-1"])
    _keep(engine, bob, instance, ["job-1"])
    with scope(engine, bob) as connection:
        assert connection.exec_driver_sql("select count(*) from qcos.evidence_bundle").scalar() == 1
        with pytest.raises(NotFound):
            store.get(connection, alice, kept.id)
    with pytest.raises(sa.exc.ProgrammingError, match="row-level security"), scope(engine, bob) as connection:
        store.insert_bundles(connection, alice, [kept])


def test_with_the_real_ledger_a_bundle_verifies(
    engine: sa.Engine, instance: Instance, tmp_path: Path
) -> None:
    """R4.2, R5.3, R8.7, R8.8: sealed, recorded in one scope, covered by a checkpoint, verified offline."""
    tenant = TENANT
    rows = _keep(engine, tenant, instance, [f"job-{n}" for n in range(5)])
    with scope(engine, tenant) as connection:
        assert proof_of(connection, tenant, rows[0].record_id) is None
    Sequencer(engine, tmp_path / "log", instance.ledger, ORIGIN).step()
    for row in rows:
        with scope(engine, tenant) as connection:
            proof = proof_of(connection, tenant, row.record_id)
        assert proof is not None
        report = verify(attach(row.document, proof.as_dict()), instance.trust)
        assert report.ok, report.reason
