"""Placement: constraints with reasons, prices, and the best that policy permits (R8.4, R3.4)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json

from faults.vendor import BACKEND
from faults.world import spec
from qcos.backends.model import Backend, BackendStatus
from qcos.base.clock import now
from qcos.circuits.model import CircuitFacts
from qcos.jobs.place import candidates, expected_us, place, where
from qcos.jobs.spec import read_spec
from qcos.metering.price import shipped_book
from qcos.policy.model import Decision, Reason

FACTS = CircuitFacts(
    qubits=2,
    bits=2,
    depth=3,
    size=4,
    gates={"h": 1, "cx": 1},
    measured_bits=2,
    two_qubit_gates=1,
    parameters=(),
    digest="sha256:" + "0" * 64,
)


def status(**changes: object) -> BackendStatus:
    backend: Backend = dataclasses.replace(BACKEND, **changes)  # type: ignore[arg-type]
    return BackendStatus(
        backend, online=True, queue_depth=0, seen_at=now(), mean_seconds=1.0, success_rate=1.0, jobs=10
    )


def decision(*excluded: str) -> Decision:
    return Decision(
        id="d", entrypoint="jobs", subject="j", allow=True, reasons=(),
        excluded=tuple(Reason("qcos.jobs.x", "x.no", "not here", "", name) for name in excluded),
        policies=(), bundle_version="v", input={}, input_digest="", time=dt.datetime.now(dt.UTC), duration_us=1,
    )  # fmt: skip


def test_a_backend_without_a_known_price_is_not_free() -> None:
    """R3.2: what cannot be priced is dropped, with the reason."""
    able, dropped = candidates(
        [status(), status(name="odd", price_key="nobody/knows")], read_spec(spec()), [FACTS], shipped_book()
    )
    assert [c.backend for c in able] == ["paid-qpu"]
    assert [(d.backend, d.code) for d in dropped] == [("odd", "price.unknown")]
    assert able[0].price.amount == 300_000 + 100 * 1_450


def test_the_cheaper_of_two_equal_backends_is_taken() -> None:
    """R8.4: cost counts; policy's exclusions come before it."""
    statuses = [status(name="dear", price_key="aws/forte"), status(name="cheap")]
    able, dropped = candidates(statuses, read_spec(spec()), [FACTS], shipped_book())
    placement, chosen = place(decision(), able, dropped)
    assert placement.backend == chosen.backend == "cheap"
    placement, chosen = place(decision("cheap"), able, dropped)
    assert placement.backend == chosen.backend == "dear"
    assert [(d.backend, d.code) for d in placement.dropped] == [("cheap", "x.no")]
    json.dumps(placement.as_dict() | {"where": where(chosen)})


def test_where_says_where() -> None:
    """R1.3: all that evidence and settlement need."""
    able, _ = candidates([status()], read_spec(spec()), [FACTS], shipped_book())
    told = where(able[0])
    assert told == {
        "provider": "acme",
        "region": "acme-1",
        "zone": "cloud",
        "on_premise": False,
        "kind": "qpu",
        "price_key": "aws/garnet",
        "qubits": 20,
    }


def test_the_bound_on_time_grows_with_the_work() -> None:
    """R12.1: more shots, more qubits, more gates never make it cheaper; no circuit makes it overflow."""
    for kind in ("simulator", "qpu"):
        small = expected_us(kind, FACTS, 10)
        for more in (FACTS, dataclasses.replace(FACTS, qubits=20), dataclasses.replace(FACTS, size=10_000)):
            assert expected_us(kind, more, 1000) >= small > 0
    assert expected_us("simulator", dataclasses.replace(FACTS, qubits=10_000, size=2_000_000), 1) < 2**63
