"""What a verification found: checks a person can read, with the exact reason and place of each failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qcos.base.errors import QcosError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        ok: Whether it held.
        detail: What was found, or what is wrong, in words.
        code: Stable code of the failure; empty when it held.
        pointer: JSON pointer (RFC 6901) into the bundle to what is wrong, where there is one.
        expected: What it had to be.
        got: What it is.
    """

    name: str
    ok: bool
    detail: str
    code: str = ""
    pointer: str = ""
    expected: str = ""
    got: str = ""

    def line(self) -> str:
        """Return it as one line of text."""
        text = f"{'ok  ' if self.ok else 'FAIL'}  {self.name}: {self.detail}"
        if self.pointer:
            text += f" at {self.pointer}"
        if self.expected:
            text += f"; expected {self.expected}"
        if self.got:
            text += f"; got {self.got}"
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready members; empty ones are left out."""
        members = {
            "name": self.name,
            "ok": self.ok,
            "detail": self.detail,
            "code": self.code,
            "pointer": self.pointer,
            "expected": self.expected,
            "got": self.got,
        }
        return {name: value for name, value in members.items() if value != ""}


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a verification.

    Attributes:
        ok: Whether every check held.
        checks: The checks, in the order they were made.
        pending: Whether it holds only as far as it goes, for the ledger does not cover it yet.
        facts: What was found: ids, digests, times, drift; JSON. To be believed only when `ok`, or `erased`.
        erased: Whether it is no bundle any more, and what it says of its sealing and erasing is proved.
    """

    ok: bool
    checks: tuple[Check, ...]
    pending: bool = False
    facts: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    erased: bool = False

    @property
    def reason(self) -> str:
        """Return why it failed: the first check that did not hold; empty when all did."""
        return next((check.line()[6:] for check in self.checks if not check.ok), "")

    def lines(self) -> list[str]:
        """Return the checks as text, one a line, and the verdict."""
        if self.erased:
            verdict = f"ERASED: {self.checks[-1].detail}"
        elif not self.ok:
            verdict = f"NOT VERIFIED: {self.reason}"
        elif self.pending:
            verdict = "VERIFIED, but the ledger does not cover it yet"
        else:
            verdict = "VERIFIED"
        return [*(check.line() for check in self.checks), verdict]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready members."""
        return {
            "ok": self.ok,
            "pending": self.pending,
            "erased": self.erased,
            "reason": self.reason,
            "checks": [check.as_dict() for check in self.checks],
            "facts": self.facts,
        }


class Checks:
    """Collects checks; a check that raises has failed, whatever it raises."""

    def __init__(self) -> None:
        self.done: list[Check] = []

    def make(self, name: str, check: Callable[[], str]) -> bool:
        """Make a check: it returns what it found, or raises what is wrong."""
        try:
            self.done.append(Check(name, True, check()))
            return True
        except QcosError as error:
            problems = error.problems
            first = problems[0] if problems else None
            places = f" ({len(problems)} places, this is the first)" if len(problems) > 1 else ""
            self.done.append(
                Check(
                    name,
                    False,
                    error.message + places,
                    error.code,
                    first.pointer if first else error.subject if error.subject.startswith("/") else "",
                    first.expected if first else error.expected,
                    first.got if first else error.got,
                )
            )
        except Exception as error:  # hostile bytes found a way we did not foresee: fail closed, and say so
            detail = f"{type(error).__name__}: {error}"[:200]
            self.done.append(Check(name, False, "the check itself failed", "evidence.unexpected", got=detail))
        return False

    def skip(self, name: str, why: str) -> None:
        """Note a check that could not be made: it counts as failed."""
        self.done.append(Check(name, False, f"not checked: {why}", "evidence.unchecked"))

    def report(self, *, pending: bool, facts: dict[str, Any], erased: bool = False) -> Report:
        """Return the report; without any check nothing was verified."""
        return Report(
            bool(self.done) and all(check.ok for check in self.done),
            tuple(self.done),
            pending,
            facts,
            erased,
        )
