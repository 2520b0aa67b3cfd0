"""The four roles of the paper (R11.4) and the shape of names. What a role may do is policy (Rego)."""

from __future__ import annotations

import re
from typing import Final, get_args

from qcos.base.errors import Invalid
from qcos.base.limits import MAX_NAME
from qcos.identity.model import Kind

ADMIN: Final = "quantum-admin"
ENGINEER: Final = "quantum-engineer"
USER: Final = "quantum-user"
AUDITOR: Final = "auditor"

ROLES: Final = (ADMIN, ENGINEER, USER, AUDITOR)

_PRINCIPAL = re.compile(r"(user|service):[A-Za-z0-9][A-Za-z0-9._@+-]*\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*\Z")


def check_role(role: str) -> str:
    """Return a role that exists.

    Raises:
        Invalid: ``role.unknown``.
    """
    if role not in ROLES:
        raise Invalid(
            "role.unknown",
            "no such role",
            subject=role[:MAX_NAME],
            expected=", ".join(ROLES),
            got=role[:MAX_NAME],
        )
    return role


def kind_of(principal: str) -> Kind:
    """Return the kind that a principal's id states.

    Raises:
        Invalid: ``principal.id`` when it is no well-formed id.
    """
    if len(principal) > MAX_NAME or not _PRINCIPAL.match(principal):
        raise Invalid(
            "principal.id",
            "not the id of a principal",
            subject=principal[:MAX_NAME],
            expected=f"user:<name> or service:<name>: letters, digits, ._@+-, at most {MAX_NAME} characters",
            got=principal[:MAX_NAME],
        )
    prefix = principal.partition(":")[0]
    return next(kind for kind in get_args(Kind) if kind == prefix)


def check_name(name: str, what: str) -> str:
    """Return the name of a tenant, project, team or cost center that is well formed.

    Args:
        name: Letters, digits, ``._-`` and inner spaces.
        what: What it names; becomes the first part of the code.

    Raises:
        Invalid: ``<what>.name``.
    """
    if len(name) > MAX_NAME or not _NAME.match(name) or name.endswith(" "):
        raise Invalid(
            f"{what}.name",
            f"not the name of a {what.replace('_', ' ')}",
            subject=name[:MAX_NAME],
            expected=f"letters, digits, inner spaces and ._-, at most {MAX_NAME} characters",
            got=name[:MAX_NAME] or "an empty name",
        )
    return name
