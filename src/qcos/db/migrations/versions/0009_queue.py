"""The task queue's own tables: what ``pgq --schema queue sql install`` of pgqueuer 1.6.0 prints, rendered by pgqueuer itself."""

from alembic import op
from pgqueuer.adapters.persistence.qb import DBSettings, QueryBuilderEnvironment

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Install pgqueuer's schema and let the application's role use it."""
    op.execute("create schema queue")
    op.get_bind().exec_driver_sql(
        QueryBuilderEnvironment(DBSettings(db_schema="queue")).build_install_query(create_schema=False)
    )
    op.execute("grant usage on schema queue to qcos_app")
    op.execute("grant select, insert, update, delete on all tables in schema queue to qcos_app")
    op.execute("grant usage, select, update on all sequences in schema queue to qcos_app")
