"""The tables of identity; `qcos.identity.store` says what losing them costs, and reads and writes them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from qcos.db.engine import metadata

_TIME = sa.DateTime(timezone=True)

TENANT = sa.Table(
    "tenant",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("created", _TIME, nullable=False),
)
PRINCIPAL = sa.Table(
    "principal",
    metadata,
    sa.Column("tenant", sa.Uuid, sa.ForeignKey("qcos.tenant.id"), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("team", sa.Text),
    sa.Column("attributes", pg.JSONB, nullable=False),
    sa.Column("created", _TIME, nullable=False),
    sa.Column("disabled", _TIME),
)
PROJECT = sa.Table(
    "project",
    metadata,
    sa.Column("tenant", sa.Uuid, sa.ForeignKey("qcos.tenant.id"), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("team", sa.Text, nullable=False),
    sa.Column("cost_center", sa.Text, nullable=False),
    sa.Column("created", _TIME, nullable=False),
)
ROLE_GRANT = sa.Table(
    "role_grant",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("principal", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, primary_key=True),
    sa.Column("project", sa.Text, primary_key=True),  # '' for all projects of the tenant
    sa.Column("granted", _TIME, nullable=False),
    sa.ForeignKeyConstraint(["tenant", "principal"], ["qcos.principal.tenant", "qcos.principal.id"]),
)
API_TOKEN = sa.Table(
    "api_token",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("parent", sa.Text),  # the token that made it
    sa.Column("created", _TIME, nullable=False),
    sa.Column("expires", _TIME, nullable=False),
    sa.Column("revoked", _TIME),
    sa.UniqueConstraint("tenant", "hash", name="api_token_hash"),
    sa.ForeignKeyConstraint(["tenant", "principal"], ["qcos.principal.tenant", "qcos.principal.id"]),
    sa.ForeignKeyConstraint(["tenant", "parent"], ["qcos.api_token.tenant", "qcos.api_token.id"]),
    sa.Index("api_token_principal", "tenant", "principal"),
    sa.Index("api_token_parent", "tenant", "parent", postgresql_where=sa.text("parent is not null")),
)
