"""Asking the engine: fail closed, one bad policy harms only its own request."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from qcos.base.canonical import digest_of
from qcos.base.clock import parse_rfc3339
from qcos.base.errors import Invalid, Unavailable
from qcos.policy import bundle
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.model import PolicyBundle, Verdict
from qcos.policy.samples import sample

RUNAWAY = """package qcos.jobs.runaway
deny contains "never" if count([1 | some i in n; some j in n; i == 0 - j]) > 0
n := numbers.range(1, 9000)
"""
RECURSIVE = """package qcos.jobs.recursive
deny contains "never" if p == 1
p := q
q := p
"""
BOMB = """package qcos.jobs.bomb
deny contains "never" if count(numbers.range(1, 2000000000)) == 0
"""


def policy(body: str, name: str = "x") -> PolicyBundle:
    return bundle.of({f"jobs/{name}.rego": f"package qcos.jobs.{name}\n{body}\n"})


def ask(engine: PolicyEngine, asked: PolicyBundle, document: dict[str, Any] | None = None) -> Verdict:
    return engine.evaluate(asked, "jobs", sample("jobs") if document is None else document)


@pytest.mark.parametrize("source", [RUNAWAY, RECURSIVE, BOMB], ids=["runaway", "recursive", "bomb"])
def test_runaway_policy_denies_that_request_only(source: str) -> None:
    """Law 4: a policy that runs away or eats memory denies its own request; the next one is decided."""
    bad = bundle.of({"jobs/bad.rego": source})
    with PolicyEngine() as engine:
        assert ask(engine, bundle.shipped()).allow
        verdict = ask(engine, bad)
        assert not verdict.allow
        (reason,) = verdict.reasons
        assert reason.policy == "qcos.engine"
        assert reason.code in ("policy.timeout", "policy.crashed", "policy.error")
        assert reason.hint
        assert ask(engine, bundle.shipped()).allow


def test_timeout_has_its_code() -> None:
    with PolicyEngine(deadline_s=0.02) as engine:
        (reason,) = ask(engine, bundle.of({"jobs/bad.rego": RUNAWAY})).reasons
        assert reason.code == "policy.timeout" and "20 ms" in reason.message


def test_other_requests_go_on_beside_a_runaway() -> None:
    bad = bundle.of({"jobs/bad.rego": RUNAWAY})
    with PolicyEngine(size=2, wait_s=120) as engine, ThreadPoolExecutor(4) as pool:
        stuck = [pool.submit(ask, engine, bad) for _ in range(3)]
        good = [pool.submit(ask, engine, bundle.shipped()) for _ in range(12)]
        assert all(future.result().allow for future in good)
        assert not any(future.result().allow for future in stuck)


def test_busy_engine_is_said_so() -> None:
    """Nothing was decided when no engine is free: the caller may try again."""
    with PolicyEngine(size=1, wait_s=0.0) as engine:
        taken = threading.Event()
        given = threading.Event()

        def hold() -> None:
            with engine._seat():
                taken.set()
                given.wait(120)

        holder = threading.Thread(target=hold)
        holder.start()
        assert taken.wait(120)
        with pytest.raises(Unavailable) as caught:
            ask(engine, bundle.shipped())
        given.set()
        holder.join()
        assert caught.value.code == "policy.busy"
        assert ask(engine, bundle.shipped()).allow


def test_an_engine_that_gets_no_processor_denies_nobody() -> None:
    """It is not the policies' fault: nothing was decided, and the caller may try again."""
    with PolicyEngine() as engine:
        assert ask(engine, bundle.shipped()).allow
        pid = engine._seats[0]._child.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(Unavailable) as caught:
            ask(engine, bundle.shipped())
        assert (caught.value.code, caught.value.retry_after_s) == ("policy.starved", 1.0)
        assert ask(engine, bundle.shipped()).allow


def test_engine_killed_from_outside_is_replaced() -> None:
    with PolicyEngine() as engine:
        assert ask(engine, bundle.shipped()).allow
        engine._seats[0]._child._child.kill()  # type: ignore[union-attr]
        engine._seats[0]._child._child.wait()  # type: ignore[union-attr]
        assert ask(engine, bundle.shipped()).allow


def test_no_policy_for_the_entrypoint_denies(policy_engine: PolicyEngine) -> None:
    asked = policy("deny contains 1 if false")
    assert ask(policy_engine, asked).allow
    verdict = policy_engine.evaluate(asked, "acts", sample("acts"))
    assert not verdict.allow and verdict.reasons[0].code == "policy.missing"


def test_error_in_a_policy_denies_without_a_backtrace(policy_engine: PolicyEngine) -> None:
    """The reason names file, line and column; build paths of the engine are cut."""
    verdict = ask(policy_engine, policy("deny contains 1 if to_number(input.job.project) > 1"))
    (reason,) = verdict.reasons
    assert reason.code == "policy.error"
    assert "jobs/x.rego:2:" in reason.message
    assert "backtrace" not in reason.message.lower() and "python" not in reason.message.lower()


