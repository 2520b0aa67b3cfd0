"""Policy bundles: uploaded, tested, activated; each a governed act (R3.1)."""

from __future__ import annotations

from collections.abc import Mapping

from qcos.administration.act import Act
from qcos.base.clock import now
from qcos.base.errors import Invalid
from qcos.policy import store
from qcos.policy.bundle import of
from qcos.policy.check import refuse_lockout, run_tests, validate
from qcos.policy.model import PolicyBundle, TestReport


def check(files: Mapping[str, str]) -> tuple[PolicyBundle, TestReport]:
    """Read a bundle, refuse what could never decide, and run its tests; touches no database.

    Raises:
        Invalid: ``policy.bundle`` with file and line of every problem.
    """
    bundle = of(files)
    validate(bundle)
    return bundle, run_tests(bundle)


def upload(act: Act, bundle: PolicyBundle, report: TestReport, note: str) -> bool:
    """Keep a checked bundle; False when this version is kept already.

    Raises:
        Invalid: ``policy.tests_failed``: a bundle without green tests is not kept.
    """
    act.permit("policy.upload", bundle.version)
    if not report.ok:
        failed = [f"{r.name}: {r.message}" for r in report.results if not r.passed]
        raise Invalid(
            "policy.tests_failed",
            "the bundle's own tests do not pass" if failed else "the bundle has no tests",
            subject=bundle.version,
            expected="at least one test, all green",
            got="; ".join(failed)[:1000],
            hint="run `qcos policy test DIRECTORY`",
        )
    added = store.insert_bundle(
        act.connection,
        act.tenant,
        bundle,
        note=note,
        uploaded_by=act.principal.id,
        uploaded_at=now(),
        tests=report.as_dict(),
    )
    if added:
        act.record(
            "policy.uploaded",
            bundle.version,
            reason=note,
            states=(None, {"version": bundle.version}),
            files=len(bundle.files),
            tests=report.passed,
        )
    return added


def activate(act: Act, version: str, note: str) -> None:
    """Make a kept bundle the one that decides, from the next decision on.

    Raises:
        Invalid: ``policy.lockout`` when the caller could not activate another one afterwards.
    """
    act.permit("policy.activate", version)
    bundle = store.get_bundle(act.connection, act.tenant, version)
    refuse_lockout(act.authority.policy, bundle, act.question("policy.activate", version))
    before = store.active(act.connection, act.tenant)
    store.activate(
        act.connection,
        act.tenant,
        version,
        actor=act.principal.id,
        at=now(),
        expected=before.n if before else 0,
    )
    was = before.version if before else None
    states = ({"active": was} if was else None, {"active": version})
    act.record("policy.activated", version, reason=note, states=states, before=was)
