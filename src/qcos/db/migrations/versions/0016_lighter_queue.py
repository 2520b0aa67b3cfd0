"""A lighter task queue: it wakes workers for new tasks only, without indexes that nothing reads, and its log need not survive a crash."""

from alembic import op

revision = "0016"
down_revision = "0015"

_UNREAD = (
    "pgqueuer_priority_id_id1_idx",
    "pgqueuer_updated_id_id1_idx",
    "pgqueuer_log_status",
    "pgqueuer_log_not_aggregated",
)


def upgrade() -> None:
    """Drop what each task paid for and nobody used.

    pgqueuer picks by entrypoint, priority and id, and finds lost tasks by their heartbeat. That a task ended is no news to a worker; one
    that had no room for more looks again by itself. The log repeats for ten minutes what the rows of jobs say.
    """
    for index in _UNREAD:
        op.execute(f"drop index queue.{index}")
    op.execute("drop trigger tg_pgqueuer_changed on queue.pgqueuer")
    op.execute(
        "create trigger tg_pgqueuer_changed after insert on queue.pgqueuer "
        "execute function queue.fn_pgqueuer_changed()"
    )
    op.execute("alter table queue.pgqueuer_log set unlogged")
