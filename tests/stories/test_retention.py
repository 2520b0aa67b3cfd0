"""What tenants give is kept as long as it has to be and no longer; a legal hold keeps it; proofs stay (R4.3)."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qcos.base.clock import now
from qcos.base.errors import Conflict, Denied, Invalid, NotFound
from qcos.db.engine import scope
from qcos.evidence.verify import verify
from qcos.jobs.erase import erase_due
from qcos.retention import store

from .house import House
from .installation import QCOS
from .test_cli import run

DAY = dt.timedelta(days=1)


def job_of_days(house: House, days: int, **parts: Any) -> str:
    spec = house.spec(evidence_requirements={"retention_days": days}, **parts)
    return str(house.run(spec)["job_id"])


def pass_time(house: House, time: dt.timedelta) -> int:
    """Erase what of this house is due some time from now; its clock was watched all the while. Others' clocks are not believed.

    The installation's own round notes the true time in between, now and then: what was not believed is asked again.
    """
    erased = 0
    for _ in range(10):
        with scope(house.qcos.engine, house.tenant) as connection:
            store.set_known_time(connection, house.tenant, now() + time - DAY)
        done = erase_due(house.qcos.engine, at=now() + time)
        erased += done.erased
        if house.tenant not in done.stopped:
            return erased
    raise AssertionError("the clock is never believed")


def evidence(house: House, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(house.engineer.client.jobs.evidence(job_id, wait_s=60))
    return found


def verified(document: bytes, house: House, folder: Path, environment: dict[str, str], *more: str) -> Any:
    """Verify a file on the command line, without a server; returns exit code, output for people and for programs."""
    (folder / "evidence.json").write_bytes(document)
    command = [
        QCOS,
        "evidence",
        "verify",
        str(folder / "evidence.json"),
        "--trust",
        str(house.qcos.trust_file),
    ]
    plain, programs = (
        subprocess.run([*command, *more, *form], env=environment, capture_output=True, text=True, timeout=60)
        for form in ([], ["--json"])
    )
    assert plain.returncode == programs.returncode
    return plain.returncode, plain.stdout, json.loads(programs.stdout)


def test_from_submission_over_a_hold_to_a_proved_erasing(
    house: House, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    """R4.3: held, it outlives its time; released, it goes; and the verifier says what went, when and under what."""
    job_id = job_of_days(house, 2)
    copy = house.engineer.client.jobs.evidence(job_id, wait_s=60)
    kept = house.engineer.client.retention.of_job(job_id)
    assert (kept["state"], kept["retention_days"], kept["holds"], kept["erased"]) == ("kept", 2, [], None)

    hold = house.auditor.client.retention.place_hold("job", job_id, "case 4711")
    assert house.engineer.client.retention.of_job(job_id)["state"] == "held"
    assert house.admin.client.retention.due(before=f"{now() + 60 * DAY:%FT%TZ}")["items"] == []
    assert pass_time(house, 60 * DAY) == 0
    assert house.engineer.client.jobs.result(job_id)["job_id"] == job_id

    house.auditor.client.retention.release_hold(hold["hold_id"], "case closed")
    (due,) = house.admin.client.retention.due(before=f"{now() + 60 * DAY:%FT%TZ}")["items"]
    assert due["job_id"] == job_id
    assert pass_time(house, 60 * DAY) == 1

    shown: dict[str, Any] = dict(house.engineer.client.jobs.get(job_id))
    assert shown["state"] == "completed" and shown["charge"]["micro"] > 0
    assert shown["payload"]["state"] == "erased"
    assert shown["payload"]["erased"]["rule"] == "retention 2 days"
    for ask in (house.engineer.client.jobs.result_document, house.engineer.client.jobs.spec_document):
        with pytest.raises(NotFound) as gone:
            ask(job_id)
        assert gone.value.code == "payload.erased"
        assert gone.value.details["erased"] == shown["payload"]["erased"]

    erased = house.engineer.client.jobs.evidence(job_id, wait_s=60)
    assert json.loads(erased)["erased"] == shown["payload"]["erased"]
    code, text, report = verified(erased, house, tmp_path, clean_environment)
    assert code == 7, text
    assert (
        f"payload erased on {shown['payload']['erased']['at'][:10]} under retention 2 days"
        in text.replace("\n", " ")
    )
    assert report["erased"] is True and report["ok"] is False
    assert verified(erased, house, tmp_path, clean_environment, "--allow-erased")[0] == 0
    forged = json.loads(erased)
    forged["erased"]["rule"] = "retention 1 day"
    code, text, report = verified(json.dumps(forged).encode(), house, tmp_path, clean_environment)
    assert code == 1 and report["erased"] is False

    code, text, report = verified(copy, house, tmp_path, clean_environment)
    assert code == 0, "who has a copy has a proof still"
    found = verify(erased, house.qcos.trust)
    assert report["facts"]["statement"] == found.facts["statement"]

    acts = [record["act"] for record in house.records(object=hold["hold_id"])[::-1]]
    assert acts == ["hold.placed", "hold.released"]
    (record,) = house.records(object=shown["bundle_id"], act="payload.erased")
    assert record["actor"] == "service:qcos-retention" and record["details"]["job"] == job_id


def test_a_project_or_the_whole_tenant_is_held(house: House) -> None:
    """R4.3: one hold for many jobs; other projects are not concerned."""
    other = house.new_project()
    house.admin.client.metering.set_budget(other, 10, "USD")  # type: ignore[arg-type]
    here = job_of_days(house, 2)
    there = job_of_days(house, 2, governance={"project": other})
    hold = house.auditor.client.retention.place_hold("project", house.project, "audit")
    assert pass_time(house, 60 * DAY) == 1
    assert house.admin.client.retention.of_job(there)["state"] == "erased"
    assert house.admin.client.retention.of_job(here)["state"] == "held"
    everything = house.auditor.client.retention.place_hold("tenant", "", "audit of all")
    house.auditor.client.retention.release_hold(hold["hold_id"], "done")
    assert pass_time(house, 60 * DAY) == 0
    listed = house.auditor.client.retention.holds(held=True)["items"]
    assert [item["hold_id"] for item in listed] == [everything["hold_id"]]
    house.auditor.client.retention.release_hold(everything["hold_id"], "done")
    with pytest.raises(Conflict) as refused:
        house.auditor.client.retention.release_hold(everything["hold_id"], "done")
    assert refused.value.code == "hold.released"
    assert pass_time(house, 60 * DAY) == 1
    page = house.auditor.client.retention.holds(limit=1)
    assert page["next"] and len(house.auditor.client.retention.holds(after=page["next"])["items"]) == 1


def permit_early(house: House) -> None:
    policies = house.admin.client.policies
    files = dict(policies.get("active")["files"])
    text = files["acts/retention.rego"]
    assert "early_permitted := false" in text
    files["acts/retention.rego"] = text.replace("early_permitted := false", "early_permitted := true")
    policies.activate(policies.upload(files, note="erasing on request")["version"], note="approved")


def test_on_request_it_is_erased_early_only_where_policy_lets_and_never_when_held(house: House) -> None:
    """R4.3: refused before its time, with a record; permitted by the tenant's own policy; never under a hold; once."""
    job_id, retention = job_of_days(house, 2555), house.admin.client.retention
    with pytest.raises(Denied) as denied:
        retention.erase(job_id, "request of the customer")
    assert denied.value.code == "access.early"
    assert house.records(act="access.denied")[0]["details"]["act"] == "evidence.erase"
    permit_early(house)
    with pytest.raises(Denied):
        house.engineer.client.retention.erase(job_id, "I want to")
    hold = house.auditor.client.retention.place_hold("job", job_id, "case 4711")
    with pytest.raises(Conflict) as held:
        retention.erase(job_id, "request of the customer")
    assert held.value.code == "erasure.held" and hold["hold_id"] in held.value.got
    house.auditor.client.retention.release_hold(hold["hold_id"], "closed")

    dry = retention.erase(job_id, "request of the customer", dry_run=True)
    assert dry["dry_run"] is True and dry["state"] == "kept"
    assert house.engineer.client.jobs.result(job_id)["job_id"] == job_id
    done = retention.erase(job_id, "request of the customer")
    assert done["state"] == "erased" and done["erased"]["rule"] == "request: request of the customer"
    assert done["erased"]["by"] == house.admin.id
    report = verify(evidence(house, job_id), house.qcos.trust)
    assert report.erased and "under request: request of the customer" in report.lines()[-1]
    (record,) = house.records(act="payload.erased")
    assert record["details"]["decision"]
    with pytest.raises(Conflict) as twice:
        retention.erase(job_id, "again")
    assert twice.value.code == "erasure.done"


