"""``qcos ledger verify``, ``consistency``, ``fsck``, ``monitor``: believe nothing the ledger's server says."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from qcos.base.canonical import loads_strict
from qcos.base.clock import now, rfc3339
from qcos.base.errors import Conflict, Integrity, Invalid, QcosError, Unavailable
from qcos.cli.listing import show_object
from qcos.cli.options import AsJson, Trust, read_bytes, read_object, server_extra
from qcos.cli.output import EXIT_CODES, FAILED_CHECK, INTERNAL, emit, members, people, write_json
from qcos.client import from_environment
from qcos.client.model import Json
from qcos.client.tiles import LogTiles
from qcos.ledger.audit import Report, audit
from qcos.ledger.checkpoint import encode, parse_body
from qcos.ledger.files import LogFolder
from qcos.ledger.monitor import Seen, compare, demand_fresh, observe
from qcos.ledger.nodes import consistency_of
from qcos.ledger.note import Signed, parse
from qcos.ledger.trust import LedgerTrust, read_ledger_trust
from qcos.ledger.verify import verify_checkpoint, verify_consistency, verify_proof
from qcos.ledger.witness_state import write_durably

_STATE = "qcos.ledger.monitor/v1"


def verify(
    what: Annotated[
        Path,
        typer.Argument(
            metavar="PROOF|FOLDER",
            help="A proof's file (of `qcos ledger proof --json`), or a copied folder of tiles.",
        ),
    ],
    trust: Trust,
    as_json: AsJson = False,
) -> None:
    """Verify offline: a record's proof, or a whole log from a copy of its folder.

    Of a folder every entry is hashed, every tile compared, and the checkpoint's signatures and witnesses checked. Needs no server, no
    database and no extra.
    """
    pinned = _trust(trust)
    if what.is_dir():
        with _progress(as_json) as progress:
            report = audit(what, pinned.vkeys, progress, witnesses=pinned.witnesses)
        _show_report(report, as_json)
        return
    found = read_object(what)

    def check() -> Json:
        held = verify_proof(found, pinned.vkeys, witnesses=pinned.witnesses)
        head = held.checkpoint
        value = {"origin": head.origin, "size": head.size, "root": head.root.hex(), "index": held.index}
        return value | _witnesses(pinned, held.signatures)

    _judge(check, "the record is in the ledger", as_json)


def consistency(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="An earlier checkpoint's file.")],
    trust: Trust,
    new: Annotated[
        Path | None,
        typer.Argument(
            metavar="NEW", help="A later one's; the newest of the folder or server when left out."
        ),
    ] = None,
    tiles: Annotated[
        Path | None,
        typer.Option(help="A copied folder of tiles to compute the proof from, without a server."),
    ] = None,
    proof: Annotated[
        Path | None,
        typer.Option(help="A file with the proof: JSON of the API, or base64 hashes, one a line."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify that the ledger only grew since a checkpoint you kept: nothing of it was changed or removed.

    With --tiles or --proof offline; else the server is asked for the proof, which is not believed either.
    """
    pinned, earlier = _trust(trust), read_bytes(old)
    later, hashes = _later(earlier, new, tiles, proof)

    def check() -> Json:
        before, head = verify_consistency(earlier, later, hashes(), pinned.vkeys)
        _, signatures = verify_checkpoint(later, pinned.vkeys, pinned.witnesses)
        value = {"origin": head.origin, "size": head.size, "root": head.root.hex(), "since": before.size}
        return value | _witnesses(pinned, signatures)

    _judge(check, "the ledger only grew", as_json)


def _later(
    earlier: bytes, new: Path | None, tiles: Path | None, proof: Path | None
) -> tuple[bytes, Callable[[], list[str]]]:
    """Return the later checkpoint, and what gives the proof."""
    if proof is not None:
        if new is None or tiles is not None:
            raise Invalid("cli.usage", "--proof goes with OLD and NEW, without --tiles")
        later, text = read_bytes(new), read_bytes(proof)
        return later, lambda: _hashes(text)
    if tiles is not None:
        later = read_bytes(new or tiles / "checkpoint")
        sizes = _size(earlier), _size(later)
        return later, lambda: [encode(value) for value in consistency_of(LogFolder(tiles), *sizes)]
    with from_environment() as client:
        later = client.ledger.checkpoint() if new is None else read_bytes(new)
        found = client.ledger.consistency(_size(earlier), _size(later)).get("hashes", [])
    return later, lambda: found


