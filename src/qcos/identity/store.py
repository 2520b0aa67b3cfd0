"""Tables of identity.

Losing them: nobody can authenticate, and nobody knows who belonged to which project and role; evidence and
ledger keep who did what. Somebody who can write to them can make himself administrator of any tenant, or
shut everybody out; he cannot learn a token (only SHA-256 hashes of 256 random bits are here) nor, as the
application's role, change whom a token belongs to, what it was made with or when it ends. Every act that changes them has its
ledger entry, so a change without one shows.

``tenant`` itself is not under row-level security: it says which tenants there are and nothing else.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from qcos.base.clock import now
from qcos.base.errors import Conflict, Denied, NotFound
from qcos.base.limits import MAX_NAME, PAGE_DEFAULT
from qcos.identity.attributes import check_attributes
from qcos.identity.model import Account, Principal, Project, RoleGrant, Token
from qcos.identity.roles import check_name, check_role, kind_of
from qcos.identity.tables import API_TOKEN, PRINCIPAL, PROJECT, ROLE_GRANT, TENANT

_LISTED = tuple(
    API_TOKEN.c[name] for name in ("id", "principal", "created", "expires", "revoked", "parent")
)  # members of Token

# The hot path: every request asks one of these once. As text, because it is fixed and must be cheap to send.
_WHO = """
    select t.id as token_id, t.expires, t.revoked, p.id, p.kind, p.team, p.attributes, p.disabled,
           (select json_agg(json_build_array(g.role, g.project))
              from qcos.role_grant g where g.tenant = t.tenant and g.principal = t.principal) as roles"""
_FROM = """
      from qcos.api_token t join qcos.principal p on p.tenant = t.tenant and p.id = t.principal"""
_WHERE = """
     where t.tenant = %(tenant)s and t.hash = %(hash)s"""
_AUTHENTICATE = _WHO + _FROM + _WHERE
_SUBMISSION_FACTS = (
    _WHO
    + ", j.id as project, j.team as project_team, j.cost_center, j.created as project_created"
    + _FROM
    + " left join qcos.project j on j.tenant = t.tenant and j.id = %(project)s"
    + _WHERE
)
_ALIVE = """
    select 1 from qcos.api_token
     where tenant = %(tenant)s and id = %(parent)s and revoked is null for share"""
_REVOKE = """
    with recursive family (id) as (
        select id from qcos.api_token where tenant = %(tenant)s and id = %(token)s
        union
        select t.id from qcos.api_token t join family f on t.parent = f.id where t.tenant = %(tenant)s
    ), ended as (
        update qcos.api_token t set revoked = %(at)s from family f
         where t.tenant = %(tenant)s and t.id = f.id and t.revoked is null
        returning t.id
    )
    select exists (select from family) as known, coalesce((select array_agg(id order by id) from ended), '{}') as ended"""


# --- tenants


def create_tenant(connection: sa.Connection, name: str, *, at: dt.datetime | None = None) -> UUID:
    """Register a tenant and return its id; needs no tenant bound.

    Raises:
        Invalid: ``tenant.name``.
        Conflict: ``tenant.exists``.
    """
    made = uuid4()
    row = {"id": made, "name": check_name(name, "tenant"), "created": at or now()}
    if not _insert(connection, TENANT, row):
        raise Conflict("tenant.exists", "there is a tenant of this name", subject=name)
    return made


def tenants(connection: sa.Connection) -> list[tuple[UUID, str]]:
    """Return all tenants, by name."""
    return [
        (row.id, row.name)
        for row in connection.execute(sa.select(TENANT.c.id, TENANT.c.name).order_by(TENANT.c.name))
    ]


def first_tenant(connection: sa.Connection) -> UUID | None:
    """Return the tenant that the installation was set up with: what belongs to all is administered from it; None before there is one."""
    return connection.execute(
        sa.select(TENANT.c.id).order_by(TENANT.c.created, TENANT.c.name).limit(1)
    ).scalar_one_or_none()


# --- principals and their roles


def create_principal(
    connection: sa.Connection,
    tenant: UUID,
    principal: str,
    *,
    team: str | None = None,
    attributes: Mapping[str, Any] | None = None,  # Any: JSON of the administrator's own making
    at: dt.datetime | None = None,
) -> Account:
    """Register a user or a service account (R11.7); it may do nothing before it has a role.

    Raises:
        Invalid: ``principal.id``, ``team.name`` or ``principal.attributes``.
        Conflict: ``principal.exists``.
    """
    kind = kind_of(principal)
    if team is not None:
        check_name(team, "team")
    account = Account(tenant, principal, kind, team, (), dict(attributes or {}), at or now())
    check_attributes(account.attributes, principal)
    row = {
        "tenant": tenant,
        "id": principal,
        "kind": kind,
        "team": team,
        "attributes": account.attributes,
        "created": account.created,
    }
    if not _insert(connection, PRINCIPAL, row):
        raise Conflict("principal.exists", "there is a principal of this id", subject=principal)
    return account


def disable_principal(
    connection: sa.Connection, tenant: UUID, principal: str, at: dt.datetime | None
) -> bool:
    """Shut a principal out from an instant on, with all its tokens; None lets it in again.

    Returns:
        False when it was so before; the instant of a principal that is disabled stays.

    Raises:
        NotFound: ``principal.unknown``.
    """
    table = PRINCIPAL.c
    other = table.disabled.is_(None) if at is not None else table.disabled.is_not(None)
    statement = sa.update(PRINCIPAL).where(table.tenant == tenant, table.id == principal, other)
    if connection.execute(statement.values(disabled=at)).rowcount:
        return True
    get_principal(connection, tenant, principal)
    return False


def get_principal(connection: sa.Connection, tenant: UUID, principal: str) -> Account:
    """Return a registered principal with its roles.

    Raises:
        NotFound: ``principal.unknown``.
    """
    row = connection.execute(_accounts(tenant).where(PRINCIPAL.c.id == principal)).one_or_none()
    if row is None:
        raise _unknown("principal", principal)
    return _account(row)


def list_principals(
    connection: sa.Connection, tenant: UUID, *, after: str = "", limit: int = PAGE_DEFAULT
) -> list[Account]:
    """Return registered principals by id, from the one after ``after``."""
    statement = _accounts(tenant).where(PRINCIPAL.c.id > after).order_by(PRINCIPAL.c.id).limit(limit)
    return [_account(row) for row in connection.execute(statement)]


def grant_role(
    connection: sa.Connection,
    tenant: UUID,
    principal: str,
    role: str,
    project: str | None = None,
    *,
    at: dt.datetime | None = None,
) -> bool:
    """Give a principal a role, for one project or for all; return False when it had it already.

    Raises:
        Invalid: ``role.unknown``.
        NotFound: ``principal.unknown`` or ``project.unknown``.
    """
    check_role(role)
    get_principal(connection, tenant, principal)
    if project is not None:
        get_project(connection, tenant, project)
    row = {
        "tenant": tenant,
        "principal": principal,
        "role": role,
        "project": project or "",
        "granted": at or now(),
    }
    return _insert(connection, ROLE_GRANT, row)


def revoke_role(
    connection: sa.Connection, tenant: UUID, principal: str, role: str, project: str | None = None
) -> None:
    """Take a role back; it must be held exactly so, for that project or for all.

    Raises:
        NotFound: ``role.not_granted``.
    """
    table = ROLE_GRANT.c
    held = sa.and_(
        table.tenant == tenant,
        table.principal == principal,
        table.role == role,
        table.project == (project or ""),
    )
    if connection.execute(sa.delete(ROLE_GRANT).where(held)).rowcount == 0:
        raise NotFound(
            "role.not_granted",
            "the principal does not hold this role there",
            subject=principal,
            expected=f"role {role[:MAX_NAME]} for {project or 'all projects'}",
            hint="look at its roles: a role for all projects and one for a project are two grants",
        )


# --- projects


def create_project(
    connection: sa.Connection,
    tenant: UUID,
    project: str,
    *,
    team: str,
    cost_center: str,
    at: dt.datetime | None = None,
) -> Project:
    """Register a project.

    Raises:
        Invalid: ``project.name``, ``team.name`` or ``cost_center.name``.
        Conflict: ``project.exists``.
    """
    check_name(project, "project")
    made = Project(
        tenant, project, check_name(team, "team"), check_name(cost_center, "cost_center"), at or now()
    )
    row = {"tenant": tenant, "id": project, "team": team, "cost_center": cost_center, "created": made.created}
    if not _insert(connection, PROJECT, row):
        raise Conflict("project.exists", "there is a project of this name", subject=project)
    return made


def get_project(connection: sa.Connection, tenant: UUID, project: str) -> Project:
    """Return a project.

    Raises:
        NotFound: ``project.unknown``.
    """
    row = connection.execute(
        sa.select(PROJECT).where(PROJECT.c.tenant == tenant, PROJECT.c.id == project)
    ).one_or_none()
    if row is None:
        raise _unknown("project", project)
    return Project(row.tenant, row.id, row.team, row.cost_center, row.created)


def list_projects(
    connection: sa.Connection,
    tenant: UUID,
    *,
    among: Sequence[str] | None = None,
    after: str = "",
    limit: int = PAGE_DEFAULT,
) -> list[Project]:
    """Return projects by name, from the one after ``after``; only ``among`` these, if given."""
    table = PROJECT.c
    statement = (
        sa.select(PROJECT).where(table.tenant == tenant, table.id > after).order_by(table.id).limit(limit)
    )
    if among is not None:
        statement = statement.where(table.id == sa.any_(sa.literal(list(among), pg.ARRAY(sa.Text))))
    return [
        Project(row.tenant, row.id, row.team, row.cost_center, row.created)
        for row in connection.execute(statement)
    ]


# --- tokens


def create_token(
    connection: sa.Connection,
    tenant: UUID,
    principal: str,
    hash: bytes,
    id: str,
    expires: dt.datetime,
    *,
    parent: str | None = None,
    at: dt.datetime | None = None,
) -> Token:
    """Register a token made by `qcos.identity.tokens.mint`.

    Args:
        parent: Id of the token that it is made with. That one cannot be revoked before this scope ends, so no
            token is made with one that is being revoked.

    Raises:
        NotFound: ``principal.unknown``.
        Denied: ``auth.revoked`` when the parent was revoked meanwhile.
    """
    get_principal(connection, tenant, principal)
    if (
        parent is not None
        and not connection.exec_driver_sql(_ALIVE, {"tenant": tenant, "parent": parent}).first()
    ):
        raise _revoked(parent)
    token = Token(id, principal, at or now(), expires, parent=parent)
    connection.execute(
        sa.insert(API_TOKEN).values(
            tenant=tenant,
            id=id,
            hash=hash,
            principal=principal,
            parent=parent,
            created=token.created,
            expires=expires,
        )
    )
    return token


def revoke_token(connection: sa.Connection, tenant: UUID, token: str, at: dt.datetime) -> list[str]:
    """End a token at once, with every token that was made with it, and with those, and so on (R11.8).

    One statement for the whole family; it is asked again until it finds none, because another scope may have
    made one with a member of the family while it waited.

    Returns:
        Ids of the tokens that it ended, the token's own first if it is among them; none when all were revoked before.

    Raises:
        NotFound: ``token.unknown``.
    """
    ended: list[str] = []
    while True:
        row = connection.exec_driver_sql(_REVOKE, {"tenant": tenant, "token": token, "at": at}).one()
        if not row.known:
            raise _unknown("token", token)
        if not row.ended:
            return sorted(ended, key=lambda id: (id != token, id))
        ended += row.ended


def find_token(connection: sa.Connection, tenant: UUID, token: str) -> Token | None:
    """Return a token by its id; None when there is none."""
    row = connection.execute(
        sa.select(*_LISTED).where(API_TOKEN.c.tenant == tenant, API_TOKEN.c.id == token)
    ).one_or_none()
    return Token(**row._mapping) if row is not None else None


def list_tokens(
    connection: sa.Connection,
    tenant: UUID,
    *,
    principal: str | None = None,
    after: str = "",
    limit: int = PAGE_DEFAULT,
) -> list[Token]:
    """Return tokens, of all principals or of one, by id (that is, by day), from the one after ``after``."""
    table = API_TOKEN.c
    statement = sa.select(*_LISTED).where(table.tenant == tenant, table.id > after)
    if principal is not None:
        statement = statement.where(table.principal == principal)
    rows = connection.execute(statement.order_by(table.id).limit(limit))
    return [Token(**row) for row in rows.mappings()]


# --- authentication: one statement


def authenticate(connection: sa.Connection, tenant: UUID, hash: bytes, at: dt.datetime) -> Principal:
    """Return the principal that a token's hash belongs to. One statement.

    Raises:
        Denied: ``auth.unknown``, ``auth.revoked``, ``auth.expired`` or ``auth.disabled``.
    """
    row = connection.exec_driver_sql(_AUTHENTICATE, {"tenant": tenant, "hash": hash}).one_or_none()
    return _principal(row, tenant, at)


def submission_facts(
    connection: sa.Connection, tenant: UUID, hash: bytes, project: str, at: dt.datetime
) -> tuple[Principal, Project | None]:
    """As `authenticate`, with the project (None when there is none of that name) from the same statement.

    Raises:
        Denied: As `authenticate`.
    """
    row = connection.exec_driver_sql(
        _SUBMISSION_FACTS, {"tenant": tenant, "hash": hash, "project": project}
    ).one_or_none()
    principal = _principal(row, tenant, at)
    if row is None or row.project is None:
        return principal, None
    return principal, Project(tenant, row.project, row.project_team, row.cost_center, row.project_created)


def _principal(
    row: sa.Row[Any] | None, tenant: UUID, at: dt.datetime
) -> Principal:  # Any: a row of mixed columns
    if row is None:
        raise Denied(
            "auth.unknown", "no such token", hint="it may belong to another installation; ask for a new one"
        )
    if row.revoked is not None:
        raise _revoked(row.token_id)
    if at >= row.expires:
        raise Denied("auth.expired", "the token has expired", subject=row.token_id, hint="ask for a new one")
    if row.disabled is not None:
        raise Denied(
            "auth.disabled", "the principal is disabled", subject=row.id, hint="ask an administrator"
        )
    return Principal(
        tenant, row.id, row.kind, row.team, _grants(row.roles), row.attributes, row.token_id, row.expires
    )


def _grants(roles: list[list[str]] | None) -> tuple[RoleGrant, ...]:
    return tuple(RoleGrant(role, project or None) for role, project in sorted(roles or ()))


def _accounts(tenant: UUID) -> sa.Select[Any]:  # Any: a row of mixed columns
    held = ROLE_GRANT.c
    roles = (
        sa.select(sa.func.json_agg(sa.func.json_build_array(held.role, held.project)))
        .where(held.tenant == PRINCIPAL.c.tenant, held.principal == PRINCIPAL.c.id)
        .scalar_subquery()
    )
    return sa.select(PRINCIPAL, roles.label("roles")).where(PRINCIPAL.c.tenant == tenant)


def _account(row: sa.Row[Any]) -> Account:  # Any: a row of mixed columns
    return Account(
        row.tenant, row.id, row.kind, row.team, _grants(row.roles), row.attributes, row.created, row.disabled
    )


def _insert(
    connection: sa.Connection, table: sa.Table, row: dict[str, Any]
) -> bool:  # Any: a row of mixed columns
    statement = (
        pg.insert(table).values(row).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    )
    return connection.execute(statement).rowcount == 1


def _revoked(token: str) -> Denied:
    return Denied("auth.revoked", "the token was revoked", subject=token, hint="ask for a new one")


def _unknown(what: str, subject: str) -> NotFound:
    return NotFound(f"{what}.unknown", f"there is no such {what} in this tenant", subject=subject[:MAX_NAME])
