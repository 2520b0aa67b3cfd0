"""``qcos evidence``: fetch evidence bundles; verify them offline, with the trust document alone."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from qcos.base.clock import now, parse_rfc3339
from qcos.base.errors import Invalid
from qcos.base.limits import CLIENT_ANSWER_BYTES
from qcos.cli import retention
from qcos.cli.options import AsJson, Trust, read_bytes, read_object, write_file
from qcos.cli.output import ERASED, FAILED_CHECK, emit, members, plain, styled, write
from qcos.client import from_environment
from qcos.evidence import export as exports
from qcos.evidence.certified import certified, read_roots
from qcos.evidence.crate import to_ro_crate
from qcos.evidence.folder import read_materials, write_material
from qcos.evidence.report import Report
from qcos.evidence.trust import Trust as Pinned
from qcos.evidence.verify import verify as verify_bundle


class Form(StrEnum):
    """What a bundle can be exported as."""

    dsse = "dsse"
    in_toto = "in-toto"
    sigstore = "sigstore"
    cose = "cose"
    ro_crate = "ro-crate"


class Hash(StrEnum):
    """What evidence can be hashed anew with, as a later one than the others."""

    sha3_512 = "sha3-512"


_NAME_WIDTH, _NAME_WIDEST = 24, 40  # of the column of checks, characters; a material may have any name
app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Fetch evidence bundles; verify them offline."
)
for command in (retention.retention, retention.due, retention.erase, retention.resume_erasing):
    app.command()(command)


@app.command()
def get(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write instead of standard output.")
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="File for the exact Job Spec, too.")] = None,
    result: Annotated[Path | None, typer.Option(help="File for the exact result, too.")] = None,
    materials: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for every document the evidence commits to, too."),
    ] = None,
    wait: Annotated[float, typer.Option(min=0, max=60, help="Seconds to wait for the ledger's proof.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Fetch the evidence bundle of a job, byte for byte as the server sends it."""
    lacking: list[str] = []
    with from_environment() as client:
        document = client.jobs.evidence(job, wait_s=wait)
        if materials is not None:
            for item in client.jobs.materials(job):
                if item["kept"]:
                    write_material(materials, item["name"], client.jobs.material(job, item["name"]))
                else:
                    lacking.append(str(item["name"]))
        if spec is not None:
            write_file(spec, client.jobs.spec_document(job))
        if result is not None:
            write_file(result, client.jobs.result_document(job))
    if output is None:
        write(document.decode("utf-8") + ("" if document.endswith(b"\n") else "\n"))
        return
    write_file(output, document)
    wrote = {"file": str(output), "bytes": len(document)}
    if materials is not None:
        wrote |= {"materials": str(materials), "not_kept": lacking}
    line = f"{len(document)} bytes in {output}" + (f"; not kept: {', '.join(lacking)}" if lacking else "")
    emit(wrote, as_json, lambda console: console.print(plain(line)))


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's file.")],
    trust: Trust,
    spec: Annotated[
        Path | None, typer.Option(help="The exact Job Spec: must be what the bundle commits to.")
    ] = None,
    result: Annotated[
        Path | None, typer.Option(help="The exact result: must be what the bundle commits to.")
    ] = None,
    material: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="A document of this name must be what the bundle commits to."),
    ] = None,
    materials: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of documents, as `qcos evidence get --materials` writes it."
        ),
    ] = None,
    level: Annotated[
        str, typer.Option(help="Demand at least this evidence level: basic, standard or full.")
    ] = "basic",
    ca: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of your CA: only keys that it certified count, whoever sent the trust document."
        ),
    ] = None,
    allow_pending: Annotated[
        bool, typer.Option("--allow-pending", help="Accept a bundle that carries no ledger proof yet.")
    ] = False,
    allow_erased: Annotated[
        bool, typer.Option("--allow-erased", help="Exit with 0 also for a bundle whose payload was erased.")
    ] = False,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Demand that its time stamp still counts then: RFC 3339, or now."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a bundle offline: signatures, time stamp, ledger proof, and that they commit to every field.

    Needs no server and opens no connection. Exit code 1 and the exact reason when anything does not agree; 7 when
    its payload was erased, and the ledger proves that and that it had been sealed.
    """
    given = read_materials(materials) if materials is not None else {}
    files = {"input": spec, "output": result} | dict(map(_named, material or []))
    given |= {
        name: read_bytes(file, at_most=CLIENT_ANSWER_BYTES)
        for name, file in files.items()
        if file is not None
    }
    document = read_bytes(bundle, at_most=CLIENT_ANSWER_BYTES)  # the verifier has its own, narrower limit
    pinned = Pinned.load(read_object(trust))
    if ca is not None:
        pinned = certified(pinned, read_roots(read_bytes(ca)))
    report = verify_bundle(
        document,
        pinned,
        materials=given,
        allow_pending=allow_pending,
        allow_erased=allow_erased,
        level=level,
        at=_instant(at),
    )
    emit(report.as_dict(), as_json, lambda console: show_checks(console, report))
    if not report.ok:
        raise typer.Exit(ERASED if report.erased else FAILED_CHECK)


@app.command()
def export(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's file.")],
    form: Annotated[Form, typer.Option("--format", "-f", help="What to write. Only `cose` needs a server.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write instead of standard output.")
    ] = None,
    signature: Annotated[
        str, typer.Option(help="Of `sigstore`: Ed25519, or ML-DSA-65 with its time stamp.")
    ] = "Ed25519",
    materials: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of `ro-crate`: folder of documents to go along.")
    ] = None,
    trust: Annotated[Path | None, typer.Option(help="Of `ro-crate`: trust document to go along.")] = None,
    licence: Annotated[str, typer.Option("--license", help="Of `ro-crate`: URI of the data's licence.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write a bundle in a form that other tools read. Verify it first: nothing is checked here but digests."""
    document = read_bytes(bundle, at_most=CLIENT_ANSWER_BYTES)
    read = exports.read(document)
    if output is None and form in (Form.cose, Form.ro_crate):
        raise Invalid("cli.output", f"{form} is no text", expected="--output FILE")
    note = ""
    match form:
        case Form.dsse:
            data = exports.to_dsse(read)
        case Form.in_toto:
            data = exports.to_in_toto(read)
        case Form.sigstore:
            data, why = exports.to_sigstore(read, signature)
            note = f"without a time stamp: {why}" if why else ""
        case Form.ro_crate:
            given = read_materials(materials) if materials is not None else {}
            pinned = read_bytes(trust) if trust is not None else None
            data = to_ro_crate(document, read, given, pinned, licence=licence)
        case Form.cose:
            with from_environment() as client:
                data = client.jobs.cose(read["job_id"])
    if output is None:
        write(data.decode())
        return
    write_file(output, data)
    wrote = {"file": str(output), "bytes": len(data), "format": form.value, "note": note}
    line = f"{len(data)} bytes in {output}" + (f", {note}" if note else "")
    emit(wrote, as_json, lambda console: console.print(line))


