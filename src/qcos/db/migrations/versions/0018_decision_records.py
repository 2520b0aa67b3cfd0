"""Jobs that were admitted before evidence named the record of their decision learn which it is."""

from alembic import op

from qcos.db import rls

revision = "0018"
down_revision = "0017"

# A job has one decision, and a decision one record: it was written in the same scope as the job.
_NAME_RECORDS = """
update qcos.job j
   set context = jsonb_set(j.context, '{decision,record}', jsonb_build_object(
           'id', r.id, 'digest', 'sha256:' || encode(sha256(r.record), 'hex')))
  from qcos.ledger_record r
 where r.tenant = j.tenant and r.act = 'policy.decided' and r.object = j.decision
   and not j.context->'decision' ? 'record' and j.state not in ('denied', 'completed', 'failed', 'cancelled')
"""


def upgrade() -> None:
    """Without it what was in hand at an upgrade could be run, but never sealed."""
    for statement in rls.over_all_tenants(_NAME_RECORDS, "job", "ledger_record"):
        op.execute(statement)