def test_invalid_bundle_denies(policy_engine: PolicyEngine) -> None:
    (reason,) = ask(policy_engine, policy("deny contains")).reasons
    assert reason.code == "policy.invalid" and "jobs/x.rego" in reason.message


def test_reasons_of_any_shape_deny(policy_engine: PolicyEngine) -> None:
    for item, message in (
        ('"no"', "no"),
        ("7", "7"),
        ('{"a": 1}', '{"a": 1}'),
        ("null", "null"),
        ("false", "false"),
    ):
        verdict = ask(policy_engine, policy(f"deny contains {item}"))
        assert not verdict.allow
        assert (verdict.reasons[0].code, verdict.reasons[0].message) == ("policy.denied", message)


def test_exclusion_without_backend_denies(policy_engine: PolicyEngine) -> None:
    for item in ('{"code": "x"}', '"qpu-1"', '{"backend": 7, "code": "x"}', '{"backend": "", "code": "x"}'):
        verdict = ask(policy_engine, policy(f"exclude contains {item}"))
        assert not verdict.allow and verdict.excluded == ()


def test_too_many_answers_deny(policy_engine: PolicyEngine) -> None:
    body = 'exclude contains {"backend": sprintf("b%d", [i])} if some i in numbers.range(1, 60000)'
    with PolicyEngine(deadline_s=5) as engine:
        (reason,) = ask(engine, policy(body)).reasons
    assert reason.code == "policy.error" and "more than" in reason.message


def test_exclusions_are_never_cut(policy_engine: PolicyEngine) -> None:
    body = 'exclude contains {"backend": sprintf("b%d", [i])} if some i in numbers.range(1, 500)'
    assert len(ask(policy_engine, policy(body)).excluded_backends) == 500


def test_clock_is_the_inputs(policy_engine: PolicyEngine) -> None:
    """R3.6: time.now_ns is the input's time, so that a decision replays."""
    asked = policy(
        'deny contains sprintf("%d", [time.now_ns()])\ndeny contains day\nday := time.weekday(time.now_ns())'
    )
    verdict = ask(policy_engine, asked)
    assert {r.message for r in verdict.reasons} == {"1795429800000000000", "Monday"}
    document = sample("jobs")
    document["time"] = "1970-01-01T00:00:01+00:00"
    assert "1000000000" in {r.message for r in ask(policy_engine, asked, document).reasons}


@pytest.mark.parametrize("time", [None, "", "yesterday", 5])
def test_input_without_time_denies(policy_engine: PolicyEngine, time: object) -> None:
    document = sample("jobs")
    document["time"] = time
    assert [r.code for r in ask(policy_engine, bundle.shipped(), document).reasons] == ["policy.error"]
    del document["time"]
    assert [r.code for r in ask(policy_engine, bundle.shipped(), document).reasons] == ["policy.error"]


def test_input_that_is_no_json_denies(policy_engine: PolicyEngine) -> None:
    document = sample("jobs")
    document["job"]["purpose"] = float("nan")
    assert not ask(policy_engine, bundle.shipped(), document).allow
    document["job"]["purpose"] = "\ud800"
    assert not ask(policy_engine, bundle.shipped(), document).allow


def test_requests_do_not_see_each_other(policy_engine: PolicyEngine) -> None:
    asked = policy("deny contains input.job.id")
    for name in ("one", "two"):
        document = sample("jobs")
        document["job"]["id"] = name
        assert [r.message for r in ask(policy_engine, asked, document).reasons] == [name]


def test_many_bundles_beside_each_other() -> None:
    """More bundles than an engine keeps: each is asked as itself, again and again."""
    asked = [policy(f'deny contains "{n}"') for n in range(70)]
    with PolicyEngine() as engine:
        for _ in range(2):
            assert [ask(engine, one).reasons[0].message for one in asked] == [str(n) for n in range(70)]


def test_decide_makes_a_record(policy_engine: PolicyEngine) -> None:
    """R3.6: a decision carries its input, the digest of it and the version of the policies."""
    document = sample("jobs")
    decision = policy_engine.decide(bundle.shipped(), "jobs", "job-1", document)
    assert decision.id.startswith("dec-")
    assert decision.allow and decision.subject == "job-1"
    assert decision.input == document and decision.input_digest == digest_of(document)
    assert decision.bundle_version == bundle.shipped().version
    assert decision.time == parse_rfc3339(document["time"])
    document["time"] = "now"
    with pytest.raises(Invalid) as caught:
        policy_engine.decide(bundle.shipped(), "jobs", "job-1", document)
    assert caught.value.code == "policy.input"


def test_warm_loads_every_process() -> None:
    with PolicyEngine(size=2) as engine:
        engine.warm(bundle.shipped())
        assert all(bundle.shipped().version in seat._facts for seat in engine._seats)
        assert ask(engine, bundle.shipped()).allow
