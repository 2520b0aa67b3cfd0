"""Values of policy: bundles, reasons, verdicts, decisions, test reports."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Entrypoint = Literal["jobs", "acts"]
ENTRYPOINTS: tuple[Entrypoint, ...] = ("jobs", "acts")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a policy says no.

    Attributes:
        policy: Rego package, ``qcos.jobs.budget``; ``qcos.engine`` when the evaluation itself failed.
        code: Stable code, ``budget.exceeded``.
        message: What is wrong, with numbers.
        hint: What to do about it.
        backend: The one backend this is about; None when it is about the whole request.
    """

    policy: str
    code: str
    message: str
    hint: str = ""
    backend: str | None = None

    def as_dict(self) -> dict[str, str]:
        """Return JSON-ready members; empty ones are left out."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policies say about one input.

    Attributes:
        allow: No policy denies and, for a job with candidates, at least one backend is left.
        reasons: Why not; empty when allowed.
        excluded: Backends that must not be used, each with its reason (also when allowed).
        policies: The packages that were asked, sorted.
        duration_us: Wall-clock microseconds of the evaluation.
    """

    allow: bool
    reasons: tuple[Reason, ...]
    excluded: tuple[Reason, ...]
    policies: tuple[str, ...]
    duration_us: int

    @property
    def excluded_backends(self) -> frozenset[str]:
        """Return the names of the excluded backends."""
        return frozenset(reason.backend for reason in self.excluded if reason.backend)


@dataclass(frozen=True, slots=True)
class PolicyBundle:
    """Rego files that are judged, versioned and activated together. Made by `qcos.policy.bundle`.

    Attributes:
        version: ``sha256:<hex>`` over the paths and the digests of the files.
        files: Path in the bundle to Rego source; not to be changed.
    """

    version: str
    files: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """What a bundle holds, as its engine sees it.

    Attributes:
        version: Of the bundle.
        policies: Entrypoint to the packages asked for it, sorted.
        libraries: Packages that policies use.
        tests: Number of test rules.
        titles: Package to the title of its METADATA annotation.
    """

    version: str
    policies: Mapping[str, tuple[str, ...]]
    libraries: tuple[str, ...]
    tests: int
    titles: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """The record of one decision, enough to explain and to replay it (R3.6).

    Attributes:
        id: ``dec-2026-01-09-...``.
        entrypoint: ``jobs`` or ``acts``.
        subject: Id of the job, or the object of the act.
        bundle_version: Version of the policies that were asked.
        input: The document they were given, whole.
        input_digest: ``sha256:<hex>`` of the canonical JSON of the input.
        time: Instant of the decision; equals the input's ``time``.
    """

    id: str
    entrypoint: Entrypoint
    subject: str
    allow: bool
    reasons: tuple[Reason, ...]
    excluded: tuple[Reason, ...]
    policies: tuple[str, ...]
    bundle_version: str
    input: dict[str, Any]  # Any: JSON, as the policies saw it
    input_digest: str
    time: dt.datetime
    duration_us: int


@dataclass(frozen=True, slots=True)
class TestResult:
    """Outcome of one Rego test rule.

    Attributes:
        name: ``qcos.jobs.budget_test.test_free_jobs_pass``.
        message: Why it failed: undefined, false, or the engine's error with file and line.
        prints: What ``print(...)`` wrote.
    """

    __test__ = False  # not a pytest class

    name: str
    passed: bool
    message: str = ""
    prints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileCoverage:
    """Lines of one policy file that the tests reached, and those they did not."""

    path: str
    covered: tuple[int, ...]
    not_covered: tuple[int, ...]

    @property
    def percent(self) -> int:
        """Return the share of covered lines, rounded down; 100 for a file without lines to cover."""
        lines = len(self.covered) + len(self.not_covered)
        return 100 * len(self.covered) // lines if lines else 100


@dataclass(frozen=True, slots=True)
class TestReport:
    """Outcome of all Rego tests of a bundle."""

    __test__ = False

    version: str
    results: tuple[TestResult, ...]
    coverage: tuple[FileCoverage, ...]

    @property
    def passed(self) -> int:
        """Return the number of tests that passed."""
        return sum(result.passed for result in self.results)

    @property
    def failed(self) -> int:
        """Return the number of tests that failed."""
        return len(self.results) - self.passed

    @property
    def ok(self) -> bool:
        """Tell whether there are tests and all of them passed."""
        return bool(self.results) and self.failed == 0

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return the report as JSON-ready members."""
        return {
            "version": self.version,
            "ok": self.ok,
            "passed": self.passed,
            "failed": self.failed,
            "results": [
                {"name": r.name, "passed": r.passed, "message": r.message, "prints": list(r.prints)}
                for r in self.results
            ],
            "coverage": [
                {"path": c.path, "percent": c.percent, "not_covered": list(c.not_covered)}
                for c in self.coverage
            ],
        }
