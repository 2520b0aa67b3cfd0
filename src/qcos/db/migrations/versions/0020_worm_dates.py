"""The noted dates of WORM copies: a legal hold makes them later; none is ever made earlier. And how the last rounds went."""

from alembic import op

from qcos.db import rls

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Let the application lengthen a date, and change nothing else of a copy; make the table of rounds."""
    op.execute(
        """
        create function qcos.worm_copy_lengthened() returns trigger language plpgsql as $$
        begin
            if new.retain_until < old.retain_until then
                raise exception 'the date of a WORM copy is lengthened, never shortened' using errcode = '42501';
            end if;
            return new;
        end $$
        """
    )
    op.execute(
        """create trigger worm_copy_lengthened before update on qcos.worm_copy
            for each row execute function qcos.worm_copy_lengthened()"""
    )
    op.execute(f"grant update (retain_until) on qcos.worm_copy to {rls.APP_ROLE}")
    op.execute(
        """
        create table qcos.worm_round (
            store text not null primary key, succeeded_at timestamptz, failing_since timestamptz, failed_at timestamptz,
            failure text not null
        )
        """
    )
    for statement in rls.grant("worm_round", "select, insert, update"):
        op.execute(statement)
