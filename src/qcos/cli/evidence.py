"""``qcos evidence``: fetch evidence bundles; verify them offline, with the trust document alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from qcos.base.errors import QcosError
from qcos.base.limits import MAX_BUNDLE_BYTES
from qcos.cli.options import AsJson, Trust, read_bytes, read_object, write_file
from qcos.cli.output import FAILED_CHECK, emit, members, plain
from qcos.client import from_environment
from qcos.evidence.verify import verify as verify_bundle

app = typer.Typer(no_args_is_help=True, help="Fetch evidence bundles; verify them offline.")


@app.command()
def get(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write instead of standard output.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, max=60, help="Seconds to wait for the ledger's proof.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Fetch the evidence bundle of a job, byte for byte as the server sends it."""
    with from_environment() as client:
        document = client.jobs.evidence(job, wait_s=wait)
    if output is None:
        sys.stdout.write(document.decode("utf-8") + ("" if document.endswith(b"\n") else "\n"))
        sys.stdout.flush()
        return
    write_file(output, document)
    wrote = {"file": str(output), "bytes": len(document)}
    emit(wrote, as_json, lambda console: console.print(f"{len(document)} bytes in {output}"))


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's file.")],
    trust: Trust,
    allow_pending: Annotated[
        bool, typer.Option("--allow-pending", help="Accept a bundle that carries no ledger proof yet.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Verify a bundle offline: signatures, time stamp, ledger proof, and that they commit to every field.

    Needs no server and opens no connection. Exit code 1 and the exact reason when anything does not agree.
    """
    document = read_bytes(bundle, at_most=MAX_BUNDLE_BYTES)
    roots = read_object(trust)
    try:
        report = verify_bundle(document, roots, allow_pending=allow_pending)
        ok = report.ok
        checks = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in report.checks]
    except QcosError as error:  # a document that cannot even be read
        ok, checks = False, [{"name": "document", "ok": False, "detail": str(error)}]
    emit({"ok": ok, "checks": checks}, as_json, lambda console: show_checks(console, ok, checks))
    if not ok:
        raise typer.Exit(FAILED_CHECK)


def show_checks(console: Console, ok: bool, checks: list[dict[str, Any]]) -> None:
    """Print a list of checks and the verdict."""
    marks = {True: Text("✓", style="green"), False: Text("✗", style="bold red")}
    for check in checks:
        console.print(
            marks[bool(check["ok"])],
            Text(f"{plain(check['name']):<28}"),
            Text(plain(check["detail"]), style="dim"),
        )
    failed = [check for check in checks if not check["ok"]]
    console.print()
    if ok:
        console.print(Text(f"VERIFIED: all {len(checks)} checks hold", style="bold green"))
    else:
        console.print(Text("NOT VERIFIED", style="bold red"))
        console.print(members([("because", f"{check['name']}: {check['detail']}") for check in failed]))
