"""Roles hold for a project or for the tenant (R11.4); names have one shape."""

from __future__ import annotations

import pytest

from qcos.base.errors import Invalid
from qcos.identity import roles
from qcos.identity.model import RoleGrant, effective


def test_a_role_for_a_project_holds_there_only() -> None:
    """R11.4."""
    grants = (
        RoleGrant("quantum-user"),
        RoleGrant("quantum-engineer", "alpha"),
        RoleGrant("quantum-user", "alpha"),
    )
    assert effective(grants, "alpha") == ("quantum-engineer", "quantum-user")
    assert effective(grants, "beta") == ("quantum-user",)
    assert effective(grants, None) == ("quantum-user",)
    assert effective((), "alpha") == ()


def test_there_are_exactly_the_four_roles_of_the_paper() -> None:
    """R11.4."""
    assert set(roles.ROLES) == {"quantum-admin", "quantum-engineer", "quantum-user", "auditor"}
    assert roles.check_role("auditor") == "auditor"
    with pytest.raises(Invalid) as caught:
        roles.check_role("root")
    assert caught.value.code == "role.unknown"
    assert "quantum-admin" in caught.value.expected


def test_an_id_states_its_kind() -> None:
    assert roles.kind_of("user:alice@company.com") == "user"
    assert roles.kind_of("service:ci") == "service"


@pytest.mark.parametrize(
    "wrong", ["alice", "group:x", "user:", "user:a b", "user:a\n", "service:-x", "user:" + "a" * 200]
)
def test_other_ids_are_refused(wrong: str) -> None:
    with pytest.raises(Invalid) as caught:
        roles.kind_of(wrong)
    assert caught.value.code == "principal.id"


@pytest.mark.parametrize("wrong", ["", " x", "x ", "a/b", "x\n", "-x", "x" * 201, "é"])
def test_other_names_are_refused(wrong: str) -> None:
    with pytest.raises(Invalid) as caught:
        roles.check_name(wrong, "cost_center")
    assert caught.value.code == "cost_center.name"
    assert roles.check_name("CC-4711 Research", "cost_center") == "CC-4711 Research"
