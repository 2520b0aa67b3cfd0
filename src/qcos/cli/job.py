"""``qcos job``: submit, follow, estimate and cancel jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from qcos.base.errors import Invalid
from qcos.cli.job_view import (
    counts_charts,
    show_estimate,
    show_job,
    show_jobs,
    show_result,
    step_line,
)
from qcos.cli.options import After, AsJson, Number, Project
from qcos.cli.output import FAILED_CHECK, amount_of, emit, members, people, write_json
from qcos.client import Client, configuration, from_environment
from qcos.client.model import Job, Json
from qcos.client.spec import DEFAULTS, Options, from_files

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Submit, follow, estimate and cancel jobs."
)
_EXIT_CODES = {"completed": 0, "denied": 3}

Files = Annotated[
    list[Path],
    typer.Argument(
        help="OpenQASM files (several make one job of several circuits), or one JSON file: a Job Spec."
    ),
]
Shots = Annotated[int | None, typer.Option(min=1, help=f"Repetitions of each circuit ({DEFAULTS.shots}).")]
CostCenter = Annotated[str | None, typer.Option(help="Who is charged, when not the project's own.")]
Classification = Annotated[
    str | None, typer.Option(help=f"Classification of the data ({DEFAULTS.classification}).")
]
Purpose = Annotated[str | None, typer.Option(help=f"What the job is for ({DEFAULTS.purpose}).")]
Justification = Annotated[str | None, typer.Option(help="The business reason, in words.")]
Backend = Annotated[str | None, typer.Option("--backend", "-b", help="Run on this backend only.")]
Providers = Annotated[list[str] | None, typer.Option("--provider", help="Allowed provider; may be repeated.")]
MinQubits = Annotated[int | None, typer.Option(min=1, help="Qubits the backend has at least.")]
MaxDepth = Annotated[int | None, typer.Option(min=1, help="Depth the circuit has at most.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed for simulators and compilers.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--param", help="NAME=VALUE of an input parameter; may be repeated.")
]
Compiler = Annotated[str | None, typer.Option(help="What made the source, for example qiskit-2.1.0.")]
Level = Annotated[str | None, typer.Option(help="Evidence level: basic, standard or full.")]
Retention = Annotated[int | None, typer.Option(min=1, help="Days evidence is kept.")]
JobId = Annotated[str | None, typer.Option(help="Your own id for the job.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
Timeout = Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most; the job goes on.")]


@app.command()
def submit(
    context: typer.Context,
    files: Files,
    project: Project = None,
    shots: Shots = None,
    classification: Classification = None,
    purpose: Purpose = None,
    cost_center: CostCenter = None,
    justification: Justification = None,
    backend: Backend = None,
    provider: Providers = None,
    min_qubits: MinQubits = None,
    max_depth: MaxDepth = None,
    seed: Seed = None,
    param: Parameters = None,
    compiler_version: Compiler = None,
    level: Level = None,
    retention_days: Retention = None,
    job_id: JobId = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same key never makes a second job.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Follow the job to its end and show the counts.")
    ] = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Submit a job: decided, reserved and placed when this returns.

    With --wait the exit code tells how the job ended: 0 completed, 1 failed or cancelled.
    """
    spec = _spec(context)
    with from_environment() as client:
        job = client.jobs.submit(spec, key=key)
        if not wait:
            emit(job, as_json, lambda console: show_job(console, job))
            return
        _follow(client, job["job_id"], timeout, as_json, steps_as_json=False)


@app.command()
def validate(
    context: typer.Context,
    files: Files,
    project: Project = None,
    shots: Shots = None,
    classification: Classification = None,
    purpose: Purpose = None,
    cost_center: CostCenter = None,
    justification: Justification = None,
    backend: Backend = None,
    provider: Providers = None,
    min_qubits: MinQubits = None,
    max_depth: MaxDepth = None,
    seed: Seed = None,
    param: Parameters = None,
    compiler_version: Compiler = None,
    level: Level = None,
    retention_days: Retention = None,
    job_id: JobId = None,
    as_json: AsJson = False,
) -> None:
    """Check a Job Spec and its circuits without submitting it; every fault is shown at once."""
    spec = _spec(context)
    with from_environment() as client:
        answer = client.jobs.validate(spec)
    emit(answer, as_json, lambda console: console.print(members([("valid", "yes"), *_scalars(answer)])))


