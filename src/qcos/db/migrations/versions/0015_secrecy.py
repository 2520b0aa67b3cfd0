"""Payloads encrypted at rest, holds, and what erasing leaves."""

from alembic import op

from qcos.db import rls

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Make the tables of secrecy and retention, and the columns that go with payloads.

    Rows of before stay plain until `qcos.jobs.conceal.conceal_old` has encrypted them; they have no payload key.
    """
    _keys()
    _retention()
    op.execute("alter table qcos.job add payload_key bytea, add retain_until timestamptz, add erased jsonb")
    terms = "update qcos.job set retain_until = created + make_interval(days => (context->>'retention_days')::int)"
    for statement in rls.over_all_tenants(terms, "job"):
        op.execute(statement)
    op.execute("alter table qcos.job alter retain_until set not null")
    # Changes of the state move every index entry of a row already: this one costs its own writing only, once, when a job has ended.
    op.execute(
        """create index job_retained on qcos.job (tenant, retain_until)
            where payload_key is not null and state in ('denied', 'completed', 'failed', 'cancelled')"""
    )
    op.execute("create index job_plain on qcos.job (tenant, id) where payload_key is null and erased is null")
    op.execute("alter table qcos.evidence_bundle alter document drop not null")
    _only_sealed_or_erased("evidence_bundle", "document")
    _only_sealed_or_erased("job_result", "payload")
    _only_sealed_or_erased("evidence_material", "payload")
    op.execute(f"grant delete on qcos.evidence_material to {rls.APP_ROLE}")


def _keys() -> None:
    op.execute(
        """
        create table qcos.tenant_key (
            tenant uuid not null references qcos.tenant (id),
            generation integer not null check (generation > 0),
            wrapped bytea not null,
            wrapper text not null,
            created timestamptz not null,
            primary key (tenant, generation)
        )
        """
    )
    for statement in rls.protect("tenant_key"):
        op.execute(statement)


def _retention() -> None:
    op.execute(
        """
        create table qcos.legal_hold (
            tenant uuid not null,
            id text not null,
            kind text not null check (kind in ('job', 'project', 'tenant')),
            subject text not null,
            reason text not null,
            placed_by text not null,
            placed_at timestamptz not null,
            released_by text,
            released_at timestamptz,
            release_reason text,
            primary key (tenant, id),
            check ((released_at is null) = (released_by is null))
        )
        """
    )
    op.execute(
        "create index legal_hold_held on qcos.legal_hold (tenant, kind, subject) where released_at is null"
    )
    op.execute(
        """create table qcos.retention_clock (
            tenant uuid not null, name text not null, known timestamptz not null, primary key (tenant, name))"""
    )
    for statement in rls.protect("legal_hold", grants="select, insert") + rls.protect(
        "retention_clock", grants="select, insert, update"
    ):
        op.execute(statement)
    op.execute(
        "grant update (released_by, released_at, release_reason) on qcos.legal_hold to " + rls.APP_ROLE
    )


def _only_sealed_or_erased(table: str, column: str) -> None:
    """Let the application take a payload away or encrypt it, and nothing else: what was sealed is never replaced."""
    op.execute(
        f"""
        create function qcos.{table}_kept() returns trigger language plpgsql as $$
        begin
            if new.{column} is not null and not coalesce(
                substr(old.{column}, 1, 1) <> '\\x01' and substr(new.{column}, 1, 1) = '\\x01', false
            ) then
                raise exception 'a payload is erased or encrypted, never replaced' using errcode = '42501';
            end if;
            return new;
        end $$
        """
    )
    op.execute(
        f"""create trigger {table}_kept before update of {column} on qcos.{table}
            for each row execute function qcos.{table}_kept()"""
    )
    op.execute(f"grant update ({column}) on qcos.{table} to {rls.APP_ROLE}")
