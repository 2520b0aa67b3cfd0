"""Table of evidence: one bundle a job, added once, never changed."""

from alembic import op

from qcos.db import rls

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table of evidence.

    Documents are mostly base64 of random bytes: trying to compress them costs time and saves nothing.
    """
    op.execute(
        """
        create table qcos.evidence_bundle (
            tenant uuid not null, id text not null, job text not null, document bytea not null,
            statement_digest text not null, record_id text not null, sealed_at timestamptz not null,
            retain_until timestamptz not null, primary key (tenant, id), unique (tenant, job)
        )
        """
    )
    op.execute("alter table qcos.evidence_bundle alter column document set storage external")
    for statement in rls.protect("evidence_bundle", grants="select, insert"):
        op.execute(statement)
