"""The eight families of errors, named by what the caller should do next.

Every error carries a stable ``code`` (``family.detail``), the object it is about, what was expected, what
was got and a hint. No HTTP status lives here: `qcos.api.errors` holds the one table that maps families to
statuses.
"""

from __future__ import annotations

import copyreg
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an input.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the input; empty for the whole document.
        message: What is wrong.
        expected: What would have been accepted.
        got: What was found, shortened.
        hint: What to do about it.
        code: Stable code of this kind of problem.
    """

    pointer: str
    message: str
    expected: str = ""
    got: str = ""
    hint: str = ""
    code: str = ""


class QcosError(Exception):
    """Root of all errors that QCOS raises on purpose."""

    family = "error"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        subject: str = "",
        expected: str = "",
        got: str = "",
        hint: str = "",
        problems: Sequence[Problem] = (),
        details: dict[str, Any] | None = None,  # Any: JSON given to the caller as it is
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.subject = subject
        self.expected = expected
        self.got = got
        self.hint = hint
        self.problems = tuple(problems)
        self.details = details or {}
        self.retry_after_s = retry_after_s

    def as_dict(self) -> dict[str, Any]:
        """Return the error as JSON-ready members; empty ones are left out."""
        members: dict[str, Any] = {
            "family": self.family,
            "code": self.code,
            "message": self.message,
            "subject": self.subject,
            "expected": self.expected,
            "got": self.got,
            "hint": self.hint,
            "problems": [{k: v for k, v in asdict(p).items() if v or k == "pointer"} for p in self.problems],
            **self.details,
        }
        return {k: v for k, v in members.items() if v not in ("", [], None)}

    def __reduce__(self) -> tuple[Any, ...]:  # Any: as the standard library types it
        """Let an error pass from one process to another."""
        return copyreg.__newobj__, (type(self), self.message), self.__dict__  # type: ignore[attr-defined] # undocumented in its types only

    def __str__(self) -> str:
        parts = [self.message]
        if self.subject:
            parts.append(f"object: {self.subject}")
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.got:
            parts.append(f"got {self.got}")
        parts += [f"{p.pointer or '/'}: {p.message}" for p in self.problems]
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "; ".join(parts)


class Invalid(QcosError):
    """The input is wrong: change it."""

    family = "invalid"


class NotFound(QcosError):
    """There is no such object (or not for this tenant)."""

    family = "not_found"


class Conflict(QcosError):
    """The object is in another state than the call needs: look again."""

    family = "conflict"


class Denied(QcosError):
    """Authentication or policy says no; the reasons say why."""

    family = "denied"


class Limit(QcosError):
    """A stated limit is reached: ask for less, or for a higher limit."""

    family = "limit"


class Unavailable(QcosError):
    """Something needed is not there now: try again later."""

    family = "unavailable"


class DriverError(QcosError):
    """A vendor's runtime failed or refused."""

    family = "driver"


class Integrity(QcosError):
    """Something signed, hashed or counted does not agree: do not trust it, tell an administrator."""

    family = "integrity"
