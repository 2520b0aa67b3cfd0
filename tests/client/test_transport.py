"""Requests: headers, retries, idempotency, errors."""

from __future__ import annotations

import logging
import socket

import pytest

from qcos.base.errors import Conflict, Denied, Integrity, Invalid, Limit, NotFound, QcosError, Unavailable
from qcos.client import Client, Retry

from .conftest import Time
from .wire import Told, Wire, problem, told

JOB = {"job_id": "job-1", "state": "queued"}
BUSY = problem(503, family="unavailable", code="db.away", message="away")


def test_token_and_media_types_are_sent_and_query_without_none(client: Client, wire: Wire) -> None:
    wire.on("GET", "jobs", told({"items": [], "next": None}))
    client.jobs.page(state="queued", limit=5)
    asked = wire.asked[0]
    assert asked.headers["authorization"] == "Bearer qcos_secret"
    assert asked.headers["user-agent"].startswith("qcos-client/")
    assert asked.query == {"state": "queued", "limit": "5"}


def test_a_submission_is_repeated_under_one_key_until_it_is_answered(
    client: Client, wire: Wire, time: Time
) -> None:
    """A lost answer, a cut one and a busy server: one key throughout, so the server makes one job."""
    wire.on(
        "POST",
        "jobs",
        Told(silent=True),
        Told(201, (b'{"job_',), cut=True),
        BUSY,
        told({}, 502),
        told({}, 504),
        told(JOB, 201),
    )
    assert client.jobs.submit({"a": 1}) == JOB
    keys = {asked.headers["idempotency-key"] for asked in wire.asked}
    assert len(wire.asked) == 6
    assert len(keys) == 1
    assert {asked.body for asked in wire.asked} == {wire.asked[0].body}
    assert time.pauses == sorted(time.pauses)
    assert len(time.pauses) == 5


def test_two_submissions_have_two_keys_and_a_given_key_is_used(client: Client, wire: Wire) -> None:
    wire.on("POST", "jobs", told(JOB, 201))
    client.jobs.submit({})
    client.jobs.submit({})
    client.jobs.submit({}, key="mine")
    client.jobs.submit({"idempotency_key": "of the spec"})
    keys = [asked.headers["idempotency-key"] for asked in wire.asked]
    assert len(set(keys)) == 4
    assert keys[2:] == ["mine", "of the spec"]


@pytest.mark.parametrize("answer", [Told(silent=True), told({}, 502), told({}, 504)])
def test_what_may_have_been_done_and_is_not_keyed_is_not_sent_again(
    client: Client, wire: Wire, answer: Told
) -> None:
    """A token, say, must not be made twice because an answer was lost."""
    wire.on("POST", "tokens", answer)
    with pytest.raises(Unavailable):
        client.identity.create_token("user:a@b.c", days=1)
    assert len(wire.asked) == 1


def test_the_caller_is_told_when_an_act_may_have_been_done(client: Client, wire: Wire) -> None:
    wire.on("POST", "tokens", Told(silent=True))
    with pytest.raises(Unavailable) as caught:
        client.identity.create_token("user:a@b.c", days=1)
    assert caught.value.code == "client.no_answer"
    assert "may have been carried out" in caught.value.hint


@pytest.mark.parametrize("status", [429, 503])
def test_what_the_server_says_it_did_not_do_is_sent_again(client: Client, wire: Wire, status: int) -> None:
    wire.on(
        "POST",
        "tokens",
        problem(status, family="unavailable", code="x.y", message="m"),
        told({"token": "t"}, 201),
    )
    assert client.identity.create_token("user:a@b.c", days=1) == {"token": "t"}
    assert len(wire.asked) == 2


