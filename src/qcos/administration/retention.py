"""Legal holds, erasing on request, and what day it is (R4.3). Policy says who; code says that a hold holds."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from qcos.administration.act import Act
from qcos.base.clock import now, rfc3339
from qcos.base.errors import Conflict, Invalid, NotFound
from qcos.base.ids import new_id
from qcos.base.limits import MAX_HOLD_REASON
from qcos.identity import store as identity
from qcos.jobs import payloads
from qcos.jobs import store as jobs
from qcos.jobs.conceal import owner_of
from qcos.jobs.erase import erase, mind_clock
from qcos.jobs.lifecycle import TERMINAL
from qcos.jobs.payloads import Kept
from qcos.retention import store
from qcos.retention.decide import check_confirmation, due_before
from qcos.retention.model import KINDS, Due, Hold


@dataclass(frozen=True, slots=True)
class Standing:
    """How the payloads of a job stand.

    Attributes:
        job: The job.
        kept: As they are kept.
        holds: What holds them now.
    """

    job: str
    kept: Kept
    holds: tuple[Hold, ...]


def place_hold(act: Act, kind: str, subject: str, reason: str) -> Hold:
    """Place a legal hold on a job, a project or the whole tenant, from now on.

    A denied job that made way for another is held under its first id, as the one that came: whichever of the two is named.
    """
    if kind not in KINDS:
        raise Invalid("hold.kind", "nothing a hold can cover", expected=", ".join(KINDS), got=kind[:40])
    _demand_reason(reason)
    if kind == "tenant" and subject not in ("", "*"):
        raise Invalid("hold.subject", "a tenant's hold covers all of it", expected="*", got=subject[:80])
    subject = "*" if kind == "tenant" else owner_of(subject) if kind == "job" else subject
    project, missing = _project_of(act, kind, subject)
    act.permit("hold.place", subject, project=project, details={"kind": kind, "reason": reason})
    if missing is not None:
        raise missing
    store.lock(act.connection, act.tenant)
    hold = Hold(new_id("hold"), kind, subject, reason, act.principal.id, now())
    store.place(act.connection, act.tenant, hold)
    act.record(
        "hold.placed",
        hold.id,
        project=project,
        reason=reason,
        states=(None, _state(hold, held=True)),
        kind=kind,
        of=subject,
    )
    return hold


def release_hold(act: Act, hold_id: str, reason: str) -> Hold:
    """Release a legal hold: what it covered is erased when its time comes, or has come.

    Raises:
        Conflict: ``hold.released``.
    """
    _demand_reason(reason)
    found = store.find(act.connection, act.tenant, hold_id)
    project, _ = _project_of(act, found.kind, found.subject) if found is not None else ("", None)
    kind = found.kind if found is not None else ""
    act.permit("hold.release", hold_id, project=project, details={"kind": kind, "reason": reason})
    hold = store.get(act.connection, act.tenant, hold_id)
    store.lock(act.connection, act.tenant)
    if not store.release(act.connection, act.tenant, hold_id, act.principal.id, now(), reason):
        raise Conflict("hold.released", "the hold was released before", subject=hold_id)
    act.record(
        "hold.released",
        hold_id,
        project=project,
        reason=reason,
        states=(_state(hold, held=True), _state(hold, held=False)),
        kind=hold.kind,
        of=hold.subject,
        placed_by=hold.placed_by,
    )
    return store.get(act.connection, act.tenant, hold_id)


def standing(act: Act, job_id: str) -> Standing:
    """Return how the payloads of a job stand; for somebody who may read the job.

    Raises:
        NotFound: ``job.unknown``.
    """
    look = jobs.look(act.connection, act.tenant, job_id)
    kept = payloads.kept(act.connection, act.tenant, job_id)
    assert kept is not None  # noqa: S101 - looked at above, and jobs are not deleted
    return Standing(job_id, kept, tuple(store.covering(act.connection, act.tenant, job_id, look.project)))


def list_due(act: Act, before: dt.datetime, limit: int) -> list[Due]:
    """Return what would be erased by ``before``, longest due first; what is held is not among it."""
    act.permit("retention.read")
    return payloads.due(act.connection, act.tenant, due_before(before), limit)


def erase_on_request(act: Act, job_id: str, reason: str, *, dry_run: bool = False) -> Standing:
    """Erase the payloads of one job because somebody wants it.

    Before their time only as far as policy lets (``details.early``); never under a hold, which no policy can lift.

    Args:
        dry_run: Ask and check everything, and erase nothing.

    Raises:
        Conflict: ``erasure.held``, ``erasure.unfinished``, ``erasure.done``, ``erasure.clock``.
    """
    _demand_reason(reason)
    project, missing = _project_of(act, "job", job_id)
    if missing is not None:  # for those to see who may erase at all; others are refused as if it were there
        if not act.may("evidence.erase", job_id, details={"early": False, "reason": reason}):
            act.permit("evidence.erase", job_id, details={"early": True, "reason": reason})
        raise missing
    at, found = now(), standing(act, job_id)
    details = {
        "early": at < found.kept.retain_until,
        "retain_until": rfc3339(found.kept.retain_until),
        "reason": reason,
    }
    act.permit("evidence.erase", job_id, project=project, details=details)
    mind_clock(act.connection, act.tenant, at)
    store.lock(act.connection, act.tenant)
    found = standing(act, job_id)  # again: a hold may have come before the lock
    due = _erasable(found)
    if dry_run:
        return found
    decision = act.decisions[-1]
    erase(
        act.connection,
        act.tenant,
        [due],
        {job_id: f"request: {reason}"},
        by=act.principal.id,
        at=at,
        delegation=act.principal.delegation,
        decision=decision.id,
        policy_version=decision.bundle_version,
    )
    return standing(act, job_id)


def resume_erasing(act: Act, today: dt.date) -> dt.datetime:
    """Say what day it is, after the clock was not believed: erasing goes on from there."""
    act.permit("erasure.resume", today.isoformat())
    at = now()
    check_confirmation(today, at)
    before = store.known_time(act.connection, act.tenant)
    store.set_known_time(act.connection, act.tenant, at)
    act.record(
        "erasure.resumed",
        today.isoformat(),
        clock=rfc3339(at),
        last_seen=rfc3339(before) if before is not None else None,
    )
    return at


def _state(hold: Hold, *, held: bool) -> dict[str, object]:
    """Return what a record says of a hold's state."""
    return {"id": hold.id, "kind": hold.kind, "of": hold.subject, "held": held}


