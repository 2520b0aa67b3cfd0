"""Who asks: principals, their roles, projects. Frozen values."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

Kind = Literal["user", "service"]


@dataclass(frozen=True, slots=True, order=True)
class RoleGrant:
    """A role that a principal holds (R11.4).

    Attributes:
        role: One of `qcos.identity.roles.ROLES`.
        project: The project it holds for; None for all projects of the tenant.
    """

    role: str
    project: str | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated user or service (R1.4).

    Attributes:
        tenant: The tenant it belongs to.
        id: ``user:alice@company.com`` or ``service:ci``.
        kind: ``user`` or ``service``.
        team: Its team, if it has one.
        roles: All its grants, sorted.
        attributes: JSON members for attribute-based policies (R11.5).
        token_id: The token that was presented; never the token itself.
        token_expires: When that token ends.
        delegation: Ids of the principals it acts for, nearest first; empty when it acts for itself.
    """

    tenant: UUID
    id: str
    kind: Kind
    team: str | None
    roles: tuple[RoleGrant, ...]
    attributes: dict[str, Any]  # Any: JSON of the administrator's own making
    token_id: str
    token_expires: dt.datetime
    delegation: tuple[str, ...] = ()

    def roles_for(self, project: str | None) -> tuple[str, ...]:
        """Return the roles in force for a project, sorted; for None those that hold for the whole tenant."""
        return effective(self.roles, project)


@dataclass(frozen=True, slots=True)
class Account:
    """A principal as it is registered, whether or not it has a token.

    Attributes:
        disabled: When it was shut out; None while it may act.
    """

    tenant: UUID
    id: str
    kind: Kind
    team: str | None
    roles: tuple[RoleGrant, ...]
    attributes: dict[str, Any]  # Any: JSON of the administrator's own making
    created: dt.datetime
    disabled: dt.datetime | None = None

    def roles_for(self, project: str | None) -> tuple[str, ...]:
        """Return the roles in force for a project, sorted; for None those that hold for the whole tenant."""
        return effective(self.roles, project)


@dataclass(frozen=True, slots=True)
class Project:
    """What jobs are submitted to and budgets are set for.

    Attributes:
        team: The team whose quota its jobs use.
        cost_center: Who pays (R8.9).
    """

    tenant: UUID
    id: str
    team: str
    cost_center: str
    created: dt.datetime


@dataclass(frozen=True, slots=True)
class Token:
    """An API token as it is listed: everything but the secret, which nobody can recover.

    Attributes:
        parent: Id of the token that it was made with; None for one that no token made.
    """

    id: str
    principal: str
    created: dt.datetime
    expires: dt.datetime
    revoked: dt.datetime | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token. The text is shown once and stored nowhere; the store takes the hash.

    Attributes:
        text: What its owner sends as bearer token.
        hash: SHA-256 of the text, 32 bytes.
        id: Public name, used to list and revoke it.
    """

    text: str = field(repr=False)
    hash: bytes
    id: str


def effective(grants: tuple[RoleGrant, ...], project: str | None) -> tuple[str, ...]:
    """Return the names of the roles among grants that hold for a project, each once, sorted."""
    return tuple(
        sorted({grant.role for grant in grants if grant.project is None or grant.project == project})
    )
