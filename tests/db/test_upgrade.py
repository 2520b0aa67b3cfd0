"""An installation of the first release is brought to this one, by an owner who is no superuser: what was in hand can be finished."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from uuid import UUID

import pytest
import sqlalchemy as sa

from qcos.db import embedded
from qcos.db.migrate import migrate

TENANT = UUID(int=7)
RECORD = b'{"act":"policy.decided"}'
FIRST_RELEASE = "0009"
_JOB = """
insert into qcos.job (tenant, id, state, project, actor, team, cost_center, spec, spec_digest, facts, context, shots, seed,
    decision, attempt, cancel_requested, steps, trace, created, updated)
values (:tenant, :id, :state, 'p', 'user:a', 't', 'c', '{}', '', '[]', :context, 1, 1, :decision, 0, false, '[]', '',
    '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')"""


@pytest.fixture
def owner(postgres: embedded.EmbeddedServer) -> Iterator[str]:
    """URL of a database of the first release, as docs/how-to/run-on-your-own-postgresql.md has one made."""
    name, password = f"test_{secrets.token_hex(6)}", secrets.token_hex(8)
    template = sa.make_url(postgres.admin_url).set(database="template1")
    admin = sa.create_engine(template, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create role {name} login createrole password '{password}'")
        connection.exec_driver_sql(f"create database {name} owner {name} template template0")
    url = template.set(database=name, username=name, password=password)
    made = url.render_as_string(hide_password=False)
    migrate(made, revision=FIRST_RELEASE)
    yield made
    with admin.connect() as connection:
        connection.exec_driver_sql(f"drop database {name} with (force)")
        connection.exec_driver_sql(f"drop role {name}")


def _keep_as_before(connection: sa.Connection) -> None:
    connection.exec_driver_sql("select set_config('app.tenant', %s, true)", (str(TENANT),))
    for job, state in (("waits", "queued"), ("paid", "collected"), ("over", "completed")):
        context = json.dumps({"retention_days": 30, "decision": {"allow": True}})
        values = {"tenant": TENANT, "id": job, "state": state, "context": context, "decision": f"dec-{job}"}
        connection.execute(sa.text(_JOB), values)
        connection.execute(
            sa.text(
                "insert into qcos.ledger_record (tenant, id, seq, time, act, actor, object, project, record)"
                " values (:tenant, :id, 1, now(), 'policy.decided', 'user:a', :decision, 'p', :record)"
            ),
            {"tenant": TENANT, "id": f"rec-{job}", "decision": f"dec-{job}", "record": RECORD},
        )


def test_jobs_in_hand_can_be_sealed_after_the_upgrade(owner: str) -> None:
    """R4.1, R12.2: evidence names the record of the decision, which jobs of before did not note; each has its term (R4.3)."""
    engine = sa.create_engine(owner, poolclass=sa.NullPool)
    with engine.begin() as connection:
        _keep_as_before(connection)
    migrate(owner)
    with engine.begin() as connection:
        connection.exec_driver_sql("select set_config('app.tenant', %s, true)", (str(TENANT),))
        rows = connection.exec_driver_sql(
            "select id, context->'decision', (retain_until at time zone 'utc')::date::text from qcos.job"
        ).all()
        forced = connection.exec_driver_sql(
            "select relname from pg_class where relname in ('job', 'ledger_record') and relforcerowsecurity order by 1"
        ).scalars()
        assert list(forced) == ["job", "ledger_record"], "the owner is bound again"
    noted = {job: decision.get("record") for job, decision, _ in rows}
    digest = f"sha256:{hashlib.sha256(RECORD).hexdigest()}"
    assert noted == {
        "waits": {"id": "rec-waits", "digest": digest},
        "paid": {"id": "rec-paid", "digest": digest},
        "over": None,
    }
    assert {until for *_, until in rows} == {"2026-01-31"}
