"""Say in words what was decided and why, and decide it again (R3.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qcos.base.canonical import digest_of
from qcos.base.clock import rfc3339
from qcos.base.errors import Conflict, Integrity
from qcos.policy.evaluate import ENGINE, PolicyEngine
from qcos.policy.model import Decision, PolicyBundle, Reason, Verdict

_FACTS = {
    "principal": ("id", "team", "roles"),
    "job": ("project", "purpose", "classification", "total_shots"),
    "budget": ("month", "limit", "reserved", "settled", "available", "currency"),
    "quota": ("team", "day", "limit", "reserved", "used", "available"),
}


@dataclass(frozen=True, slots=True)
class Replay:
    """A decision made again from its record.

    Attributes:
        same: The policies say the same again.
        verdict: What they say now.
        differences: What differs, in words; empty when the same.
    """

    same: bool
    verdict: Verdict
    differences: tuple[str, ...]


def explain(decision: Decision, titles: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return readable lines: outcome, who asked what, each reason with its remedy, the numbers, the versions.

    Args:
        decision: The record.
        titles: Package to title, from `BundleFacts.titles`; packages are named by their name otherwise.
    """
    return tuple(_lines(decision, titles or {}))


def replay(engine: PolicyEngine, bundle: PolicyBundle, decision: Decision) -> Replay:
    """Ask the same policies about the same input, at the time that the input tells.

    Reasons that are not the policies' (no backend could run the job) are taken as recorded.

    Raises:
        Conflict: ``policy.version`` when the bundle is not the one that decided.
        Integrity: ``decision.input`` when the recorded input is not the one whose digest was recorded.
    """
    if bundle.version != decision.bundle_version:
        raise Conflict(
            "policy.version",
            "another policy bundle decided",
            subject=decision.id,
            expected=decision.bundle_version,
            got=bundle.version,
        )
    found = digest_of(decision.input)
    if found != decision.input_digest:
        raise Integrity(
            "decision.input",
            "the recorded input is not the one that was decided on",
            subject=decision.id,
            expected=decision.input_digest,
            got=found,
        )
    verdict = engine.evaluate(bundle, decision.entrypoint, decision.input)
    judged = {*verdict.policies, ENGINE}
    told = tuple(reason for reason in decision.reasons if reason.policy in judged)
    elsewhere = len(told) < len(decision.reasons)  # routing found no backend, say
    differences = [
        f"{name}: recorded {_short(old)}, now {_short(new)}"
        for name, old, new in (
            ("allow", decision.allow, verdict.allow and not elsewhere),
            ("reasons", told, verdict.reasons),
            ("excluded", decision.excluded, verdict.excluded),
            ("policies", decision.policies, verdict.policies),
        )
        if old != new
    ]
    return Replay(not differences, verdict, tuple(differences))


def _lines(decision: Decision, titles: Mapping[str, str]) -> Iterator[str]:
    outcome = "allowed" if decision.allow else "denied"
    what = decision.input.get("act") or "job.submit"
    yield f"{decision.id}: {what} {decision.subject} was {outcome} at {rfc3339(decision.time)}"
    for reason in decision.reasons:
        yield f"  no: {_reason(reason, titles)}"
        if reason.hint:
            yield f"      what helps: {reason.hint}"
    for reason in decision.excluded:
        if reason not in decision.reasons:
            yield f"  not on {reason.backend}: {_reason(reason, titles)}"
    for name, members in _FACTS.items():
        facts = decision.input.get(name)
        if isinstance(facts, dict):
            known = [f"{member} {_value(facts[member])}" for member in members if member in facts]
            yield f"  {name}: {', '.join(known)}"
    yield f"  asked: {', '.join(_title(policy, titles) for policy in decision.policies) or 'no policy'}"
    yield f"  policy bundle {decision.bundle_version}"
    yield f"  input {decision.input_digest}, decided in {decision.duration_us} µs"


def _reason(reason: Reason, titles: Mapping[str, str]) -> str:
    return f"{reason.message} [{reason.code}, {_title(reason.policy, titles)}]"


def _title(policy: str, titles: Mapping[str, str]) -> str:
    return f"{titles[policy]} ({policy})" if policy in titles else policy


def _value(value: Any) -> str:  # Any: JSON
    return "/".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _short(value: object) -> str:
    return f"{value}"[:300]
