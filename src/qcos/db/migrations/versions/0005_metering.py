"""Tables of metering."""

from alembic import op

from qcos.db import rls

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables of metering, and the law that an ended reservation stays as it ended."""
    _limits()
    _reservation()
    _records()
    grants = {
        "budget": "select, insert, update (monthly_limit, currency, set_at)",
        "budget_period": "select, insert, update (monthly_limit, currency, reserved, settled)",
        "quota": "select, insert, update (daily_limit, set_at)",
        "quota_period": "select, insert, update (daily_limit, reserved, used)",
        "reservation": "select, insert, update (state, settled_amount, settled_shots, ended_at)",
        "usage": "select, insert",
        "charge": "select, insert",
    }
    for table, grant in grants.items():
        for statement in rls.protect(table, grants=grant):
            op.execute(statement)


def _limits() -> None:
    op.execute("""
        create table qcos.budget (
            tenant uuid not null,
            project text not null,
            currency text not null,
            monthly_limit bigint not null check (monthly_limit >= 0),
            set_at timestamptz not null,
            primary key (tenant, project)
        )""")
    op.execute("""
        create table qcos.quota (
            tenant uuid not null,
            team text not null,
            daily_limit bigint not null check (daily_limit >= 0),
            set_at timestamptz not null,
            primary key (tenant, team)
        )""")
    # Rewritten by every job: room on the page keeps the updates out of the index.
    op.execute("""
        create table qcos.budget_period (
            tenant uuid not null,
            project text not null,
            month text not null,
            currency text not null,
            monthly_limit bigint not null check (monthly_limit >= 0),
            reserved bigint not null check (reserved >= 0),
            settled bigint not null check (settled >= 0),
            primary key (tenant, project, month)
        ) with (fillfactor = 50)""")
    op.execute("""
        create table qcos.quota_period (
            tenant uuid not null,
            team text not null,
            day text not null,
            daily_limit bigint not null check (daily_limit >= 0),
            reserved bigint not null check (reserved >= 0),
            used bigint not null check (used >= 0),
            primary key (tenant, team, day)
        ) with (fillfactor = 50)""")


def _reservation() -> None:
    op.execute("""
        create table qcos.reservation (
            tenant uuid not null,
            id text not null,
            job text not null,
            project text not null,
            month text not null,
            budgeted boolean not null,
            team text not null,
            day text not null,
            limited boolean not null,
            currency text not null,
            amount bigint not null check (amount >= 0),
            shots bigint not null check (shots >= 0),
            state text not null check (state in ('reserved', 'settled', 'released', 'expired')),
            settled_amount bigint check (settled_amount >= 0),
            settled_shots bigint check (settled_shots >= 0),
            reserved_at timestamptz not null,
            ended_at timestamptz,
            primary key (tenant, id),
            constraint reservation_job unique (tenant, job),
            check ((state = 'reserved') = (ended_at is null)),
            check ((state = 'reserved') = (settled_amount is null)),
            check ((state = 'reserved') = (settled_shots is null)),
            check (state in ('reserved', 'settled') or (settled_amount = 0 and settled_shots = 0))
        ) with (fillfactor = 80)""")
    op.execute("""
        create function qcos.reservation_has_ended() returns trigger language plpgsql as $$
        begin
            raise exception 'reservation % has ended', old.id
                using errcode = 'integrity_constraint_violation';
        end $$""")
    op.execute("""
        create trigger reservation_ends_once before update on qcos.reservation
        for each row when (old.state <> 'reserved') execute function qcos.reservation_has_ended()""")


def _records() -> None:
    op.execute("""
        create table qcos.usage (
            tenant uuid not null,
            job text not null,
            meter text not null,
            quantity bigint not null check (quantity >= 0),
            unit text not null,
            project text not null,
            team text not null,
            cost_center text not null,
            backend text not null,
            at timestamptz not null,
            primary key (tenant, job, meter)
        )""")
    op.execute("create index usage_at on qcos.usage (tenant, at)")
    op.execute("""
        create table qcos.charge (
            tenant uuid not null,
            n bigint not null generated always as identity,
            job text not null,
            line integer not null,
            item text not null,
            quantity bigint not null,
            unit text not null,
            unit_price bigint not null,
            per bigint not null check (per > 0),
            amount bigint not null,
            currency text not null,
            price_key text not null,
            price_book text not null,
            project text not null,
            team text not null,
            cost_center text not null,
            backend text not null,
            month text not null,
            at timestamptz not null,
            primary key (tenant, job, line)
        )""")
    op.execute("create unique index charge_n on qcos.charge (tenant, n)")
    op.execute("create index charge_n_of_project on qcos.charge (tenant, project, n desc)")
    op.execute("create index charge_at on qcos.charge (tenant, at)")
