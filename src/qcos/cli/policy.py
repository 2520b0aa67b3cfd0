"""``qcos policy``: policies as code: test them here, keep and activate them on the server, ask why a decision
was made.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from qcos.base.errors import NotFound
from qcos.cli.job_view import instant, show_decision
from qcos.cli.listing import Column, of, show_items
from qcos.cli.options import AsJson, server_extra
from qcos.cli.output import FAILED_CHECK, emit, members, plain, table
from qcos.client import Client, from_environment
from qcos.client.model import Decision, Json

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Test, upload, activate and explain policies."
)
_COLUMNS: list[Column] = [
    ("version", of("version")),
    ("active", of("active")),
    ("note", of("note")),
    ("uploaded by", of("uploaded_by")),
    ("uploaded", lambda item: instant(item.get("uploaded_at"))),
]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Version of a bundle: sha256:...")]
Directory = Annotated[
    Path | None,
    typer.Argument(metavar="DIR", help="Directory of *.rego files; the shipped ones when left out."),
]


@app.command("list")
def list_policies(as_json: AsJson = False) -> None:
    """List the bundles kept on the server and which one decides."""
    with from_environment() as client:
        answer = client.policies.list()
    emit(answer, as_json, lambda console: show_items(console, answer, _COLUMNS))


@app.command()
def show(version: Version, as_json: AsJson = False) -> None:
    """Show the files of a bundle."""
    with from_environment() as client:
        bundle = client.policies.get(version)
    emit(bundle, as_json, lambda console: _show_bundle(console, bundle))


@app.command()
def test(
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Run the Rego tests of a directory here, without a server. Exit code 1 unless all pass."""
    with server_extra("policy test"):
        from qcos.policy import bundle, check  # the policy engine is an optional package

        report = check.run_tests(bundle.shipped() if directory is None else bundle.load(directory))
    value: Json = report.as_dict()
    emit(value, as_json, lambda console: _show_report(console, value))
    if not value["ok"]:
        raise typer.Exit(FAILED_CHECK)


@app.command()
def upload(
    directory: Directory = None,
    note: Annotated[str, typer.Option(help="What it changes, and why.")] = "",
    as_json: AsJson = False,
) -> None:
    """Keep a directory's policies on the server, or those that this release ships. They decide nothing until activated."""
    with server_extra("policy upload"):
        from qcos.policy import bundle  # on the way to the engine, which is an optional package

        files = (bundle.shipped() if directory is None else bundle.load(directory)).files
    with from_environment() as client:
        answer = client.policies.upload(files, note=note)
    emit(answer, as_json, lambda console: console.print(members(_told(answer))))


@app.command()
def activate(
    version: Version,
    note: Annotated[str, typer.Option(help="Why; kept in the ledger.")] = "",
    as_json: AsJson = False,
) -> None:
    """Let a bundle decide from now on."""
    with from_environment() as client:
        answer = client.policies.activate(version, note=note)
    emit(answer, as_json, lambda console: console.print(members(_told(answer))))


@app.command()
def explain(
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="Id of a decision, or of a job.")],
    as_json: AsJson = False,
) -> None:
    """Explain a decision: every reason, the policies asked, what they were told."""
    with from_environment() as client:
        found = _decision(client, decision)
    emit(found, as_json, lambda console: _show_explained(console, found))


def _decision(client: Client, name: str) -> Decision:
    if name.startswith("dec-"):
        with contextlib.suppress(NotFound):  # a job may be called so, too
            return client.policies.decision(name)
    return client.jobs.decision(name)


def _show_bundle(console: Console, bundle: Json) -> None:
    console.print(members(_told(bundle)))
    for path, text in sorted(bundle.get("files", {}).items()):
        console.print(Text(f"\n# {plain(path)}", style="bold"))
        console.print(Text(plain(text)), soft_wrap=True)


def _show_report(console: Console, report: Json) -> None:
    for result in report["results"]:
        mark = Text("✓", style="green") if result["passed"] else Text("✗", style="bold red")
        console.print(mark, Text(plain(result["name"])), Text(plain(result["message"]), style="red"))
        for line in result["prints"]:
            console.print(Text(f"    {plain(line)}", style="dim"))
    rows = [
        (c["path"], f"{c['percent']} %", ", ".join(map(str, c["not_covered"]))) for c in report["coverage"]
    ]
    console.print(table(("file", "covered", "lines not reached"), rows, right=("covered",)))
    style = "bold green" if report["ok"] else "bold red"
    console.print(Text(f"{report['passed']} passed, {report['failed']} failed", style=style))


def _show_explained(console: Console, decision: Decision) -> None:
    for line in decision.get("explanation", []):  # type: ignore[attr-defined]  # sent beside the documented members
        console.print(plain(line))
    show_decision(console, decision)


def _told(answer: Json) -> list[tuple[str, object]]:
    return [(name, value) for name, value in answer.items() if not isinstance(value, dict | list)]
