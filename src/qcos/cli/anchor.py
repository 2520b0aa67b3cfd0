"""``qcos anchor``: the ledger's checkpoints on public chains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from qcos.base.clock import rfc3339
from qcos.base.errors import QcosError
from qcos.cli.job_view import instant
from qcos.cli.listing import Column, of, show_items, show_object
from qcos.cli.options import After, AsJson, Number, Trust, read_object, write_file
from qcos.cli.output import FAILED_CHECK, emit, members
from qcos.client import from_environment
from qcos.client.model import Json
from qcos.ledger.anchor.verify import Held, verify_anchor
from qcos.ledger.trust import read_ledger_trust

app = typer.Typer(no_args_is_help=True, add_completion=False)
_COLUMNS: list[Column] = [
    ("chain", of("kind")),
    ("size", of("size")),
    ("state", of("state")),
    ("begun", lambda item: instant(item.get("begun"))),
    ("block's time", lambda item: instant(item.get("block_time"))),
]


@app.command("list")
def list_anchors(after: After = None, limit: Number = 50, as_json: AsJson = False) -> None:
    """List the checkpoints that were committed to public chains, newest first."""
    with from_environment() as client:
        page = client.ledger.anchors(before=after, limit=limit)
    emit(page, as_json, lambda console: show_items(console, page, _COLUMNS))


@app.command()
def get(
    kind: Annotated[str, typer.Argument(metavar="CHAIN", help="ethereum or opentimestamps.")],
    size: Annotated[
        int, typer.Argument(min=0, help="Entries of the checkpoint, as `qcos anchor list` shows.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write the receipt to.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the receipt of an anchor; `qcos anchor verify` checks it offline."""
    with from_environment() as client:
        receipt = client.ledger.anchor(kind, size)
    if output is not None:
        write_file(output, json.dumps(receipt).encode())
    emit(receipt, as_json, lambda console: show_object(console, receipt))


@app.command()
def verify(
    receipt: Annotated[Path, typer.Argument(metavar="RECEIPT", help="The receipt's file.")],
    trust: Trust,
    block: Annotated[
        list[str] | None,
        typer.Option(
            help="Hash of the chain's block, from a node or an explorer of your own; may be given again."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify an anchor offline: the checkpoint's signatures, the way into a block, and that it is the chain's block.

    Without --block everything else is checked, the block to ask the chain for is told, and the exit code is 1.
    """
    try:
        held = verify_anchor(read_object(receipt), read_ledger_trust(read_object(trust)).vkeys, block or [])
    except QcosError as error:
        fault = error  # the name of an except clause ends with it
        emit({"ok": False, **fault.as_dict()}, as_json, lambda console: _show_fault(console, fault))
        raise typer.Exit(FAILED_CHECK) from None
    value: Json = {
        "ok": held.known,
        "block_known": held.known,
        "origin": held.checkpoint.origin,
        "size": held.checkpoint.size,
        "root": held.checkpoint.root.hex(),
        "chain": held.confirmation.chain,
        "height": held.confirmation.height,
        "block": held.confirmation.block,
        "time": rfc3339(held.confirmation.time),
    }
    emit(value, as_json, lambda console: _show(console, held, value))
    if not held.known:
        raise typer.Exit(FAILED_CHECK)


def _show(console: Console, held: Held, value: Json) -> None:
    seen = held.confirmation
    if held.known:
        console.print(Text("VERIFIED: the checkpoint existed when the block was made", style="bold green"))
    else:
        console.print(
            Text("NOT YET VERIFIED: ask the chain for the block, and pass its hash", style="bold yellow")
        )
    console.print(members((name, item) for name, item in value.items() if name not in ("ok", "block_known")))
    if not held.known:
        console.print(
            f"ask {seen.chain} for block {seen.height}; if its hash is {seen.block}, run this with --block"
        )


def _show_fault(console: Console, error: QcosError) -> None:
    console.print(Text("NOT VERIFIED", style="bold red"))
    console.print(members([("because", error.message), ("expected", error.expected), ("got", error.got)]))
