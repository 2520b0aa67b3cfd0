"""``qcos worm``: copies of ledger and evidence that nobody can change; for whoever runs the server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from qcos.base.clock import rfc3339
from qcos.base.errors import QcosError
from qcos.cli.listing import show_object
from qcos.cli.options import AsJson, server_extra, write_file
from qcos.cli.output import FAILED_CHECK, emit, people, table
from qcos.client.model import Json

if TYPE_CHECKING:
    from qcos.administration.archive import Archive
    from qcos.worm.model import Finding

app = typer.Typer(no_args_is_help=True)
_LISTED = 100


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show what was copied to the WORM store, how it is protected, how the last rounds went, and what was found wrong there."""
    archive = _archive()
    from qcos.db.engine import scope  # there: the archive was made
    from qcos.worm import store

    address = archive.store.address
    with scope(archive.engine, None) as connection:
        totals, found = store.totals(connection, address), store.findings(connection, address, _LISTED)
        rounds = store.rounds(connection, address)
    protection, refused = "unknown", None
    try:
        protection = archive.store.check()
    except QcosError as error:
        refused = error
    value: Json = {
        "store": address,
        "protection": protection,
        "succeeded": rfc3339(rounds.succeeded_at) if rounds.succeeded_at else None,
        "failing_since": rfc3339(rounds.failing_since) if rounds.failing_since else None,
        "failed": rfc3339(rounds.failed_at) if rounds.failed_at else None,
        "failure": rounds.failure,
        "copies": {kind: {"count": count, "bytes": size} for kind, (count, size) in totals.items()},
        "findings": [{"seen": rfc3339(at), **_as_json(finding)} for at, finding in found],
    }
    emit(value, as_json, lambda console: show_object(console, value))
    if refused is not None:
        raise refused


@app.command()
def copy(as_json: AsJson = False) -> None:
    """Copy now what is new; the server does it by itself every minute."""
    done = _archive().round()
    value: Json = {
        "size": done.size,
        "copies": done.copies,
        "bundles": done.bundles,
        "lengthened": done.lengthened,
        "findings": [_as_json(finding) for finding in done.findings],
    }
    emit(value, as_json, lambda console: show_object(console, value))
    if done.findings:
        raise typer.Exit(FAILED_CHECK)


@app.command()
def verify(
    content: Annotated[
        bool, typer.Option(help="Read every copy's bytes; without it dates, versions and sizes.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Examine every copy: whether it is there, unchanged and protected, and whether somebody tried otherwise."""
    archive = _archive()
    with Progress(console=people(sys.stderr), transient=True, disable=as_json) as progress:
        task = progress.add_task("copies", total=None)
        done, found = archive.verify(content=content, progress=lambda n: progress.update(task, completed=n))
    value: Json = {"ok": not found, "copies": done, "findings": [_as_json(finding) for finding in found]}
    emit(value, as_json, lambda console: _show(console, done, found))
    if found:
        raise typer.Exit(FAILED_CHECK)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="A new folder for the ledger's files.")],
    store: Annotated[
        str | None, typer.Option(help="The store's address; QCOS_WORM when left out.", envvar="QCOS_WORM")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Get the ledger's files back, without a database: a folder for `qcos ledger fsck`."""
    with server_extra("qcos worm"):
        from qcos.settings import read_settings
        from qcos.worm.open import open_store
        from qcos.worm.restore import restore as run
    settings = read_settings()
    opened = open_store(store or "", endpoint=settings.worm_endpoint, region=settings.worm_region)
    with Progress(console=people(sys.stderr), transient=True, disable=as_json) as progress:
        task = progress.add_task("files", total=None)
        done = run(opened, folder, lambda n, total: progress.update(task, completed=n, total=total))
    value: Json = {"files": done.files, "bytes": done.size, "entries": done.entries, "folder": str(folder)}
    value |= {"refused": done.refused[:_LISTED]} if done.refused else {}
    emit(value, as_json, lambda console: show_object(console, value))
    if done.refused:
        raise typer.Exit(FAILED_CHECK)


@app.command()
def bundle(
    name: Annotated[str, typer.Argument(help="Name of the copy: evidence/<tenant>/<bundle>.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    as_json: AsJson = False,
) -> None:
    """Get an evidence bundle back, with its later time stamps: a file for `qcos evidence verify`. The database has its key."""
    archive = _archive()
    from qcos.administration.restore import restored_bundle
    from qcos.app import open_wrapper
    from qcos.secrecy.unlock import TenantKeys
    from qcos.settings import read_settings

    keys = TenantKeys(archive.engine, open_wrapper(read_settings()))
    restored = restored_bundle(archive.engine, keys, archive.store, name)
    document = json.dumps(restored.bundle).encode()
    write_file(output, document)
    value: Json = {"file": str(output), "bytes": len(document), "renewals": restored.renewals}
    emit(value, as_json, lambda console: show_object(console, value))


def _archive() -> Archive:
    with server_extra("qcos worm"):
        from qcos.app import attached, make_archive
        from qcos.settings import read_settings
    return make_archive(attached(read_settings()))


def _as_json(finding: Finding) -> Json:
    return {"code": finding.code, "name": finding.name, "message": finding.message}


def _show(console: Console, done: int, found: list[Finding]) -> None:
    console.print(f"{done} copies examined, {len(found)} findings")
    if found:
        console.print(table(("code", "copy", "what"), [(f.code, f.name, f.message) for f in found[:_LISTED]]))
