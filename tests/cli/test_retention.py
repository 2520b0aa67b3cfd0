"""Holding and erasing on the command line: what is asked of the server, and that nothing is erased by mistake (R4.3)."""

from __future__ import annotations

from typing import Any

import pytest

from client.wire import Wire, told

from .conftest import Run

HOLD: dict[str, Any] = {
    "hold_id": "hold-1",
    "kind": "job",
    "subject": "job-1",
    "reason": "case 4711",
    "placed_by": "user:carol",
    "placed_at": "2026-11-29T10:00:00Z",
    "released_by": None,
    "released_at": None,
    "release_reason": None,
}
STANDING: dict[str, Any] = {
    "job_id": "job-1",
    "state": "held",
    "retention_days": 365,
    "retain_until": "2027-11-29T10:00:00Z",
    "erased_after": "2027-12-06T10:00:00Z",
    "holds": [HOLD],
    "erased": None,
}


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (["--job", "job-1"], {"kind": "job", "subject": "job-1"}),
        (["--project", "p"], {"kind": "project", "subject": "p"}),
        (["--tenant"], {"kind": "tenant", "subject": ""}),
    ],
)
def test_a_hold_is_on_one_thing(run: Run, wire: Wire, options: list[str], sent: dict[str, str]) -> None:
    wire.on("POST", "holds", told(HOLD, 201))
    ran = run("hold", "place", *options, "--reason", "case 4711")
    assert ran.code == 0 and "hold-1" in ran.out
    assert wire.asked[0].json() == sent | {"reason": "case 4711"}


@pytest.mark.parametrize("options", [[], ["--job", "a", "--project", "b"], ["--job", "a", "--tenant"]])
def test_a_hold_on_nothing_or_two_things_is_a_mistake(run: Run, wire: Wire, options: list[str]) -> None:
    assert run("hold", "place", *options, "--reason", "why").code == 2
    assert wire.asked == []


def test_holds_are_listed_and_released(run: Run, wire: Wire) -> None:
    wire.on("GET", "holds", told({"items": [HOLD], "next": "more"}))
    wire.on("POST", "holds/hold-1/release", told(HOLD | {"released_by": "user:carol"}))
    ran = run("hold", "list", "--released")
    assert "case 4711" in ran.out and "more: --after more" in ran.out
    assert wire.asked[0].query["held"] == "false"
    assert run("hold", "release", "hold-1", "--reason", "closed").code == 0
    assert wire.asked[1].json() == {"reason": "closed"}


def test_how_a_job_stands_and_what_is_due(run: Run, wire: Wire) -> None:
    wire.on("GET", "jobs/job-1/retention", told(STANDING))
    wire.on("GET", "retention/due", told({"before": "x", "items": [STANDING], "next": None}))
    assert "case 4711" in run("evidence", "retention", "job-1").out
    assert "job-1" in run("evidence", "due", "--before", "2033-01-09T00:00:00Z").out
    assert wire.asked[1].query["before"] == "2033-01-09T00:00:00Z"


def test_nothing_is_erased_without_a_yes(run: Run, wire: Wire) -> None:
    """Nobody is there to be asked: that is a no."""
    assert run("evidence", "erase", "job-1", "--reason", "why").code != 0
    assert wire.asked == []
    wire.on(
        "POST", "jobs/job-1/erase", told(STANDING | {"dry_run": True}), told(STANDING | {"dry_run": False})
    )
    assert "nothing was" in run("evidence", "erase", "job-1", "--reason", "why", "--dry-run").out
    assert run("evidence", "erase", "job-1", "--reason", "why", "--yes").code == 0
    assert [asked.json()["dry_run"] for asked in wire.asked] == [True, False]


def test_what_day_it_is_has_to_be_a_day(run: Run, wire: Wire) -> None:
    assert run("evidence", "resume-erasing", "--today", "yesterday").code == 2
    assert wire.asked == []
    wire.on("POST", "retention/clock", told({"clock": "2033-01-09T00:00:00Z"}))
    assert run("evidence", "resume-erasing", "--today", "2033-01-09").code == 0
    assert wire.asked[0].json() == {"today": "2033-01-09"}
