"""Judge a bundle before it may decide: what it holds, whether it runs, whether its tests pass.

Each call has a process of its own, so that a hostile bundle keeps nobody else waiting.
"""

from __future__ import annotations

from typing import Any

from qcos.base.errors import Invalid, Problem
from qcos.base.limits import POLICY_LOAD_DEADLINE_S, POLICY_MEMORY_BYTES, POLICY_TEST_DEADLINE_S
from qcos.base.process import KillableProcess
from qcos.policy.evaluate import ENGINE, MODULE, PolicyEngine, ask
from qcos.policy.model import (
    ENTRYPOINTS,
    BundleFacts,
    FileCoverage,
    PolicyBundle,
    TestReport,
    TestResult,
)
from qcos.policy.samples import sample

UPLOAD_DEADLINE_S = POLICY_LOAD_DEADLINE_S / 5  # so that an engine that decides can load what was accepted


def validate(bundle: PolicyBundle, *, complete: bool = True) -> BundleFacts:
    """Accept a bundle or say everything that is wrong with it (R3.1).

    Every file is parsed, every function called is known and needs nothing but its arguments, every policy has
    an entrypoint and an output, and the whole answers the sample inputs in time without an error.

    Args:
        bundle: From `qcos.policy.bundle`.
        complete: Refuse a bundle without a policy for each entrypoint: active, it would deny everything.

    Raises:
        Invalid: ``policy.bundle``; the problems carry file, line and column.
    """
    with PolicyEngine(size=1) as engine:
        facts = engine.load(bundle, deadline_s=UPLOAD_DEADLINE_S)
        problems = _missing(facts) if complete else []
        for entrypoint in ENTRYPOINTS:
            if not facts.policies[entrypoint]:
                continue
            verdict = engine.evaluate(bundle, entrypoint, sample(entrypoint))
            problems += [
                Problem(
                    "/files",
                    f"asked about the sample input: {reason.message}",
                    hint=reason.hint,
                    code=reason.code,
                )
                for reason in verdict.reasons
                if reason.policy == ENGINE
            ]
    if problems:
        raise Invalid(
            "policy.bundle", "the policies are not right", subject="policy bundle", problems=problems
        )
    return facts


def run_tests(bundle: PolicyBundle, *, deadline_s: float = POLICY_TEST_DEADLINE_S) -> TestReport:
    """Run the rules ``test_*`` of the packages ``*_test``, with line coverage of the policies (R3.1).

    Args:
        bundle: From `qcos.policy.bundle`.
        deadline_s: Seconds for all tests together.

    Raises:
        Invalid: ``policy.bundle`` when the bundle cannot be read, or its tests take too long.
    """
    child = KillableProcess(MODULE, memory_bytes=POLICY_MEMORY_BYTES)
    try:
        told = ask(child, {"op": "test", "files": dict(bundle.files)}, deadline_s)
    finally:
        child.close()
    return TestReport(
        version=bundle.version,
        results=tuple(
            TestResult(item["name"], item["passed"], item["message"], tuple(item["prints"]))
            for item in told["results"]
        ),
        coverage=tuple(
            FileCoverage(item["path"], tuple(item["covered"]), tuple(item["not_covered"]))
            for item in told["coverage"]
        ),
    )


def refuse_lockout(engine: PolicyEngine, bundle: PolicyBundle, input: dict[str, Any]) -> None:  # Any: JSON
    """Refuse to activate a bundle under which the one who activates it could not activate another.

    Args:
        engine: Asks the new bundle.
        bundle: The bundle to be activated.
        input: The input of this very act, ``policy.activate``.

    Raises:
        Invalid: ``policy.lockout`` with the reasons of the new bundle.
    """
    verdict = engine.evaluate(bundle, "acts", input)
    if not verdict.allow:
        raise Invalid(
            "policy.lockout",
            "under these policies you could not activate other ones",
            subject=bundle.version,
            problems=[
                Problem("", reason.message, hint=reason.hint, code=reason.code) for reason in verdict.reasons
            ],
            hint="let a role that you hold do policy.activate",
        )


def _missing(facts: BundleFacts) -> list[Problem]:
    return [
        Problem(
            "/files",
            f"no package qcos.{entrypoint}.*: every request of this kind would be denied",
            hint="add your files to the shipped policies",
            code="policy.missing",
        )
        for entrypoint in ENTRYPOINTS
        if not facts.policies[entrypoint]
    ]
