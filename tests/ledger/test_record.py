"""Record ids: readable, growing with time, and the entry that names a record."""

from __future__ import annotations

import datetime as dt
import json
import re
from hashlib import sha256
from uuid import UUID

from qcos.base.clock import now
from qcos.ledger.record import Appended, Record, entry_of, prepare

TENANT = UUID(int=1)
ID = re.compile(r"rec-[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9a-f]{16}")


def made(count: int) -> list[Appended]:
    return [prepare(TENANT, Record("budget.set", "user:a", "p"), now()) for _ in range(count)]


def test_ids_are_of_their_form_different_and_grow_with_time() -> None:
    first, second = made(3_000), made(3_000)
    ids = [item.record_id for item in first + second]
    assert all(map(ID.fullmatch, ids))
    assert len(set(ids)) == 6_000
    day = min(ids)[:14]
    if max(ids)[:14] == day:  # not just over midnight
        assert max(item.record_id for item in first)[:-7] <= min(item.record_id for item in second)[:-7]
    assert dt.date.fromisoformat(day[4:]) - now().date() <= dt.timedelta(days=1)


def test_an_entry_is_the_digest_of_its_record_and_nothing_else() -> None:
    (item,) = made(1)
    assert item.digest == sha256(item.record_bytes).digest()
    assert item.entry_bytes == entry_of(item.record_bytes)
    assert json.loads(item.entry_bytes) == {
        "record": "sha256:" + sha256(item.record_bytes).hexdigest(),
        "schema": "qcos.ledger.entry/v1",
    }