def test_who_holds_does_not_erase_and_the_other_way_round(house: House) -> None:
    """R4.3: not even somebody with both roles."""
    job_id = job_of_days(house, 2)
    both = house.person(f"user:both@{house.team}", "auditor")
    house.admin.client.identity.grant_role(both.id, "quantum-admin")
    for ask in (
        lambda: both.client.retention.place_hold("job", job_id, "why"),
        lambda: both.client.retention.erase(job_id, "why"),
    ):
        with pytest.raises(Denied) as denied:
            ask()
        assert "access.separation" in {reason["code"] for reason in denied.value.details["reasons"]}
    with pytest.raises(Denied):
        house.admin.client.retention.place_hold("job", job_id, "why")
    with pytest.raises(Denied):
        house.auditor.client.retention.erase(job_id, "why")


def test_a_clock_that_jumped_stops_erasing_until_somebody_says_what_day_it_is(house: House) -> None:
    """R4.3: erasing cannot be undone, so a clock is not believed blindly; neither is somebody who names another day."""
    job_id = job_of_days(house, 2)
    permit_early(house)
    with scope(house.qcos.engine, house.tenant) as connection:
        store.set_known_time(connection, house.tenant, now() - 8 * DAY)  # as if it had not run since
    with pytest.raises(Conflict) as refused:
        house.admin.client.retention.erase(job_id, "request")
    assert refused.value.code == "erasure.clock"
    today = now().date()
    with pytest.raises(Conflict):
        house.admin.client.retention.resume_erasing(today + 5 * DAY)
    with pytest.raises(Denied):
        house.auditor.client.retention.resume_erasing(today)
    house.admin.client.retention.resume_erasing(today)
    (record,) = house.records(act="erasure.resumed")
    assert record["object"] == today.isoformat() and record["details"]["last_seen"]
    assert house.admin.client.retention.erase(job_id, "request")["state"] == "erased"


