"""``qcos ledger``: search the audit ledger, fetch and check its proofs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from qcos.base.errors import Invalid, QcosError
from qcos.cli.job_view import instant
from qcos.cli.listing import Column, of, show_items, show_object
from qcos.cli.options import (
    After,
    AsJson,
    Number,
    Since,
    Trust,
    Until,
    read_bytes,
    read_object,
    server_extra,
    write_file,
)
from qcos.cli.output import FAILED_CHECK, emit, members, people, plain, write, write_json
from qcos.client import from_environment
from qcos.client.model import Json
from qcos.ledger.checkpoint import Checkpoint, parse_body
from qcos.ledger.note import parse
from qcos.ledger.pinned import PinnedVkey, read_pinned
from qcos.ledger.verify import verify_consistency, verify_proof

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


@app.command()
def verify(
    proof_file: Annotated[
        Path, typer.Argument(metavar="PROOF", help="The proof's file (of `qcos ledger proof --json`).")
    ],
    trust: Trust,
    as_json: AsJson = False,
) -> None:
    """Verify a record's proof offline: the record, its place in the tree, the checkpoint's signatures."""
    found, vkeys = read_object(proof_file), _vkeys(trust)
    _judge(lambda: verify_proof(found, vkeys).checkpoint, "the record is in the ledger", as_json)


@app.command()
def consistency(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="An earlier checkpoint's file.")],
    trust: Trust,
    new: Annotated[
        Path | None, typer.Argument(metavar="NEW", help="A later one's; the server's latest when left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify that the ledger only grew since a checkpoint you kept: nothing of it was changed or removed."""
    vkeys, earlier = _vkeys(trust), read_bytes(old)
    with from_environment() as client:
        later = client.ledger.checkpoint() if new is None else read_bytes(new)
        hashes = client.ledger.consistency(_size(earlier), _size(later)).get("hashes", [])
    _judge(lambda: verify_consistency(earlier, later, hashes, vkeys)[1], "the ledger only grew", as_json)


@app.command()
def fsck(
    directory: Annotated[Path, typer.Argument(help="The ledger's directory of tiles.")],
    trust: Trust,
    database: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Compare the database too: its entries, every signed checkpoint, every record.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Rebuild the whole tree from its entries and compare every tile, root and signature."""
    vkeys = [str(key) for key in _vkeys(trust)]  # old checkpoints are by old keys
    with server_extra("qcos ledger fsck"):
        from qcos.db.engine import make_engine, scope
        from qcos.identity.store import tenants as all_tenants
        from qcos.ledger.fsck import (
            fsck as check,
        )  # compares a database too when given one: needs its packages
    engine = make_engine(database, pool_size=2, application="qcos-fsck") if database else None
    tenants = None
    if engine is not None:
        with scope(engine, None) as connection:
            tenants = [tenant for tenant, _ in all_tenants(connection)]
    with Progress(console=people(sys.stderr), transient=True, disable=as_json) as progress:
        task = progress.add_task("entries, then records" if database else "entries", total=None)
        report = check(
            directory,
            vkeys,
            engine,
            lambda done, total: progress.update(task, completed=done, total=total),
            tenants=tenants,
        )
    value: Json = {
        "ok": report.ok,
        "size": report.size,
        "root": report.root.hex() if report.root is not None else None,
        "tiles": report.tiles,
        "checkpoints": report.checkpoints,
        "records": report.records,
        "problem_count": report.problem_count,
        "problems": [{"code": p.code, "subject": p.subject, "message": p.message} for p in report.problems],
    }
    emit(value, as_json, lambda console: show_object(console, value))
    if not report.ok:
        raise typer.Exit(FAILED_CHECK)


def _judge(check: Callable[[], Checkpoint], good: str, as_json: bool) -> None:
    try:
        head = check()
    except QcosError as error:
        fault = error  # the name of an except clause ends with it
        emit({"ok": False, **fault.as_dict()}, as_json, lambda console: _show_fault(console, fault))
        raise typer.Exit(FAILED_CHECK) from None
    value = {"ok": True, "origin": head.origin, "size": head.size, "root": head.root.hex()}
    emit(value, as_json, lambda console: _show_good(console, good, value))


def _show_good(console: Console, good: str, value: Json) -> None:
    console.print(Text(f"VERIFIED: {good}", style="bold green"))
    console.print(members((name, item) for name, item in value.items() if name != "ok"))


def _show_fault(console: Console, error: QcosError) -> None:
    console.print(Text("NOT VERIFIED", style="bold red"))
    console.print(members([("because", error.message), ("expected", error.expected), ("got", error.got)]))


def _size(note: bytes) -> int:
    return parse_body(parse(note)[0]).size


def _vkeys(trust: Path) -> list[PinnedVkey]:
    """Return the ledger's verifier keys of a trust document; raises `Invalid` ``cli.trust`` without one."""
    listed = read_object(trust).get("ledger")
    try:
        pinned = [read_pinned(item) for item in listed] if isinstance(listed, list) else []
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Invalid(
            "cli.trust",
            "a ledger key of the trust document cannot be read",
            subject=str(trust),
            got=str(error)[:200],
        ) from None
    if not pinned:
        raise Invalid("cli.trust", "the trust document names no key of a ledger", subject=str(trust))
    return pinned
