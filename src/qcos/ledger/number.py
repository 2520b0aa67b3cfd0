"""Numbering: committed entries get the indices that follow, each entry exactly one, none for ever forgotten.

Entries are written with growing sequence numbers and never touched again. A numbering looks at those behind the
highest one *seen* and writes one row for each *run*: consecutive sequence numbers that got consecutive indices.

Sequence numbers are given out in order, but their transactions end in any order. A number below the highest
seen that is not there yet is kept in a *gap*: its transaction may still commit (then the entry is numbered
late), or was rolled back (then the gap must go, or gaps pile up). A gap may be forgotten once nobody can fill
it any more, and that is known from transaction ids:

1. Whoever writes entries has its transaction id *before* its first sequence number (trigger
   ``take_transaction_id``).
2. A gap is found because a higher number is committed. Its numbers were given out before that one, so the ids
   of their transactions are older than any transaction that starts later: than that of the *next* numbering,
   which writes its own id into the gap as its *horizon*.
3. When a later statement sees no transaction at or below the horizon at work (``pg_snapshot_xmin``), all that
   could fill the gap have ended, and the same statement sees what they committed. What it does not find will
   never be there.

Nothing waits for a slow transaction: others' entries are numbered at once. Numbers that a crash of the database
server skipped are gaps like those of a rollback. All functions want the head locked (`lock_head`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from qcos.ledger.store import Head, entries_of, state_table

# One statement, so that what is found in the gaps and which transactions are at work are seen at one moment.
_GAPS = sa.text(
    """
    select g.first, g.last, g.horizon, f.seqs, f.digests, cast(:limit as bigint) as most,
        coalesce(g.horizon < pg_snapshot_xmin(pg_current_snapshot())::text::bigint, false) as closed
    from qcos.ledger_gap g cross join lateral (
        select array_agg(x.seq order by x.seq) as seqs, string_agg(x.digest, ''::bytea order by x.seq) as digests
        from (
            select e.seq, e.digest from qcos.ledger_entry e
            where e.seq between g.first and g.last order by e.seq limit :limit
        ) x
    ) f
    order by g.first
    """
)
_BEHIND = sa.text(
    """
    select min(seq) as first, string_agg(digest, ''::bytea order by seq) as digests
    from (
        select seq, digest, seq - row_number() over (order by seq) as island
        from (select seq, digest from qcos.ledger_entry where seq > :seen order by seq limit :limit) as behind
    ) as marked
    group by island order by first
    """
)
_KEEP_RUNS = """
    insert into qcos.ledger_run (seq, index, count)
    select * from unnest(%(seqs)b::int8[], %(indices)b::int8[], %(counts)b::int8[])
    """
_KEEP_GAPS = """
    insert into qcos.ledger_gap (first, last, horizon)
    select * from unnest(%(firsts)b::int8[], %(lasts)b::int8[], %(horizons)b::int8[])
    """


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive sequence numbers, and the entries they have."""

    seq: int
    entries: list[bytes]


@dataclass(frozen=True, slots=True)
class Gap:
    """Sequence numbers from ``first`` to ``last`` of which none is numbered.

    Attributes:
        horizon: Transaction id (full, 64 bits); None until the next numbering.
    """

    first: int
    last: int
    horizon: int | None = None


@dataclass(frozen=True, slots=True)
class Locked:
    """The head and the highest sequence number seen, locked for this scope."""

    head: Head
    seen: int


def lock_head(connection: sa.Connection) -> Locked | None:
    """Lock the head for this scope; None when another sequencer holds it."""
    table = state_table.c
    columns = sa.select(table.size, table.root, table.seen)
    row = connection.execute(columns.with_for_update(skip_locked=True)).one_or_none()
    return Locked(Head(row.size, bytes(row.root)), row.seen) if row else None


