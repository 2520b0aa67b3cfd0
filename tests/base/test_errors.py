"""Errors carry what the caller needs: a stable code, the object, what was expected and got, a hint."""

from __future__ import annotations

import pytest

from qcos.base import errors
from qcos.base.errors import Invalid, Problem, QcosError

FAMILIES = {
    "Invalid": "invalid",
    "NotFound": "not_found",
    "Conflict": "conflict",
    "Denied": "denied",
    "Limit": "limit",
    "Unavailable": "unavailable",
    "DriverError": "driver",
    "Integrity": "integrity",
}


@pytest.mark.parametrize(("name", "family"), FAMILIES.items())
def test_the_eight_families(name: str, family: str) -> None:
    error = getattr(errors, name)("some.code", "it went wrong")
    assert isinstance(error, QcosError)
    assert error.as_dict() == {"family": family, "code": "some.code", "message": "it went wrong"}


def test_there_are_no_others_here() -> None:
    found = {kind.__name__ for kind in QcosError.__subclasses__() if kind.__module__ == errors.__name__}
    assert found == set(FAMILIES)


def test_everything_said_is_in_the_text_and_in_the_members() -> None:
    error = Invalid(
        "job.spec",
        "the Job Spec is wrong",
        subject="job j1",
        expected="an object",
        got="a list",
        hint="see the schema",
        problems=[
            Problem("/execution/shots", "not a number", got="'x'"),
            Problem("", "too large", code="size"),
        ],
        details={"schema": "v1", "empty": ""},
    )
    assert str(error) == (
        "the Job Spec is wrong; object: job j1; expected an object; got a list;"
        " /execution/shots: not a number; /: too large; hint: see the schema"
    )
    assert error.as_dict() == {
        "family": "invalid",
        "code": "job.spec",
        "message": "the Job Spec is wrong",
        "subject": "job j1",
        "expected": "an object",
        "got": "a list",
        "hint": "see the schema",
        "problems": [
            {"pointer": "/execution/shots", "message": "not a number", "got": "'x'"},
            {"pointer": "", "message": "too large", "code": "size"},
        ],
        "schema": "v1",
    }
