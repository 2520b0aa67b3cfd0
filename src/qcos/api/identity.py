"""Projects, principals, roles, tokens, who am I (R5.2, R11.4, R11.7, R11.8)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from qcos.administration import people
from qcos.administration.act import Act
from qcos.api.answers import answer, decode_cursor, limit_of, page
from qcos.api.caller import act
from qcos.api.reach import reach
from qcos.base.clock import rfc3339
from qcos.base.limits import MAX_NAME
from qcos.identity import store as identity
from qcos.identity.model import Account, Project, RoleGrant, Token

router = APIRouter(tags=["identity"])


class NewProject(BaseModel):
    """A project to register."""

    model_config = ConfigDict(extra="forbid")
    id: str = Field(max_length=MAX_NAME)
    team: str = Field(max_length=MAX_NAME, description="The team whose quota its jobs use.")
    cost_center: str = Field(max_length=MAX_NAME, description="Who pays.")


class NewPrincipal(BaseModel):
    """A user or service account to register."""

    model_config = ConfigDict(extra="forbid")
    id: str = Field(max_length=MAX_NAME, description="user:alice@company.com or service:ci")
    team: str | None = Field(default=None, max_length=MAX_NAME)
    attributes: dict[str, Any] = Field(
        default_factory=dict, description="Facts for attribute-based policies."
    )


class Role(BaseModel):
    """A role, for one project or for all."""

    model_config = ConfigDict(extra="forbid")
    role: str = Field(max_length=MAX_NAME)
    project: str | None = Field(default=None, max_length=MAX_NAME)


class NewToken(BaseModel):
    """A token to make; the caller's own when no principal is named."""

    model_config = ConfigDict(extra="forbid")
    principal: str | None = Field(default=None, max_length=MAX_NAME)
    days: int = people.DEFAULT_DAYS


def _start(after: str | None) -> str:
    """Return the id after which a page starts."""
    cursor = decode_cursor(after, 1)
    return cursor[0] if cursor else ""


def _roles(grants: tuple[RoleGrant, ...]) -> list[dict[str, Any]]:
    return [{"role": grant.role, "project": grant.project} for grant in grants]


def _project(project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "team": project.team,
        "cost_center": project.cost_center,
        "created_at": rfc3339(project.created),
    }


def _account(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "kind": account.kind,
        "team": account.team,
        "roles": _roles(account.roles),
        "attributes": account.attributes,
        "created_at": rfc3339(account.created),
        "disabled_at": rfc3339(account.disabled) if account.disabled else None,
    }


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "principal": token.principal,
        "parent": token.parent,
        "created_at": rfc3339(token.created),
        "expires_at": rfc3339(token.expires),
        "revoked_at": rfc3339(token.revoked) if token.revoked else None,
    }


@router.get("/whoami", summary="Who the token belongs to")
async def whoami(request: Request) -> Response:
    """Return the caller: id, team, roles, and when the token ends."""

    def run(caller: Act) -> dict[str, Any]:
        caller.permit("whoami.read", own=True)
        principal = caller.principal
        return {
            "tenant": str(principal.tenant),
            "id": principal.id,
            "kind": principal.kind,
            "team": principal.team,
            "roles": _roles(principal.roles),
            "token": principal.token_id,
            "token_expires_at": rfc3339(principal.token_expires),
            "delegation": list(principal.delegation),
        }

    return answer(await act(request, run))


@router.post("/projects", status_code=201, summary="Register a project")
async def create_project(request: Request, body: NewProject) -> Response:
    """Register a project; it can spend nothing before it has a budget."""
    return answer(
        _project(
            await act(
                request, lambda caller: people.create_project(caller, body.id, body.team, body.cost_center)
            )
        ),
        201,
    )


