"""The ledger's entries are written once and never touched again: their places stand in runs, as they were numbered."""

import sqlalchemy as sa
from alembic import op

from qcos.db import rls

revision = "0014"
down_revision = "0013"

# Consecutive sequence numbers with consecutive indices, as they were given before.
_RUNS = """
insert into qcos.ledger_run (seq, index, count)
select min(seq), min(index), count(*)
from (
    select seq, index, sum(starts) over (order by index) as run
    from (
        select seq, index, case when seq = lag(seq) over (order by index) + 1 then 0 else 1 end as starts
        from qcos.ledger_entry_old where index is not null
    ) as marked
) as numbered group by run
"""
# Entries below the highest numbered one that still wait: each is a gap that is not empty.
_GAPS = """
insert into qcos.ledger_gap (first, last)
select seq, seq from qcos.ledger_entry_old
where index is null and seq < (select max(seq) from qcos.ledger_entry_old where index is not null)
"""
_PLAIN_ENTRY = r'^\{"record":"sha256:[0-9a-f]{64}","schema":"qcos\.ledger\.entry/v1"\}$'


def upgrade() -> None:
    """Keep of an entry what cannot be derived (the record's digest), and where it stands in runs.

    An entry was changed once after it was written, when it got its index: a dead row and two more index writes
    for each act. Now a numbering adds one row for each run of consecutive entries. Statements that write
    entries take their transaction's id *before* their first sequence number (the trigger): what the sequencer
    concludes from transaction ids about numbers that are still open rests on that.
    """
    connection = op.get_bind()
    connection.exec_driver_sql("lock table qcos.ledger_entry in access exclusive mode")
    odd = connection.execute(
        sa.text("select count(*) from qcos.ledger_entry where convert_from(entry, 'UTF8') !~ :plain"),
        {"plain": _PLAIN_ENTRY},
    ).scalar_one()
    if odd:
        raise RuntimeError(f"{odd} ledger entries are none this release wrote: run `qcos ledger fsck`")
    _make()
    connection.exec_driver_sql(
        "insert into qcos.ledger_entry (seq, at, digest) overriding system value "
        "select seq, now(), decode(substring(convert_from(entry, 'UTF8') from 19 for 64), 'hex') "
        "from qcos.ledger_entry_old order by seq"
    )
    connection.exec_driver_sql(_RUNS)
    connection.exec_driver_sql(_GAPS)
    connection.exec_driver_sql(
        "select setval(pg_get_serial_sequence('qcos.ledger_entry', 'seq'), last_value, is_called) "
        "from qcos.ledger_entry_old_seq"
    )
    op.execute("drop table qcos.ledger_entry_old")
    op.execute("alter table qcos.ledger_state add column seen bigint not null default 0")
    op.execute("alter table qcos.ledger_state add column moved timestamptz not null default now()")
    op.execute(
        "update qcos.ledger_state set seen = coalesce((select max(seq + count - 1) from qcos.ledger_run), 0)"
    )
    op.execute("grant update (seen, moved) on qcos.ledger_state to qcos_app")
    for column in ("act", "project"):
        op.execute(f"create index on qcos.ledger_record (tenant, {column}, time, seq)")


def _make() -> None:
    op.execute("alter table qcos.ledger_entry rename to ledger_entry_old")
    op.execute("alter sequence qcos.ledger_entry_seq_seq rename to ledger_entry_old_seq")
    op.execute(
        "alter table qcos.ledger_entry_old rename constraint ledger_entry_pkey to ledger_entry_old_pkey"
    )
    op.execute(
        """
        create table qcos.ledger_entry (
            seq bigint generated always as identity primary key,
            at timestamptz not null default now(),
            digest bytea not null check (octet_length(digest) = 32)
        )
        """
    )
    op.execute(
        """
        create function qcos.take_transaction_id() returns trigger language plpgsql as
        $$ begin perform pg_current_xact_id(); return null; end $$
        """
    )
    op.execute(
        "create trigger take_transaction_id before insert on qcos.ledger_entry "
        "for each statement execute function qcos.take_transaction_id()"
    )
    op.execute(
        """
        create table qcos.ledger_run (
            seq bigint primary key, index bigint not null unique, count bigint not null check (count > 0)
        )
        """
    )
    op.execute(
        """
        create table qcos.ledger_gap (
            first bigint primary key, last bigint not null check (last >= first), horizon bigint
        )
        """
    )
    for statement in (
        *rls.grant("ledger_entry", "select, insert"),
        *rls.grant("ledger_run", "select, insert"),
        *rls.grant("ledger_gap", "select, insert, update (horizon), delete"),
    ):
        op.execute(statement)
