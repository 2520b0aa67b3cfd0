"""Admission: one scope for job, decision, reservation, records and task; or nothing at all (law 1, R2.3, R5.1)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
import sqlalchemy as sa

from faults.vendor import BACKEND
from faults.world import BELL, World, spec
from qcos.backends import store as backends
from qcos.base.clock import now
from qcos.base.errors import Conflict, Denied, Invalid, NotFound
from qcos.circuits.model import CircuitFacts
from qcos.circuits.reader import CircuitReader
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.identity import tokens
from qcos.jobs.admit import Admitted, Request, admit
from qcos.jobs.conceal import SPEC
from qcos.metering import store as metering
from qcos.policy import bundle as bundles
from qcos.policy import store as policies
from qcos.policy.bundle import shipped
from qcos.policy.explain import replay
from qcos.policy.model import PolicyBundle

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
    assert world.opened(job, SPEC, kept.spec) == job.spec and kept.decision == job.decision


def _somebody(world: World, *roles: str) -> bytes:
    """Return the hash of a token of somebody new with these roles."""
    who, minted = f"user:{'-'.join(roles) or 'nobody'}@company.com", tokens.mint(world.tenant)
    with scope(world.engine, world.tenant) as connection:
        identity.create_principal(connection, world.tenant, who, team="t1")
        for role in roles:
            identity.grant_role(connection, world.tenant, who, role)
        until = now() + dt.timedelta(days=1)
        identity.create_token(connection, world.tenant, who, minted.hash, minted.id, until)
    return minted.hash


class _Unreadable(CircuitReader):
    """A reader that must not be asked to read anything."""

    def read_job(self, programs: Sequence[tuple[bytes, str]], tenant: UUID) -> tuple[CircuitFacts, ...]:
        raise AssertionError("circuits are read for somebody who may not submit")


@pytest.mark.parametrize("roles", [(), ("auditor",)])
def test_nothing_is_read_for_somebody_who_may_not_submit(world: World, roles: tuple[str, ...]) -> None:
    """R3.3, law 9: a token without a role that submits costs no reading; the denial is a job with its decision all the same (R3.6)."""
    token = _somebody(world, *roles)
    reader = _Unreadable(1)
    try:
        parts = dataclasses.replace(world.admission, circuits=reader)
        denied = admit(parts, Request(world.tenant, token, spec("OPENQASM 3.0; qubit q; h q;")))
    finally:
        reader.close()
    assert (denied.job.state, denied.decision.allow) == ("denied", False)
    assert [r.code for r in denied.decision.reasons] == ["access.role", "access.denied"]
    assert denied.job.facts == [] and denied.decision.input["candidates"] == []
    assert counted(world)["records"] == 2
    bundle = shipped()
    assert replay(world.admission.policy, bundle, denied.decision).same


def test_known_circuits_are_denied_by_the_same_policy(world: World) -> None:
    """R3.3: nothing of the decision depends on what the reader remembers."""
    world.admit()
    denied = admit(world.admission, Request(world.tenant, _somebody(world, "auditor"), spec()))
    assert [r.code for r in denied.decision.reasons] == ["access.role", "access.denied"]


FREEZE = """package qcos.acts.freeze