def _named(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not name or not equals or not file:
        raise Invalid("cli.material", "not a named file", expected="NAME=FILE", got=text[:100])
    return name, Path(file)


@app.command()
def renew(
    before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Those that count no longer than this instant (RFC 3339)."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, whenever they expire.")] = False,
    hash_name: Annotated[
        Hash | None,
        typer.Option(
            "--hash",
            help="Also those that rest on an older hash than this: a new chain over the evidence and all its time stamps.",
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger.")] = "",
    as_json: AsJson = False,
) -> None:
    """Renew time stamps before their authority's certificate expires: one new token over all that are due (RFC 4998).

    With --hash, all that rest on an older hash are hashed anew before that gets weak (hash-tree renewal); stopped, run it again.
    The server does this by itself in time what expires; this is for doing it now. Exit code 1 when some could not be renewed.
    """
    total = {"bundles": 0, "rehashed": 0, "late": 0, "broken": 0}
    renewals: list[str] = []
    with from_environment() as client:
        after: str | None = ""
        while after is not None:
            done = client.jobs.renew_evidence(
                before=before,
                everything=everything,
                hash_name=hash_name.value if hash_name is not None else None,
                after=after,
                reason=reason,
            )
            total = {name: count + int(done[name]) for name, count in total.items()}
            renewals += [str(done["renewal_id"])] if done["renewal_id"] else []
            after = done["next"]
    anew = f" ({total['rehashed']} with a new hash)" if total["rehashed"] else ""
    text = f"{total['bundles']} renewed{anew}, {total['late']} too late, {total['broken']} broken"
    emit({**total, "renewals": renewals}, as_json, lambda console: console.print(text))
    if total["late"] or total["broken"]:
        raise typer.Exit(FAILED_CHECK)


def _instant(text: str | None) -> dt.datetime | None:
    if text is None or text == "now":
        return now() if text else None
    try:
        return parse_rfc3339(text)
    except ValueError:
        raise Invalid("cli.time", "not an instant", expected="RFC 3339, or now", got=text[:40]) from None


def show_checks(console: Console, report: Report) -> None:
    """Print the checks and the verdict."""
    marks = {True: Text("✓", style="green"), False: Text("✗", style="bold red")}
    shown = report.checks[: -1 if report.erased else None]
    width = max(
        [_NAME_WIDTH, *(len(plain(check.name)) for check in shown if len(check.name) <= _NAME_WIDEST)]
    )
    for check in shown:
        console.print(marks[check.ok], Text(f"{plain(check.name):<{width}}"), styled(check.detail, "dim"))
    console.print()
    if report.erased:
        console.print(styled(f"ERASED: {report.checks[-1].detail}", "bold yellow"))
    elif not report.ok:
        console.print(Text("NOT VERIFIED", style="bold red"))
        failed = next((check for check in report.checks if not check.ok), None)
        if failed is not None:
            where = [
                ("at", failed.pointer),
                ("expected", failed.expected),
                ("got", failed.got),
                ("code", failed.code),
            ]
            console.print(members([("because", f"{failed.name}: {failed.detail}"), *where]))
    elif report.pending:
        console.print(Text("VERIFIED, but the ledger does not cover it yet", style="bold yellow"))
    else:
        console.print(Text(f"VERIFIED: all {len(report.checks)} checks hold", style="bold green"))
