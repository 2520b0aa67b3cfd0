"""``qcos``: the root of the command line. Command modules are imported when their command is called, so that
help comes at once.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer
import typer.core
import typer.main

from qcos.base.errors import Invalid, QcosError
from qcos.cli.output import BROKEN_PIPE, INTERNAL, INTERRUPTED, ReaderGone, write_error


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command lives: module, name of its Typer application there, help, panel of the help it stands
    in.
    """

    module: str
    app: str
    help: str
    panel: str


_WORK, _GOVERN, _SERVE = "Work", "Govern", "Serve and configure"
COMMANDS = {
    "job": Lazy("job", "app", "Submit, follow, estimate and cancel jobs.", _WORK),
    "evidence": Lazy("evidence", "app", "Fetch evidence bundles; verify them offline.", _WORK),
    "backend": Lazy("backend", "app", "List the backends jobs can run on.", _WORK),
    "usage": Lazy("metering", "usage", "Show what was consumed and what it cost.", _WORK),
    "ledger": Lazy("ledger", "app", "Search the audit ledger; check its proofs.", _GOVERN),
    "anchor": Lazy("anchor", "app", "Checkpoints on public chains: list, fetch, verify offline.", _GOVERN),
    "hold": Lazy("retention", "hold", "Place, release and list legal holds.", _GOVERN),
    "policy": Lazy("policy", "app", "Test, upload, activate and explain policies.", _GOVERN),
    "budget": Lazy("metering", "budget", "List and set monthly budgets of projects.", _GOVERN),
    "quota": Lazy("metering", "quota", "List and set daily shot quotas of teams.", _GOVERN),
    "project": Lazy("identity", "project", "List and create projects.", _GOVERN),
    "principal": Lazy("identity", "principal", "List and create users and services.", _GOVERN),
    "role": Lazy("identity", "role", "Grant and revoke roles.", _GOVERN),
    "token": Lazy("identity", "token", "List, create and revoke API tokens.", _GOVERN),
    "key": Lazy("keys", "app", "List, rotate and revoke the installation's signing keys.", _GOVERN),
    "up": Lazy("serve", "up", "Run QCOS here: database, API, worker.", _SERVE),
    "worker": Lazy("serve", "worker", "Run a worker that serves some drivers.", _SERVE),
    "worm": Lazy("worm", "app", "Copies of ledger and evidence that nobody can change.", _SERVE),
    "tsa": Lazy("tsa", "app", "Run the time-stamping authority as a service.", _SERVE),
    "witness": Lazy("witness", "app", "Witness ledgers: cosign checkpoints that continue the last.", _SERVE),
    "login": Lazy("account", "login", "Remember a server and a token.", _SERVE),
    "config": Lazy("account", "config", "Show or change the configuration file.", _SERVE),
    "whoami": Lazy("account", "whoami", "Show who the token stands for.", _SERVE),
    "trust": Lazy(
        "trust", "app", "Fetch, update, show the trust document evidence is verified with.", _SERVE
    ),
    "version": Lazy("account", "version", "Show the version.", _SERVE),
}


class LazyGroup(typer.core.TyperGroup):
    """A group whose commands are names and help until one of them is called."""

    def __init__(self, **settings: Any) -> None:  # Any: what Typer gives a group
        super().__init__(**settings)
        for name, lazy in COMMANDS.items():
            stub = typer.core.TyperGroup(name=name, help=lazy.help, rich_help_panel=lazy.panel)
            self.commands.setdefault(name, stub)

    def load(self, name: str) -> None:
        """Put the real command in the place of its stub."""
        if (lazy := COMMANDS.get(name)) is not None:
            app = getattr(importlib.import_module(f"qcos.cli.{lazy.module}"), lazy.app)
            command = typer.main.get_command(app)
            command.name = name
            self.commands[name] = command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # Any: types that Typer does not export
        """Load the command that is called, then resolve it."""
        if args:
            self.load(args[0])
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes: 0 done, 1 a check or a job failed, 2 wrong usage or input, 3 denied, 4 not found, "
        "5 conflict or limit, 6 unavailable, 7 evidence erased, "
        "8 to 11 a trust document's updates are forked, have a gap, are older, or are signed by a revoked key."
    ),
)


@app.callback()
def root() -> None:
    """QCOS: run quantum jobs under policy, within budget, with evidence.

    The server is found by QCOS_URL and QCOS_TOKEN (or QCOS_TOKEN_FILE), else by the configuration file that
    `qcos login` writes.
    """


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    as_json = "--json" in arguments
    try:
        code = app(list(arguments), prog_name="qcos", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except QcosError as error:
        return write_error(error, as_json)
    except typer.TyperException as error:
        return _usage(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except (ReaderGone, BrokenPipeError):
        return _silence()
    except Exception as error:
        return _internal(error, as_json)


def run() -> None:
    """Run the command of this process and leave; the entry point of the package."""
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _silence()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _usage(error: typer.TyperException, as_json: bool) -> int:
    message = error.format_message()
    if not message:  # help was asked for by giving no command: it is printed already
        return 2
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context is not None else "qcos --help"
    return write_error(Invalid("cli.usage", message, hint=hint), as_json)


def _silence() -> int:
    """Let nothing more be written to a reader that is gone."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _internal(error: Exception, as_json: bool) -> int:
    if os.environ.get("QCOS_DEBUG") == "1":
        traceback.print_exception(error)
    hint = "run it again with QCOS_DEBUG=1 and report what it prints"
    write_error(QcosError("cli.internal", f"{type(error).__name__}: {error}", hint=hint), as_json)
    return INTERNAL
