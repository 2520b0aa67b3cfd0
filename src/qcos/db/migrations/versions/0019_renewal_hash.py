"""The hash of renewals: bundles whose newest time stamp rests on an older one are found by it."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add the column; what was renewed before rests on SHA-512."""
    op.execute("alter table qcos.evidence_renewal add column hash text not null default 'sha512'")
