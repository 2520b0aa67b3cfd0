"""One verification of a bundle: what was read of it so far, which the checks hand on to each other."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any, TypeVar

from qcos.base.errors import Integrity
from qcos.evidence.levels import Claimed
from qcos.evidence.report import Checks
from qcos.evidence.trust import Trust, TrustedAuthority, TrustedKey
from qcos.timestamp.archive import EvidenceRecord
from qcos.timestamp.verify import TimeInfo

Known = TypeVar("Known")


@dataclass(slots=True)
class Run:
    """What is known of a bundle. A member is set by the check that demands it, and empty until that held.

    Attributes:
        trust: The trust document.
        least: The least evidence level the caller demands.
        at: When the newest time stamp must still count, UTC; None: not asked.
        checks: The checks that were made.
        facts: What the report tells; JSON.
        pending: There is no ledger proof.
        bundle: The bundle; JSON of the shape that `shape.read_bundle` demands.
        payload: The signed bytes: the statement.
        signatures: In the envelope's order.
        keys: The trusted keys of them.
        statement: The in-toto statement; JSON.
        claimed: The level it claims.
        record: The evidence record, where the bundle has one.
        time: What the bundle's own token says.
        stamps: What each time stamp says, oldest first, where they were renewed.
        doubted: The authority, when its key was revoked later: another witness of the time is needed.
    """

    trust: Trust
    least: str = "basic"
    at: dt.datetime | None = None
    checks: Checks = field(default_factory=Checks)
    facts: dict[str, Any] = field(default_factory=dict)
    pending: bool = False
    bundle: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""
    signatures: tuple[bytes, ...] = ()
    keys: tuple[TrustedKey, ...] = ()
    statement: dict[str, Any] = field(default_factory=dict)
    claimed: Claimed | None = None
    record: EvidenceRecord | None = None
    time: TimeInfo | None = None
    stamps: list[TimeInfo] = field(default_factory=list)
    doubted: TrustedAuthority | None = None


def known(value: Known | None) -> Known:
    """Return what an earlier check found; raises Integrity ``evidence.unchecked`` when that did not hold."""
    if value is None:
        raise Integrity("evidence.unchecked", "what this is compared with did not hold")
    return value


def differs(pointer: str, message: str, expected: str, got: str) -> Integrity:
    """Return the error of a member that is not what it has to be (``evidence.field``)."""
    return Integrity("evidence.field", message, subject=pointer, expected=expected[:300], got=got[:300])
