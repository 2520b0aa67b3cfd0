"""The succession of trust documents: every one there was, signed by the keys of the one before."""

from alembic import op

from qcos.db import rls

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Make the table. The present document of an existing installation becomes version 1 when its processes start.

    A document is added once, and never changed or removed: verifiers hold it, and follow from it to the next.
    """
    op.execute(
        """
        create table qcos.trust_document (
            version bigint primary key check (version > 0),
            at timestamptz not null,
            digest text not null,
            step jsonb not null
        )
        """
    )
    for statement in rls.grant("trust_document", "select, insert"):
        op.execute(statement)
