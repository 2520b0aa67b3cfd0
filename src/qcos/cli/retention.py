"""``qcos hold``, and the commands of ``qcos evidence`` about keeping and erasing."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer
from rich.console import Console

from qcos.base.errors import Invalid
from qcos.cli.job_view import instant
from qcos.cli.listing import Column, of, show_items, show_object
from qcos.cli.options import After, AsJson, Number
from qcos.cli.output import emit
from qcos.client import from_environment
from qcos.client.model import Json

hold = typer.Typer(no_args_is_help=True, add_completion=False, help="Place, release and list legal holds.")
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the ledger for ever.")]

_HOLDS: list[Column] = [
    ("hold", of("hold_id")),
    ("kind", of("kind")),
    ("subject", of("subject")),
    ("placed", lambda item: instant(item.get("placed_at"))),
    ("by", of("placed_by")),
    ("reason", of("reason")),
    ("released", lambda item: instant(item.get("released_at"))),
    ("released by", of("released_by")),
]
_DUE: list[Column] = [
    ("job", of("job_id")),
    ("project", of("project")),
    ("days", of("retention_days")),
    ("kept until", lambda item: instant(item.get("retain_until"))),
    ("erased after", lambda item: instant(item.get("erased_after"))),
]


@hold.command("place")
def place(
    reason: Reason,
    job: Annotated[str | None, typer.Option(help="Hold this job.")] = None,
    project: Annotated[str | None, typer.Option(help="Hold all jobs of this project.")] = None,
    everything: Annotated[bool, typer.Option("--tenant", help="Hold all jobs of the tenant.")] = False,
    as_json: AsJson = False,
) -> None:
    """Place a legal hold: nothing that it covers is erased until it is released."""
    given = [
        (kind, subject)
        for kind, subject in (("job", job), ("project", project), ("tenant", "" if everything else None))
        if subject is not None
    ]
    if len(given) != 1:
        raise Invalid(
            "cli.usage", "say what to hold", expected="one of --job, --project, --tenant", got=str(len(given))
        )
    with from_environment() as client:
        answer = client.retention.place_hold(*given[0], reason)
    emit(answer, as_json, lambda console: show_object(console, answer))


@hold.command("release")
def release(
    hold_id: Annotated[str, typer.Argument(metavar="HOLD", help="Id of the hold.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Release a legal hold: what it covered is erased when its time comes, or has come."""
    with from_environment() as client:
        answer = client.retention.release_hold(hold_id, reason)
    emit(answer, as_json, lambda console: show_object(console, answer))


@hold.command("list")
def list_holds(
    held: Annotated[
        bool | None, typer.Option("--held/--released", help="Only those that hold, or only those released.")
    ] = None,
    after: After = None,
    limit: Number = 50,
    as_json: AsJson = False,
) -> None:
    """List legal holds, newest first."""
    with from_environment() as client:
        page = client.retention.holds(held=held, after=after, limit=limit)
    emit(page, as_json, lambda console: show_items(console, page, _HOLDS))


def retention(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")], as_json: AsJson = False
) -> None:
    """Show until when a job's payload is kept, what holds it, and whether it was erased."""
    with from_environment() as client:
        answer = client.retention.of_job(job)
    emit(answer, as_json, lambda console: show_object(console, answer))


def due(
    before: Annotated[str | None, typer.Option(help="By this instant (RFC 3339); now by default.")] = None,
    limit: Number = 50,
    as_json: AsJson = False,
) -> None:
    """List the payloads that are due to be erased, longest due first; what is held is not among them."""
    with from_environment() as client:
        page = client.retention.due(before=before, limit=limit)
    emit(page, as_json, lambda console: show_items(console, page, _DUE, right=("days",)))


def erase(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")],
    reason: Reason,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask policy and check everything, and erase nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: it cannot be had back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a job's spec, result and evidence by destroying their key; proofs stay. It cannot be had back."""
    if not (dry_run or yes):
        typer.confirm(f"Erase the payload of {job} for ever?", abort=True, err=True)
    with from_environment() as client:
        answer = client.retention.erase(job, reason, dry_run=dry_run)
    emit(answer, as_json, lambda console: _show_erased(console, answer, dry_run))


def resume_erasing(
    today: Annotated[
        str, typer.Option("--today", help="The date as you know it, YYYY-MM-DD; not as the server says.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say what day it is, after the server's clock was not believed: erasing goes on from there."""
    try:
        day = dt.date.fromisoformat(today)
    except ValueError:
        raise Invalid("cli.usage", "not a date", expected="YYYY-MM-DD", got=today[:40]) from None
    with from_environment() as client:
        answer = client.retention.resume_erasing(day)
    emit(answer, as_json, lambda console: show_object(console, answer))


def _show_erased(console: Console, answer: Json, dry_run: bool) -> None:
    if dry_run:
        console.print("It would be erased; nothing was.")
    show_object(console, answer)
