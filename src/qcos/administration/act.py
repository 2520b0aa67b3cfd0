"""An act: somebody does something to an object, policy permitting, and the ledger knows.

What is kept of the question "may he?": for an act that changes something, the decision, in the scope of the act, named by the act's
record; for any act that is refused, the decision and a record ``access.denied``, in a scope of their own after the caller's was rolled
back. A permitted read leaves nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from qcos.base.canonical import digest_of
from qcos.base.clock import now, parse_rfc3339, rfc3339
from qcos.base.errors import Denied, QcosError, Unavailable
from qcos.base.ids import new_id
from qcos.base.limits import MAX_NAME
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.identity.model import Principal
from qcos.jobs.authorize import principal_facts
from qcos.ledger.append import append
from qcos.ledger.record import Record, change
from qcos.policy import store as policies
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.model import Decision, PolicyBundle, Verdict

CHANGES: Final = frozenset(
    {
        "budget.set",
        "quota.set",
        "project.create",
        "principal.create",
        "principal.disable",
        "principal.enable",
        "role.grant",
        "role.revoke",
        "token.create",
        "token.revoke",
        "policy.upload",
        "policy.activate",
        "evidence.renew",
        "tenant.create",
        "hold.place",
        "hold.release",
        "evidence.erase",
        "erasure.resume",
        "key.rotate",
        "key.revoke",
        "key.certify",
    }
)
"""Acts whose decision is kept also when it permits."""


class RefusedAct(Denied):
    """Policy refuses an act; `acting` keeps the decision when nobody caught this."""

    def __init__(self, decision: Decision) -> None:
        first, act = decision.reasons[0], str(decision.input["act"])
        super().__init__(
            first.code,
            "; ".join(reason.message for reason in decision.reasons),
            subject=decision.subject,
            hint=first.hint,
            details={
                "act": act,
                "reasons": [reason.as_dict() for reason in decision.reasons],
                "policy_version": decision.bundle_version,
                "decision_id": decision.id,
            },
        )
        self.decision = decision


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
        decisions: Those kept in this scope, in order; the last one stands in the records that follow it.
    """

    connection: sa.Connection
    tenant: UUID
    principal: Principal
    authority: Authority
    decisions: list[Decision] = field(default_factory=list)

    def permit(
        self,
        act: str,
        subject: str = "",
        *,
        project: str = "",
        own: bool = False,
        details: Mapping[str, Any] | None = None,  # Any: JSON
    ) -> None:
        """Ask policy whether the caller may do ``act`` to ``subject``, and keep the decision if ``act`` is one of `CHANGES`.

        Args:
            details: What policy has to know of this act besides: ``{"role": ...}`` of ``role.grant`` and ``role.revoke``.

        Raises:
            Denied: With the policy's code and every reason.
        """
        document = self.question(act, subject, project=project, own=own, details=details)
        bundle, verdict = self._ask(document)
        if verdict.allow and act not in CHANGES:
            return
        decision = _decision(bundle, document, verdict)
        if not decision.allow:
            raise RefusedAct(decision)
        policies.insert_decisions(self.connection, self.tenant, [decision])
        self.decisions.append(decision)

    def may(
        self,
        act: str,
        subject: str = "",
        *,
        project: str = "",
        own: bool = False,
        details: Mapping[str, Any] | None = None,  # Any: JSON
    ) -> bool:
        """Tell whether `permit` would let it pass, and keep nothing: to find out what to show or which way to go, not to do it."""
        document = self.question(act, subject, project=project, own=own, details=details)
        return self._ask(document)[1].allow

    def question(
        self,
        act: str,
        subject: str = "",
        *,
        project: str = "",
        own: bool = False,
        details: Mapping[str, Any] | None = None,  # Any: JSON
    ) -> dict[str, Any]:  # Any: JSON
        """Return the document that policies see of an act (documented in docs/reference/policy.md)."""
        tenant_roles = list(self.principal.roles_for(None))
        return {
            "time": rfc3339(now()),
            "act": act,
            "object": _kept(subject),
            "project": _kept(project),
            "own": own,
            "principal": {**principal_facts(self.principal, project or None), "tenant_roles": tenant_roles},
            "details": {
                name: _kept(value) if isinstance(value, str) else value
                for name, value in (details or {}).items()
            },
        }

    def record(
        self,
        act: str,
        subject: str,
        *,
        project: str = "",
        reason: str = "",
        states: tuple[Any, Any] | None = None,
        **details: Any,
    ) -> None:  # Any: JSON
        """Write the act into the ledger, in this scope, with the decision that permitted it.

        Args:
            states: The object before and after, JSON; their digests become the details' ``change``.
        """
        changes = None if states is None else [states]
        self.record_each(act, [subject], project=project, reason=reason, changes=changes, **details)

    def record_each(
        self,
        act: str,
        subjects: Sequence[str],
        *,
        project: str = "",
        reason: str = "",
        changes: Sequence[tuple[Any, Any]] | None = None,
        **details: Any,
    ) -> None:  # Any: JSON
        """As `record`, for several objects in one statement, each with a record of its own."""
        principal = self.principal
        if self.decisions:
            decision = self.decisions[-1]
            details |= {"decision": decision.id, "policy_version": decision.bundle_version}
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
                    details=details if changes is None else details | {"change": change(*changes[n])},
                )
                for n, subject in enumerate(subjects)
            ],
        )

    def _ask(self, document: dict[str, Any]) -> tuple[PolicyBundle, Verdict]:  # Any: JSON
        bundle = self.authority.bundles.get(self.connection, self.tenant)
        return bundle, self.authority.policy.evaluate(bundle, "acts", document)


