"""``qcos tsa``: the time-stamping authority as a service of its own (RFC 3161 over HTTP)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from qcos.cli.options import AsJson, server_extra

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Run the time-stamping authority.")
PORT = 8318


@app.callback()
def root() -> None:
    """Run the local time-stamping authority (RFC 3161) for `curl`, `openssl ts` and other clients."""


@app.command()
def serve(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of the installation: its keys sign; made when missing.", envvar="QCOS_DATA"
        ),
    ] = Path(".data"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = PORT,
    as_json: AsJson = False,
) -> None:
    """Run the authority until stopped: POST application/timestamp-query; GET /certificate, /healthz.

    Needs the keys and no database. Whoever reaches the address may ask. With --json one line when ready.
    """
    with server_extra("qcos tsa"):
        from qcos.settings import read_settings  # the server's packages are optional, and slow to import
        from qcos.tsa import serve as run

    def ready(where: dict[str, Any]) -> None:  # Any: JSON
        if as_json:
            sys.stdout.write(json.dumps(where) + "\n")
        else:
            sys.stdout.write(
                f"The authority answers at  {where['url']}\n"
                f"  its certificates       {where['certificate']}\n"
                "Ctrl-C stops it.\n"
            )
        sys.stdout.flush()

    run(read_settings(data.resolve()), host=host, port=port, ready=ready)
