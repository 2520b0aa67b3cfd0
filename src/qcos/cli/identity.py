"""``qcos project``, ``qcos principal``, ``qcos role``, ``qcos token``: who there is and what they may do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from qcos.base.errors import Invalid
from qcos.cli.job_view import instant
from qcos.cli.listing import Column, items_of, of, show_items, show_object
from qcos.cli.options import AsJson
from qcos.cli.output import emit, plain
from qcos.cli.secret import write_secret
from qcos.client import from_environment
from qcos.client.model import Json

project = typer.Typer(no_args_is_help=True, add_completion=False, help="List and create projects.")
principal = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List, create, disable and enable users and services."
)
role = typer.Typer(no_args_is_help=True, add_completion=False, help="Grant and revoke roles.")
token = typer.Typer(no_args_is_help=True, add_completion=False, help="List, create and revoke API tokens.")

_PROJECTS: list[Column] = [
    ("project", of("id", "project")),
    ("team", of("team")),
    ("cost center", of("cost_center")),
]
_PRINCIPALS: list[Column] = [
    ("principal", of("id", "principal")),
    ("team", of("team")),
    ("roles", lambda item: ", ".join(_grant(grant) for grant in item.get("roles") or [])),
    ("disabled", lambda item: instant(item.get("disabled_at"))),
]
_TOKENS: list[Column] = [
    ("token", of("id", "token_id")),
    ("principal", of("principal")),
    ("created", lambda item: instant(item.get("created_at"))),
    ("expires", lambda item: instant(item.get("expires_at"))),
    ("revoked", lambda item: instant(item.get("revoked_at"))),
]
Who = Annotated[str, typer.Argument(metavar="PRINCIPAL", help="user:alice@example.com or service:ci.")]
Role = Annotated[
    str, typer.Argument(metavar="ROLE", help="quantum-admin, quantum-engineer, quantum-user or auditor.")
]
In = Annotated[
    str | None, typer.Option("--project", "-p", help="In this project only; everywhere when left out.")
]


@project.command("list")
def list_projects(as_json: AsJson = False) -> None:
    """List the projects."""
    with from_environment() as client:
        answer = client.identity.projects()
    emit(answer, as_json, lambda console: show_items(console, answer, _PROJECTS))


@project.command("create")
def create_project(
    project: Annotated[str, typer.Argument(metavar="PROJECT")],
    team: Annotated[str, typer.Option(help="Team whose quota its jobs use.")],
    cost_center: Annotated[str, typer.Option(help="Who pays.")],
    as_json: AsJson = False,
) -> None:
    """Create a project."""
    with from_environment() as client:
        answer = client.identity.create_project(project, team=team, cost_center=cost_center)
    emit(answer, as_json, lambda console: show_object(console, answer))


@principal.command("list")
def list_principals(as_json: AsJson = False) -> None:
    """List users and services with their roles."""
    with from_environment() as client:
        answer = client.identity.principals()
    emit(answer, as_json, lambda console: show_items(console, answer, _PRINCIPALS))


@principal.command("create")
def create_principal(
    principal: Who,
    team: Annotated[str | None, typer.Option(help="Its team.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE that policies can ask for; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a user or service."""
    attributes = dict(_attribute(text) for text in attribute or [])
    with from_environment() as client:
        answer = client.identity.create_principal(principal, team=team, attributes=attributes)
    emit(answer, as_json, lambda console: show_object(console, answer))


@principal.command("disable")
def disable_principal(principal: Who, as_json: AsJson = False) -> None:
    """Shut a user or service out with all its tokens, at once."""
    with from_environment() as client:
        answer = client.identity.disable_principal(principal)
    emit(answer, as_json, lambda console: console.print(f"{principal} is disabled", markup=False))


@principal.command("enable")
def enable_principal(principal: Who, as_json: AsJson = False) -> None:
    """Let a disabled user or service in again."""
    with from_environment() as client:
        answer = client.identity.enable_principal(principal)
    emit(answer, as_json, lambda console: console.print(f"{principal} is enabled", markup=False))


@role.command("grant")
def grant_role(principal: Who, role: Role, project: In = None, as_json: AsJson = False) -> None:
    """Grant a role."""
    with from_environment() as client:
        answer = client.identity.grant_role(principal, role, project=project)
    emit(answer, as_json, lambda console: show_object(console, answer))


@role.command("revoke")
def revoke_role(principal: Who, role: Role, project: In = None, as_json: AsJson = False) -> None:
    """Revoke a role."""
    with from_environment() as client:
        client.identity.revoke_role(principal, role, project=project)
    value = {"principal": principal, "role": role, "project": project, "revoked": True}
    emit(value, as_json, lambda console: console.print(f"{principal} no longer has {role}"))


@role.command("list")
def list_roles(principal: Who, as_json: AsJson = False) -> None:
    """List the roles of a user or service."""
    with from_environment() as client:
        answer = client.identity.principals()
    found = [item for item in items_of(answer) if item.get("id", item.get("principal")) == principal]
    roles: list[Json] = found[0].get("roles", []) if found else []
    emit(roles, as_json, lambda console: console.print("\n".join(_grant(grant) for grant in roles) or "none"))


@token.command("list")
def list_tokens(
    principal: Annotated[str | None, typer.Option(help="Whose; your own when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """List tokens, without their secrets."""
    with from_environment() as client:
        answer = client.identity.tokens(principal)
    emit(answer, as_json, lambda console: show_items(console, answer, _TOKENS))


@token.command("create")
def create_token(
    principal: Who,
    days: Annotated[int, typer.Option(min=1, max=366, help="Days until it expires.")] = 90,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New file (mode 0600) for the token instead of showing it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a token. It is told once: the server keeps only its hash."""
    with from_environment() as client:
        answer = client.identity.create_token(principal, days=days)
    if output is not None:
        write_secret(output, str(answer.get("token", "")))
        answer = {name: value for name, value in answer.items() if name != "token"} | {"file": str(output)}
    emit(answer, as_json, lambda console: _show_token(console, answer))


@token.command("revoke")
def revoke_token(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Id of the token.")], as_json: AsJson = False
) -> None:
    """Revoke a token at once, with all tokens that were made with it."""
    with from_environment() as client:
        answer = client.identity.revoke_token(token)
    ended = f"{plain(answer.get('ended'))} ended with all that were made with it"
    emit(answer, as_json, lambda console: console.print(f"{token} is revoked; {ended}", markup=False))


def _show_token(console: Console, answer: Json) -> None:
    show_object(console, answer)
    if "token" in answer:
        console.print(Text("Keep it now: it is not shown again.", style="yellow"))


def _grant(grant: object) -> str:
    if not isinstance(grant, dict):
        return plain(grant)
    return plain(grant.get("role")) + (f" in {plain(grant['project'])}" if grant.get("project") else "")


def _attribute(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Invalid("cli.attribute", "not an attribute", got=text, expected="NAME=VALUE")
    return name, value
