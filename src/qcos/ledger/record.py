"""Records and the entries that commit to them.

The public tree holds only commitments. A *record* says who did what and stays with its tenant; the log's
*entry* is the SHA-256 of the record's canonical bytes. The salt (128 random bits) keeps anybody from guessing
a record and testing the guess against the public entry.
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from qcos.base.canonical import canonical, digest_of, loads_strict
from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity, Limit, QcosError
from qcos.base.limits import MAX_RECORD_BYTES

RECORD_SCHEMA: Final = "qcos.ledger.record/v1"
ENTRY_SCHEMA: Final = "qcos.ledger.entry/v1"
DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Record:
    """What is to be recorded: one act.

    Attributes:
        act: What was done, ``noun.verb`` (``job.submitted``, ``budget.set``).
        actor: Who did it: a principal's id.
        object: What it was done to: an id.
        project: The project it belongs to; empty for none.
        reason: Why, as the actor or the policy states it.
        delegation: On whose behalf, nearest first.
        details: More JSON members; commitments to other documents are ``sha256:...`` text.
    """

    act: str
    actor: str
    object: str
    project: str = ""
    reason: str = ""
    delegation: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


@dataclass(frozen=True, slots=True)
class Appended:
    """A record that was given its id, time and salt.

    Attributes:
        record_id: ``rec-2026-01-09-<16 hex digits>``.
        record: What was to be recorded.
        record_bytes: Canonical JSON (RFC 8785) of the record.
        digest: Their SHA-256: all that the log's entry says.
        at: When, UTC.
    """

    record_id: str
    record: Record
    record_bytes: bytes
    digest: bytes
    at: dt.datetime

    @property
    def entry_bytes(self) -> bytes:
        """Return the log's entry."""
        return entry_with(self.digest)


def prepare(tenant: UUID, record: Record, at: dt.datetime) -> Appended:
    """Give a record its id, time and salt, and make the bytes that are kept.

    Raises:
        Limit: ``ledger.record_size``.
    """
    record_id = _new_record_id()
    record_bytes = canonical(
        {
            "schema": RECORD_SCHEMA,
            "id": record_id,
            "time": rfc3339(at),
            "tenant": str(tenant),
            "act": record.act,
            "actor": record.actor,
            "delegation": list(record.delegation),
            "object": record.object,
            "project": record.project,
            "reason": record.reason,
            "details": dict(record.details),
            "salt": secrets.token_hex(16),
        }
    )
    if len(record_bytes) > MAX_RECORD_BYTES:
        raise Limit(
            "ledger.record_size",
            "the record is too large for the ledger",
            subject=f"{record.act} of {record.object}",
            expected=f"at most {MAX_RECORD_BYTES} bytes",
            got=f"{len(record_bytes)} bytes",
            hint="record the digest of the document, not the document",
        )
    return Appended(record_id, record, record_bytes, sha256(record_bytes).digest(), at)


def change(before: Any, after: Any) -> dict[str, str | None]:  # Any: JSON
    """Return the member ``change`` of a record's details: the object's state before and after, as digests.

    None stands for an object that was not there yet, or is no more. What a state holds is written for each act in
    docs/reference/ledger.md. Text that is a digest already is taken as it is.
    """
    return {"before": _state_digest(before), "after": _state_digest(after)}


def _state_digest(state: Any) -> str | None:  # Any: JSON
    if state is None or (isinstance(state, str) and state.startswith("sha256:")):
        return state
    return digest_of(state)


def entry_of(record_bytes: bytes) -> bytes:
    """Return the log's entry that commits to a record."""
    return entry_with(sha256(record_bytes).digest())


def entry_with(digest: bytes) -> bytes:
    """Return the log's entry that names a record's digest (canonical JSON of two members, written out)."""
    return f'{{"record":"sha256:{digest.hex()}","schema":"{ENTRY_SCHEMA}"}}'.encode()


def _new_record_id() -> str:
    """Return ``rec-2026-01-09-<16 hex digits>``: nine of the time of day in 1.25 microseconds, seven at random.

    Ids that grow keep the table's key index dense: random ones touch another page with each record. A clash
    (once in weeks at 10,000 records a second) is refused by that key like any other failed append.
    """
    second, nanosecond = divmod(time.time_ns(), 1_000_000_000)
    day, second = divmod(second, 86_400)
    tick = (second * 1_000_000_000 + nanosecond) // 1_258
    return f"rec-{_date(day)}-{tick:09x}{secrets.randbits(28):07x}"


@lru_cache(maxsize=4)
def _date(day: int) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(day)).isoformat()


def read_record(record_bytes: bytes) -> dict[str, Any]:  # Any: JSON
    """Read a record's bytes.

    Raises:
        Integrity: ``ledger.record`` when they are no record.
    """
    if len(record_bytes) > MAX_RECORD_BYTES:
        raise Integrity(
            "ledger.record", "the record is too large", expected=f"at most {MAX_RECORD_BYTES} bytes"
        )
    try:
        value = loads_strict(record_bytes, subject="record")
    except QcosError as error:
        raise Integrity("ledger.record", f"the record is not readable: {error.message}") from None
    if not isinstance(value, dict) or value.get("schema") != RECORD_SCHEMA:
        raise Integrity(
            "ledger.record", "not a record", expected=f"a JSON object with schema {RECORD_SCHEMA}"
        )
    return value


def check_members(record: Mapping[str, Any], expected: Mapping[str, Any], pointer: str = "") -> None:
    """Check that a record has the expected members; objects are compared member by member, the rest by value.

    Raises:
        Integrity: ``ledger.record_member`` with the JSON pointer of the first that differs.
    """
    for name, want in expected.items():
        here = f"{pointer}/{name}"
        got = record.get(name)
        if isinstance(want, Mapping) and isinstance(got, Mapping):
            check_members(got, want, here)
        elif name not in record or type(got) is not type(want) or got != want:
            raise Integrity(
                "ledger.record_member",
                "the ledger's record says something else",
                subject=here,
                expected=repr(want)[:200],
                got=repr(got)[:200] if name in record else "nothing",
            )
