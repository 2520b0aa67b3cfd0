"""Stage "authorized": gather the facts, ask policy, keep the answer with its reasons (R3.1-R3.6).

Code gathers, Rego decides: the document built here is all that policy sees (documented in docs/reference/policy.md), and it is recorded
whole, so that any decision can be explained and taken again later.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qcos.base.canonical import digest_of
from qcos.base.clock import rfc3339
from qcos.circuits.model import CircuitFacts
from qcos.identity.model import Principal, Project
from qcos.jobs.place import Candidate
from qcos.jobs.reserve import shortages
from qcos.jobs.spec import JobSpec
from qcos.metering.model import Funds
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.model import Decision, PolicyBundle, Reason
from qcos.routing.model import Dropped


@dataclass(frozen=True, slots=True)
class Question:
    """All facts a decision rests on, from one scope."""

    job_id: str
    spec: JobSpec
    facts: Sequence[CircuitFacts]
    principal: Principal
    project: Project
    funds: Funds
    candidates: Sequence[Candidate]
    dropped: Sequence[Dropped]
    at: dt.datetime


def policy_input(question: Question) -> dict[str, Any]:
    """Return the document that policies read as ``input``."""
    spec, funds, project = question.spec, question.funds, question.project
    return {
        "time": rfc3339(question.at),
        "job": {
            "id": question.job_id,
            "project": project.id,
            "cost_center": spec.cost_center or project.cost_center,
            "classification": spec.classification,
            "purpose": spec.purpose,
            "retention_days": spec.retention_days,
            "shots": spec.shots,
            "total_shots": spec.total_shots,
            "circuits": [
                {"qubits": f.qubits, "depth": f.depth, "size": f.size, "two_qubit_gates": f.two_qubit_gates}
                for f in question.facts
            ],
            "constraints": {
                "min_qubits": spec.min_qubits,
                "max_depth": spec.max_depth,
                "allowed_providers": list(spec.allowed_providers)
                if spec.allowed_providers is not None
                else None,
            },
        },
        "principal": principal_facts(question.principal, project.id),
        "project": {"id": project.id, "team": project.team, "cost_center": project.cost_center},
        "budget": funds.budget.as_dict() if funds.budget else None,
        "quota": funds.quota.as_dict() if funds.quota else None,
        "candidates": [candidate.as_policy_input() for candidate in question.candidates],
    }


def principal_facts(principal: Principal, project: str | None) -> dict[str, Any]:
    """Return what policies may know of a principal; roles are those that hold in the project."""
    return {
        "id": principal.id,
        "kind": principal.kind,
        "team": principal.team,
        "roles": list(principal.roles_for(project)),
        "attributes": dict(principal.attributes),
    }


def may_submit(
    engine: PolicyEngine, bundle: PolicyBundle, principal: Principal, project: str, at: dt.datetime
) -> tuple[Reason, ...]:
    """Return why a principal may not submit anything in a project (act ``job.submit``); empty when he may.

    Asked for every job, and before work is done for one whose circuits nobody has read yet.
    """
    document = {
        "time": rfc3339(at),
        "act": "job.submit",
        "object": "",
        "project": project,
        "own": True,
        "principal": {
            **principal_facts(principal, project),
            "tenant_roles": list(principal.roles_for(None)),
        },
        "details": {},
    }
    return engine.evaluate(bundle, "acts", document).reasons


def authorize(
    engine: PolicyEngine,
    bundle: PolicyBundle,
    question: Question,
    decision_id: str,
    refused: tuple[Reason, ...] = (),
) -> Decision:
    """Take the decision on a job.

    A job that no backend can take, or that the funds do not allow, is refused here too, with the reason each backend was dropped, so that
    the caller learns of everything that is in the way at once.

    Args:
        refused: From `may_submit`. Where it was asked before the circuits were read, they were not, and there are no candidates.
    """
    document = policy_input(question)
    verdict = engine.evaluate(bundle, "jobs", document)
    reasons = verdict.reasons
    if refused:
        reasons += refused
    elif not question.candidates:
        reasons += (_unsatisfiable(question.dropped),)
    elif verdict.allow:
        out = verdict.excluded_backends
        permitted = [candidate for candidate in question.candidates if candidate.backend not in out]
        reasons += shortages(question.funds, permitted, question.spec.total_shots)
    return Decision(
        id=decision_id,
        entrypoint="jobs",
        subject=question.job_id,
        allow=verdict.allow and not reasons,
        reasons=reasons,
        excluded=verdict.excluded,
        policies=verdict.policies,
        bundle_version=bundle.version,
        input=document,
        input_digest=digest_of(document),
        time=question.at,
        duration_us=verdict.duration_us,
    )


def _unsatisfiable(dropped: Sequence[Dropped]) -> Reason:
    why = "; ".join(f"{d.backend}: {d.message}" for d in dropped) or "no backend is registered"
    return Reason(
        "routing",
        "routing.unsatisfiable",
        f"no backend can run this job: {why}"[:2000],
        hint="loosen the constraints or see GET /v1/backends",
    )
