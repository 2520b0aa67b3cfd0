"""A tenant with people in it, and what they submit."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import sqlalchemy as sa

from qcos.administration.installation import create_tenant
from qcos.administration.recorded import SCHEMA, faults
from qcos.base import tls
from qcos.client import Client
from qcos.db.engine import scope
from qcos.ledger import store as ledger
from qcos.ledger.record import read_record

from .installation import Installation

BELL = """OPENQASM 3.0;
include "stdgates.inc";
qubit[2] q;
bit[2] c;
h q[0];
cx q[0], q[1];
c = measure q;
"""
BELL2 = """OPENQASM 2.0;
include "qelib1.inc";
qreg q[2];
creg c[2];
h q[0];
cx q[0],q[1];
measure q -> c;
"""
ROTATED = """OPENQASM 3.0;
include "stdgates.inc";
input float theta;
qubit[1] q;
bit[1] c;
rx(theta) q[0];
c = measure q;
"""
GHZ3 = """OPENQASM 3.0;
include "stdgates.inc";
qubit[3] q;
bit[3] c;
h q[0];
cx q[0], q[1];
cx q[1], q[2];
c = measure q;
"""
# On aer-ideal, one circuit of 100 shots: per_task 500 + 100 * per_shot 2 + the bound on processor time, in micro-units.
MICRO = 1_000_000
PATIENT_S = 90  # for one answer: httpx alone gives up after five seconds, which a loaded machine may need


def base64_of(source: str) -> str:
    return base64.b64encode(source.encode()).decode()


@dataclass(frozen=True)
class Person:
    """Somebody with a token: the client he would use, and the bare HTTP beneath."""

    id: str
    role: str | None
    token: str
    token_id: str
    client: Client
    http: httpx.Client


@dataclass(frozen=True)
class House:
    """A tenant, its project and team, and one person for each role."""

    qcos: Installation
    tenant: UUID
    project: str
    team: str
    cost_center: str
    admin: Person
    engineer: Person
    user: Person
    auditor: Person
    others: list[Person] = field(default_factory=list)

    @property
    def people(self) -> dict[str, Person]:
        everybody = (self.admin, self.engineer, self.user, self.auditor)
        return {str(person.role): person for person in everybody}

    def spec(
        self,
        source: str = BELL,
        *,
        shots: int = 100,
        format: str = "QASM3",
        circuit: dict[str, Any] | None = None,
        **parts: Any,
    ) -> dict[str, Any]:
        """Return a Job Spec; ``execution`` and ``governance`` are merged into what every spec here says."""
        return {
            "circuit": {"format": format, "source": base64_of(source), **(circuit or {})},
            "execution": {"shots": shots, "backend": "aer-ideal", **parts.pop("execution", {})},
            "governance": {
                "project": self.project,
                "classification": "internal",
                "purpose": "exploration",
                **parts.pop("governance", {}),
            },
            **parts,
        }

    def qcos_get(self, path: str) -> httpx.Response:
        """Get something as anybody, without a token."""
        url = self.qcos.url + path
        return httpx.get(url, timeout=PATIENT_S, trust_env=False, verify=tls.trusted(url))

    def run(self, spec: dict[str, Any] | None = None, who: Person | None = None) -> dict[str, Any]:
        """Submit a job, wait for its end and return it; it must have completed."""
        client = (who or self.engineer).client
        submitted = client.jobs.submit(spec or self.spec())
        job = dict(client.jobs.wait_for(submitted["job_id"], timeout_s=90))
        assert job["state"] == "completed", job["error"]
        return job

    def bundle(self, job_id: str) -> dict[str, Any]:
        """Return a job's evidence with its ledger proof."""
        response = self.engineer.http.get(f"/jobs/{job_id}/evidence", params={"wait": 60}, timeout=PATIENT_S)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        assert found["proof"]["ledger"] is not None
        return found

    def records(self, **filters: Any) -> list[dict[str, Any]]:
        """Return the ledger's records, newest first."""
        return list(self.admin.client.ledger.each(**filters))

    def records_are_as_published(self) -> None:
        """Hold every record of this house against the published schema; an act that changes something says what."""
        with scope(self.qcos.engine, self.tenant) as connection:
            kept = [row.record for row in connection.execute(sa.select(ledger.record_table.c.record))]
        assert kept
        for record in map(read_record, kept):
            assert faults(record) == []
            states = SCHEMA["$defs"]["acts"][record["act"]]["properties"].get("change")
            assert ("change" in record["details"]) is (states is not None), record
            if states is not None:
                assert record["details"]["change"]["before"] != record["details"]["change"]["after"], record

    def budget(self, project: str | None = None) -> dict[str, Any]:
        """Return the state of a project's budget."""
        states = {b["project"]: b for b in self.admin.client.metering.budgets()["items"]}
        return states[project or self.project]

    def quota(self) -> dict[str, Any]:
        """Return the state of the team's quota."""
        return next(q for q in self.admin.client.metering.quotas()["items"] if q["team"] == self.team)

    def person(
        self,
        name: str,
        role: str | None,
        *,
        project: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> Person:
        """Register somebody and give him a token."""
        identity = self.admin.client.identity
        identity.create_principal(name, team=self.team, attributes=attributes)
        if role is not None:
            identity.grant_role(name, role, project=project)
        made = identity.create_token(name, days=1)
        self.others.append(_person(self.qcos, name, role, made["token"], made["id"]))
        return self.others[-1]

    def new_project(self, limit: Decimal | None = None) -> str:
        """Register another project of the team, with its own budget."""
        name = f"side-{secrets.token_hex(4)}"
        self.admin.client.identity.create_project(name, team=self.team, cost_center="CC-SIDE")
        if limit is not None:
            self.admin.client.metering.set_budget(name, limit, "USD")
        return name


def _person(qcos: Installation, name: str, role: str | None, token: str, token_id: str) -> Person:
    http = httpx.Client(
        base_url=f"{qcos.url}/v1",
        headers={"Authorization": f"Bearer {token}"},
        timeout=PATIENT_S,
        trust_env=False,
        verify=tls.trusted(qcos.url),
    )
    return Person(name, role, token, token_id, Client(qcos.url, token, PATIENT_S), http)


@contextlib.contextmanager
def furnish(qcos: Installation) -> Iterator[House]:
    """Make a tenant and set it up through the API, as its administrator would."""
    mark = secrets.token_hex(4)
    made = create_tenant(qcos.engine, f"house-{mark}")
    token_id = httpx.get(
        f"{qcos.url}/v1/whoami",
        headers={"Authorization": f"Bearer {made.token}"},
        timeout=PATIENT_S,
        trust_env=False,
        verify=tls.trusted(qcos.url),
    ).json()["token"]
    admin = _person(qcos, "user:admin", "quantum-admin", made.token, token_id)
    project, team, cost_center = f"project-{mark}", f"team-{mark}", f"CC-{mark}"
    identity = admin.client.identity
    identity.create_project(project, team=team, cost_center=cost_center)
    admin.client.metering.set_budget(project, Decimal("5000.00"), "USD")
    admin.client.metering.set_quota(team, 50_000)
    people = {}
    for name, role in (("alice", "quantum-engineer"), ("bob", "quantum-user"), ("carol", "auditor")):
        principal = f"user:{name}@{mark}.example"
        identity.create_principal(principal, team=team)
        identity.grant_role(principal, role)
        token = identity.create_token(principal, days=1)
        people[role] = _person(qcos, principal, role, token["token"], token["id"])
    house = House(
        qcos,
        made.tenant,
        project,
        team,
        cost_center,
        admin,
        people["quantum-engineer"],
        people["quantum-user"],
        people["auditor"],
    )
    try:
        yield house
    finally:
        for person in [*house.people.values(), *house.others]:
            person.client.close()
            person.http.close()
