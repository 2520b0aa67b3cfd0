"""Projects, principals, roles and tokens (R5.2, R11.4, R11.7, R11.8)."""

from __future__ import annotations

import datetime as dt
from typing import Any

from qcos.administration.act import Act
from qcos.base.canonical import digest_of
from qcos.base.clock import now, rfc3339
from qcos.base.errors import Denied, Invalid
from qcos.base.limits import PAGE_MAX
from qcos.identity import store as identity
from qcos.identity import tokens
from qcos.identity.model import Account, Minted, Project

_MOST_DAYS = 366  # R11.8: no token lives longer than a year
DEFAULT_DAYS = 90


def create_project(act: Act, project: str, team: str, cost_center: str) -> Project:
    """Register a project."""
    act.permit("project.create", project)
    made = identity.create_project(act.connection, act.tenant, project, team=team, cost_center=cost_center)
    act.record("project.created", project, project=project, team=team, cost_center=cost_center)
    return made


def create_principal(
    act: Act, principal: str, team: str | None, attributes: dict[str, Any]
) -> Account:  # Any: JSON
    """Register a user or service account."""
    act.permit("principal.create", principal)
    made = identity.create_principal(act.connection, act.tenant, principal, team=team, attributes=attributes)
    act.record("principal.created", principal, team=team, attributes=digest_of(attributes))
    return made


def grant_role(act: Act, principal: str, role: str, project: str | None) -> bool:
    """Give a role; False when it was held already (nothing is recorded then)."""
    act.permit("role.grant", principal, project=project or "")
    changed = identity.grant_role(act.connection, act.tenant, principal, role, project)
    if changed:
        act.record("role.granted", principal, project=project or "", role=role)
    return changed


def revoke_role(act: Act, principal: str, role: str, project: str | None) -> None:
    """Take a role back."""
    act.permit("role.revoke", principal, project=project or "")
    identity.revoke_role(act.connection, act.tenant, principal, role, project)
    act.record("role.revoked", principal, project=project or "", role=role)


def create_token(act: Act, principal: str, days: int) -> tuple[Minted, dt.datetime]:
    """Make a token for a principal; everybody may make one for himself that lives no longer than the one he shows.

    Raises:
        Invalid: ``token.days``.
    """
    latest = _latest_end(act, principal)
    if not 1 <= days <= _MOST_DAYS:
        raise Invalid("token.days", "bad lifetime", expected=f"1 to {_MOST_DAYS} days", got=str(days))
    minted, expires = tokens.mint(act.tenant), now() + dt.timedelta(days=days)
    expires = min(expires, latest or expires)
    identity.create_token(act.connection, act.tenant, principal, minted.hash, minted.id, expires)
    act.record("token.created", minted.id, principal=principal, expires=rfc3339(expires))
    return minted, expires


def revoke_token(act: Act, token_id: str) -> None:
    """End a token at once; everybody may end his own."""
    mine = identity.list_tokens(act.connection, act.tenant, principal=act.principal.id, limit=PAGE_MAX)
    act.permit("token.revoke", token_id, own=any(token.id == token_id for token in mine))
    identity.revoke_token(act.connection, act.tenant, token_id, now())
    act.record("token.revoked", token_id)


def _latest_end(act: Act, principal: str) -> dt.datetime | None:
    """Return when a token for the principal must end at the latest; None when policy lets the caller make any token of his.

    Raises:
        Denied: When policy lets the caller make none.
    """
    if principal != act.principal.id:
        act.permit("token.create", principal)
        return None
    try:
        act.permit("token.create", principal)
    except Denied:
        act.permit("token.create", principal, own=True)
        return act.principal.token_expires
    return None