def test_a_job_asks_for_days_that_its_tenants_policy_allows(house: House) -> None:
    """R4.3: minimum and maximum by classification, in the tenant's own policy."""
    policies = house.admin.client.policies
    files = dict(policies.get("active")["files"])
    files["jobs/retention.rego"] = files["jobs/retention.rego"].replace(
        'minimum_days := {"*": 1}', 'minimum_days := {"*": 1, "internal": 90}'
    )
    policies.activate(policies.upload(files, note="we keep 90 days")["version"], note="approved")
    with pytest.raises(Denied) as denied:
        job_of_days(house, 89)
    assert denied.value.code == "retention.short"
    job_of_days(house, 90)


@pytest.mark.parametrize(
    ("kind", "subject", "reason", "error"),
    [
        ("job", "none", "why", NotFound),
        ("project", "none", "why", NotFound),
        ("planet", "earth", "why", Invalid),
        ("tenant", "another", "why", Invalid),
        ("tenant", "", "two\nlines", Invalid),
        ("tenant", "", "   ", Invalid),
        ("tenant", "", "x" * 501, Invalid),
    ],
)
def test_what_is_no_hold_is_not_placed(
    shared_house: House, kind: str, subject: str, reason: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        shared_house.auditor.client.retention.place_hold(kind, subject, reason)
    assert shared_house.records(act="hold.placed") == []


def test_who_may_not_hold_or_erase_does_not_learn_what_there_is(house: House) -> None:
    """R10.2: the same refusal, whether the job is there or not; who may, learns that it is not."""
    job_id = job_of_days(house, 30)
    client = house.engineer.client.retention
    told = []
    for job in (job_id, "no-such-job"):
        for ask in (partial(client.place_hold, "job", job, "why"), partial(client.erase, job, "why")):
            with pytest.raises(Denied) as denied:
                ask()
            told.append({reason["code"] for reason in denied.value.details["reasons"]})
    assert told[:2] == told[2:]
    with pytest.raises(NotFound):
        house.auditor.client.retention.place_hold("job", "no-such-job", "why")
    with pytest.raises(NotFound):
        house.admin.client.retention.erase("no-such-job", "why")


def test_a_denied_job_is_held_under_the_id_it_was_asked_for_under(house: House) -> None:
    """R4.3: a hold that names it by the id it has since it made way for another holds it, too, and is no hold in name only."""
    spec = house.spec(job_id=f"taken-{house.team}", evidence_requirements={"retention_days": 2})
    with pytest.raises(Denied):
        house.run(spec | {"governance": spec["governance"] | {"cost_center": "CC-NONE"}})
    house.run(spec)
    moved = next(job["job_id"] for job in house.admin.client.jobs.each() if "~" in job["job_id"])
    house.auditor.client.retention.place_hold("job", moved, "a dispute")
    for job in (moved, moved.partition("~")[0]):
        assert house.admin.client.retention.of_job(job)["state"] == "held"
    pass_time(house, 30 * DAY)
    assert house.admin.client.retention.of_job(moved)["state"] == "held"


def test_the_command_line_holds_and_erases(house: House, clean_environment: dict[str, str]) -> None:
    """R4.3: the same by commands, for people and programs."""
    job_id = job_of_days(house, 30)

    def as_auditor(*words: str) -> Any:
        return run(house.auditor, clean_environment, *words)[0]

    hold = as_auditor("hold", "place", "--job", job_id, "--reason", "case 4711")
    assert [item["hold_id"] for item in as_auditor("hold", "list", "--held")["items"]] == [hold["hold_id"]]
    assert as_auditor("evidence", "retention", job_id)["state"] == "held"
    released = as_auditor("hold", "release", hold["hold_id"], "--reason", "closed")
    assert released["release_reason"] == "closed"
    later = f"{now() + 60 * DAY:%FT%TZ}"
    due = run(house.admin, clean_environment, "evidence", "due", "--before", later)[0]
    assert [item["job_id"] for item in due["items"]] == [job_id]
    (refused,) = run(
        house.admin, clean_environment, "evidence", "erase", job_id, "--reason", "x", "--yes", code=3
    )
    assert refused["code"] == "access.early"
    permit_early(house)
    dry = run(house.admin, clean_environment, "evidence", "erase", job_id, "--reason", "x", "--dry-run")[0]
    assert dry["state"] == "kept"
    gone = run(house.admin, clean_environment, "evidence", "erase", job_id, "--reason", "x", "--yes")[0]
    assert gone["state"] == "erased"
    resumed = run(house.admin, clean_environment, "evidence", "resume-erasing", "--today", f"{now().date()}")[
        0
    ]
    assert resumed["clock"]
