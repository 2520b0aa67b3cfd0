"""Table of materials: what bundles of the level ``full`` commit to beside the result."""

from alembic import op

from qcos.db import rls

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make the table. Documents are text, mostly JSON, and compress well."""
    op.execute(
        """
        create table qcos.evidence_material (
            tenant uuid not null, job text not null, name text not null, digest text not null,
            media_type text not null, payload bytea not null, created timestamptz not null,
            primary key (tenant, job, name)
        )
        """
    )
    for statement in rls.protect("evidence_material", grants="select, insert"):
        op.execute(statement)
