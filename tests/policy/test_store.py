"""Decisions, bundles and activations in the database."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from qcos.base.clock import now
from qcos.base.errors import Conflict, Integrity, NotFound
from qcos.db.engine import make_engine, scope
from qcos.policy import bundle, store
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.explain import replay
from qcos.policy.model import Decision, PolicyBundle
from qcos.policy.samples import sample

TENANT = uuid.UUID(int=1)
OTHER = uuid.UUID(int=2)
AT = dt.datetime(2026, 11, 23, 10, 30, tzinfo=dt.UTC)
CHANGED = {"jobs/x.rego": 'package qcos.jobs.x\ndeny contains "x" if false\n'}


def put(connection: sa.Connection, tenant: uuid.UUID, kept: PolicyBundle) -> bool:
    return store.insert_bundle(
        connection, tenant, kept, note="first", uploaded_by="user:root", uploaded_at=AT, tests={"ok": True}
    )


def decisions(engine: PolicyEngine, count: int) -> list[Decision]:
    document = sample("jobs")
    document["job"]["total_shots"] = 40_001
    document["budget"]["available"] = 0
    made = engine.decide(bundle.shipped(), "jobs", "job-1", document)
    allowed = engine.decide(bundle.shipped(), "jobs", "job-1", sample("jobs"))
    return [
        replace(
            made if n % 2 else allowed,
            id=f"dec-{n:03d}",
            subject=f"job-{n // 2}",
            time=AT + dt.timedelta(seconds=n),
        )
        for n in range(count)
    ]


def test_decisions_come_back_whole(engine: sa.Engine, policy_engine: PolicyEngine) -> None:
    """R3.6: reasons, inputs and policy version of every decision are kept, and replay from the database."""
    made = decisions(policy_engine, 6)
    with scope(engine, TENANT) as connection:
        store.insert_decisions(connection, TENANT, made)
        store.insert_decisions(connection, TENANT, [])
    with scope(engine, TENANT) as connection:
        for decision in made:
            found = store.get_decision(connection, TENANT, decision.id)
            assert found == decision
            assert replay(policy_engine, bundle.shipped(), found).same
        assert store.list_decisions(connection, TENANT) == made[::-1]
        assert store.list_decisions(connection, TENANT, allow=False) == [made[5], made[3], made[1]]
        page = store.list_decisions(connection, TENANT, limit=2)
        rest = store.list_decisions(connection, TENANT, after=(page[-1].time, page[-1].id))
        assert [*page, *rest] == made[::-1]
        latest = store.decisions_of(connection, TENANT, ["job-0", "job-2", "job-9"])
        assert latest == {"job-0": made[1], "job-2": made[5]}


def test_decision_that_is_not_there(engine: sa.Engine) -> None:
    with scope(engine, TENANT) as connection, pytest.raises(NotFound) as caught:
        store.get_decision(connection, TENANT, "dec-x")
    assert caught.value.code == "decision.unknown"


def test_tenants_do_not_see_each_other(engine: sa.Engine, policy_engine: PolicyEngine) -> None:
    """Law 7: row-level security hides what belongs to another tenant, whatever the query asks for."""
    with scope(engine, TENANT) as connection:
        store.insert_decisions(connection, TENANT, decisions(policy_engine, 2))
        put(connection, TENANT, bundle.shipped())
        store.activate(connection, TENANT, bundle.shipped().version, actor="user:root", at=AT)
    with scope(engine, OTHER) as connection:
        assert store.list_decisions(connection, OTHER) == []
        assert store.list_decisions(connection, TENANT) == []
        assert store.active(connection, TENANT) is None
        assert store.list_bundles(connection, TENANT) == []
        with pytest.raises(NotFound):
            store.activate(connection, OTHER, bundle.shipped().version, actor="user:eve", at=AT)
    with pytest.raises(DBAPIError, match="row-level security"), scope(engine, OTHER) as connection:
        put(connection, TENANT, bundle.of(CHANGED))


@pytest.mark.parametrize("table", ["policy_decision", "policy_bundle", "policy_activation"])
@pytest.mark.parametrize(
    "change", ["update qcos.{} set tenant = tenant", "delete from qcos.{}", "truncate qcos.{}"]
)
def test_rows_are_only_added(engine: sa.Engine, table: str, change: str) -> None:
    """R3.6: the application can neither change nor remove a record of policy."""
    with pytest.raises(DBAPIError, match="permission denied"), scope(engine, TENANT) as connection:
        connection.exec_driver_sql(change.format(table))


def test_bundles_are_kept_once(engine: sa.Engine) -> None:
    """R3.1: a version is what it was when it was uploaded."""
    with scope(engine, TENANT) as connection:
        assert put(connection, TENANT, bundle.shipped())
        assert not put(connection, TENANT, bundle.shipped())
        assert store.get_bundle(connection, TENANT, bundle.shipped().version) == bundle.shipped()
        (upload,) = store.list_bundles(connection, TENANT)
        assert (upload.version, upload.note, upload.uploaded_by) == (
            bundle.shipped().version,
            "first",
            "user:root",
        )
        assert upload.uploaded_at == AT and upload.tests == {"ok": True}
        with pytest.raises(NotFound):
            store.get_bundle(connection, TENANT, "sha256:00")


def test_altered_bundle_is_not_used(engine: sa.Engine) -> None:
    """A bundle whose files are not those of its version is refused when it is loaded."""
    lie = PolicyBundle(bundle.shipped().version, dict(bundle.of(CHANGED).files))
    with scope(engine, TENANT) as connection:
        put(connection, TENANT, lie)
        with pytest.raises(Integrity) as caught:
            store.get_bundle(connection, TENANT, lie.version)
    assert caught.value.code == "policy.altered"


def test_activation(engine: sa.Engine) -> None:
    """R3.1: which policies hold, since when and by whom, back to the first."""
    first, second = bundle.shipped(), bundle.of(CHANGED)
    with scope(engine, TENANT) as connection:
        assert store.active(connection, TENANT) is None
        with pytest.raises(NotFound) as unknown:
            store.activate(connection, TENANT, first.version, actor="user:root", at=AT)
        assert unknown.value.code == "policy.unknown"
        put(connection, TENANT, first)
        put(connection, TENANT, second)
        assert store.activate(connection, TENANT, first.version, actor="user:root", at=AT).n == 1
        assert store.activate(connection, TENANT, second.version, actor="user:eve", at=AT, expected=1).n == 2
        with pytest.raises(Conflict) as stale:
            store.activate(connection, TENANT, first.version, actor="user:root", at=AT, expected=1)
        assert stale.value.code == "policy.activated"
    with scope(engine, TENANT) as connection:
        assert store.active(connection, TENANT) == store.Activation(2, second.version, "user:eve", AT)
        assert [a.version for a in store.activations(connection, TENANT)] == [second.version, first.version]


def test_two_activations_at_once(engine: sa.Engine) -> None:
    """One of two concurrent activations is told that it lost; its scope goes on."""
    with scope(engine, TENANT) as connection:
        put(connection, TENANT, bundle.shipped())
    with scope(engine, TENANT) as slow:
        assert store.active(slow, TENANT) is None
        original = store.active
        with scope(engine, TENANT) as fast:
            store.activate(fast, TENANT, bundle.shipped().version, actor="user:fast", at=AT)
        assert original(slow, TENANT) is not None  # read committed: sees the other's commit
        with pytest.raises(Conflict):
            store.activate(slow, TENANT, bundle.shipped().version, actor="user:slow", at=AT, expected=0)
        assert store.active(slow, TENANT) is not None


def test_active_bundles_follow_each_activation(
    engine: sa.Engine, count_statements: Callable[[], int]
) -> None:
    """A new activation counts at once; a bundle's files are read once."""
    first, second = bundle.shipped(), bundle.of(CHANGED)
    kept = store.ActiveBundles()
    with scope(engine, TENANT) as connection:
        with pytest.raises(NotFound) as none:
            kept.get(connection, TENANT)
        assert none.value.code == "policy.none"
        put(connection, TENANT, first)
        put(connection, TENANT, second)
        store.activate(connection, TENANT, first.version, actor="user:root", at=AT)
        assert kept.get(connection, TENANT) == first
        before = count_statements()
        assert kept.get(connection, TENANT) is kept.get(connection, TENANT)
        assert count_statements() - before == 2
        store.activate(connection, TENANT, second.version, actor="user:root", at=now())
        assert kept.get(connection, TENANT) == second
    with scope(engine, OTHER) as connection, pytest.raises(NotFound):
        kept.of_version(connection, OTHER, first.version)


@pytest.fixture
def count_statements(engine: sa.Engine) -> Callable[[], int]:
    counted = [0]

    @sa.event.listens_for(engine, "before_cursor_execute")
    def count(*_: object) -> None:
        counted[0] += 1

    return lambda: counted[0]


def test_many_decisions_are_one_round_trip(
    engine: sa.Engine, policy_engine: PolicyEngine, count_statements: Callable[[], int]
) -> None:
    made = decisions(policy_engine, 40)
    with scope(engine, TENANT) as connection:
        before = count_statements()
        store.insert_decisions(connection, TENANT, made)
        assert count_statements() - before == 1


def test_owner_is_bound_too(database: object, policy_engine: PolicyEngine) -> None:
    """Forced row-level security: even the tables' owner sees nothing without a tenant, unless a superuser."""
    owner = make_engine(database.admin_url)  # type: ignore[attr-defined]
    with owner.connect() as connection:
        rows = connection.exec_driver_sql(
            "select relname, relrowsecurity, relforcerowsecurity from pg_class"
            " where relname like 'policy\\_%%' and relkind = 'r'"
        ).all()
    owner.dispose()
    assert sorted(rows) == [
        (name, True, True) for name in ("policy_activation", "policy_bundle", "policy_decision")
    ]
