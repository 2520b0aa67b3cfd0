"""Tables of renewals: later time stamps of evidence (RFC 4998), added, never changed."""

from alembic import op

from qcos.db import rls

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Make the tables: a token over many bundles, and each one's way through its hash tree."""
    op.execute(
        """
        create table qcos.evidence_renewal (
            tenant uuid not null, id text not null, token bytea not null, expires timestamptz not null,
            made_at timestamptz not null, primary key (tenant, id)
        )
        """
    )
    op.execute(
        """
        create table qcos.evidence_archive (
            tenant uuid not null, bundle text not null, position integer not null, renewal text not null, tree bytea not null,
            primary key (tenant, bundle, position), foreign key (tenant, renewal) references qcos.evidence_renewal
        )
        """
    )
    for table in ("evidence_renewal", "evidence_archive"):
        for statement in rls.protect(table, grants="select, insert"):
            op.execute(statement)
