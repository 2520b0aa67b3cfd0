"""API tokens: hashed, expiring, revocable; nothing else opens the door (R8.1, R11.7, R11.8)."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
from typing import Any

import httpx
import pytest

from qcos.base import tls
from qcos.base.clock import now, parse_rfc3339
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.identity import tokens

from .house import PATIENT_S, House


def _ask(house: House, header: str | None, path: str = "/whoami") -> httpx.Response:
    headers = {"Authorization": header} if header is not None else {}
    url = f"{house.qcos.url}/v1{path}"
    return httpx.get(url, headers=headers, timeout=PATIENT_S, trust_env=False, verify=tls.trusted(url))


def unauthorized(response: httpx.Response, code: str) -> None:
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == 'Bearer realm="qcos"'
    problem: dict[str, Any] = response.json()
    assert (problem["status"], problem["code"], problem["type"]) == (401, code, f"urn:qcos:problem:{code}")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "auth.missing"),
        ("", "auth.missing"),
        ("Bearer", "auth.missing"),
        ("Basic dXNlcjpwYXNz", "auth.missing"),
        ("Bearer nonsense", "auth.token"),
        ("Bearer qcos_", "auth.token"),
        ("Bearer qcos_" + "A" * 10_000, "auth.token"),
        ("Bearer qcos_" + base64.urlsafe_b64encode(b"x" * 47).decode().rstrip("="), "auth.token"),
        ("Bearer qcos_" + base64.urlsafe_b64encode(b"x" * 48).decode(), "auth.unknown"),
    ],
)
def test_a_token_that_is_none(shared_house: House, header: str | None, code: str) -> None:
    """R8.1: missing, malformed or unknown: 401, a problem, and how to authenticate."""
    unauthorized(_ask(shared_house, header), code)


def test_a_guessed_token_of_a_known_tenant(shared_house: House) -> None:
    """R8.1: knowing the tenant does not help; nor does changing a character of a good token."""
    guess = "qcos_" + base64.urlsafe_b64encode(shared_house.tenant.bytes + secrets.token_bytes(32)).decode()
    unauthorized(_ask(shared_house, f"Bearer {guess}"), "auth.unknown")
    good = shared_house.engineer.token
    changed = good[:-5] + ("A" if good[-5] != "A" else "B") + good[-4:]
    unauthorized(_ask(shared_house, f"Bearer {changed}"), "auth.unknown")


def test_an_expired_token(house: House) -> None:
    """R11.8: time-limited: after its end it opens nothing, on any route, and submits nothing."""
    minted = tokens.mint(house.tenant)
    with scope(house.qcos.engine, house.tenant) as connection:
        identity.create_token(
            connection,
            house.tenant,
            house.engineer.id,
            minted.hash,
            minted.id,
            now() - dt.timedelta(seconds=1),
        )
    unauthorized(_ask(house, f"Bearer {minted.text}"), "auth.expired")
    response = httpx.post(
        f"{house.qcos.url}/v1/jobs",
        json=house.spec(),
        headers={"Authorization": f"Bearer {minted.text}"},
        timeout=PATIENT_S,
        trust_env=False,
    )
    unauthorized(response, "auth.expired")
    assert house.records(act="job.submitted") == []


def test_a_revoked_token_ends_at_once(house: House) -> None:
    """R11.8: also for somebody who has just used it: no cache lets him through."""
    assert house.engineer.http.post("/jobs", json=house.spec()).status_code == 201
    house.admin.client.identity.revoke_token(house.engineer.token_id)
    unauthorized(house.engineer.http.post("/jobs", json=house.spec()), "auth.revoked")
    unauthorized(house.engineer.http.get("/whoami"), "auth.revoked")
    assert len(house.records(act="job.submitted")) == 1


def test_a_token_is_shown_once_and_kept_as_a_hash(house: House) -> None:
    """R11.8: the text is in the one answer; listings, ledger, database and logs have only its id."""
    made = house.admin.http.post("/tokens", json={"principal": house.engineer.id, "days": 2})
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    token = made.json()["token"]
    lifetime = parse_rfc3339(made.json()["expires_at"]) - now()
    assert dt.timedelta(days=1, hours=23) < lifetime <= dt.timedelta(days=2)
    assert _ask(house, f"Bearer {token}").json()["token"] == made.json()["id"]
    listed = house.admin.http.get("/tokens", params={"principal": house.engineer.id})
    assert made.json()["id"] in {item["id"] for item in listed.json()["items"]}
    assert token not in listed.text
    assert token not in str(house.records())
    for log in (house.qcos.data / "logs").iterdir():
        assert token.encode() not in log.read_bytes()


@pytest.mark.parametrize("days", [0, -1, 367])
def test_no_token_lives_longer_than_a_year(house: House, days: int) -> None:
    """R11.8: 1 to 366 days."""
    response = house.admin.http.post("/tokens", json={"principal": house.engineer.id, "days": days})
    assert (response.status_code, response.json()["code"]) == (400, "token.days")


def test_nobody_prolongs_his_own_access(house: House) -> None:
    """R11.8: a token made with a token ends when that one does, unless an administrator makes it."""
    ends = house.engineer.client.whoami()["token_expires_at"]
    made = house.engineer.client.identity.create_token(house.engineer.id, days=300)
    assert made["expires_at"] == ends
    assert house.admin.client.identity.create_token(house.engineer.id, days=300)["expires_at"] > ends
    assert (
        house.engineer.http.post("/tokens", json={"principal": house.user.id, "days": 1}).status_code == 403
    )


def test_everybody_ends_his_own_tokens_and_no_others(house: House) -> None:
    """R11.8: a token that was lost is ended by its owner, with any other token of his."""
    lost = house.user.client.identity.create_token(house.user.id, days=1)
    house.user.client.identity.revoke_token(lost["id"])
    unauthorized(_ask(house, f"Bearer {lost['token']}"), "auth.revoked")
    assert house.user.http.delete(f"/tokens/{house.engineer.token_id}").status_code == 403
    assert house.engineer.client.whoami()["id"] == house.engineer.id


def test_a_service_account_submits(house: House) -> None:
    """R11.7: service accounts for CI: a principal like any other, told apart in the evidence."""
    ci = house.person("service:ci", "quantum-user")
    job = house.run(house.spec(), ci)
    assert job["actor"] == "service:ci"
    assert house.engineer.client.jobs.decision(job["job_id"])["input"]["principal"]["kind"] == "service"  # type: ignore[typeddict-item]
