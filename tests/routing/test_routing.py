"""Routing is total, deterministic and says why (R8.3, R8.4, R12.1)."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.backends.model import Backend, BackendStatus
from qcos.base.canonical import canonical
from qcos.base.errors import Invalid
from qcos.routing.choose import choose
from qcos.routing.constrain import constrain
from qcos.routing.model import PPM, Dropped, Needs, Option, Weights
from qcos.routing.score import score

BACKEND = Backend(
    name="b", provider="p", kind="simulator", driver="d", qubits=5, max_shots=1000,
    max_depth=50, max_circuits=3,
    formats=("QASM3",), gates=("*",), region="local", zone="local", on_premise=True, price_key="k",
)  # fmt: skip
NEEDS = Needs(qubits=5, depth=50, circuits=3, shots=1000, formats=("QASM3",))


def status(
    name: str = "b",
    *,
    online: bool = True,
    queue: int = 0,
    mean: float = 0.0,
    rate: float = 1.0,
    jobs: int = 0,
    **facts: object,
):
    backend = dataclasses.replace(BACKEND, name=name, **facts)  # type: ignore[arg-type]
    return BackendStatus(backend, online, queue, None, mean, rate, jobs)


statuses = st.lists(
    st.builds(
        status,
        st.from_regex(r"[a-z][a-z0-9-]{0,6}", fullmatch=True),
        online=st.booleans(), queue=st.integers(0, 10**6), mean=st.floats(0, 1e5),
        rate=st.floats(0, 1), jobs=st.integers(0, 10**6),
        provider=st.sampled_from("pq"), qubits=st.integers(1, 30), max_shots=st.integers(1, 10**6),
        max_depth=st.none() | st.integers(1, 100), max_circuits=st.integers(1, 10),
        formats=st.sampled_from([("QASM3",), ("QASM2",), ("QASM3", "QASM2")]),
    ),
    max_size=8, unique_by=lambda s: s.backend.name,
)  # fmt: skip
needs = st.builds(
    Needs,
    qubits=st.integers(0, 40), depth=st.integers(0, 120), circuits=st.integers(1, 12),
    shots=st.integers(1, 10**6),
    formats=st.sampled_from([("QASM3",), ("QASM2",), ("QASM3", "QASM2")]),
    min_qubits=st.none() | st.integers(1, 40), max_depth=st.none() | st.integers(0, 120),
    allowed_providers=st.none() | st.lists(st.sampled_from("pqr"), unique=True).map(tuple),
    backend=st.none() | st.just("b"),
)  # fmt: skip


@given(statuses, needs, st.randoms())
def test_every_backend_is_a_candidate_or_dropped_and_order_does_not_matter(
    given_statuses, wanted, rng: random.Random
) -> None:
    """R8.4: total, and the same whatever the order the backends come in."""
    able, dropped = constrain(given_statuses, wanted)
    names = [s.backend.name for s in able] + [d.backend for d in dropped]
    assert sorted(names) == sorted(s.backend.name for s in given_statuses)
    assert all(d.code.startswith("routing.") and d.message for d in dropped)
    shuffled = list(given_statuses)
    rng.shuffle(shuffled)
    assert constrain(shuffled, wanted) == (able, dropped)


@given(statuses, needs)
def test_a_candidate_meets_every_need(given_statuses, wanted) -> None:
    """R8.3: nothing reaches a backend that cannot run it."""
    for s in constrain(given_statuses, wanted)[0]:
        b = s.backend
        assert s.online
        assert b.qubits >= max(wanted.qubits, wanted.min_qubits or 0)
        assert b.max_depth is None or b.max_depth >= wanted.depth
        assert wanted.max_depth is None or wanted.depth <= wanted.max_depth
        assert (b.max_shots, b.max_circuits) >= (wanted.shots, 0)
        assert b.max_circuits >= wanted.circuits
        assert set(wanted.formats) <= set(b.formats)
        assert wanted.allowed_providers is None or b.provider in wanted.allowed_providers
        assert wanted.backend in (None, b.name)


@given(statuses.filter(bool), st.data(), st.randoms())
def test_the_choice_is_deterministic_and_in_integers(given_statuses, data, rng: random.Random) -> None:
    """R8.4: the same candidates give the same bytes; every score is an integer between 0 and one million."""
    options = [Option(s, data.draw(st.integers(0, 2**53 - 1))) for s in given_statuses]
    placement = choose(options)
    shuffled = list(options)
    rng.shuffle(shuffled)
    assert canonical(choose(shuffled).as_dict()) == canonical(placement.as_dict())
    assert {s.backend for s in placement.scores} == {o.name for o in options}
    assert placement.backend == placement.scores[0].backend
    for s in placement.scores:
        assert all(isinstance(v, int) and 0 <= v <= PPM for v in (s.total, s.cost, s.queue, s.history))
    assert [(-s.total, s.backend) for s in placement.scores] == sorted(
        (-s.total, s.backend) for s in placement.scores
    )


@given(statuses.filter(bool), st.data())
def test_less_price_and_less_queue_never_hurt(given_statuses, data) -> None:
    """R8.4: a backend that becomes cheaper or emptier does not score less."""
    options = [Option(s, data.draw(st.integers(0, 10**9))) for s in given_statuses]
    first = options[0]
    better = Option(
        dataclasses.replace(first.status, queue_depth=first.status.queue_depth // 2), first.price // 2
    )
    before = {s.backend: s.total for s in score(options, Weights())}
    after = {s.backend: s.total for s in score([better, *options[1:]], Weights())}
    assert after[first.name] >= before[first.name]


@pytest.mark.parametrize(
    ("facts", "change", "code", "said"),
    [
        ({}, {"backend": "other"}, "routing.backend", "asks for other"),
        ({"online": False}, {}, "routing.offline", "no worker"),
        ({}, {"allowed_providers": ("q", "r")}, "routing.provider", "its provider is p; the job allows q, r"),
        ({}, {"allowed_providers": ()}, "routing.provider", "allows none"),
        ({}, {"formats": ("QASM2", "QASM3")}, "routing.format", "does not take QASM2"),
        ({}, {"qubits": 6}, "routing.qubits", "has 5 qubits; the job uses 6"),
        ({}, {"min_qubits": 6}, "routing.qubits", "at least 6"),
        ({}, {"depth": 51}, "routing.depth", "takes a depth of 50"),
        ({}, {"max_depth": 49}, "routing.depth", "the job allows 49"),
        ({}, {"circuits": 4}, "routing.circuits", "the job has 4"),
        ({}, {"shots": 1001}, "routing.shots", "asks for 1001"),
    ],
)
def test_each_constraint_drops_with_its_reason(facts, change, code, said) -> None:
    """R12.1: every exclusion has a code and a sentence."""
    able, dropped = constrain([status(**facts)], dataclasses.replace(NEEDS, **change))
    assert able == ()
    assert dropped[0].code == code
    assert said in dropped[0].message


def test_bounds_are_inclusive() -> None:
    """R8.3: a job that fits exactly fits."""
    exact = dataclasses.replace(NEEDS, min_qubits=5, max_depth=50, allowed_providers=("p",), backend="b")
    able, dropped = constrain([status()], exact)
    assert [s.backend.name for s in able] == ["b"]
    assert dropped == ()


def test_all_reasons_are_told() -> None:
    """R12.1: who mends one reason should not meet the next by surprise."""
    _, dropped = constrain([status(online=False)], dataclasses.replace(NEEDS, qubits=6, shots=1001))
    assert dropped[0].code == "routing.offline"
    assert "6" in dropped[0].message
    assert "1001" in dropped[0].message


def test_cost_queue_and_history_each_decide_when_the_rest_is_equal() -> None:
    """R8.4: queue depth, cost and performance history all count."""
    plain = Option(status("m"), 1000)
    assert choose([plain, Option(status("z"), 500)]).backend == "z"
    assert choose([Option(status("m", queue=5), 1000), Option(status("z"), 1000)]).backend == "z"
    assert (
        choose(
            [
                Option(status("m", rate=0.5, jobs=100, mean=1.0), 0),
                Option(status("z", rate=0.99, jobs=100, mean=1.0), 0),
            ]
        ).backend
        == "z"
    )
    assert choose([plain, Option(status("a"), 1000)]).backend == "a"  # a tie goes by name


def test_a_placement_is_plain_json() -> None:
    """R12.1: what is recorded can be read without this code."""
    placed = choose(
        [Option(status(), 7)],
        [Dropped("y", "budget.exceeded", "too dear"), Dropped("x", "routing.offline", "off")],
    )
    members = json.loads(json.dumps(placed.as_dict()))
    assert members == placed.as_dict()
    assert [d["backend"] for d in members["dropped"]] == ["x", "y"]
    assert members["weights"] == {"cost": 500_000, "queue": 300_000, "history": 200_000}


def test_refusals() -> None:
    """R8.4: no candidate, a backend twice and weights that do not sum up are refused by name."""
    with pytest.raises(Invalid) as none:
        choose([], [Dropped("x", "routing.offline", "off")])
    assert none.value.code == "routing.none"
    assert none.value.as_dict()["dropped"] == [{"backend": "x", "code": "routing.offline", "message": "off"}]
    with pytest.raises(Invalid, match="twice"):
        choose([Option(status(), 1), Option(status(), 2)])
    with pytest.raises(Invalid, match="twice"):
        choose([Option(status(), 1)], [Dropped("b", "routing.offline", "off")])
    with pytest.raises(Invalid, match="one million"):
        Weights(cost=1, queue=1, history=1)
