"""Jobs and their results."""

from alembic import op

from qcos.db import rls

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the tables of jobs. A job's own idempotency key is unique for each actor.

    A row of a few kilobytes stays in one piece: it is written four times, and would be compressed each time.
    """
    op.execute(
        """
        create table qcos.job (
            tenant uuid not null,
            id text not null,
            state text not null check (state in
                ('denied', 'queued', 'submitting', 'running', 'collected', 'completed', 'failed', 'cancelled')),
            project text not null,
            actor text not null,
            team text not null,
            cost_center text not null,
            spec bytea not null,
            spec_digest text not null,
            facts jsonb not null,
            context jsonb not null,
            shots bigint not null check (shots > 0),
            seed bigint not null,
            backend text,
            provider text,
            driver text,
            decision text not null,
            placement jsonb,
            price bigint check (price >= 0),
            currency text,
            price_book text,
            idempotency_key text,
            attempt integer not null,
            cancel_requested boolean not null,
            handle jsonb,
            outcome jsonb,
            charge bigint,
            bundle text,
            error jsonb,
            steps jsonb not null,
            trace text not null,
            created timestamptz not null,
            updated timestamptz not null,
            primary key (tenant, id)
        ) with (fillfactor = 70, toast_tuple_target = 8160)
        """
    )
    op.execute(
        "create unique index job_idempotency on qcos.job (tenant, actor, idempotency_key) where idempotency_key is not null"
    )
    op.execute("create index job_newest on qcos.job (tenant, created desc) include (id)")
    op.execute("create index job_newest_of_actor on qcos.job (tenant, actor, created desc, id desc)")
    op.execute("create index job_newest_of_project on qcos.job (tenant, project, created desc, id desc)")
    op.execute(
        "create index job_unfinished on qcos.job (tenant, id) where state in ('queued', 'submitting', 'running', 'collected')"
    )
    _results()
    for statement in rls.protect("job", grants="select, insert, update") + rls.protect(
        "job_result", grants="select, insert, delete"
    ):
        op.execute(statement)


def _results() -> None:
    """Make the table of results."""
    op.execute(
        """
        create table qcos.job_result (
            tenant uuid not null,
            job text not null,
            payload bytea not null,
            digest text not null,
            created timestamptz not null,
            primary key (tenant, job)
        )
        """
    )
