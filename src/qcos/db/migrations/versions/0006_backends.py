"""Tables of backends."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables of backends."""
    op.execute("select 1")
