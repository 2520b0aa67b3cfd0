"""``qcos key``: the installation's signing keys: what signs evidence, ledger and time stamps, and who says that it counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcos.base.limits import MAX_CHAIN_BYTES
from qcos.cli.job_view import instant
from qcos.cli.listing import Column, of, show_items
from qcos.cli.options import AsJson, read_bytes, write_file
from qcos.cli.output import emit, plain
from qcos.client import from_environment

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List, rotate and revoke the installation's signing keys.",
)
_COLUMNS: list[Column] = [
    ("role", of("role")),
    ("algorithm", of("algorithm")),
    ("n", of("generation")),
    ("key", of("key_id")),
    ("state", of("state")),
    ("store", of("store")),
    ("made", lambda item: instant(item.get("not_before"))),
    ("counts until", lambda item: instant(item.get("revoked_at") or item.get("not_after"))),
    ("reason", of("reason")),
]
Reason = Annotated[str, typer.Option(help="Why; kept in the ledger.")]
Store = Annotated[
    str | None,
    typer.Option(help="Where the new key is made: file, or a key store; where the old one is when left out."),
]


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List every key there was, with its role, its state and when it counts."""
    with from_environment() as client:
        answer = client.keys.list()
    emit(answer, as_json, lambda console: show_items(console, answer, _COLUMNS))


@app.command()
def rotate(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="evidence, ledger, tsa or tsa-ca.")],
    algorithm: Annotated[
        str | None, typer.Option(help="Only the key of this algorithm; all of the role when left out.")
    ] = None,
    store: Store = None,
    overlap: Annotated[
        int | None,
        typer.Option(help="Seconds for which what the old keys sign still counts; an hour when left out."),
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Put new keys of a role in force. Every process signs with them within seconds; old evidence stays verifiable."""
    with from_environment() as client:
        answer = client.keys.rotate(role, algorithm=algorithm, store=store, overlap_s=overlap, reason=reason)
    emit(answer, as_json, lambda console: show_items(console, {"items": answer["made"]}, _COLUMNS))


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id of the key.")],
    reason: Annotated[str, typer.Option(help="Why; everybody who verifies evidence reads it.")],
    since: Annotated[
        str | None, typer.Option(help="When it fell into other hands (RFC 3339); from now on when left out.")
    ] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Let what a key signs not count any more. A key in force gets a successor at once, so that signing goes on."""
    with from_environment() as client:
        answer = client.keys.revoke(key, reason=reason, since=since, store=store)

    emit(
        answer,
        as_json,
        lambda console: console.print(
            plain(f"revoked {', '.join(answer['revoked']) or 'nothing: it was revoked already'}")
            + "".join(f"\nin force now: {item['key_id']} ({item['algorithm']})" for item in answer["made"])
        ),
    )


@app.command()
def request(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="evidence, ledger or tsa.")],
    directory: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Directory for the requests, one file a key.")
    ] = Path(),
    name: Annotated[str, typer.Option(help="Common name to ask for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write certificate requests (PKCS#10) for the keys in force of a role, to be given to your CA."""
    with from_environment() as client:
        answer = client.keys.request(role, name=name)
    files = []
    for item in answer["items"]:
        file = directory / f"{role}-{item['algorithm'].lower()}-{item['key_id']}.csr.pem"
        write_file(file, item["request"].encode())
        files.append({"key_id": item["key_id"], "algorithm": item["algorithm"], "file": str(file)})
    columns: list[Column] = [("key", of("key_id")), ("algorithm", of("algorithm")), ("file", of("file"))]
    emit({"items": files}, as_json, lambda console: show_items(console, {"items": files}, columns))


@app.command()
def certify(
    chain: Annotated[
        Path,
        typer.Argument(
            metavar="CHAIN", help="PEM file: the key's certificate, its issuer's, and so on to the root."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Keep the certificates that your CA issued for one of the keys; the trust document carries them from then on."""
    text = read_bytes(chain, at_most=MAX_CHAIN_BYTES).decode("utf-8", "replace")
    with from_environment() as client:
        answer = client.keys.certify(text)
    emit(answer, as_json, lambda console: show_items(console, {"items": [answer]}, _COLUMNS))
