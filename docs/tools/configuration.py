"""Write docs/reference/configuration.md from the settings: ``python docs/tools/configuration.py > docs/reference/configuration.md``."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import SecretStr

from qcos.settings import Settings

HEAD = """\
# Configuration

The server's processes read these environment variables once, at their start; `qcos up` gives them on to its children. Options of `qcos up`
go before them. There is no configuration file for the server. This page is written by `python docs/tools/configuration.py` from
`qcos.settings.Settings`; a test compares the two.

| variable | default | meaning |
|---|---|---|
"""
TAIL = """
A value that is not allowed keeps the process from starting. Tokens and passwords are blanked in logs.

## The data folder

| path | what |
|---|---|
| `admin.token` | the first administrator's token (0600); made again when missing |
| `trust.json` | the trust document: what verifiers pin; public |
| `keys/` | private keys (0700); back them up, see [evidence](evidence.md#keys) |
| `ledger/` | checkpoint and tiles; public, can be written again from the database |
| `tsa.latest` | the latest time the local authority has named: it never names an earlier one |
| `postgres/` | the embedded PostgreSQL with its passwords; absent with a database of your own |
| `logs/` | one file for each process, JSON lines; moved aside at 50 MB when the process starts |
| `up.lock` | held by the running `qcos up` |

Back up `keys/` and the database together. Everything else is made from them.

## Telemetry

The standard OpenTelemetry variables; nothing is exported unless one of the endpoints is set. See
[Export telemetry](../how-to/export-telemetry.md).

## Command line and client

They have variables of their own (`QCOS_URL`, `QCOS_TOKEN` and others): see [command line](cli.md#where-the-server-is).

## Limits

Sizes, counts and deadlines that are not settings stand in `src/qcos/base/limits.py`, each with its unit and its reason.
"""


def _default(value: Any) -> str:  # Any: a field's default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return f"`{value}`" if str(value) else "empty"


def _bounds(metadata: list[Any]) -> str:  # Any: pydantic's constraints share no type
    words = {"gt": "over", "ge": "at least", "lt": "under", "le": "at most"}
    found = [
        f"{word} {getattr(rule, name)}"
        for rule in metadata
        for name, word in words.items()
        if getattr(rule, name, None) is not None
    ]
    return f" ({', '.join(found)})" if found else ""


def document() -> str:
    """Return the whole page."""
    rows = [
        f"| `QCOS_{name.upper()}` | {_default(field.default)} | {field.description}{_bounds(field.metadata)} |\n"
        for name, field in Settings.model_fields.items()
    ]
    return HEAD + "".join(rows) + TAIL


if __name__ == "__main__":
    sys.stdout.write(document())
