"""The registry of signing keys: the public side of every key there was."""

from alembic import op

from qcos.db import rls

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the registry. The keys of an existing installation enter it, as the first generation, when its processes start.

    A key is added once and never removed; only when it stops counting, and who certified it, is written later. Of each role and
    algorithm one key is in force.
    """
    op.execute(
        """
        create table qcos.signing_key (
            key_id text primary key,
            role text not null check (role in ('evidence', 'ledger', 'tsa', 'tsa-ca')),
            algorithm text not null,
            generation bigint not null check (generation > 0),
            spki bytea not null,
            store text not null,
            locator text not null,
            not_before timestamptz not null,
            not_after timestamptz,
            revoked_at timestamptz,
            reason text not null,
            chain text not null,
            former jsonb not null,
            announced_at timestamptz,
            unique (role, algorithm, generation)
        )
        """
    )
    op.execute(
        "create unique index signing_key_in_force on qcos.signing_key (role, algorithm) "
        "where not_after is null and revoked_at is null"
    )
    op.execute(
        "create table qcos.signing_key_state (one boolean primary key default true check (one), version bigint not null)"
    )
    op.execute("insert into qcos.signing_key_state (version) values (0)")
    changing = "not_after, revoked_at, reason, chain, former, announced_at"
    for statement in (
        *rls.grant("signing_key", f"select, insert, update ({changing})"),
        *rls.grant("signing_key_state", "select, update (version)"),
    ):
        op.execute(statement)
