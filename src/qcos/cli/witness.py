"""``qcos witness``: a witness of ledgers (C2SP tlog-witness), on any machine; needs no database and no extra."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from qcos.base.errors import Invalid
from qcos.base.process import collect_rarely
from qcos.cli.options import AsJson, read_bytes, read_object
from qcos.cli.output import plain, write, write_json
from qcos.ledger.note import Vkey, parse_vkey
from qcos.ledger.trust import read_ledger_trust
from qcos.ledger.witness import Witness
from qcos.ledger.witness_server import WitnessServer
from qcos.ledger.witness_state import WitnessFolder

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Witness ledgers: cosign checkpoints that continue the last.",
)


@app.callback()
def group() -> None:
    """Witness ledgers: cosign checkpoints that continue the last."""


@app.command()
def serve(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of the witness's keys and state; made on the first start. Never restore an old copy."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="The witness's name, for the first start: by custom a host and path you own."),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(help="Verifier key of a log to witness, or @FILE with one a line. Repeatable."),
    ] = None,
    trust: Annotated[
        list[Path] | None, typer.Option(help="Trust document of a QCOS whose ledger to witness. Repeatable.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8115,
    as_json: AsJson = False,
) -> None:
    """Run a witness until stopped. It cosigns a log's checkpoint only when it continues the last one it cosigned.

    Prints the verifier keys that verifiers and logs need, and the address; with --json one line when ready.
    """
    folder = WitnessFolder(data)
    keys = folder.open_or_create(name)
    server = WitnessServer(Witness(folder, keys, _logs(log or [], trust or [])), host, port)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    collect_rarely()
    thread = threading.Thread(target=server.serve_forever, name="witness", daemon=True)
    thread.start()
    vkeys = [str(vkey) for vkey in keys.vkeys]
    if as_json:
        write_json({"name": keys.name, "url": server.url, "vkeys": vkeys, "logs": server.witness.origins})
    else:
        logs = ", ".join(server.witness.origins)
        lines = [
            f"Witness {keys.name} serves {server.url}",
            f"  logs   {logs}",
            "  its verifier keys:",
            *vkeys,
        ]
        write(plain("\n".join([*lines, "Ctrl-C stops it."])) + "\n")
    stop.wait()
    server.shutdown()
    server.server_close()


def _logs(given: list[str], trusts: list[Path]) -> list[Vkey]:
    """Return the logs' keys, each once; raises `Invalid`."""
    texts: list[str] = []
    pinned: list[Vkey] = []
    for text in given:
        if text.startswith("@"):
            lines = read_bytes(Path(text[1:])).decode("utf-8", "replace").splitlines()
            texts += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        else:
            texts.append(text)
    for file in trusts:
        try:
            pinned += [key.vkey for key in read_ledger_trust(read_object(file)).vkeys if not key.revoked_at]
        except Invalid as error:
            error.subject = error.subject or str(file)
            raise
    return list(dict.fromkeys([*(parse_vkey(text) for text in texts), *pinned]))