def number_waiting(connection: sa.Connection, locked: Locked, limit: int) -> tuple[list[bytes], int]:
    """Give committed entries the indices from the head's size on.

    Returns:
        The entries in that order, and the highest sequence number seen now.
    """
    late = _late(connection, limit)
    room = limit - sum(len(run.entries) for run in late)
    behind, seen = _behind(connection, locked.seen, max(room, 0))
    runs = [*late, *behind]
    index = locked.head.size
    indices = []
    for run in runs:
        indices.append(index)
        index += len(run.entries)
    if runs:
        counts = [len(run.entries) for run in runs]
        values = {"seqs": [run.seq for run in runs], "indices": indices, "counts": counts}
        connection.exec_driver_sql(_KEEP_RUNS, values)
    return [entry for run in runs for entry in run.entries], seen


def move_head(connection: sa.Connection, old: Head, new: Head, seen: int) -> bool:
    """Replace the head if it is still the old one."""
    here = (state_table.c.size == old.size) & (state_table.c.root == old.root)
    values = {"size": new.size, "root": new.root, "seen": seen, "moved": sa.func.clock_timestamp()}
    return connection.execute(sa.update(state_table).where(here).values(values)).rowcount == 1


def runs_in(seqs: Sequence[int], digests: bytes | None) -> list[Run]:
    """Return the runs in some sequence numbers, given in order."""
    entries = entries_of(digests)
    starts = [i for i, seq in enumerate(seqs) if i == 0 or seq != seqs[i - 1] + 1]
    ends = [*starts[1:], len(seqs)] if starts else []
    return [Run(seqs[a], entries[a:b]) for a, b in zip(starts, ends, strict=True)]


def left_open(first: int, last: int, runs: Sequence[Run], horizon: int | None = None) -> list[Gap]:
    """Return what is left of the numbers from ``first`` to ``last`` without some runs, given in order."""
    gaps = []
    for run in runs:
        if run.seq > first:
            gaps.append(Gap(first, run.seq - 1, horizon))
        first = run.seq + len(run.entries)
    if first <= last:
        gaps.append(Gap(first, last, horizon))
    return gaps


def _late(connection: sa.Connection, limit: int) -> list[Run]:
    """Number what came into gaps, at most ``limit`` entries; forget the gaps that nobody can fill any more."""
    found: list[Run] = []
    gone: list[int] = []
    left: list[Gap] = []
    rows = connection.execute(_GAPS, {"limit": limit}).all()
    for row in rows:
        seqs = list(row.seqs or ())
        if len(seqs) > limit:
            continue  # next time
        here = runs_in(seqs, row.digests)
        found += here
        limit -= len(seqs)
        ended = row.closed and len(seqs) < row.most  # else there may be more behind those
        if here or ended:
            gone.append(row.first)
        if here and not ended:
            left += left_open(row.first, row.last, here, row.horizon)
    if gone:
        connection.exec_driver_sql(
            "delete from qcos.ledger_gap where first = any(%(gone)b::int8[])", {"gone": gone}
        )
    _keep(connection, left)
    if any(row.horizon is None for row in rows):
        connection.exec_driver_sql(
            "update qcos.ledger_gap set horizon = pg_current_xact_id()::text::bigint where horizon is null"
        )
    return found


def _behind(connection: sa.Connection, seen: int, limit: int) -> tuple[list[Run], int]:
    """Read the entries behind the highest seen, and keep what is missing among them as gaps."""
    rows = connection.execute(_BEHIND, {"seen": seen, "limit": limit}).all()
    runs = [Run(row.first, entries_of(row.digests)) for row in rows]
    if not runs:
        return [], seen
    last = runs[-1].seq + len(runs[-1].entries) - 1
    _keep(connection, left_open(seen + 1, last, runs))
    return runs, last


def _keep(connection: sa.Connection, gaps: Sequence[Gap]) -> None:
    if gaps:
        values = {
            "firsts": [gap.first for gap in gaps],
            "lasts": [gap.last for gap in gaps],
            "horizons": [gap.horizon for gap in gaps],
        }
        connection.exec_driver_sql(_KEEP_GAPS, values)