@contextlib.contextmanager
def acting(authority: Authority, tenant: UUID, token_hash: bytes) -> Iterator[Act]:
    """Open a scope for an authenticated caller: what happens in it is kept whole or not at all.

    Raises:
        Denied: ``auth.*``; or by policy, and then the refusal is in the ledger.
        Unavailable: ``access.unrecorded`` when a refusal could not be recorded.
    """
    try:
        with scope(authority.engine, tenant) as connection:
            principal = identity.authenticate(connection, tenant, token_hash, now())
            opened = Act(connection, tenant, principal, authority)
            yield opened
    except RefusedAct as refused:
        _record_refusal(opened, refused)
        raise


def _record_refusal(act: Act, refused: RefusedAct) -> None:
    """Keep a refused decision with its record, in a new scope: the caller's was rolled back.

    Raises:
        Unavailable: ``access.unrecorded``; the caller is told to try again instead of a refusal that nobody could prove.
    """
    decision, principal = refused.decision, act.principal
    record = Record(
        act="access.denied",
        actor=principal.id,
        object=decision.subject,
        project=decision.input["project"],
        delegation=principal.delegation,
        details={
            "act": decision.input["act"],
            "codes": sorted({reason.code[:MAX_NAME] for reason in decision.reasons}),
            "decision": decision.id,
            "input": decision.input_digest,
            "policy_version": decision.bundle_version,
        },
    )
    try:
        with scope(act.authority.engine, act.tenant) as connection:
            policies.insert_decisions(connection, act.tenant, [decision])
            append(connection, act.tenant, [record])
    except (QcosError, sa.exc.SQLAlchemyError) as error:
        raise Unavailable(
            "access.unrecorded",
            "the act is refused, but the refusal cannot be recorded",
            subject=decision.subject,
            got=error.code if isinstance(error, QcosError) else type(error).__name__,
            hint="nothing was done; try again",
            retry_after_s=1.0,
        ) from error


def _decision(bundle: PolicyBundle, document: dict[str, Any], verdict: Verdict) -> Decision:  # Any: JSON
    return Decision(
        id=new_id("dec"),
        entrypoint="acts",
        subject=document["object"],
        allow=verdict.allow,
        reasons=verdict.reasons,
        excluded=verdict.excluded,
        policies=verdict.policies,
        bundle_version=bundle.version,
        input=document,
        input_digest=digest_of(document),
        time=parse_rfc3339(document["time"]),
        duration_us=verdict.duration_us,
    )


def _kept(text: str) -> str:
    """Return text that the database can keep in a decision: no longer than a name, no NUL, no half of a surrogate pair."""
    return text[:MAX_NAME].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