@router.get("/projects", summary="List projects")
async def list_projects(request: Request, after: str | None = None, limit: int | None = None) -> Response:
    """List the projects that the caller may read, by name."""
    size, start = limit_of(limit), _start(after)

    def run(caller: Act) -> list[Project]:
        among = reach(caller, "project.read")
        return identity.list_projects(
            caller.connection, caller.tenant, among=among, after=start, limit=size + 1
        )

    return answer(page(await act(request, run), size, _project, lambda project: (project.id,)))


@router.post("/principals", status_code=201, summary="Register a user or service account")
async def create_principal(request: Request, body: NewPrincipal) -> Response:
    """Register a principal; it may do nothing before it has a role."""
    made = await act(
        request, lambda caller: people.create_principal(caller, body.id, body.team, body.attributes)
    )
    return answer(_account(made), 201)


@router.get("/principals", summary="List principals with their roles")
async def list_principals(request: Request, after: str | None = None, limit: int | None = None) -> Response:
    """List the tenant's users and service accounts, by id."""
    size, start = limit_of(limit), _start(after)

    def run(caller: Act) -> list[Account]:
        caller.permit("principal.read")
        return identity.list_principals(caller.connection, caller.tenant, after=start, limit=size + 1)

    return answer(page(await act(request, run), size, _account, lambda account: (account.id,)))


@router.post("/principals/{principal}/disable", summary="Shut a principal out")
async def disable_principal(request: Request, principal: str) -> Response:
    """Refuse all its tokens from now on, until it is enabled; not the caller's own principal."""
    return answer(_account(await act(request, lambda caller: people.disable_principal(caller, principal))))


@router.post("/principals/{principal}/enable", summary="Let a principal in again")
async def enable_principal(request: Request, principal: str) -> Response:
    """Take its tokens again that neither expired nor were revoked."""
    return answer(_account(await act(request, lambda caller: people.enable_principal(caller, principal))))


@router.post("/principals/{principal}/roles", summary="Give a role")
async def grant_role(request: Request, principal: str, body: Role) -> Response:
    """Give a principal a role, for one project or for all."""
    changed = await act(request, lambda caller: people.grant_role(caller, principal, body.role, body.project))
    return answer({"principal": principal, "role": body.role, "project": body.project, "changed": changed})


@router.delete("/principals/{principal}/roles", summary="Take a role back")
async def revoke_role(request: Request, principal: str, role: str, project: str | None = None) -> Response:
    """Take back exactly the grant that is named."""
    await act(request, lambda caller: people.revoke_role(caller, principal, role, project))
    return answer({"principal": principal, "role": role, "project": project, "changed": True})


@router.post("/tokens", status_code=201, summary="Make an API token")
async def create_token(request: Request, body: NewToken) -> Response:
    """Make a token; its text is in this answer and nowhere else."""

    def run(caller: Act) -> dict[str, Any]:
        principal = body.principal or caller.principal.id
        minted, expires = people.create_token(caller, principal, body.days)
        return {"token": minted.text, "id": minted.id, "principal": principal, "expires_at": rfc3339(expires)}

    return answer(await act(request, run), 201, {"Cache-Control": "no-store"})


@router.get("/tokens", summary="List API tokens")
async def list_tokens(
    request: Request, principal: str | None = None, after: str | None = None, limit: int | None = None
) -> Response:
    """List tokens without their secrets; one's own by default."""
    size, start = limit_of(limit), _start(after)

    def run(caller: Act) -> list[Token]:
        whose = principal or caller.principal.id
        caller.permit("token.read", whose, own=whose == caller.principal.id)
        return identity.list_tokens(
            caller.connection, caller.tenant, principal=whose, after=start, limit=size + 1
        )

    return answer(page(await act(request, run), size, _token, lambda token: (token.id,)))


@router.delete("/tokens/{token_id}", summary="Revoke an API token")
async def revoke_token(request: Request, token_id: str) -> Response:
    """End a token and all that were made with it, at once; ``ended`` counts those that were still good."""
    ended = await act(request, lambda caller: people.revoke_token(caller, token_id))
    return answer({"id": token_id, "revoked": True, "ended": len(ended)})
