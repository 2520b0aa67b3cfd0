"""``qcos login``, ``config``, ``whoami``, ``trust``, ``version``: this machine's side of things."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import Annotated

import typer

from qcos.base.errors import Invalid
from qcos.cli.listing import show_object
from qcos.cli.options import AsJson
from qcos.cli.output import emit, members
from qcos.client import Client, configuration, from_environment

login = typer.Typer(add_completion=False)
config = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Show or change the configuration file."
)
whoami = typer.Typer(add_completion=False)
version = typer.Typer(add_completion=False)


@login.command()
def log_in(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the server.")],
    token_file: Annotated[
        Path | None,
        typer.Option(help="File that holds the token; asked for, or read from a pipe, when left out."),
    ] = None,
    project: Annotated[str | None, typer.Option(help="Project of jobs that name none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Remember a server and a token, after trying them, in the configuration file (mode 0600)."""
    token = _token(token_file)
    with Client(url, token) as client:
        who = client.whoami()
    file = configuration.path()
    kept = configuration.read(file)
    kept.pop("token_file", None)
    configuration.write(file, kept | {"url": url, "token": token} | ({"project": project} if project else {}))
    value = {"url": url, "file": str(file), "principal": who}
    told = [("url", url), ("principal", who.get("id")), ("file", str(file))]
    emit(value, as_json, lambda console: console.print(members(told)))


@config.command("show")
def show_config(as_json: AsJson = False) -> None:
    """Show which server and project are configured, and whether there is a token; never the token itself."""
    found = configuration.load()
    value = {
        "file": str(configuration.path()),
        "url": found.url,
        "source": found.source,
        "token": "set" if found.token else "none",
        "project": found.project,
        "cost_center": found.cost_center,
    }
    emit(value, as_json, lambda console: console.print(members(value.items())))


@config.command("set")
def set_config(
    name: Annotated[str, typer.Argument(help="url, token_file, project or cost_center.")],
    value: Annotated[str, typer.Argument(help="The value; empty removes it.")],
    as_json: AsJson = False,
) -> None:
    """Change the configuration file. A token is set by `qcos login`, so that no shell history keeps it."""
    if name == "token":
        raise Invalid(
            "cli.token_argument", "a token is not given as an argument", hint="use `qcos login URL`"
        )
    file = configuration.path()
    kept = {**configuration.read(file), name: value}
    if name == "url":
        kept.pop("token", None)  # it belongs to the server it was given for
    configuration.write(file, {key: text for key, text in kept.items() if text})
    changed = {"file": str(file), name: value}
    emit(changed, as_json, lambda console: console.print(members(changed.items())))


@whoami.command()
def show_principal(as_json: AsJson = False) -> None:
    """Show who the token stands for, his roles and when the token expires."""
    with from_environment() as client:
        answer = client.whoami()
    emit(answer, as_json, lambda console: show_object(console, answer))


@version.command()
def show_version(as_json: AsJson = False) -> None:
    """Show the version of this program."""
    value = {"qcos": importlib.metadata.version("qcos"), "python": platform.python_version()}
    emit(value, as_json, lambda console: console.print(members(value.items())))


def _token(file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid("cli.file", f"cannot read the token: {error}", subject=str(file)) from None
    if sys.stdin.isatty():
        return str(typer.prompt("Token", hide_input=True, err=True)).strip()
    return sys.stdin.readline(1000).strip()
