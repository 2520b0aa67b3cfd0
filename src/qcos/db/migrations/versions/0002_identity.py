"""Tables of identity."""

from alembic import op

from qcos.db import rls

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables of identity."""
    op.execute("""
        create table qcos.tenant (
            id uuid primary key,
            name text not null unique,
            created timestamptz not null
        )""")
    for statement in rls.grant("tenant", "select, insert"):
        op.execute(statement)
    op.execute("""
        create table qcos.principal (
            tenant uuid not null references qcos.tenant,
            id text not null,
            kind text not null check (kind in ('user', 'service')),
            team text,
            attributes jsonb not null,
            created timestamptz not null,
            disabled timestamptz,
            primary key (tenant, id)
        )""")
    op.execute("""
        create table qcos.project (
            tenant uuid not null references qcos.tenant,
            id text not null,
            team text not null,
            cost_center text not null,
            created timestamptz not null,
            primary key (tenant, id)
        )""")
    op.execute("""
        create table qcos.role_grant (
            tenant uuid not null,
            principal text not null,
            role text not null,
            project text not null,
            granted timestamptz not null,
            primary key (tenant, principal, role, project),
            foreign key (tenant, principal) references qcos.principal (tenant, id)
        )""")
    op.execute("""
        create table qcos.api_token (
            tenant uuid not null,
            id text not null,
            hash bytea not null check (length(hash) = 32),
            principal text not null,
            parent text,
            created timestamptz not null,
            expires timestamptz not null,
            revoked timestamptz,
            primary key (tenant, id),
            constraint api_token_hash unique (tenant, hash),
            foreign key (tenant, principal) references qcos.principal (tenant, id),
            foreign key (tenant, parent) references qcos.api_token (tenant, id)
        )""")
    op.execute("create index api_token_principal on qcos.api_token (tenant, principal)")
    op.execute("create index api_token_parent on qcos.api_token (tenant, parent) where parent is not null")
    # By column: whom a token belongs to, what it was made with and when it ends never changes; no id becomes somebody else's.
    grants = {
        "principal": "select, insert, update (team, attributes, disabled)",
        "project": "select, insert, update (team, cost_center)",
        "role_grant": "select, insert, delete",
        "api_token": "select, insert, update (revoked)",
    }
    for table, grant in grants.items():
        for statement in rls.protect(table, grants=grant):
            op.execute(statement)
