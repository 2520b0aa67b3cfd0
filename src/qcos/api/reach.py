"""How far a caller's permission reaches: everywhere, in some projects, or nowhere.

A role may be held for one project only. A listing then shows what lies in the projects where policy permits the act; a single object that
its caller may not even read is answered as one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from qcos.administration.act import Act
from qcos.api.caller import act, app_of, credentials
from qcos.base.errors import Denied, NotFound
from qcos.jobs import store
from qcos.jobs.conceal import open_payload
from qcos.jobs.store import Look

Answer = TypeVar("Answer")
# The policies gave no answer: that must be told, and not be taken for one that was "no".
_NO_ANSWER = frozenset(
    {"policy.timeout", "policy.error", "policy.invalid", "policy.crashed", "policy.missing"}
)


def refusal(
    caller: Act, what: str, subject: str = "", *, project: str = "", own: bool = False
) -> Denied | None:
    """Return why policy does not let the caller do ``what``; None when it does.

    Raises:
        Denied: ``policy.*`` when the policies gave no answer.
    """
    try:
        caller.permit(what, subject, project=project, own=own)
    except Denied as denied:
        if denied.code in _NO_ANSWER:
            raise
        return denied
    return None


def reach(caller: Act, what: str) -> tuple[str, ...] | None:
    """Return the projects in which policy lets the caller do ``what``, among those he has a role in; None for the whole tenant.

    Raises:
        Denied: As for the whole tenant, when there is no such project.
    """
    denied = refusal(caller, what)
    if denied is None:
        return None
    granted = sorted({grant.project for grant in caller.principal.roles if grant.project})
    projects = tuple(project for project in granted if refusal(caller, what, project=project) is None)
    if not projects:
        raise denied
    return projects


def readable(caller: Act, job_id: str, what: str = "job.read") -> Look:
    """Return a look at a job that the caller may do ``what`` to.

    Raises:
        NotFound: ``job.unknown`` when there is none.
        Denied: When the caller may not; because of ``job.unknown`` (see `see`) when he may not even read it.
    """
    look = store.look(caller.connection, caller.tenant, job_id)
    own = look.actor == caller.principal.id
    denied = refusal(caller, what, job_id, project=look.project, own=own)
    if denied is None:
        return look
    if what != "job.read" and refusal(caller, "job.read", job_id, project=look.project, own=own) is None:
        raise denied
    raise denied from store.unknown(job_id)


async def opened(request: Request, look: Look, name: str, stored: bytes) -> bytes:
    """Return a payload of a job as it was before it was kept; outside the scope that read it, for it may have to ask a key store."""
    keys = app_of(request).admission.tenant_keys
    tenant, _ = credentials(request)
    return await run_in_threadpool(open_payload, keys, tenant, look.id, look.payload_key, name, stored)


async def see(request: Request, do: Callable[[Act], Answer]) -> Answer:
    """Run ``do`` in a scope of the caller; who is refused because (`__cause__`) there is nothing for him to find is told just that.

    The refusal itself leaves the scope as any other, so it is recorded as any other.
    """
    try:
        return await act(request, do)
    except Denied as denied:
        if isinstance(denied.__cause__, NotFound):
            raise denied.__cause__ from None
        raise
