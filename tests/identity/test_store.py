"""Who may authenticate, and who is refused with which reason (R1.4, R8.1, R11.4, R11.7, R11.8)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from qcos.base.errors import Conflict, Denied, Invalid, NotFound, QcosError
from qcos.db.engine import scope
from qcos.identity import store, tokens
from qcos.identity.model import Minted, RoleGrant
from qcos.identity.tables import API_TOKEN

AT = dt.datetime(2026, 11, 2, 10, tzinfo=dt.UTC)
ALICE = "user:alice@company.com"


@pytest.fixture
def tenant(engine: sa.Engine) -> UUID:
    with scope(engine, None) as connection:
        return store.create_tenant(connection, "acme")


@pytest.fixture
def minted(engine: sa.Engine, tenant: UUID) -> Minted:
    """Alice of team physics, engineer of project alpha and user everywhere, with a token for a day."""
    made = tokens.mint(tenant)
    with scope(engine, tenant) as connection:
        store.create_project(connection, tenant, "alpha", team="physics", cost_center="CC-1", at=AT)
        store.create_principal(
            connection, tenant, ALICE, team="physics", attributes={"department": "research"}, at=AT
        )
        assert store.grant_role(connection, tenant, ALICE, "quantum-engineer", "alpha")
        assert store.grant_role(connection, tenant, ALICE, "quantum-user")
        store.create_token(connection, tenant, ALICE, made.hash, made.id, tokens.expiry(AT, 1), at=AT)
    return made


def _refused(wanted: type[QcosError], code: str, act: Callable[[], object]) -> None:
    with pytest.raises(wanted) as caught:
        act()
    assert caught.value.code == code


def test_a_token_makes_a_principal_with_its_roles(engine: sa.Engine, tenant: UUID, minted: Minted) -> None:
    """R1.4, R11.4: identity, team, roles by project, attributes."""
    named, hashed = tokens.read(minted.text)
    with scope(engine, named) as connection:
        found = store.authenticate(connection, named, hashed, AT)
    assert (found.tenant, found.id, found.kind, found.team) == (tenant, ALICE, "user", "physics")
    assert found.roles == (RoleGrant("quantum-engineer", "alpha"), RoleGrant("quantum-user", None))
    assert found.roles_for("alpha") == ("quantum-engineer", "quantum-user")
    assert found.roles_for("beta") == ("quantum-user",)
    assert found.attributes == {"department": "research"}
    assert (found.token_id, found.token_expires, found.delegation) == (
        minted.id,
        AT + dt.timedelta(days=1),
        (),
    )


def test_submission_facts_bring_the_project_too(engine: sa.Engine, tenant: UUID, minted: Minted) -> None:
    with scope(engine, tenant) as connection:
        principal, project = store.submission_facts(connection, tenant, minted.hash, "alpha", AT)
        again, missing = store.submission_facts(connection, tenant, minted.hash, "beta", AT)
    assert principal == again
    assert project is not None
    assert (project.id, project.team, project.cost_center, project.created) == (
        "alpha",
        "physics",
        "CC-1",
        AT,
    )
    assert missing is None


def test_each_of_the_two_is_one_statement(engine: sa.Engine, tenant: UUID, minted: Minted) -> None:
    seen: list[str] = []
    with scope(engine, tenant) as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *call: seen.append(call[2]))
        store.authenticate(connection, tenant, minted.hash, AT)
        store.submission_facts(connection, tenant, minted.hash, "alpha", AT)
    assert len(seen) == 2


def test_an_expired_token_is_denied_from_its_very_instant(
    engine: sa.Engine, tenant: UUID, minted: Minted
) -> None:
    """R11.8: time-limited tokens."""
    end = AT + dt.timedelta(days=1)
    with scope(engine, tenant) as connection:
        store.authenticate(connection, tenant, minted.hash, end - dt.timedelta(microseconds=1))
        _refused(Denied, "auth.expired", lambda: store.authenticate(connection, tenant, minted.hash, end))
        _refused(
            Denied,
            "auth.expired",
            lambda: store.submission_facts(connection, tenant, minted.hash, "alpha", end),
        )


def test_a_revoked_token_is_denied_and_revoked_once(engine: sa.Engine, tenant: UUID, minted: Minted) -> None:
    """R11.8."""
    with scope(engine, tenant) as connection:
        assert store.revoke_token(connection, tenant, minted.id, AT) == [minted.id]
        assert store.revoke_token(connection, tenant, minted.id, AT + dt.timedelta(hours=1)) == []
        _refused(Denied, "auth.revoked", lambda: store.authenticate(connection, tenant, minted.hash, AT))
        _refused(NotFound, "token.unknown", lambda: store.revoke_token(connection, tenant, "tok-0", AT))
        (listed,) = store.list_tokens(connection, tenant)
    assert listed.revoked == AT


def _child(connection: sa.Connection, tenant: UUID, parent: str | None) -> Minted:
    made = tokens.mint(tenant)
    store.create_token(connection, tenant, ALICE, made.hash, made.id, tokens.expiry(AT), parent=parent, at=AT)
    return made


def test_a_token_ends_with_its_descendants(engine: sa.Engine, tenant: UUID, minted: Minted) -> None:
    """R11.8: children and theirs; neither what made it nor its siblings."""
    with scope(engine, tenant) as connection:
        child = _child(connection, tenant, minted.id)
        sibling = _child(connection, tenant, minted.id)
        grandchildren = [_child(connection, tenant, child.id).id for _ in range(3)]
        store.revoke_token(connection, tenant, grandchildren[0], AT)
        ended = store.revoke_token(connection, tenant, child.id, AT + dt.timedelta(hours=1))
        assert ended == [child.id, *sorted(grandchildren[1:])]
        listed = {token.id: token for token in store.list_tokens(connection, tenant)}
    assert listed[grandchildren[0]].revoked == AT
    assert listed[minted.id].revoked is None and listed[sibling.id].revoked is None
    assert (listed[minted.id].parent, listed[child.id].parent) == (None, minted.id)


def test_a_revoked_token_makes_no_other(engine: sa.Engine, tenant: UUID, minted: Minted) -> None:
    """R11.8: also when it was good a moment ago, when its owner authenticated."""
    with scope(engine, tenant) as connection:
        store.revoke_token(connection, tenant, minted.id, AT)
        _refused(Denied, "auth.revoked", lambda: _child(connection, tenant, minted.id))


def test_a_token_made_while_its_parent_is_revoked_ends_too(
    engine: sa.Engine, tenant: UUID, minted: Minted
) -> None:
    """R11.8: the revocation waits for the scope that makes it, and looks again."""

    def revoke() -> list[str]:
        with scope(engine, tenant) as connection:
            return store.revoke_token(connection, tenant, minted.id, AT)

    with ThreadPoolExecutor(1) as pool:
        with scope(engine, tenant) as connection:
            child = _child(connection, tenant, minted.id)
            ended = pool.submit(revoke)
            waiting = "select count(*) from pg_locks where not granted"
            while not ended.done():
                with scope(engine, None) as watcher:
                    if watcher.exec_driver_sql(waiting).scalar_one():
                        break
        assert ended.result() == [minted.id, child.id]


def test_a_token_is_found_by_its_id(engine: sa.Engine, tenant: UUID, minted: Minted) -> None:
    with scope(engine, tenant) as connection:
        found = store.find_token(connection, tenant, minted.id)
        assert found is not None and (found.id, found.principal, found.created) == (minted.id, ALICE, AT)
        assert store.find_token(connection, tenant, "tok-0") is None


def test_a_disabled_principal_is_denied_until_it_is_let_in_again(
    engine: sa.Engine, tenant: UUID, minted: Minted
) -> None:
    with scope(engine, tenant) as connection:
        assert store.disable_principal(connection, tenant, ALICE, AT) is True
        assert store.disable_principal(connection, tenant, ALICE, AT + dt.timedelta(hours=1)) is False
        _refused(Denied, "auth.disabled", lambda: store.authenticate(connection, tenant, minted.hash, AT))
        assert store.get_principal(connection, tenant, ALICE).disabled == AT
        assert store.disable_principal(connection, tenant, ALICE, None) is True
        assert store.disable_principal(connection, tenant, ALICE, None) is False
        assert store.authenticate(connection, tenant, minted.hash, AT).id == ALICE
        _refused(
            NotFound, "principal.unknown", lambda: store.disable_principal(connection, tenant, "user:bob", AT)
        )


def test_a_token_of_another_tenant_is_unknown(engine: sa.Engine, tenant: UUID, minted: Minted) -> None:
    """R10.1: even with the right hash, and even in a scope of the other tenant."""
    with scope(engine, None) as connection:
        other = store.create_tenant(connection, "umbrella")
    with scope(engine, other) as connection:
        _refused(Denied, "auth.unknown", lambda: store.authenticate(connection, other, minted.hash, AT))
        _refused(Denied, "auth.unknown", lambda: store.authenticate(connection, tenant, minted.hash, AT))
        assert store.list_tokens(connection, tenant) == []
        assert store.list_principals(connection, tenant) == []
        assert store.list_projects(connection, tenant) == []


def test_the_secret_is_in_no_column(engine: sa.Engine, tenant: UUID, minted: Minted) -> None:
    secret = minted.text.removeprefix("qcos_")
    with scope(engine, tenant) as connection:
        row = connection.execute(sa.select(API_TOKEN)).one()
    assert all(secret not in str(value) for value in row)
    assert row.hash == minted.hash


def test_roles_are_granted_once_and_taken_back_exactly(
    engine: sa.Engine, tenant: UUID, minted: Minted
) -> None:
    """R11.4: project-scoped assignments."""
    with scope(engine, tenant) as connection:
        assert store.grant_role(connection, tenant, ALICE, "quantum-user") is False
        _refused(
            NotFound,
            "role.not_granted",
            lambda: store.revoke_role(connection, tenant, ALICE, "quantum-user", "alpha"),
        )
        store.revoke_role(connection, tenant, ALICE, "quantum-engineer", "alpha")
        assert store.authenticate(connection, tenant, minted.hash, AT).roles_for("alpha") == ("quantum-user",)
        store.revoke_role(connection, tenant, ALICE, "quantum-user")
        assert store.authenticate(connection, tenant, minted.hash, AT).roles == ()
        _refused(Invalid, "role.unknown", lambda: store.grant_role(connection, tenant, ALICE, "root"))
        _refused(
            NotFound, "principal.unknown", lambda: store.grant_role(connection, tenant, "user:bob", "auditor")
        )
        _refused(
            NotFound,
            "project.unknown",
            lambda: store.grant_role(connection, tenant, ALICE, "auditor", "nowhere"),
        )


def test_nothing_is_registered_twice(engine: sa.Engine, tenant: UUID, minted: Minted) -> None:
    with scope(engine, tenant) as connection:
        _refused(Conflict, "tenant.exists", lambda: store.create_tenant(connection, "acme"))
        _refused(Conflict, "principal.exists", lambda: store.create_principal(connection, tenant, ALICE))
        _refused(
            Conflict,
            "project.exists",
            lambda: store.create_project(connection, tenant, "alpha", team="physics", cost_center="CC-9"),
        )
        assert store.get_project(connection, tenant, "alpha").cost_center == "CC-1"
        assert store.tenants(connection) == [(tenant, "acme")]


def test_listings_go_on_where_the_page_before_ended(engine: sa.Engine, tenant: UUID) -> None:
    with scope(engine, tenant) as connection:
        for name in ("a", "b", "c"):
            store.create_project(connection, tenant, name, team="physics", cost_center="CC-1")
            store.create_principal(connection, tenant, f"service:{name}")
            made = tokens.mint(tenant)
            store.create_token(connection, tenant, f"service:{name}", made.hash, made.id, tokens.expiry(AT))
        assert [p.id for p in store.list_projects(connection, tenant, limit=2)] == ["a", "b"]
        assert [p.id for p in store.list_projects(connection, tenant, after="b")] == ["c"]
        assert [p.id for p in store.list_principals(connection, tenant, after="service:a", limit=1)] == [
            "service:b"
        ]
        ids = [token.id for token in store.list_tokens(connection, tenant)]
        assert len(ids) == 3 and ids == sorted(ids)
        assert [t.id for t in store.list_tokens(connection, tenant, after=ids[0])] == ids[1:]
        assert [t.principal for t in store.list_tokens(connection, tenant, principal="service:b")] == [
            "service:b"
        ]


@pytest.mark.parametrize(
    "change",
    [
        "update qcos.api_token set expires = now() + interval '99 years'",
        "update qcos.api_token set principal = 'user:mallory'",
        "update qcos.api_token set hash = hash",
        "update qcos.api_token set parent = null",
        "update qcos.principal set id = 'user:mallory'",
        "delete from qcos.principal",
        "delete from qcos.api_token",
        "delete from qcos.tenant",
        "update qcos.tenant set name = 'x'",
    ],
)
def test_the_application_cannot_rewrite_who_somebody_is(
    engine: sa.Engine, tenant: UUID, minted: Minted, change: str
) -> None:
    with (
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
        scope(engine, tenant) as connection,
    ):
        connection.exec_driver_sql(change)


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"x": "y" * 20_000}, "principal.attributes"),
        ({"x": "é" * 9_000}, "principal.attributes"),
        ({"x": nested(16)}, "principal.attributes"),
        ({"x": nested(200)}, "principal.attributes"),
        ({"x": nested(900)}, "principal.attributes"),
        ({"x": ["a\0b"]}, "principal.attributes"),
        ({"x": 2**53}, "json.number"),
        ({"x": float("nan")}, "json.number"),
    ],
)
def test_attributes_have_limits(engine: sa.Engine, tenant: UUID, attributes: Any, code: str) -> None:
    """R11.5: they travel in every policy input, so size, depth and content are bounded."""
    with scope(engine, tenant) as connection:
        _refused(
            Invalid,
            code,
            lambda: store.create_principal(connection, tenant, "user:bob", attributes=attributes),
        )
        made = store.create_principal(connection, tenant, "user:bob", attributes={"x": nested(15)})
        assert store.get_principal(connection, tenant, "user:bob").attributes == made.attributes
