"""Every act that the code can record is in the published schema, and nothing else is (R5.1 to R5.4)."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from uuid import uuid4

import pytest

import qcos
from qcos.administration.recorded import ACTS, SCHEMA, faults
from qcos.base.clock import now
from qcos.ledger.record import Record, change, prepare, read_record

_ACT = re.compile(r"[a-z]+\.[a-z_]+")


def recorded_in_the_code() -> set[str]:
    """Return the act of every `Record(...)`, `act.record(...)` and `act.record_each(...)` under src."""
    found = set()
    for path in Path(qcos.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name not in ("Record", "record", "record_each"):
                continue
            first = [k.value for k in node.keywords if k.arg == "act"] or node.args[:1]
            found |= {
                part.value
                for argument in first
                for part in ast.walk(argument)
                if isinstance(part, ast.Constant)
                and isinstance(part.value, str)
                and _ACT.fullmatch(part.value)
            }
    return found


def test_the_schema_has_exactly_the_acts_that_the_code_records() -> None:
    assert recorded_in_the_code() == ACTS


def a_record(**changed: object) -> dict[str, object]:
    details = {"before": None, "after": {"daily_shots": 5}, "change": change(None, {"daily_shots": 5})}
    made = prepare(uuid4(), Record("quota.set", "user:a", "t1", details=details), now())
    return read_record(made.record_bytes) | changed


def test_a_record_as_it_is_made_fits_the_schema() -> None:
    assert faults(a_record()) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"act": "quota.forgotten"},
        {"details": {"after": {"daily_shots": 5}}},
        {"details": {"before": None, "after": {"daily_shots": 5}, "change": {"before": None, "after": "5"}}},
        {"details": {"before": None, "after": {"daily_shots": 5}, "more": 1}},
        {"actor": ""},
        {"salt": "00"},
        {"index": 3},
        {"schema": "qcos.ledger.record/v2"},
    ],
)
def test_what_differs_from_the_schema_is_told(changed: dict[str, object]) -> None:
    assert faults(a_record(**changed))


def test_a_state_is_told_by_its_digest() -> None:
    digest = "sha256:" + "0" * 64
    assert change(None, digest) == {"before": None, "after": digest}
    assert change({"b": 1, "a": 2}, {"a": 2, "b": 1})["before"] == change(None, {"a": 2, "b": 1})["after"]
    assert change({"a": 1}, None) != change({"a": 2}, None)


def test_what_is_not_recorded_is_said_with_its_reason() -> None:
    listed = SCHEMA["x-not-recorded"]
    assert any("health" in one["what"] for one in listed)
    assert all(one["what"] and one["why"] for one in listed)
