"""``qcos up`` and ``qcos worker``: the server's own processes, started from the same program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcos.cli.options import AsJson, server_extra

up = typer.Typer(add_completion=False)
worker = typer.Typer(add_completion=False)
Data = Annotated[
    Path, typer.Option(help="Folder of database, keys and ledger; made when missing.", envvar="QCOS_DATA")
]
Drivers = Annotated[
    str | None,
    typer.Option(help="Drivers to serve, separated by commas; all that are installed when left out."),
]


@up.command()
def run_all(
    data: Data = Path(".data"),
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the API; 0 takes a free one.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address the API listens on.")] = None,
    drivers: Drivers = None,
    as_json: AsJson = False,
) -> None:
    """Run QCOS here until stopped: embedded PostgreSQL, API, workers, time-stamping authority.

    Prints the addresses and where the first administrator's token lies; with --json one line when ready.
    """
    with server_extra("qcos up"):
        from qcos.up import main  # the server's packages are optional, and slow to import
    main(data, port, host=host, drivers=_names(drivers), json_output=as_json)


@worker.command()
def run_worker(drivers: Drivers = None, as_json: AsJson = False) -> None:
    """Run one worker until stopped; any number may run, on any machine that reaches the database.

    The database and the folder of the keys are found by the server's settings (QCOS_DATABASE_URL, QCOS_DATA).
    """
    with server_extra("qcos worker"):
        from setproctitle import setproctitle  # the server's packages are optional, and slow to import

        from qcos.drivers.registry import load_installed
        from qcos.settings import read_settings
        from qcos.worker import work
    names = _names(drivers) or sorted(load_installed())
    setproctitle(f"qcos: worker {' '.join(names)}")
    work(read_settings(), names)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