@app.command()
def estimate(
    context: typer.Context,
    files: Files,
    project: Project = None,
    shots: Shots = None,
    classification: Classification = None,
    purpose: Purpose = None,
    cost_center: CostCenter = None,
    justification: Justification = None,
    backend: Backend = None,
    provider: Providers = None,
    min_qubits: MinQubits = None,
    max_depth: MaxDepth = None,
    seed: Seed = None,
    param: Parameters = None,
    compiler_version: Compiler = None,
    level: Level = None,
    retention_days: Retention = None,
    job_id: JobId = None,
    as_json: AsJson = False,
) -> None:
    """Show where a job would run and the most it would cost, without submitting it."""
    spec = _spec(context)
    with from_environment() as client:
        answer = client.jobs.estimate(spec)
    emit(answer, as_json, lambda console: show_estimate(console, answer))


@app.command()
def show(job: JobArgument, as_json: AsJson = False) -> None:
    """Show a job: decision and reasons, placement, price, steps."""
    with from_environment() as client:
        found = client.jobs.get(job)
    emit(found, as_json, lambda console: show_job(console, found))


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    project: Project = None,
    after: After = None,
    limit: Number = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with from_environment() as client:
        page = client.jobs.page(state=state, project=project, after=after, limit=limit)
    emit(page, as_json, lambda console: show_jobs(console, page["items"]))
    if page["next"] and not as_json:
        people().print(f"more: --after {page['next']}")


@app.command()
def watch(job: JobArgument, timeout: Timeout = None, as_json: AsJson = False) -> None:
    """Follow a job to its end; with --json its steps, one a line, then the job."""
    with from_environment() as client:
        _follow(client, job, timeout, as_json, steps_as_json=True)


@app.command()
def cancel(job: JobArgument, as_json: AsJson = False) -> None:
    """Cancel a job; what it reserved is released."""
    with from_environment() as client:
        found = client.jobs.cancel(job)
    emit(found, as_json, lambda console: show_job(console, found))


@app.command()
def result(job: JobArgument, as_json: AsJson = False) -> None:
    """Show the counts of a job as a bar chart."""
    with from_environment() as client:
        found = client.jobs.result(job)
    emit(found, as_json, lambda console: show_result(console, found))


def _follow(
    client: Client, job_id: str, timeout: float | None, as_json: bool, *, steps_as_json: bool
) -> None:
    console = people()
    for step in client.jobs.steps(job_id, timeout_s=timeout):
        if not as_json:
            console.print(step_line(step))
        elif steps_as_json:
            write_json(step)
    job = client.jobs.wait_for(job_id, timeout_s=timeout)
    if as_json:
        write_json(job)
    else:
        _show_end(client, job)
    raise typer.Exit(_EXIT_CODES.get(job["state"], FAILED_CHECK))


def _show_end(client: Client, job: Job) -> None:
    console = people()
    console.print()
    if job["state"] != "completed":
        show_job(console, job | {"steps": []})
        return
    console.print(*counts_charts(client.jobs.result(job["job_id"])), sep="\n")
    console.print()
    console.print(
        members(
            [
                ("job", job["job_id"]),
                ("backend", job.get("backend")),
                ("charge", amount_of(job.get("charge")) if job.get("charge") else None),
                ("evidence", job.get("bundle_id")),
            ]
        )
    )


def _spec(context: typer.Context) -> Json:
    """Return the Job Spec that a command's files and options say."""
    given: dict[str, Any] = context.params  # Any: options of several types
    names = {name: given[name] for name in _NAMES if given.get(name) is not None}
    names["providers"] = tuple(given.get("provider") or ())
    names["parameters"] = dict(_parameter(text) for text in given.get("param") or ()) or None
    known = configuration.load()
    defaults = replace(DEFAULTS, project=known.project or None, cost_center=known.cost_center or None)
    return from_files(given["files"], Options(**names), defaults)


_NAMES = (
    "shots",
    "seed",
    "backend",
    "min_qubits",
    "max_depth",
    "project",
    "cost_center",
    "classification",
    "purpose",
    "justification",
    "level",
    "retention_days",
    "compiler_version",
    "job_id",
)


def _parameter(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if not name or not equals:
            raise ValueError
        return name, float(value)
    except ValueError:
        raise Invalid(
            "cli.param", "not a parameter", got=text, expected="NAME=NUMBER, for example theta=0.5"
        ) from None


def _scalars(answer: Json) -> list[tuple[str, object]]:
    return [(name, value) for name, value in answer.items() if name != "valid"]