def test_nothing_is_lost_while_nobody_listens(time: Time) -> None:
    """No connection: certainly not carried out. Even an act without a key is tried again, then reported."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        with (
            Client(f"http://127.0.0.1:{held.getsockname()[1]}", "t", sleep=time.sleep) as client,
            pytest.raises(Unavailable) as caught,
        ):
            client.identity.create_token("user:a@b.c", days=1)
    assert caught.value.code == "client.unreachable"
    assert len(time.pauses) == Retry().attempts - 1


def test_retry_after_is_honoured(client: Client, wire: Wire, time: Time) -> None:
    busy = problem(503, family="unavailable", code="ledger.pending", message="m", retry_after="7")
    wire.on("GET", "whoami", busy, told({"id": "x"}))
    assert client.whoami() == {"id": "x"}
    assert time.pauses == [7.0]


def test_a_pause_longer_than_patience_goes_to_the_caller(client: Client, wire: Wire, time: Time) -> None:
    wire.on("GET", "whoami", problem(429, family="limit", code="rate", message="m", retry_after="3600"))
    with pytest.raises(Limit) as caught:
        client.whoami()
    assert caught.value.retry_after_s == 3600.0
    assert time.pauses == []
    assert len(wire.asked) == 1


def test_patience_ends(client: Client, wire: Wire) -> None:
    wire.on("GET", "whoami", BUSY)
    with pytest.raises(Unavailable) as caught:
        client.whoami()
    assert caught.value.code == "db.away"
    assert len(wire.asked) == Retry().attempts


@pytest.mark.parametrize(
    ("status", "family", "kind"),
    [
        (400, "invalid", Invalid),
        (403, "denied", Denied),
        (404, "not_found", NotFound),
        (409, "conflict", Conflict),
        (422, "limit", Limit),
        (500, "integrity", Integrity),
    ],
)
def test_a_problem_becomes_its_family_with_all_members(
    client: Client, wire: Wire, status: int, family: str, kind: type[QcosError]
) -> None:
    decision = {"decision_id": "dec-1", "allow": False, "reasons": [{"code": "budget.exceeded"}]}
    found = [
        {"pointer": "/circuit/source", "message": "not base64", "expected": "base64", "hint": "encode it"}
    ]
    wire.on(
        "POST",
        "jobs",
        problem(
            status,
            family=family,
            code="some.code",
            message="what",
            subject="job-1",
            expected="e",
            got="g",
            hint="h",
            problems=found,
            decision=decision,
        ),
    )
    with pytest.raises(kind) as caught:
        client.jobs.submit({})
    error = caught.value
    assert len(wire.asked) == 1
    assert (error.code, error.message, error.subject, error.expected, error.got, error.hint) == (
        "some.code",
        "what",
        "job-1",
        "e",
        "g",
        "h",
    )
    assert error.details["decision"] == decision
    assert error.details["status"] == status
    assert error.details["type"] == "urn:qcos:problem:some.code"
    assert error.as_dict()["problems"] == found


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Denied), (403, Denied), (404, NotFound), (409, Conflict), (400, Invalid), (500, Unavailable)],
)
def test_an_answer_that_is_no_problem_still_has_a_family(
    client: Client, wire: Wire, status: int, kind: type[QcosError]
) -> None:
    wire.on("GET", "whoami", Told(status, (b"<html>proxy</html>",)))
    with pytest.raises(kind) as caught:
        client.whoami()
    assert caught.value.code == f"http.{status}"
    assert "proxy" in caught.value.got


def test_an_answer_that_is_no_json_is_said_so(client: Client, wire: Wire) -> None:
    wire.on("GET", "whoami", Told(200, (b"hello",)))
    with pytest.raises(Unavailable) as caught:
        client.whoami()
    assert caught.value.code == "client.not_json"


def test_a_redirect_is_not_followed(client: Client, wire: Wire) -> None:
    """It could carry the token to somebody else."""
    wire.on("GET", "whoami", Told(307, (), {"Location": "/v1/elsewhere"}))
    with pytest.raises(QcosError):
        client.whoami()
    assert [asked.path for asked in wire.asked] == ["/v1/whoami"]


def test_names_cannot_leave_their_place_in_the_path(client: Client, wire: Wire) -> None:
    for name in ("..", "", "."):
        with pytest.raises(Invalid):
            client.jobs.get(name)
    with pytest.raises(NotFound):
        client.jobs.get("a/../../b?x#y é")
    assert wire.asked[0].path == "/v1/jobs/a%2F..%2F..%2Fb%3Fx%23y%20%C3%A9"


def test_the_token_is_in_no_text_and_no_log(
    client: Client, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wire.on(
        "GET",
        "whoami",
        Told(silent=True),
        told({}, 503),
        problem(401, family="denied", code="auth.unknown", message="m"),
    )
    with pytest.raises(Denied) as caught:
        client.whoami()
    texts = [
        repr(client),
        str(client),
        caplog.text,
        repr(caught.value),
        str(caught.value),
        str(caught.value.as_dict()),
    ]
    assert not any("qcos_secret" in text for text in texts)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://x", "http://", "http://u:p@127.0.0.1", "http://x/?q"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        Client(url, "t")
    assert caught.value.code == "client.url"


def test_a_token_does_not_travel_in_clear_text() -> None:
    with pytest.raises(Invalid) as caught:
        Client("http://qcos.example", "t")
    assert caught.value.code == "client.clear_text"
    Client("https://qcos.example", "t").close()
    Client("http://qcos.example").close()
    Client("http://[::1]:1", "t").close()
    Client("http://qcos.example", "t", allow_clear_text=True).close()


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_the_address_may_name_the_version(wire: Wire, end: str) -> None:
    wire.on("GET", "whoami", told({"id": "x"}))
    with Client(wire.url + end, "t") as client:
        assert client.whoami() == {"id": "x"}


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    wire.on("GET", "whoami", told({"id": "x"}))
    with Client(wire.url, "t") as client:
        assert client.whoami() == {"id": "x"}
