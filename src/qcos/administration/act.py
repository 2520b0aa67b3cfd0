"""An act: somebody does something to an object, policy permitting, and the ledger knows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from qcos.base.clock import now, rfc3339
from qcos.base.errors import Denied
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.identity.model import Principal
from qcos.jobs.authorize import principal_facts
from qcos.ledger.append import append
from qcos.ledger.record import Record
from qcos.policy import store as policies
from qcos.policy.evaluate import PolicyEngine


@dataclass(frozen=True, slots=True)
class Authority:
    """What acts are authorized with; made once, in `qcos.app`."""

    engine: sa.Engine
    policy: PolicyEngine
    bundles: policies.ActiveBundles


@dataclass(frozen=True, slots=True)
class Act:
    """An authenticated caller in an open scope.

    Attributes:
        connection: The scope's connection, bound to the tenant.
    """

    connection: sa.Connection
    tenant: UUID
    principal: Principal
    authority: Authority

    def permit(self, act: str, subject: str = "", *, project: str = "", own: bool = False) -> None:
        """Ask policy whether the caller may do ``act`` to ``subject``.

        Raises:
            Denied: With the policy's code and every reason.
        """
        document = self.question(act, subject, project=project, own=own)
        bundle = self.authority.bundles.get(self.connection, self.tenant)
        verdict = self.authority.policy.evaluate(bundle, "acts", document)
        if not verdict.allow:
            reasons = [reason.as_dict() for reason in verdict.reasons]
            raise Denied(
                verdict.reasons[0].code,
                "; ".join(reason.message for reason in verdict.reasons),
                subject=subject,
                hint=verdict.reasons[0].hint,
                details={"act": act, "reasons": reasons, "policy_version": bundle.version},
            )

    def question(
        self, act: str, subject: str = "", *, project: str = "", own: bool = False
    ) -> dict[str, Any]:  # Any: JSON
        """Return the document that policies see of an act (documented in docs/reference/policy.md)."""
        return {
            "time": rfc3339(now()),
            "act": act,
            "object": subject,
            "project": project,
            "own": own,
            "principal": principal_facts(self.principal, project or None),
        }

    def record(
        self, act: str, subject: str, *, project: str = "", reason: str = "", **details: Any
    ) -> None:  # Any: JSON
        """Write the act into the ledger, in this scope."""
        principal = self.principal
        append(
            self.connection,
            self.tenant,
            [
                Record(
                    act=act,
                    actor=principal.id,
                    object=subject,
                    project=project,
                    delegation=principal.delegation,
                    reason=reason,
                    details=details,
                )
            ],
        )


@contextlib.contextmanager
def acting(authority: Authority, tenant: UUID, token_hash: bytes) -> Iterator[Act]:
    """Open a scope for an authenticated caller: what happens in it is kept whole or not at all."""
    with scope(authority.engine, tenant) as connection:
        principal = identity.authenticate(connection, tenant, token_hash, now())
        yield Act(connection, tenant, principal, authority)