def _hashes(text: bytes) -> list[str]:
    if text.lstrip().startswith(b"{"):
        value = loads_strict(text, subject="proof")
        found = value.get("hashes") if isinstance(value, dict) else None
        return found if isinstance(found, list) else []
    return text.decode("utf-8", "replace").split()


def fsck(
    directory: Annotated[Path, typer.Argument(help="The ledger's directory of tiles.")],
    trust: Trust,
    database: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Compare the database too: its entries, every signed checkpoint, every record.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Rebuild the whole tree from its entries and compare every tile, root and signature."""
    vkeys = [str(key) for key in _trust(trust).vkeys]  # old checkpoints are by old keys
    with server_extra("qcos ledger fsck"):
        from qcos.db.engine import make_engine, scope
        from qcos.identity.store import tenants as all_tenants
        from qcos.ledger.fsck import (
            fsck as check,
        )  # compares a database too when given one: needs its packages
    engine = make_engine(database, pool_size=2, application="qcos-fsck") if database else None
    tenants = None
    if engine is not None:
        with scope(engine, None) as connection:
            tenants = [tenant for tenant, _ in all_tenants(connection)]
    with _progress(as_json) as progress:
        report = check(directory, vkeys, engine, progress, tenants=tenants)
    _show_report(report, as_json)


def monitor(
    url: Annotated[str, typer.Option(help="The log's prefix; of a QCOS server its address.")],
    trust: Trust,
    state: Annotated[Path, typer.Option(help="File that keeps the last verified checkpoint; made at first.")],
    once: Annotated[bool, typer.Option("--once", help="Look once and leave.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 60.0,
    entries: Annotated[
        bool, typer.Option("--entries", help="Fetch and hash every new entry too; at first all of them.")
    ] = False,
    witness: Annotated[
        list[str] | None,
        typer.Option(
            help="Monitoring prefix of a witness: what it was shown must be of the same history. Repeatable."
        ),
    ] = None,
    max_age: Annotated[
        float | None,
        typer.Option(
            min=1, help="Seconds the newest cosignature may be old; an idle log's is renewed each 900 s."
        ),
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(help="File for the proof of a split view; STATE.split-view.json when left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Watch a ledger from outside: each checkpoint must be signed, witnessed, and continue the last, by the log's own tiles.

    Exit code 1 when it is not: both signed checkpoints are kept in a file, and prove it to anybody. 6 when the log cannot be read or
    shows an old checkpoint (with --once; else that is told and tried again).
    """
    pinned, stop = _trust(trust), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    proof = evidence or state.with_name(state.name + ".split-view.json")
    with _only_one(state):
        while not stop.is_set():
            error = _look(url, pinned, state, proof, entries, witness or [], max_age, as_json)
            if error is not None and (once or not isinstance(error, Unavailable)):
                raise typer.Exit(EXIT_CODES.get(error.family, INTERNAL))
            if once:
                return
            stop.wait(interval)


def _look(
    url: str,
    trust: LedgerTrust,
    state: Path,
    proof: Path,
    entries: bool,
    witnesses: list[str],
    max_age: float | None,
    as_json: bool,
) -> QcosError | None:
    """Look once; tell what was seen; return what is wrong."""
    try:
        kept = _kept(state)
        with contextlib.closing(LogTiles(url)) as log, _progress(as_json or not entries) as progress:
            seen = observe(kept, log.checkpoint(), trust, log, entries=entries, progress=progress)
            for other in witnesses:
                shown = log.witnessed(other, seen.new.origin)
                verify_checkpoint(shown, trust.vkeys)
                compare(seen.note, shown, log)
        text = {"schema": _STATE, "checkpoint": seen.note, "verified": rfc3339(now())}
        write_durably(state, json.dumps(text, indent=2).encode() + b"\n")
        if max_age is not None:
            demand_fresh(seen, max_age, witnesses=trust.witnesses)
    except QcosError as error:
        _tell_error(error, proof, as_json)
        return error
    emit(seen.as_dict(), as_json, lambda console: _show_seen(console, seen))
    return None


def _tell_error(error: QcosError, proof: Path, as_json: bool) -> None:
    value: Json = {"ok": False, **error.as_dict()}
    if "old" in error.details:
        document = {"schema": "qcos.ledger.split-view/v1", "found": rfc3339(now()), **error.as_dict()}
        write_durably(proof, json.dumps(document, indent=2).encode() + b"\n")
        value["evidence"] = str(proof)
    if as_json:
        write_json(value)
        return
    console = people()
    console.print(Text("NOT VERIFIED" if isinstance(error, Integrity) else "NOT SEEN", style="bold red"))
    told = [
        ("because", error.message),
        ("object", error.subject),
        ("expected", error.expected),
        ("got", error.got),
    ]
    console.print(
        members([*told, ("code", error.code), ("hint", error.hint), ("evidence", value.get("evidence"))])
    )


def _show_seen(console: Console, seen: Seen) -> None:
    value = seen.as_dict()
    cosigned = ", ".join(f"{name} at {_instant(at)}" for name, at in value["cosigned"].items())
    checked = f", {seen.entries} entries hashed" if seen.entries else ""
    line = f"{rfc3339(now())}  {seen.new.size} entries, {value['grown']} new{checked}; {cosigned}"
    console.print(Text("✓", style="green"), Text(line))


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    with state.with_name(state.name + ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("cli.monitor", "another monitor uses this state", subject=str(state)) from None
        yield


def _kept(state: Path) -> str | None:
    """Return the checkpoint of the state's file; None when there is none yet."""
    if not state.exists():
        return None
    value = read_object(state)
    note = value.get("checkpoint")
    if value.get("schema") != _STATE or not isinstance(note, str):
        raise Invalid(
            "cli.monitor_state",
            "not the state of a monitor",
            subject=str(state),
            hint="restore it; without it the monitor begins anew, and does not see what was before",
        )
    return note


@contextlib.contextmanager
def _progress(silent: bool) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=people(sys.stderr), transient=True, disable=silent) as progress:
        task = progress.add_task("entries", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _show_report(report: Report, as_json: bool) -> None:
    value: Json = {
        "ok": report.ok,
        "size": report.size,
        "root": report.root.hex() if report.root is not None else None,
        "tiles": report.tiles,
        "checkpoints": report.checkpoints,
        "records": report.records,
        "problem_count": report.problem_count,
        "problems": [{"code": p.code, "subject": p.subject, "message": p.message} for p in report.problems],
    }
    emit(value, as_json, lambda console: show_object(console, value))
    if not report.ok:
        raise typer.Exit(FAILED_CHECK)


def _judge(check: Callable[[], Json], good: str, as_json: bool) -> None:
    try:
        value = {"ok": True, **check()}
    except QcosError as error:
        fault = error  # the name of an except clause ends with it
        emit({"ok": False, **fault.as_dict()}, as_json, lambda console: _show_fault(console, fault))
        raise typer.Exit(FAILED_CHECK) from None
    emit(value, as_json, lambda console: _show_good(console, good, value))


def _show_good(console: Console, good: str, value: Json) -> None:
    console.print(Text(f"VERIFIED: {good}", style="bold green"))
    console.print(members((name, item) for name, item in value.items() if name not in ("ok", "witnesses")))
    for one in value.get("witnesses", []):
        console.print(members([("witness", f"{one['name']} at {one['time']}")]))


def _show_fault(console: Console, error: QcosError) -> None:
    console.print(Text("NOT VERIFIED", style="bold red"))
    console.print(members([("because", error.message), ("expected", error.expected), ("got", error.got)]))


def _witnesses(trust: LedgerTrust, signatures: tuple[Signed, ...]) -> dict[str, Any]:  # Any: JSON
    found = trust.witnesses.demand(signatures)
    return (
        {"witnesses": [{"name": one.vkey.name, "time": _instant(one.time or 0)} for one in found]}
        if found
        else {}
    )


def _instant(seconds: int) -> str:
    try:
        return rfc3339(dt.datetime.fromtimestamp(seconds, dt.UTC))
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s after 1970"


def _size(note: bytes) -> int:
    return parse_body(parse(note)[0]).size


def _trust(file: Path) -> LedgerTrust:
    try:
        return read_ledger_trust(read_object(file))
    except Invalid as error:
        if error.code != "trust.ledger":
            raise
        raise Invalid("cli.trust", error.message, subject=str(file), got=error.got) from None
