"""Admission: one scope for job, decision, reservation, records and task; or nothing at all (law 1, R2.3, R5.1)."""

from __future__ import annotations

import json

import pytest

from faults.vendor import BACKEND
from faults.world import BELL, World, spec
from qcos.base.errors import Conflict, Denied, Invalid, NotFound
from qcos.db.engine import scope
from qcos.identity import tokens
from qcos.jobs.admit import Request, admit
from qcos.metering import store as metering

TABLES = ("job", "policy_decision", "reservation", "charge", "evidence_bundle")


def counted(world: World) -> dict[str, int]:
    counts = {table: world.rows(f"select count(*) from qcos.{table}")[0][0] for table in TABLES}
    counts["records"] = world.rows(
        "select count(*) from qcos.ledger_record where act in ('job.submitted', 'policy.decided')"
    )[0][0]
    with scope(world.engine, None) as connection:
        counts["tasks"] = connection.exec_driver_sql("select count(*) from queue.pgqueuer").scalar()
    return counts


def test_an_admitted_job_is_whole(world: World) -> None:
    """Law 1: job, decision, reservation, two records and one task, from one scope."""
    admitted = world.admit()
    assert counted(world) == {
        "job": 1,
        "policy_decision": 1,
        "reservation": 1,
        "charge": 0,
        "evidence_bundle": 0,
        "records": 2,
        "tasks": 1,
    }
    job = admitted.job
    assert (job.state, job.backend, job.provider, job.driver) == ("queued", "paid-qpu", "acme", "paid")
    (reservation,) = world.rows("select job, amount, shots, state from qcos.reservation")
    assert tuple(reservation) == (job.id, job.price, 100, "reserved")
    # 300,000 for the task and 1,450 for each shot, by the price book's entry aws/garnet
    assert (job.price, job.currency) == (300_000 + 100 * 1_450, "USD")


def test_a_denied_job_reserves_and_queues_nothing(world: World) -> None:
    """R3.6: but it is a job, with its decision and its two records."""
    admitted = world.admit(shots=20_000_000 // 2)
    with scope(world.engine, world.tenant) as connection:
        metering.set_budget(connection, world.tenant, "p1", 10, "USD")
    denied = world.admit()
    assert denied.decision.allow is False
    assert {r.code for r in denied.decision.reasons} == {"budget.exceeded"}
    assert (denied.job.state, denied.job.price, denied.job.backend, denied.job.placement) == (
        "denied",
        None,
        None,
        None,
    )
    expected = 1 if admitted.decision.allow else 0
    assert counted(world)["reservation"] == counted(world)["tasks"] == expected
    assert counted(world)["job"] == counted(world)["policy_decision"] == 2
    assert counted(world)["records"] == 4


@pytest.mark.parametrize(
    ("body", "error", "code"),
    [
        (b"{}", Invalid, "spec.invalid"),
        (spec("OPENQASM 3.0; nonsense"), Invalid, "circuit."),
        (spec(BELL, project="nowhere"), NotFound, "project.unknown"),
        (spec(BELL, parameters={"x": 1}), Invalid, "circuit.parameters"),
    ],
)
def test_a_mistake_leaves_nothing_behind(
    world: World, body: bytes, error: type[Exception], code: str
) -> None:
    """R2.1: what cannot be a job is no job: nothing is kept."""
    with pytest.raises(error) as caught:
        admit(world.admission, Request(world.tenant, world.token_hash, body))
    assert caught.value.code.startswith(code)  # type: ignore[attr-defined]
    assert set(counted(world).values()) == {0}


def test_an_unknown_token_admits_nothing(world: World) -> None:
    """R8.1: the admitting scope itself checks the token."""
    with pytest.raises(Denied) as caught:
        admit(world.admission, Request(world.tenant, tokens.mint(world.tenant).hash, spec()))
    assert caught.value.code == "auth.unknown"
    assert set(counted(world).values()) == {0}


def test_the_same_request_is_answered_with_its_job(world: World) -> None:
    """R12.2: replays are told apart; another spec under the key is a conflict; nothing more is kept."""
    first, second = world.admit("k"), world.admit("k")
    assert (first.replayed, second.replayed) == (False, True)
    assert first.job.id == second.job.id and first.decision == second.decision
    with pytest.raises(Conflict) as caught:
        world.admit("k", shots=5)
    assert caught.value.code == "idempotency.reused"
    assert counted(world)["job"] == counted(world)["tasks"] == 1


def test_a_backend_whose_worker_is_silent_takes_nothing(world: World) -> None:
    """R8.3: offline backends are dropped with the reason, and the job is denied."""
    with scope(world.engine, None) as connection:
        connection.exec_driver_sql("update qcos.backend set seen_at = now() - interval '1 hour'")
    world.admission.catalogue.forget()
    admitted = admit(world.admission, Request(world.tenant, world.token_hash, spec()))
    (reason,) = admitted.decision.reasons
    assert (reason.policy, reason.code) == ("routing", "routing.unsatisfiable")
    assert f"{BACKEND.name}: no worker serves it now" in reason.message


def test_what_is_recorded_is_what_was_asked(world: World) -> None:
    """R4.1, law 8: the row keeps the exact canonical spec, a seed, who asked, and the decision's id."""
    job = world.admit(seed=41, purpose="test", classification="internal").job
    assert json.loads(job.spec)["execution"]["seed"] == job.seed == 41
    assert job.context["roles"] == ["quantum-engineer"] and job.context["purpose"] == "test"
    (kept,) = world.rows("select spec, decision from qcos.job")
    assert bytes(kept.spec) == job.spec and kept.decision == job.decision
