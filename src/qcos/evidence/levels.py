"""Evidence levels: what a bundle of each level contains, and how a verifier demands it (R1.1 to R1.7, R12.5).

Each level has everything of the one before.

* ``basic``: the record of Table 1, with digests of what went in and came out.
* ``standard``: besides, the decision (digest of all that policy saw; id and digest of the ledger's record
  ``policy.decided``), the calibration, why this backend was chosen, and every line of the charge.
* ``full``: besides, a time stamp of its own, the toolchain manifest, each program as it was executed, the
  vendor's raw answer, and the ledger proof of the decision in the bundle itself.

A level that is claimed is a promise of the one who signed: a bundle that lacks a member of its level does not
verify. What a backend has no notion of (a simulator has no calibration) is named with its reason; who reads
the report sees it. Bundles made before levels had a meaning carry no ``evidence`` in their predicate; they
verify as what they are, and satisfy no demand for more than ``basic``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qcos.base.errors import Integrity

LEVELS: Final = ("basic", "standard", "full")
MAY_BE_ABSENT: Final = frozenset({"calibration", "transpiled", "vendor-response"})
"""What a backend may have no notion of; everything else stands in every bundle of its level."""
TOOLCHAIN: Final = ("driver", "packages", "python", "seeds", "settings")
"""Members of the toolchain manifest."""
_STATEMENT: Final = "/proof/envelope/payload"  # the statement's place in the bundle


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a statement claims, and keeps.

    Attributes:
        level: One of `LEVELS`.
        absent: Members the backend has no notion of: name to reason.
        decision: Id of the ledger's record ``policy.decided``; empty below ``standard``.
        decision_digest: ``sha256:<hex>`` of that record.
        legacy: The bundle was made before levels had a meaning: `level` is ``basic``, whatever was asked.
    """

    level: str
    absent: Mapping[str, str] = field(default_factory=dict)
    decision: str = ""
    decision_digest: str = ""
    legacy: bool = False


def at_least(level: str, least: str) -> bool:
    """Tell whether a level has everything of another."""
    return LEVELS.index(level) >= LEVELS.index(least)


def asked(job_spec: object) -> str:
    """Return the level a Job Spec asks for; ``standard`` when it says nothing."""
    wants = job_spec.get("evidence_requirements") if isinstance(job_spec, Mapping) else None
    level = wants.get("level", "standard") if isinstance(wants, Mapping) else "standard"
    return level if level in LEVELS else "full"  # nothing is proved with a word nobody knows


def check_level(statement: Mapping[str, Any], subjects: Mapping[str, str]) -> Claimed:  # Any: JSON
    """Demand every member of the level that a statement claims.

    Args:
        statement: The in-toto statement.
        subjects: Its subjects: name to ``sha256:<hex>``.

    Raises:
        Integrity: ``evidence.level`` with the member that is missing.
    """
    predicate = statement["predicate"]
    evidence = predicate.get("evidence")
    if evidence is None:
        return Claimed("basic", legacy=True)
    if not isinstance(evidence, Mapping):
        raise _lacks("the statement's evidence member is no object", "an object", type(evidence).__name__)
    level = evidence.get("level")
    if level not in LEVELS:
        raise _lacks("there is no such evidence level", ", ".join(LEVELS), repr(level))
    if predicate["governance"].get("evidenceLevel") != level:
        named = repr(predicate["governance"].get("evidenceLevel"))
        raise _lacks("the statement names two evidence levels", level, named)
    absent = _absent(evidence.get("absent", {}))
    for member in _missing(level, predicate, evidence, subjects, absent):
        raise _lacks(f"a bundle of level {level} must hold {member}", member, "nothing")
    decision = evidence.get("decision", {})
    return Claimed(level, absent, decision.get("record", ""), decision.get("digest", ""))


def _missing(
    level: str,
    predicate: Mapping[str, Any],
    evidence: Mapping[str, Any],
    subjects: Mapping[str, str],
    absent: Mapping[str, str],
) -> Iterator[str]:
    """Yield what is missing, in words."""
    if at_least(level, "standard"):
        yield from _missing_of_standard(predicate, evidence, subjects, absent)
    if at_least(level, "full"):
        yield from _missing_of_full(predicate, evidence, subjects, absent)


def _missing_of_standard(
    predicate: Mapping[str, Any],
    evidence: Mapping[str, Any],
    subjects: Mapping[str, str],
    absent: Mapping[str, str],
) -> Iterator[str]:
    governance, charge = predicate["governance"], predicate["result"].get("charge")
    decision = evidence.get("decision")
    if not isinstance(decision, Mapping) or not all(
        isinstance(decision.get(name), str) and decision[name] for name in ("record", "digest")
    ):
        yield "id and digest of the ledger's record of the decision"
    if "decision-input" not in subjects or governance.get("decisionDigest") != subjects["decision-input"]:
        yield "the digest of the decision's input"
    if "calibration" not in subjects and "calibration" not in absent:
        yield "the calibration, or why there is none"
    if not predicate["where"].get("placement"):
        yield "why this backend was chosen"
    if not predicate["result"].get("usage"):
        yield "the usage by meter"
    if not isinstance(charge, Mapping) or not isinstance(charge.get("lines"), list):
        yield "the lines of the charge"


def _missing_of_full(
    predicate: Mapping[str, Any],
    evidence: Mapping[str, Any],
    subjects: Mapping[str, str],
    absent: Mapping[str, str],
) -> Iterator[str]:
    toolchain, materials = evidence.get("toolchain"), evidence.get("materials")
    for name in TOOLCHAIN:
        if not isinstance(toolchain, Mapping) or name not in toolchain:
            yield f"the toolchain's {name}"
    programs = [f"transpiled/{n}" for n in range(len(predicate["what"]["circuits"]))]
    demanded = {"transpiled": programs, "vendor-response": ["vendor-response"]}
    for member, names in demanded.items():
        for name in names if member not in absent else ():
            if name not in subjects or not isinstance(materials, Mapping) or name not in materials:
                yield f"the digest of {name}, or why there is none"
    kept = isinstance(materials, Mapping) and "calibration" in materials
    if "calibration" in subjects and "calibration" not in absent and not kept:
        yield "the calibration as it was executed, or why there is none"


def _absent(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise _lacks("what is absent is no object", "an object", type(value).__name__)
    for name, reason in value.items():
        if name not in MAY_BE_ABSENT:
            raise _lacks("a member of the level may not be absent", ", ".join(sorted(MAY_BE_ABSENT)), name)
        if not isinstance(reason, str) or not reason.strip():
            raise _lacks(f"{name} is absent without a reason", "a reason", repr(reason))
    return value


def _lacks(message: str, expected: str, got: str) -> Integrity:
    return Integrity(
        "evidence.level", message, subject=_STATEMENT, expected=expected[:300], got=str(got)[:300]
    )
