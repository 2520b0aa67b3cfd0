"""``qcos trust``: fetch the trust document once; follow its signed successors from then on; show what is in one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from qcos.base.canonical import digest_of
from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity
from qcos.base.limits import CLIENT_ANSWER_BYTES
from qcos.cli.job_view import instant
from qcos.cli.listing import Column, of, show_items
from qcos.cli.options import AsJson, Trust, alone_with, read_object, replace_file, write_file
from qcos.cli.output import emit, members, plain, write
from qcos.client import from_environment
from qcos.client.model import Json
from qcos.evidence import listed
from qcos.evidence.succession import Held, demand_countersigner, demand_witnesses, hold, update

app = typer.Typer(
    add_completion=False, help="Fetch, update, show the trust document evidence is verified with."
)
_KEYS: list[Column] = [
    ("role", of("role")),
    ("algorithm", of("algorithm")),
    ("key", of("key")),
    ("counts from", lambda item: instant(item.get("not_before"))),
    ("counts until", lambda item: instant(item.get("not_after"))),
    ("revoked", lambda item: instant(item.get("revoked_at"))),
    ("reason", of("reason")),
]
_CHANGES: list[Column] = [
    ("change", of("change")),
    ("role", of("role")),
    ("algorithm", of("algorithm")),
    ("key", of("key")),
    ("at", lambda item: instant(item.get("at"))),
    ("reason", of("reason")),
]


@app.callback(invoke_without_command=True)
def fetch(
    context: typer.Context,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to keep it in.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the trust document: the public keys that evidence and ledger are verified with.

    Take it once, over a channel you trust, compare its digest with what the operator tells you, and keep it.
    From then on `qcos trust update` follows it, and trusts nobody.
    """
    if context.invoked_subcommand is not None:
        return
    with from_environment() as client:
        document = client.trust()
    if output is None:
        write(json.dumps(document, indent=None if as_json else 2) + "\n")
        return
    write_file(output, _text(document))
    told = {"file": str(output), "version": document.get("version", 0), "digest": digest_of(document)}
    emit(told, as_json, lambda console: console.print(members(told.items())))


@app.command("update")
def follow(
    trust: Trust,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the new document; the one held when left out."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="Updates in a file, as GET /v1/trust/updates gives them."
        ),
    ] = None,
    accept_witnesses: Annotated[
        bool,
        typer.Option("--accept-witnesses", help="Accept that other witnesses of the ledger are demanded."),
    ] = False,
    accept_countersigner: Annotated[
        bool,
        typer.Option(
            "--accept-countersigner", help="Accept that the key that countersigns evidence was revoked."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Move the trust document held to the newest one: each step on the way is signed by the keys of the document before it.

    The server, or the file, need not be trusted. What does not follow is refused, with its own exit code, and nothing is written.
    """
    file = output or trust
    with alone_with(trust):
        held = hold(read_object(trust))
        steps = _steps(held, source)
        newest = steps[-1] if steps else held
        if not accept_witnesses:
            demand_witnesses(held.trust, newest.trust)
        if not accept_countersigner:
            demand_countersigner((held, *steps))
        if steps or output is not None:
            replace_file(file, _text(newest.document))
    told = {
        "file": str(file),
        "before": held.version,
        "version": newest.version,
        "digest": newest.digest,
        "steps": [
            {"version": one.version, "issued": rfc3339(one.trust.issued) if one.trust.issued else None}
            for one in steps
        ],
        "changes": listed.tell_changes(held.trust, newest.trust),
    }
    emit(told, as_json, lambda console: _show_update(console, told))


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A trust document.")], as_json: AsJson = False
) -> None:
    """Show what is in a trust document: its version and digest, each key's role and when it counts. Needs no server."""
    told = listed.show(hold(read_object(file)))
    emit(told, as_json, lambda console: _show_document(console, told))


def _steps(held: Held, source: Path | None) -> list[Held]:
    """Return the documents after the one held, from a file or from the server."""
    if source is not None:
        return list(update(held, _items(read_object(source, at_most=CLIENT_ANSWER_BYTES))))
    with from_environment() as client:
        return _follow(held, client.trust_updates(max(held.version - 1, 0)))


def _follow(held: Held, pages: Iterable[list[Json]]) -> list[Held]:
    """Follow updates page by page, the first one from the step to the document held; returns the documents after it.

    Raises:
        Integrity: As `update`; ``trust.update`` when a further page leads no further: a server could go on so for ever.
    """
    steps: list[Held] = []
    for number, items in enumerate(pages):
        found = update(steps[-1] if steps else held, items, overlapping=number == 0)
        if number and not found:
            raise Integrity(
                "trust.update",
                "the server's updates of the trust document do not go on",
                expected=f"the update after version {(steps[-1] if steps else held).version}",
                got=f"{len(items)} that are known already",
            )
        steps += found
    return steps


def _items(document: Json) -> list[Json]:
    items = document.get("items")
    if not isinstance(items, list):
        raise Integrity(
            "trust.update",
            "the file holds no updates of a trust document",
            expected="what GET /v1/trust/updates gives: a member `items`",
            got=", ".join(document)[:200],
        )
    return items


def _show_update(console: Console, told: dict[str, Any]) -> None:  # Any: JSON
    if not told["steps"]:
        console.print(plain(f"version {told['version']} is the newest"))
        return
    show_items(console, {"items": told["changes"]}, _CHANGES)
    console.print(
        plain(f"version {told['before']} to {told['version']}, in {told['file']}: {told['digest']}")
    )


def _show_document(console: Console, told: dict[str, Any]) -> None:  # Any: JSON
    console.print(members((name, value) for name, value in told.items() if name != "keys"))
    show_items(console, {"items": told["keys"]}, _KEYS)


def _text(document: Any) -> bytes:  # Any: JSON
    return json.dumps(document, indent=2).encode() + b"\n"
