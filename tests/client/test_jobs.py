"""Jobs: following steps, waiting, pages, evidence."""

from __future__ import annotations

import pytest

from qcos.base.errors import NotFound, Unavailable
from qcos.client import Client

from .conftest import Time
from .wire import END, Told, Wire, problem, step, stream, told

EVENTS = "jobs/job-1/events"
BUSY = problem(503, family="unavailable", code="db.away", message="away")


def names(client: Client) -> list[str]:
    return [item["step"] for item in client.jobs.steps("job-1")]


def test_steps_come_in_order_and_end(client: Client, wire: Wire) -> None:
    wire.on("GET", EVENTS, stream(step(1, "authenticated"), ": still here\n\n", step(2, "submitted"), END))
    assert names(client) == ["authenticated", "submitted"]
    assert len(wire.asked) == 1
    assert wire.asked[0].headers["accept"] == "text/event-stream"


def test_a_broken_stream_is_resumed_behind_the_last_step(client: Client, wire: Wire) -> None:
    wire.on(
        "GET",
        EVENTS,
        stream(step(1, "authenticated"), step(2, "submitted"), cut=True),
        BUSY,
        Told(silent=True),
        stream(step(3, "decided")),
        stream(step(3, "decided"), step(4, "placed"), END),
    )
    assert names(client) == ["authenticated", "submitted", "decided", "placed"]
    assert [asked.headers.get("last-event-id") for asked in wire.asked] == [None, "2", "2", "2", "3"]


def test_a_step_that_happens_twice_is_told_twice(client: Client, wire: Wire) -> None:
    """A job whose worker was lost is executed again: same number, another time."""
    wire.on("GET", EVENTS, stream(step(5, "executing", 5), step(5, "executing", 6), END))
    assert names(client) == ["executing", "executing"]


def test_an_unknown_job_is_not_waited_for(client: Client, wire: Wire, time: Time) -> None:
    wire.on("GET", EVENTS, problem(404, family="not_found", code="job.unknown", message="m"))
    with pytest.raises(NotFound):
        names(client)
    assert time.pauses == []


def test_a_server_that_stays_away_is_reported(client: Client, wire: Wire) -> None:
    wire.on("GET", EVENTS, BUSY)
    with pytest.raises(Unavailable) as caught:
        names(client)
    assert caught.value.code == "db.away"


def test_a_silent_job_is_followed_as_long_as_the_server_is_there(
    client: Client, wire: Wire, time: Time
) -> None:
    """An hour in a vendor's queue: many streams without a step are no failure."""
    wire.on("GET", EVENTS, *[stream(": still here\n\n")] * 50, stream(step(6, "collected"), END))
    assert names(client) == ["collected"]
    assert len(wire.asked) == 51
    assert max(time.pauses) <= 2.0


def test_waiting_ends_with_the_job(client: Client, wire: Wire) -> None:
    wire.on("GET", EVENTS, stream(END))
    wire.on(
        "GET",
        "jobs/job-1",
        told({"job_id": "job-1", "state": "running"}),
        told({"job_id": "job-1", "state": "completed"}),
    )
    assert client.jobs.wait_for("job-1")["state"] == "completed"


def test_waiting_has_an_end_of_its_own(client: Client, wire: Wire) -> None:
    wire.on("GET", EVENTS, stream(step(1, "authenticated")))
    with pytest.raises(Unavailable) as caught:
        client.jobs.wait_for("job-1", timeout_s=60)
    assert caught.value.code == "client.wait"
    assert "goes on" in caught.value.hint


def test_pages_are_fetched_one_after_the_other(client: Client, wire: Wire) -> None:
    wire.on(
        "GET",
        "jobs",
        told({"items": [{"job_id": "b"}], "next": "c1"}),
        told({"items": [{"job_id": "a"}], "next": None}),
    )
    assert [job["job_id"] for job in client.jobs.each(project="p")] == ["b", "a"]
    assert [asked.query for asked in wire.asked] == [{"project": "p"}, {"project": "p", "after": "c1"}]


def test_evidence_is_given_byte_for_byte(client: Client, wire: Wire) -> None:
    """R4.2: what is verified is what was sent."""
    document = b'{ "b": 1.0,\n "a" : "\xc3\xa9" }'
    wire.on("GET", "jobs/job-1/evidence", Told(200, (document,)))
    assert client.jobs.evidence("job-1", wait_s=2.5) == document
    assert wire.asked[0].query == {"wait": "2.5"}
