"""Tables of the ledger: records of tenants, the log's entries, its head, its signed checkpoints."""

from alembic import op

from qcos.db import rls

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables of the ledger.

    Records, nodes and checkpoints can only be added. An entry is added without an index and given one once;
    the policies of `ledger_entry` let the application neither change, re-number nor remove an entry.
    """
    op.execute(
        """
        create table qcos.ledger_record (
            tenant uuid not null, id text not null, seq bigint not null, time timestamptz not null,
            act text not null, actor text not null, object text not null, project text not null,
            record bytea not null, primary key (tenant, id)
        )
        """
    )
    for columns in ("time, seq", "actor, time, seq", "object, time, seq"):
        op.execute(f"create index on qcos.ledger_record (tenant, {columns})")
    for statement in rls.protect("ledger_record", grants="select, insert"):
        op.execute(statement)
    _entry()
    op.execute(
        """
        create table qcos.ledger_node (
            level smallint not null, index bigint not null, hash bytea not null, primary key (level, index)
        )
        """
    )
    op.execute(
        """
        create table qcos.ledger_state (
            one boolean primary key default true check (one), size bigint not null, root bytea not null
        )
        """
    )
    op.execute("insert into qcos.ledger_state (size, root) values (0, sha256(''::bytea))")
    op.execute(
        """
        create table qcos.ledger_checkpoint (
            size bigint primary key, root bytea not null, note text not null, at timestamptz not null
        )
        """
    )
    for statement in (
        *rls.grant("ledger_node", "select, insert"),
        *rls.grant("ledger_state", "select, update (size, root)"),
        *rls.grant("ledger_checkpoint", "select, insert"),
    ):
        op.execute(statement)


def _entry() -> None:
    op.execute(
        """
        create table qcos.ledger_entry (
            seq bigint generated always as identity primary key, record_id text not null,
            entry bytea not null, index bigint
        )
        """
    )
    op.execute("create unique index ledger_entry_index on qcos.ledger_entry (index) where index is not null")
    op.execute("create index ledger_entry_waiting on qcos.ledger_entry (seq) where index is null")
    op.execute(
        "alter table qcos.ledger_entry set (autovacuum_vacuum_scale_factor = 0.02)"
    )  # each is updated once
    op.execute("alter table qcos.ledger_entry enable row level security")
    op.execute("create policy ledger_entry_read on qcos.ledger_entry for select using (true)")
    op.execute("create policy ledger_entry_add on qcos.ledger_entry for insert with check (index is null)")
    op.execute(
        "create policy ledger_entry_number on qcos.ledger_entry for update "
        "using (index is null) with check (index is not null)"
    )
    for statement in rls.grant("ledger_entry", "select, insert, update (index)"):
        op.execute(statement)
