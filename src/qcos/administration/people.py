"""Projects, principals, roles and tokens (R5.2, R11.4, R11.7, R11.8)."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from qcos.administration.act import Act
from qcos.base.canonical import digest_of
from qcos.base.clock import now, rfc3339
from qcos.base.errors import Conflict, Invalid
from qcos.identity import store as identity
from qcos.identity import tokens
from qcos.identity.model import Account, Minted, Project, RoleGrant

_MOST_DAYS = 366  # R11.8: no token lives longer than a year
DEFAULT_DAYS = 90


def create_project(act: Act, project: str, team: str, cost_center: str) -> Project:
    """Register a project."""
    act.permit("project.create", project)
    made = identity.create_project(act.connection, act.tenant, project, team=team, cost_center=cost_center)
    state = {"id": project, "team": team, "cost_center": cost_center}
    act.record(
        "project.created",
        project,
        project=project,
        states=(None, state),
        team=team,
        cost_center=cost_center,
    )
    return made


def create_principal(
    act: Act, principal: str, team: str | None, attributes: dict[str, Any]
) -> Account:  # Any: JSON
    """Register a user or service account."""
    act.permit("principal.create", principal)
    made = identity.create_principal(act.connection, act.tenant, principal, team=team, attributes=attributes)
    states = (None, state_of(made))
    act.record("principal.created", principal, states=states, team=team, attributes=digest_of(attributes))
    return made


def disable_principal(act: Act, principal: str) -> Account:
    """Shut a principal out with all its tokens, at once; one that is out stays so, and nothing is recorded then.

    Raises:
        Conflict: ``principal.self``: nobody shuts himself out, so somebody is left who can undo it.
    """
    act.permit("principal.disable", principal)
    if principal == act.principal.id:
        raise Conflict(
            "principal.self",
            "you cannot disable yourself",
            subject=principal,
            hint="ask another administrator, or revoke the token",
        )
    if identity.disable_principal(act.connection, act.tenant, principal, now()):
        account = identity.get_principal(act.connection, act.tenant, principal)
        act.record(
            "principal.disabled",
            principal,
            states=(state_of(replace(account, disabled=None)), state_of(account)),
        )
    return identity.get_principal(act.connection, act.tenant, principal)


def enable_principal(act: Act, principal: str) -> Account:
    """Let a disabled principal in again, with those of its tokens that neither ended nor were revoked."""
    act.permit("principal.enable", principal)
    if identity.disable_principal(act.connection, act.tenant, principal, None):
        account = identity.get_principal(act.connection, act.tenant, principal)
        act.record(
            "principal.enabled",
            principal,
            states=(state_of(replace(account, disabled=now())), state_of(account)),
        )
    return identity.get_principal(act.connection, act.tenant, principal)


def grant_role(act: Act, principal: str, role: str, project: str | None) -> bool:
    """Give a role; False when it was held already (nothing is recorded then)."""
    act.permit("role.grant", principal, project=project or "", details={"role": role})
    changed = identity.grant_role(act.connection, act.tenant, principal, role, project)
    if changed:
        account, grant = (
            identity.get_principal(act.connection, act.tenant, principal),
            RoleGrant(role, project),
        )
        states = (state_of(_without(account, grant)), state_of(account))
        act.record("role.granted", principal, project=project or "", states=states, role=role)
    return changed


def revoke_role(act: Act, principal: str, role: str, project: str | None) -> None:
    """Take a role back."""
    act.permit("role.revoke", principal, project=project or "", details={"role": role})
    identity.revoke_role(act.connection, act.tenant, principal, role, project)
    account, grant = identity.get_principal(act.connection, act.tenant, principal), RoleGrant(role, project)
    states = (state_of(replace(account, roles=(*account.roles, grant))), state_of(account))
    act.record("role.revoked", principal, project=project or "", states=states, role=role)


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
    parent = act.principal.token_id
    identity.create_token(
        act.connection, act.tenant, principal, minted.hash, minted.id, expires, parent=parent
    )
    act.record(
        "token.created",
        minted.id,
        states=(None, {"id": minted.id, "revoked": False}),
        principal=principal,
        expires=rfc3339(expires),
        parent=parent,
    )
    return minted, expires


def revoke_token(act: Act, token_id: str) -> list[str]:
    """End a token at once, and all that were made with it (a thief may have made some); everybody may end his own.

    Returns:
        Ids of the tokens that it ended, each with its record; none when all were revoked before.
    """
    token = identity.find_token(act.connection, act.tenant, token_id)
    act.permit("token.revoke", token_id, own=token is not None and token.principal == act.principal.id)
    ended = identity.revoke_token(act.connection, act.tenant, token_id, now())
    if ended:
        changes = [({"id": one, "revoked": False}, {"id": one, "revoked": True}) for one in ended]
        act.record_each("token.revoked", ended, changes=changes, root=token_id)
    return ended


def state_of(account: Account) -> dict[str, Any]:  # Any: JSON
    """Return a principal as its records commit to it (documented in docs/reference/ledger.md)."""
    return {
        "id": account.id,
        "team": account.team,
        "attributes": account.attributes,
        "disabled": account.disabled is not None,
        "roles": sorted([grant.role, grant.project or ""] for grant in account.roles),
    }


def _without(account: Account, grant: RoleGrant) -> Account:
    return replace(account, roles=tuple(held for held in account.roles if held != grant))


def _latest_end(act: Act, principal: str) -> dt.datetime | None:
    """Return when a token for the principal must end at the latest; None when policy lets the caller make any token of his.

    Raises:
        Denied: When policy lets the caller make none.
    """
    if principal != act.principal.id or act.may("token.create", principal):
        act.permit("token.create", principal)
        return None
    act.permit("token.create", principal, own=True)
    return act.principal.token_expires
