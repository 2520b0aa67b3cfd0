"""Alembic's environment: the caller passes a connection in ``config.attributes``."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table_schema="public",
    version_table="qcos_schema_version",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
