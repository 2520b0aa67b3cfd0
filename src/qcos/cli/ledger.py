"""``qcos ledger``: search the audit ledger, fetch and check its proofs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from qcos.cli import ledger_check
from qcos.cli.job_view import instant
from qcos.cli.listing import Column, of, show_items, show_object
from qcos.cli.options import (
    After,
    AsJson,
    Number,
    Since,
    Until,
    write_file,
)
from qcos.cli.output import emit, members, plain, table, write, write_json
from qcos.client import from_environment
from qcos.client.model import Json

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Search the audit ledger; check its proofs."
)
_COLUMNS: list[Column] = [
    ("time", lambda item: instant(item.get("time"))),
    ("act", of("act")),
    ("actor", of("actor")),
    ("object", of("object")),
    ("project", of("project")),
    ("reason", of("reason")),
    ("record", of("id", "record_id")),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write instead of standard output.")
]


@app.command()
def checkpoint(output: Output = None, as_json: AsJson = False) -> None:
    """Show the latest signed checkpoint. Keep it: later ones must continue it."""
    with from_environment() as client:
        note = client.ledger.checkpoint()
    if output is not None:
        write_file(output, note)
    text = note.decode("utf-8", "replace")
    if as_json:
        write_json({"checkpoint": text})
    else:
        write(plain(text))  # as it is: a wrapped line would break its signature


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show how far the ledger is, and what each witness answered last."""
    with from_environment() as client:
        found = client.ledger.status()
    emit(found, as_json, lambda console: _show_status(console, found))


def _show_status(console: Console, found: Json) -> None:
    told = found.get("witnesses") or {}
    console.print(
        members(
            [
                *((name, found.get(name)) for name in ("origin", "size", "published", "quorum")),
                (
                    "withheld",
                    f"{told.get('withheld_s', 0)} s: too few witnesses" if told.get("met") is False else "",
                ),
            ]
        )
    )
    if told.get("witnesses"):
        columns = ("name", "outcome", "size", "detail", "url")
        rows = [[one.get(name, "") for name in columns] for one in told["witnesses"]]
        console.print(table(columns, rows, right=("size",)))


@app.command()
def search(
    actor: Annotated[str | None, typer.Option(help="Only acts of this principal.")] = None,
    object: Annotated[
        str | None, typer.Option(help="Only acts on this object, for example a job's id.")
    ] = None,
    act: Annotated[str | None, typer.Option(help="Only this act, for example job.submitted.")] = None,
    since: Since = None,
    until: Until = None,
    after: After = None,
    limit: Number = 50,
    as_json: AsJson = False,
) -> None:
    """Search the records of what was done."""
    with from_environment() as client:
        page = client.ledger.records(
            actor=actor, object=object, act=act, since=since, until=until, after=after, limit=limit
        )
    emit(page, as_json, lambda console: show_items(console, page, _COLUMNS))


@app.command()
def proof(
    record: Annotated[str, typer.Argument(metavar="RECORD", help="Id of the record.")],
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the proof that a record is in the ledger; `qcos ledger verify` checks it offline."""
    with from_environment() as client:
        found = client.ledger.proof(record)
    if output is not None:
        write_file(output, json.dumps(found).encode())
    emit(found, as_json, lambda console: show_object(console, found))


for _check in (ledger_check.verify, ledger_check.consistency, ledger_check.fsck, ledger_check.monitor):
    app.command()(_check)
