"""``python -m qcos.cli.reference``: docs/reference/cli.md, written from the commands themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer.core
import typer.main

from qcos.cli.main import COMMANDS, app

_HEAD = """\
# Command line

`qcos` does through the public API what it does for you; only `evidence verify`, `ledger verify`, `ledger
fsck` and `policy test` work without a server. `qcos COMMAND --help` says the same as this page,
which is written by `python -m qcos.cli.reference`.

## Where the server is

| variable | meaning |
|---|---|
| `QCOS_URL` | address of the server |
| `QCOS_TOKEN` | API token |
| `QCOS_TOKEN_FILE` | file that holds the token, when `QCOS_TOKEN` is not set |
| `QCOS_PROJECT`, `QCOS_COST_CENTER` | of jobs that name none |
| `QCOS_TRUST` | the trust document, instead of `--trust` |
| `QCOS_CONFIG` | configuration file, instead of `~/.config/qcos/config.toml` \
(TOML: `url`, `token` or `token_file`, `project`, `cost_center`; mode 0600) |
| `QCOS_ALLOW_CLEAR_TEXT` | `1` lets the token travel over http to another machine |
| `QCOS_DEBUG` | `1` prints the trace of an unexpected error |

The environment goes before the file. The file's token is given to the file's server only.

## What programs can rely on

- With `--json` standard output carries nothing but JSON, one value a line; errors are one line of JSON
  on standard error: `family`, `code`, `message`, `subject`, `expected`, `got`, `hint`, `problems`, and
  every other member of the server's problem document (RFC 9457).
- Requests are sent again when that is safe (at most six times, `Retry-After` is honoured); a job is submitted
  under one idempotency key, so it is never submitted twice.
- Amounts of money are exact: decimal text in `amount`, integer micro-units in `micro`.

| exit code | meaning |
|---|---|
| 0 | done; what was checked holds; the job completed |
| 1 | a check failed: evidence, ledger or policy tests; a job that was waited for failed or was cancelled |
| 2 | wrong usage or input |
| 3 | denied, by authentication or policy |
| 4 | not found |
| 5 | conflict with the present state, or a limit is reached |
| 6 | not available now, or the vendor's runtime failed |
| 7 | the evidence's payload was erased, and that is proved |
| 8 | `trust update`: the updates continue another document than the one held (`trust.fork`) |
| 9 | `trust update`: an update is missing in between (`trust.gap`) |
| 10 | `trust update`: the updates end before the document held (`trust.rollback`) |
| 11 | `trust update`: an update is signed by a key that was revoked before (`trust.revoked_signer`) |
| 70 | a fault in this program |
| 130 | stopped with Ctrl-C |
| 141 | the reader of a pipe went away |

## Commands
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that does something: its words after ``qcos``, and Typer's command."""

    path: str
    command: Any  # Any: Typer exports no type for it


def entries() -> Iterator[Entry]:
    """Return all commands, in the order of the help."""
    root = typer.main.get_command(app)
    for name in COMMANDS:
        root.load(name)  # type: ignore[attr-defined]  # the root is a LazyGroup
        command = root.commands[name]  # type: ignore[attr-defined]
        if isinstance(command, typer.core.TyperGroup):
            if command.invoke_without_command:  # it does something by itself, too
                yield Entry(name, command)
            yield from (Entry(f"{name} {leaf}", found) for leaf, found in command.commands.items())
        else:
            yield Entry(name, command)


def document() -> str:
    """Return the whole page."""
    return _HEAD + "".join(_section(entry) for entry in entries())


def _section(entry: Entry) -> str:
    arguments = [p for p in entry.command.params if p.param_type_name == "argument"]
    options = [p for p in entry.command.params if p.param_type_name == "option" and "--json" not in p.opts]
    usage = " ".join(
        ["qcos", entry.path, *(_argument(p) for p in arguments), *(["[OPTIONS]"] if options else [])]
    )
    text = "\n".join(line.strip() for line in entry.command.help.splitlines())
    rows = [(_name(p), p.help or "") for p in (*arguments, *options)]
    table = (
        "\n| | |\n|---|---|\n" + "".join(f"| `{name}` | {told} |\n" for name, told in rows) if rows else ""
    )
    return f"\n### qcos {entry.path}\n\n    {usage}\n\n{text}\n{table}"


def _argument(parameter: Any) -> str:  # Any: Typer exports no type for it
    name = (parameter.metavar or parameter.name.upper()) + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _name(parameter: Any) -> str:  # Any: Typer exports no type for it
    if parameter.param_type_name == "argument":
        return _argument(parameter).strip("[]")
    return ", ".join(sorted(parameter.opts, key=len)) + ("" if parameter.is_flag else " …")


if __name__ == "__main__":
    sys.stdout.write(document())