def _erasable(found: Standing) -> Due:
    kept = found.kept
    if found.holds:
        raise Conflict(
            "erasure.held",
            "a legal hold covers the job",
            subject=found.job,
            got=", ".join(hold.id for hold in found.holds)[:300],
            hint="whoever may release it has to, first",
        )
    if kept.state not in TERMINAL:
        raise Conflict(
            "erasure.unfinished",
            f"the job is {kept.state}",
            subject=found.job,
            expected=", ".join(sorted(TERMINAL)),
            got=kept.state,
            hint="cancel it first",
        )
    if kept.erased is not None:
        raise Conflict(
            "erasure.done", "the payload was erased before", subject=found.job, got=kept.erased["at"]
        )
    if kept.due is None:
        raise Conflict(
            "erasure.plain",
            "the payload is older than encryption and not sealed yet",
            subject=found.job,
            hint="the duties process seals it within a minute; try again",
        )
    return kept.due


def _project_of(act: Act, kind: str, subject: str) -> tuple[str, NotFound | None]:
    """Return the project in which a hold is placed, empty for the tenant; and the error for what does not exist, which is for those to see
    who may hold at all.
    """
    try:
        if kind == "project":
            return identity.get_project(act.connection, act.tenant, subject).id, None
        if kind == "job":
            return jobs.look(act.connection, act.tenant, subject).project, None
    except NotFound as error:
        return "", error
    return "", None


def _demand_reason(reason: str) -> None:
    if not len(reason.strip()) > 0 or len(reason) > MAX_HOLD_REASON or not reason.isprintable():
        raise Invalid(
            "hold.reason",
            "say why, in one line",
            expected=f"1 to {MAX_HOLD_REASON} printable characters",
            got=f"{len(reason)} characters",
        )
