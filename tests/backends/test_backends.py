"""The catalogue of backends, on a real database (R12.3)."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
import sqlalchemy as sa

from qcos.backends import store
from qcos.backends.catalogue import Catalogue
from qcos.backends.model import Backend, JobOutcome
from qcos.base.clock import now
from qcos.base.errors import Conflict, Invalid, NotFound
from qcos.db.engine import scope

A = Backend(
    name="a", provider="p", kind="simulator", driver="d", qubits=5,
    max_shots=1000, max_depth=None, max_circuits=3, formats=("QASM3",), gates=("h", "cx"),
    region="local", zone="sovereign", on_premise=True, price_key="k",
    description="a backend", calibration="sha256:00",
)  # fmt: skip
B = dataclasses.replace(A, name="b", max_depth=7, calibration=None)


def test_facts_survive_the_database(engine: sa.Engine) -> None:
    """R12.3: what a driver describes is what is read; a new description replaces the old one."""
    at = now()
    with scope(engine, None) as connection:
        store.register(connection, [B, A], at)
        assert [s.backend for s in store.load(connection, at)] == [A, B]
        changed = dataclasses.replace(A, qubits=6, calibration="sha256:01")
        store.register(connection, [changed], at)
        store.register(connection, [], at)
        assert [s.backend for s in store.load(connection, at)] == [changed, B]
        assert all(s.online and s.queue_depth == 0 and s.jobs == 0 for s in store.load(connection, at))


def test_two_drivers_cannot_have_the_same_backend(engine: sa.Engine) -> None:
    """R12.3: a name stands for one backend; the second driver is refused and the first one's facts stay."""
    with scope(engine, None) as connection:
        store.register(connection, [A], now())
    with pytest.raises(Conflict, match="another driver"), scope(engine, None) as connection:
        store.register(connection, [dataclasses.replace(A, driver="other", qubits=9), B], now())
    with scope(engine, None) as connection:
        assert [s.backend for s in store.load(connection)] == [A]


def test_a_silent_worker_makes_its_backends_offline(engine: sa.Engine) -> None:
    """R12.3: online means seen within 30 s; an old heartbeat that comes late does not turn time back."""
    start = now()
    with scope(engine, None) as connection:
        store.register(connection, [A, B], start)
        later = start + dt.timedelta(seconds=31)
        assert [s.online for s in store.load(connection, start + dt.timedelta(seconds=30))] == [True, True]
        assert [s.online for s in store.load(connection, later)] == [False, False]
        assert store.touch(connection, "d", later, {"a": 4}) == 1
        assert store.touch(connection, "d", start) == 2
        assert store.touch(connection, "d", later, {}) == 0
        assert store.touch(connection, "nobody", later) == 0
        assert [(s.online, s.queue_depth, s.seen_at) for s in store.load(connection, later)] == [
            (True, 4, later),
            (False, 0, start),
        ]


def test_history_adds_up_and_ages(engine: sa.Engine) -> None:
    """R8.4: performance history is the mean of the last 30 days' jobs."""
    at = now()
    with scope(engine, None) as connection:
        store.register(connection, [A, B], at)
        store.record_outcomes(
            connection,
            [JobOutcome("a", True, 1.0), JobOutcome("a", False, 2.0), JobOutcome("b", True, 0.5)],
            at,
        )
        store.record_outcomes(connection, [JobOutcome("a", True, 3.0)], at - dt.timedelta(days=29))
        store.record_outcomes(connection, [JobOutcome("a", False, 999.0)], at - dt.timedelta(days=31))
        store.record_outcomes(connection, [], at)
        a, b = store.load(connection, at)
    assert (a.jobs, a.mean_seconds) == (3, 2.0)
    assert a.success_rate == pytest.approx(2 / 3)
    assert (b.jobs, b.mean_seconds, b.success_rate) == (1, 0.5, 1.0)


def test_the_catalogue_is_read_once_for_many(engine: sa.Engine) -> None:
    """R12.3: a snapshot is reused within its age and read anew after."""
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    patient, eager = Catalogue(engine, max_age_s=3600), Catalogue(engine, max_age_s=-1)
    assert patient.statuses() == ()
    with scope(engine, None) as connection:
        store.register(connection, [A], now())
    before = len(statements)
    assert patient.statuses() == ()
    assert len(statements) == before
    assert [s.backend for s in eager.statuses()] == [A]
    patient.forget()
    assert patient.get("a").backend == A
    with pytest.raises(NotFound, match="no such backend"):
        patient.get("zzz")


def test_the_application_cannot_delete_backends(engine: sa.Engine) -> None:
    """R12.3: history is not taken away by the application's role."""
    for table in ("backend", "backend_history"):
        with (
            pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
            scope(engine, None) as connection,
        ):
            connection.exec_driver_sql(f"delete from qcos.{table}")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "A b"},
        {"name": ""},
        {"kind": "annealer"},
        {"zone": "moon"},
        {"qubits": 0},
        {"formats": ()},
        {"provider": ""},
    ],
)
def test_facts_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    """R12.3: a driver's mistake is found when it describes, not when a job arrives."""
    with pytest.raises(Invalid):
        dataclasses.replace(A, **change)  # type: ignore[arg-type]
