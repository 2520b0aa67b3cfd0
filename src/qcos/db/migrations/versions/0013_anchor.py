"""Table of anchors: the ledger's checkpoints on public chains."""

from alembic import op

from qcos.db import rls

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the table; what is public of it is public for everybody."""
    op.execute(
        """
        create table qcos.ledger_anchor (
            kind text not null, size bigint not null, note text not null, work jsonb not null, proof jsonb,
            begun_at timestamptz not null, block_at timestamptz, primary key (kind, size)
        )
        """
    )
    op.execute("create index on qcos.ledger_anchor (kind, size) where proof is null")
    op.execute("create index on qcos.ledger_anchor (size desc, kind)")
    for statement in rls.grant("ledger_anchor", "select, insert, update (work, proof, block_at)"):
        op.execute(statement)
