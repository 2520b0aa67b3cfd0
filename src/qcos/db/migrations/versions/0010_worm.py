"""Tables of the WORM copies: noted once, never changed."""

from alembic import op

from qcos.db import rls

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the tables; they belong to the installation, not to a tenant. Names are ordered by their bytes."""
    op.execute(
        """
        create table qcos.worm_copy (
            store text not null, name text collate "C" not null, digest bytea not null, size bigint not null,
            version text not null, protection text not null, retain_until timestamptz not null,
            kept_at timestamptz not null, primary key (store, name)
        )
        """
    )
    op.execute(
        """
        create table qcos.worm_finding (
            store text not null, name text not null, code text not null, message text not null,
            seen_at timestamptz not null, primary key (store, name, code, message)
        )
        """
    )
    op.execute("create index on qcos.evidence_bundle (tenant, sealed_at, id)")  # what is new is copied
    for table in ("worm_copy", "worm_finding"):
        for statement in rls.grant(table, "select, insert"):
            op.execute(statement)
