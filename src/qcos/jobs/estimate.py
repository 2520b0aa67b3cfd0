"""What a job would cost and what would be decided, without admitting it (R12.1)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from qcos.base.clock import now
from qcos.circuits.model import CircuitFacts
from qcos.identity import store as identity
from qcos.identity.model import Principal
from qcos.jobs.admit import Admission
from qcos.jobs.authorize import Question, authorize, may_submit
from qcos.jobs.place import candidates, place
from qcos.jobs.reserve import affordable, funds_of
from qcos.jobs.spec import JobSpec


def estimate_job(
    parts: Admission,
    connection: sa.Connection,
    principal: Principal,
    spec: JobSpec,
    facts: tuple[CircuitFacts, ...],
) -> dict[str, Any]:
    """Return prices on each backend, why others were dropped, and the decision and choice as they would be now.

    Raises:
        NotFound: ``project.unknown``.
    """
    at = now()
    project = identity.get_project(connection, principal.tenant, spec.project)
    able, dropped = candidates(parts.catalogue.statuses(), spec, facts, parts.book)
    question = Question(
        spec.job_id or "estimate",
        spec,
        facts,
        principal,
        project,
        funds_of(connection, project, at),
        able,
        dropped,
        at,
    )
    bundle = parts.bundles.get(connection, principal.tenant)
    refused = may_submit(parts.policy, bundle, principal, project.id, at)
    decision = authorize(parts.policy, bundle, question, "estimate", refused)
    within, dear = affordable(question.funds, able)
    choice = place(decision, within, (*dropped, *dear))[0] if decision.allow else None
    return {
        "allow": decision.allow,
        "reasons": [reason.as_dict() for reason in decision.reasons],
        "policy_version": decision.bundle_version,
        "backend": choice.backend if choice else None,
        "placement": choice.as_dict() if choice else None,
        "candidates": [
            {
                "backend": c.backend,
                "provider": c.status.backend.provider,
                "price": c.price,
                "excluded": next((e.as_dict() for e in decision.excluded if e.backend == c.backend), None),
            }
            for c in able
        ],
        "dropped": [{"backend": d.backend, "code": d.code, "message": d.message} for d in dropped],
        "price_book": parts.book.id,
        "basis": "the most the job would be charged; reserved at submission, settled to what was used",
    }
