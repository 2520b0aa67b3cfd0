"""Jobs for people: steps as they happen, decision, placement, price, counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from qcos.cli.output import amount_of, bars, members, plain, reasons, styled, table
from qcos.client.model import Job, Json, Step

_STYLES = {"completed": "green", "denied": "red", "failed": "red", "cancelled": "yellow"}
_LAST_STEP = 10  # of Workflow A; the ends "failed" and "cancelled" stand above it


def show_jobs(console: Console, jobs: Iterable[Job]) -> None:
    """Print a listing."""
    rows = [
        (
            job["job_id"],
            state(job["state"]),
            job.get("project"),
            job.get("backend") or "—",
            amount_of(job.get("charge") or job.get("price")),
            instant(job.get("created_at")),
        )
        for job in jobs
    ]
    console.print(table(("job", "state", "project", "backend", "price", "created"), rows, right=("price",)))


def show_job(console: Console, job: Job) -> None:
    """Print a job: what was decided and why, where it runs and why, what it costs, what happened."""
    console.print(
        members(
            [
                ("job", job["job_id"]),
                ("state", state(job["state"])),
                ("project", job.get("project")),
                ("actor", job.get("actor")),
                ("backend", backend(job)),
                ("price", amount_of(job.get("price")) if job.get("price") else None),
                ("charge", amount_of(job.get("charge")) if job.get("charge") else None),
                ("evidence", job.get("bundle_id")),
                ("created", instant(job.get("created_at"))),
                ("updated", instant(job.get("updated_at"))),
                *error_lines(job.get("error")),
            ]
        )
    )
    if decision := job.get("decision"):
        console.print()
        show_decision(console, decision)
    if placement := job.get("placement"):
        console.print()
        show_placement(console, placement)
    if steps := job.get("steps"):
        console.print()
        for step in steps:
            console.print(step_line(step))


def show_decision(console: Console, decision: Mapping[str, Any]) -> None:
    """Print what policy said, with every reason."""
    allowed = bool(decision.get("allow"))
    console.print(Text("allowed", style="bold green") if allowed else Text("denied", style="bold red"))
    console.print(members([*reasons(dict(decision)), ("policies", decision.get("policy_version"))]))


def show_placement(console: Console, placement: Mapping[str, Any]) -> None:
    """Print the chosen backend, how the candidates scored, why others were dropped."""
    console.print(Text.assemble("runs on ", (plain(placement.get("backend")), "bold")))
    if scores := placement.get("scores"):
        names = [name for name in ("total", "cost", "queue", "history") if name in scores[0]]
        rows = [[score.get("backend"), *(score.get(name) for name in names)] for score in scores]
        console.print(table(["backend", *names], rows, right=names))
    for dropped in placement.get("dropped") or []:
        console.print(dropped_line(dropped))


def dropped_line(dropped: Mapping[str, Any]) -> Text:  # Any: JSON
    """Return why a backend could not be chosen."""
    return styled(f"not {dropped.get('backend')}: {dropped.get('message')} [{dropped.get('code')}]", "dim")


def show_result(console: Console, result: Json) -> None:
    """Print the counts of every circuit as bar charts, then whatever else the result says."""
    console.print(*counts_charts(result), sep="\n")
    rest = [(name, value) for name, value in result.items() if name not in ("counts", "circuits", "results")]
    console.print()
    console.print(members((name, value) for name, value in rest if not isinstance(value, dict | list)))


def counts_charts(result: Json) -> list[RenderableType]:
    """Return one bar chart for each circuit of a result."""
    listed = all_counts(result)
    charts: list[RenderableType] = []
    for number, counts in enumerate(listed, start=1):
        title = (
            Text(f"circuit {number} of {len(listed)}", style="dim")
            if len(listed) > 1
            else Text("counts", style="dim")
        )
        charts.append(Group(title, bars(counts)))
    return charts or [Text("no counts", style="dim")]


def all_counts(result: Json) -> list[dict[str, int]]:
    """Return the counts of each circuit: ``counts`` is one object or a list of them, or stands in each of
    ``circuits``.
    """
    found: object = result.get("counts")
    if found is None:
        found = [item.get("counts", {}) for item in result.get("circuits") or result.get("results") or []]
    return [found] if isinstance(found, dict) else found if isinstance(found, list) else []


def show_estimate(console: Console, estimate: Json) -> None:
    """Print where a job would run and the most it would cost."""
    show_decision(console, estimate)
    placement, chosen = estimate.get("placement"), estimate.get("backend")
    if isinstance(placement, dict):
        show_placement(console, placement)
    rows = [
        (
            styled(candidate.get("backend"), "bold" if candidate.get("backend") == chosen else ""),
            candidate.get("provider"),
            amount_of(candidate.get("price")),
            (candidate.get("excluded") or {}).get("message"),
        )
        for candidate in estimate.get("candidates") or []
    ]
    console.print(table(("backend", "provider", "at most", "excluded because"), rows, right=("at most",)))
    for dropped in estimate.get("dropped") or []:
        console.print(dropped_line(dropped))


def step_line(step: Step) -> Text:
    """Return one step as a line: number, name, time, particulars."""
    number = step["n"]
    ended = number > _LAST_STEP
    head = " " * 7 if ended else f"{number:>3}/{_LAST_STEP} "
    line = Text.assemble((head, "dim"), (f"{plain(step['step']):<14}", "bold red" if ended else "bold"))
    line.append(instant(step.get("at"))[11:] + "  ", style="dim")
    detail = step.get("detail") or {}
    line.append("  ".join(f"{plain(name)}={_short(value)}" for name, value in detail.items()))
    return line


def state(name: str) -> Text:
    """Return a state in its colour."""
    return styled(name, _STYLES.get(name, "cyan"))


def backend(job: Job) -> str | None:
    """Return backend and provider as one text."""
    name, provider = job.get("backend"), job.get("provider")
    return f"{name} ({provider})" if name and provider else name


def instant(text: object) -> str:
    """Return an RFC 3339 instant for people: a blank for the T, whole milliseconds."""
    if not isinstance(text, str) or len(text) < 20:
        return plain(text)
    head, dot, fraction = text.replace("T", " ").partition(".")
    return plain(f"{head}.{fraction.rstrip('Z')[:3]}Z" if dot else head)


def error_lines(error: Json | None) -> list[tuple[str, object]]:
    """Return the lines that say why a job failed."""
    if not error:
        return []
    return [("error", styled(error.get("message") or error.get("code"), "red")), ("hint", error.get("hint"))]


def _short(value: object) -> str:
    text = plain(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."