deny contains {"code": "freeze.night", "message": "nobody submits now"} if input.act == "job.submit"
"""


@pytest.mark.parametrize("known", [False, True])
def test_what_denies_the_act_denies_the_job_whoever_read_the_circuits(world: World, known: bool) -> None:
    """R3.1, R11.4: a bundle whose policies of acts deny ``job.submit`` is enforced for each job, and the decision can be replayed."""
    if known:
        world.admit()
    bundle = bundles.of({**shipped().files, "acts/freeze.rego": FREEZE})
    _choose(world, bundle)
    denied = world.admit()
    assert (denied.job.state, [r.code for r in denied.decision.reasons]) == ("denied", ["freeze.night"])
    assert replay(world.admission.policy, bundle, denied.decision).same
    assert counted(world)["reservation"] == counted(world)["tasks"] == int(known)


def test_known_circuits_cost_no_scope_of_their_own(world: World) -> None:
    """A known token with known circuits is admitted with as many statements as before: one scope."""
    world.admit()
    begun: list[object] = []
    sa.event.listen(world.engine, "begin", begun.append)
    world.admission.catalogue.statuses()
    begun.clear()
    admit(world.admission, Request(world.tenant, world.token_hash, spec(seed=8)))
    assert len(begun) == 1


def _activate(world: World, *left_out: str) -> None:
    """Activate the shipped policies without some."""
    files = {path: text for path, text in shipped().files.items() if not path.startswith(left_out)}
    _choose(world, bundles.of(files))


def _choose(world: World, bundle: PolicyBundle) -> None:
    with scope(world.engine, world.tenant) as connection:
        policies.insert_bundle(
            connection, world.tenant, bundle, note="", uploaded_by="test", uploaded_at=now(), tests={}
        )
        policies.activate(connection, world.tenant, bundle.version, actor="test", at=now())


@pytest.mark.parametrize(
    ("budget", "quota", "code", "told"),
    [
        ((10, "USD"), 1000, "budget.exceeded", "price 0.445 USD of paid-qpu exceeds 0.00001 USD left"),
        ((1_000_000, "EUR"), 1000, "budget.currency", "in EUR, the price of paid-qpu in USD"),
        (None, 1000, "budget.missing", "no budget, and paid-qpu is not free"),
        ((1_000_000, "USD"), 99, "quota.exceeded", "100 shots exceed the 99 left of 99"),
    ],
)
def test_a_lasting_lack_of_funds_is_a_denial_whatever_the_policies_say(
    world: World, budget: tuple[int, str] | None, quota: int, code: str, told: str
) -> None:
    """R3.2, R3.6: policies without a word about money do not make a job wait for ever: it is denied, with numbers, and recorded."""
    _activate(world, "jobs/budget", "jobs/quota")
    with scope(world.engine, world.tenant) as connection:
        identity.create_project(connection, world.tenant, "p2", team="t1", cost_center="CC-1")
        if budget:
            metering.set_budget(connection, world.tenant, "p2", *budget)
        metering.set_quota(connection, world.tenant, "t1", quota)
    denied = world.admit(project="p2")
    (reason,) = denied.decision.reasons
    assert (denied.job.state, reason.policy, reason.code) == ("denied", "funds", code)
    assert told in reason.message
    assert counted(world) == {
        "job": 1,
        "policy_decision": 1,
        "reservation": 0,
        "charge": 0,
        "evidence_bundle": 0,
        "records": 2,
        "tasks": 0,
    }


def test_a_backend_that_is_affordable_is_taken_instead(world: World) -> None:
    """R3.2, R8.4: without budget rules the placement still leaves out what cannot be reserved."""
    _activate(world, "jobs/budget", "jobs/quota")
    cheap = dataclasses.replace(BACKEND, name="cheap", price_key="local/aer")
    with scope(world.engine, world.tenant) as connection:
        backends.register(connection, [BACKEND, cheap], now())
        metering.set_budget(connection, world.tenant, "p1", 400_000, "USD")
    job = world.admit().job
    assert (job.state, job.backend) == ("queued", "cheap")
    assert job.placement is not None
    assert [(d["backend"], d["code"]) for d in job.placement["dropped"]] == [("paid-qpu", "budget.exceeded")]


def _denied_once(world: World, key: str | None = None, token: bytes | None = None) -> Admitted:
    """Deny a job that asks for the id ``mine``, for want of money; then there is money."""
    with scope(world.engine, world.tenant) as connection:
        metering.set_budget(connection, world.tenant, "p1", 10, "USD")
    denied = admit(
        world.admission, Request(world.tenant, token or world.token_hash, spec(job_id="mine"), key)
    )
    assert (denied.job.id, denied.job.state) == ("mine", "denied")
    with scope(world.engine, world.tenant) as connection:
        metering.set_budget(connection, world.tenant, "p1", 10_000_000, "USD")
    return denied


@pytest.mark.parametrize(("before", "after"), [(None, None), ("k1", "k2"), ("k1", None), (None, "k1")])
def test_a_denied_job_does_not_keep_its_id(world: World, before: str | None, after: str | None) -> None:
    """R2.1, R3.6: the same spec under another key, or none, is decided anew; the old decision stays readable with its records."""
    denied = _denied_once(world, before)
    admitted = world.admit(after, job_id="mine")
    assert (admitted.job.id, admitted.job.state, admitted.replayed) == ("mine", "queued", False)
    kept = world.rows("select id, decision, state from qcos.job order by created")
    assert [tuple(row) for row in kept] == [
        (f"mine~{denied.decision.id}", denied.decision.id, "denied"),
        ("mine", admitted.decision.id, "queued"),
    ]
    with scope(world.engine, world.tenant) as connection:
        assert policies.get_decision(connection, world.tenant, denied.decision.id) == denied.decision
    assert counted(world)["records"] == 4
    assert world.admit(after, job_id="mine").replayed, "now the id is taken"


def test_a_key_gives_the_same_answer_after_the_id_was_taken_over(world: World) -> None:
    """R12.2: the key of the denial answers with the denial, the key of the job with the job."""
    denied = _denied_once(world, "k1")
    assert world.admit("k1", job_id="mine").decision == denied.decision
    admitted = world.admit("k2", job_id="mine")
    for key, expected in (("k1", denied), ("k2", admitted)):
        again = world.admit(key, job_id="mine")
        assert again.replayed and again.decision == expected.decision
    with pytest.raises(Conflict) as caught:
        world.admit("k1", job_id="mine", shots=5)
    assert caught.value.code == "idempotency.reused"


def test_a_denied_job_of_somebody_else_keeps_no_id(world: World) -> None:
    """R11.4: nobody can occupy ids with jobs that are denied; and nobody takes an id away from a job that was not."""
    denied = _denied_once(world, token=_somebody(world))
    admitted = world.admit(job_id="mine")
    assert (admitted.job.id, admitted.job.state) == ("mine", "queued")
    assert denied.job.actor != admitted.job.actor
    with pytest.raises(Conflict) as caught:
        admit(world.admission, Request(world.tenant, _somebody(world, "quantum-user"), spec(job_id="mine")))
    assert caught.value.code == "job.exists"


def test_a_key_that_is_taken_takes_no_id_over(world: World) -> None:
    """R12.2: a key that belongs to another job is a conflict, and the denied job keeps its place."""
    _denied_once(world)
    world.admit("k")
    with pytest.raises(Conflict) as caught:
        world.admit("k", job_id="mine")
    assert caught.value.code == "idempotency.reused"
    assert [r.id for r in world.rows("select id from qcos.job where state = 'denied'")] == ["mine"]


def test_an_id_that_is_free_again_is_taken_once(world: World) -> None:
    """R12.2, law 3: ten at once for the id of a denied job are one job and one reservation."""
    _denied_once(world)
    request = Request(world.tenant, world.token_hash, spec(job_id="mine"))
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: admit(world.admission, request), range(10)))
    assert sorted(a.replayed for a in answers) == [False] + [True] * 9
    assert len({a.decision.id for a in answers}) == 1
    assert counted(world)["reservation"] == counted(world)["tasks"] == 1
