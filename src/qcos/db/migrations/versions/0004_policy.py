"""Tables of policy."""

from alembic import op

from qcos.db import rls

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables of policy: rows are added, never changed."""
    op.execute(
        """
        create table qcos.policy_decision (
            tenant uuid not null,
            id text not null,
            entrypoint text not null check (entrypoint in ('jobs', 'acts')),
            subject text not null,
            allow boolean not null,
            reasons jsonb not null,
            excluded jsonb not null,
            policies jsonb not null,
            bundle_version text not null,
            input jsonb not null,
            input_digest text not null,
            time timestamptz not null,
            duration_us bigint not null,
            primary key (tenant, id)
        ) with (toast_tuple_target = 8160)
        """
    )
    op.execute("create index policy_decision_subject on qcos.policy_decision (tenant, subject, time)")
    op.execute("create index policy_decision_time on qcos.policy_decision (tenant, time, id)")
    op.execute(
        """
        create table qcos.policy_bundle (
            tenant uuid not null,
            version text not null,
            files jsonb not null,
            note text not null,
            uploaded_by text not null,
            uploaded_at timestamptz not null,
            tests jsonb not null,
            primary key (tenant, version)
        )
        """
    )
    op.execute(
        """
        create table qcos.policy_activation (
            tenant uuid not null,
            n bigint not null check (n > 0),
            version text not null,
            actor text not null,
            time timestamptz not null,
            primary key (tenant, n),
            foreign key (tenant, version) references qcos.policy_bundle (tenant, version)
        )
        """
    )
    for table in ("policy_decision", "policy_bundle", "policy_activation"):
        for statement in rls.protect(table, grants="select, insert"):
            op.execute(statement)
