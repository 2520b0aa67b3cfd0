"""Tables of backends."""

from alembic import op

from qcos.db import rls

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables of backends. They have no tenant: which backends there are is the same for all."""
    op.execute("""
        create table qcos.backend (
            name text primary key,
            driver text not null,
            facts jsonb not null,
            queue_depth bigint not null default 0 check (queue_depth >= 0),
            registered_at timestamptz not null,
            seen_at timestamptz not null
        )""")
    op.execute("""
        create table qcos.backend_history (
            backend text not null,
            day date not null,
            jobs bigint not null,
            succeeded bigint not null check (succeeded between 0 and jobs),
            microseconds bigint not null check (microseconds >= 0),
            primary key (backend, day)
        )""")
    for table in ("backend", "backend_history"):
        for statement in rls.grant(table, "select, insert, update"):
            op.execute(statement)
