"""Verify a bundle offline, with the trust document alone (R4.2): no database, no network, no clock.

Whatever the bundle says is hostile until a check has held. Every check is made that can be, so that the
report tells all that is wrong; `Report.ok` needs all of them. Here stand the checks in their order; what each
demands stands with its subject: `signed` (the envelope), `stated` (the statement), `stamped` (the trusted time),
`recorded` (the ledger).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from qcos.base.errors import Invalid
from qcos.evidence import recorded, signed, stamped, stated
from qcos.evidence.erased import is_erased_bundle, verify_erased
from qcos.evidence.levels import LEVELS
from qcos.evidence.longterm import check_doubted
from qcos.evidence.report import Report
from qcos.evidence.run import Run
from qcos.evidence.shape import read_bundle
from qcos.evidence.signed import ALGORITHMS, COUNTERSIGNATURE
from qcos.evidence.trust import Trust

REQUIRED: Final = (
    *("document", "envelope"),
    *(f"signature {algorithm}" for algorithm in ALGORITHMS),
    *("statement", "reader's fields", "hashes", "level"),
    *("signatures shown", "timestamp", "key validity", "times"),
)
REQUIRED_LEDGER: Final = ("ledger checkpoint", "ledger inclusion", "ledger record")
"""Checks without which nothing is verified."""


def verify(
    bundle: bytes | str | Mapping[str, Any],  # Any: JSON from anybody
    trust: bytes | str | Mapping[str, Any] | Trust,  # Any: JSON
    *,
    materials: Mapping[str, bytes] | None = None,
    allow_pending: bool = False,
    level: str = "basic",
    allow_erased: bool = False,
    at: dt.datetime | None = None,
) -> Report:
    """Verify a bundle.

    Args:
        bundle: The bundle, JSON.
        trust: The trust document, got by a safe way.
        materials: Bytes of things the statement names (``input``: canonical Job Spec, ``output``: canonical
            result, ``circuit/0``, ...); each must have the digest the statement commits to.
        allow_pending: Whether a bundle that is not in the ledger yet may pass (it is then marked
            ``pending``).
        level: The least evidence level the caller demands (`qcos.evidence.levels`).
        allow_erased: Whether an erased bundle may pass, for which nothing but its sealing and its erasing is
            proved (it is marked ``erased`` either way): with ``materials``, ``level`` or ``at`` it fails all the same.
        at: When given, the newest time stamp must still count at this instant (UTC): its certificates not
            expired, its authority not revoked. Without it a time stamp that counted when it was made is enough.

    Returns:
        The report. A bad bundle never raises.

    Raises:
        Invalid: ``evidence.no_level`` when there is no such level.
        Invalid: ``trust.malformed``: the caller's own document is wrong.
    """
    if level not in LEVELS:
        raise Invalid(
            "evidence.no_level", "there is no such evidence level", expected=", ".join(LEVELS), got=level
        )
    pinned = trust if isinstance(trust, Trust) else Trust.load(trust)
    if is_erased_bundle(bundle):
        beyond = {f"material {name}": True for name in materials or {}}
        beyond |= {"level": level != "basic", "long term": at is not None}
        asked_for = [name for name, is_asked in beyond.items() if is_asked]
        return verify_erased(bundle, pinned, asked_for, allow_erased=allow_erased)
    run = Run(pinned, level, at)
    if run.checks.make("document", lambda: _read(run, bundle)):
        _check_signed(run)
        _check_stated(run, materials or {})
        _check_stamped(run)
        _check_recorded(run, allow_pending=allow_pending)
        _check_complete(run)
    return run.checks.report(pending=run.pending, facts=run.facts)


def _read(run: Run, given: bytes | str | Mapping[str, Any]) -> str:
    run.bundle = read_bundle(given)
    run.facts = {"bundle": run.bundle["bundle_id"], "job": run.bundle["job_id"]}
    return f"evidence bundle {run.bundle['bundle_id']} of job {run.bundle['job_id']}"[:500]


def _check_signed(run: Run) -> None:
    make = run.checks.make
    if make("envelope", lambda: signed.check_envelope(run)):
        for index, key in enumerate(run.keys):
            make(f"signature {key.public.algorithm}", partial(signed.check_signature, run, index))


def _check_stated(run: Run, materials: Mapping[str, bytes]) -> None:
    make = run.checks.make
    if "statement" not in run.facts or not make("statement", lambda: stated.read_statement(run)):
        return
    make("reader's fields", lambda: stated.check_reader_fields(run))
    make("hashes", lambda: stated.check_hashes(run))
    make("level", lambda: stated.check_level(run))
    for name, data in materials.items():
        make(f"material {name}", partial(stated.check_material, run, name, data))
    if "input" in materials:
        make("level asked", lambda: stated.check_level_asked(run, materials["input"]))


def _check_stamped(run: Run) -> None:
    make = run.checks.make
    make("signatures shown", lambda: signed.check_shown(run))
    if not run.signatures or not make("timestamp", lambda: stamped.check_timestamp(run)):
        return
    renewed = run.record is not None and run.record.is_renewed
    if (not renewed or make("renewal", lambda: stamped.check_renewal(run))) and run.at is not None:
        make("long term", lambda: stamped.check_newest(run))
    make("key validity", lambda: stamped.check_key_validity(run))
    if any(key.public.algorithm == COUNTERSIGNATURE for key in run.trust.keys.values()):
        make("countersignature", lambda: signed.check_countersignature(run))
    if run.statement:
        make("times", lambda: stamped.check_times(run))


def _check_recorded(run: Run, *, allow_pending: bool) -> None:
    make, proof = run.checks.make, run.bundle["proof"]["ledger"]
    if proof is None:
        run.pending = True
        if "decision" in run.bundle["proof"]:
            run.checks.skip("ledger decision", "there is no checkpoint to hold it against")
        make("ledger", lambda: recorded.check_pending(allowed=allow_pending))
    else:
        make("ledger checkpoint", lambda: recorded.check_checkpoint(run, proof))
        make("ledger inclusion", lambda: recorded.check_inclusion(run, proof))
        if "ledgerRecord" in run.facts:
            make("ledger record", lambda: recorded.check_record(run))
        full = run.claimed is not None and run.claimed.level == "full"
        if full or "decision" in run.bundle["proof"]:
            make("ledger decision", lambda: recorded.check_decision(run))
    if (doubted := run.doubted) is not None:
        index = run.facts.get("ledgerIndex")
        make("revoked authority", lambda: check_doubted(doubted, run.stamps, index))


def _check_complete(run: Run) -> None:
    """Note as failed what has to be checked and could not be."""
    made = {check.name for check in run.checks.done}
    required = REQUIRED if run.pending else (*REQUIRED, *REQUIRED_LEDGER)
    for name in required if run.at is None else (*required, "long term"):
        if name not in made:
            run.checks.skip(name, "what it needs did not hold")
