"""``qcos backend``: what jobs can run on."""

from __future__ import annotations

import typer

from qcos.cli.listing import Column, of, show_items
from qcos.cli.options import AsJson
from qcos.cli.output import emit
from qcos.client import from_environment

app = typer.Typer(no_args_is_help=True, add_completion=False, help="List the backends jobs can run on.")
_COLUMNS: list[Column] = [
    ("backend", of("name", "backend")),
    ("provider", of("provider")),
    ("kind", of("kind")),
    ("qubits", of("qubits")),
    ("zone", of("zone")),
    ("region", of("region")),
    ("online", of("online")),
    ("queue", of("queue_depth")),
    ("description", of("description")),
]


@app.callback()
def root() -> None:
    """List the backends jobs can run on."""


@app.command("list")
def list_backends(as_json: AsJson = False) -> None:
    """List the backends with their size, place and state."""
    with from_environment() as client:
        answer = client.backends()
    emit(answer, as_json, lambda console: show_items(console, answer, _COLUMNS, right=("qubits", "queue")))
