"""Roles and schema."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the application's role (it owns nothing and bypasses nothing) and the schema."""
    op.execute(
        "do $$ begin create role qcos_app login nosuperuser nobypassrls nocreatedb nocreaterole; "
        "exception when duplicate_object then null; end $$"
    )
    op.execute("create schema qcos")
    op.execute("grant usage on schema qcos to qcos_app")
