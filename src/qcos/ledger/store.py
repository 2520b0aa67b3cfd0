"""Tables of the ledger.

Losing them: ``ledger_record`` holds the only copy of what the commitments commit to; without it the log still
proves *that* something was recorded, not what (evidence bundles carry their own record). ``ledger_entry`` and
``ledger_run`` can be restored from the entry bundles and the records, ``ledger_node`` and ``ledger_state``
from the entries, ``ledger_checkpoint`` only from what was published. ``ledger_gap`` is a note of the sequencer
to itself (see `qcos.ledger.number`): whoever loses it has the entries of late transactions left unnumbered.

Somebody who can write to them as the application could record false acts (signed as everything else) and hold
back new entries; could not change or remove a record or entry (grants and policies), and as the database's
owner could not do so unseen: the root would no longer agree with the checkpoints that others keep. The
sequencer refuses to sign a head that does not continue the last one it published.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from qcos.base.clock import now
from qcos.base.limits import PAGE_DEFAULT, PAGE_MAX
from qcos.db.engine import metadata
from qcos.ledger.edge import Edge, NewNode
from qcos.ledger.record import DIGEST_BYTES, Appended, entry_with, read_record
from qcos.ledger.tile import WIDTH

record_table = sa.Table(
    "ledger_record",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("act", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),
)
entry_table = sa.Table(
    "ledger_entry",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
)
run_table = sa.Table(
    "ledger_run",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("index", sa.BigInteger, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
)
gap_table = sa.Table(
    "ledger_gap",
    metadata,
    sa.Column("first", sa.BigInteger, primary_key=True),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("horizon", sa.BigInteger),
)
node_table = sa.Table(
    "ledger_node",
    metadata,
    sa.Column("level", sa.SmallInteger, primary_key=True),
    sa.Column("index", sa.BigInteger, primary_key=True),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
state_table = sa.Table(
    "ledger_state",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
    sa.Column("moved", sa.DateTime(timezone=True), nullable=False),
)
checkpoint_table = sa.Table(
    "ledger_checkpoint",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True, slots=True)
class Head:
    """How many entries have their index, and the root of their tree."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Glance:
    """What an idle sequencer looks at.

    Attributes:
        head: The tree of the entries that have an index.
        signed: Size of the newest signed checkpoint; None when there is none.
        waiting: Whether entries wait for an index.
    """

    head: Head
    signed: int | None
    waiting: bool


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far the sequencer is behind, as an append sees it.

    Attributes:
        entries: Sequence numbers that were given out and not looked at; the caller's own among them.
        age_s: Seconds since the sequencer moved or, if that is later, since the oldest entry it has not seen was
            written; 0 when none waits.
    """

    entries: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Placed:
    """A record and where its entry stands; ``index`` is None until it is sequenced."""

    record_id: str
    record_bytes: bytes
    index: int | None
    seq: int

    @property
    def record(self) -> dict[str, Any]:  # Any: JSON
        """Return the record read."""
        return read_record(self.record_bytes)


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, newest first, and the cursor of the next page (None at the end)."""

    items: tuple[Placed, ...]
    next: str | None


# Bulk: one statement whatever the number of records, values in binary (`%(...)b`). The entry's sequence number is
# the record's too. The last part is how far the sequencer is behind: two rows found by their keys.
_APPEND = """
    with given as (
        select * from unnest(%(ids)b::text[], %(times)b::timestamptz[], %(acts)b::text[], %(actors)b::text[],
            %(objects)b::text[], %(projects)b::text[], %(records)b::bytea[], %(digests)b::bytea[])
            with ordinality as g(id, time, act, actor, object, project, record, digest, n)
    ), entered as (
        insert into qcos.ledger_entry (digest) select digest from given order by n returning seq, digest
    ), kept as (
        insert into qcos.ledger_record (tenant, id, seq, time, act, actor, object, project, record)
        select %(tenant)b, g.id, e.seq, g.time, g.act, g.actor, g.object, g.project, g.record
        from given g join entered e on e.digest = g.digest
    )
    select (select max(seq) from entered) - s.seen as entries,
        (select extract(epoch from clock_timestamp() - greatest(s.moved, w.at))::float8
            from qcos.ledger_entry w where w.seq > s.seen order by w.seq limit 1) as age_s
    from qcos.ledger_state s where s.one
    """
_GLANCE = sa.text(
    """
    select size, root, (select max(size) from qcos.ledger_checkpoint) as signed,
        exists (select from qcos.ledger_entry e where e.seq > s.seen) or exists (
            select from qcos.ledger_gap g
            where exists (select from qcos.ledger_entry e where e.seq between g.first and g.last)
        ) as waiting
    from qcos.ledger_state s where s.one
    """
)
# The runs that overlap [start, end): from the one that holds `start`.
_ENTRIES = sa.text(
    """
    select r.index as place, e.digests
    from qcos.ledger_run r cross join lateral (
        select string_agg(x.digest, ''::bytea order by x.seq) as digests
        from qcos.ledger_entry x
        where x.seq >= r.seq + greatest(0, :start - r.index) and x.seq < r.seq + least(r.count, :end - r.index)
    ) e
    where r.index < :end and r.index >= coalesce((select max(index) from qcos.ledger_run where index <= :start), 0)
    order by r.index
    """
)


_HELD_BACK = sa.text(
    """
    select (select count(*) from qcos.ledger_entry e where e.seq <= s.seen)
        - (select coalesce(sum(r.count), 0) from qcos.ledger_run r)
        - (select count(*) from qcos.ledger_gap g join qcos.ledger_entry e on e.seq between g.first and g.last)
    from qcos.ledger_state s where s.one
    """
)


def insert(connection: sa.Connection, tenant: UUID, items: Sequence[Appended]) -> Backlog:
    """Keep records and their entries, in order, in one statement; returns how far the sequencer is behind."""
    if not items:
        return Backlog(0, 0.0)
    row = connection.exec_driver_sql(
        _APPEND,
        {
            "tenant": tenant,
            "ids": [item.record_id for item in items],
            "times": [item.at for item in items],
            "acts": [item.record.act for item in items],
            "actors": [item.record.actor for item in items],
            "objects": [item.record.object for item in items],
            "projects": [item.record.project for item in items],
            "records": [item.record_bytes for item in items],
            "digests": [item.digest for item in items],
        },
    ).one()
    return Backlog(row.entries, row.age_s or 0.0)


def glance(connection: sa.Connection) -> Glance:
    """Return what an idle sequencer looks at; one small statement."""
    row = connection.execute(_GLANCE).one()
    return Glance(Head(row.size, bytes(row.root)), row.signed, row.waiting)


def insert_nodes(connection: sa.Connection, nodes: Sequence[NewNode]) -> None:
    """Keep the roots of tiles that became full."""
    if nodes:
        connection.exec_driver_sql(
            "insert into qcos.ledger_node (level, index, hash) "
            "select * from unnest(%(levels)b::int2[], %(indices)b::int8[], %(hashes)b::bytea[])",
            {
                "levels": [node.level for node in nodes],
                "indices": [node.index for node in nodes],
                "hashes": [node.hash for node in nodes],
            },
        )


def entries_between(connection: sa.Connection, start: int, end: int) -> list[bytes]:
    """Return the entries with the indices ``[start, end)``, in order; shorter when some are missing."""
    found: list[bytes] = []
    for row in connection.execute(_ENTRIES, {"start": start, "end": end}):
        if start + len(found) != max(int(row.place), start):  # a hole
            break
        found += entries_of(row.digests)
    return found


def entries_of(digests: bytes | None) -> list[bytes]:
    """Return the entries of records whose digests stand one behind the other."""
    data = bytes(digests or b"")
    return [entry_with(data[at : at + DIGEST_BYTES]) for at in range(0, len(data), DIGEST_BYTES)]


def nodes_between(connection: sa.Connection, level: int, start: int, end: int) -> list[bytes]:
    """Return the hashes ``[start, end)`` of a tile level from 1, in order; shorter when some are missing."""
    index = node_table.c.index
    chosen = sa.select(node_table.c.hash).where(node_table.c.level == level, index >= start, index < end)
    return [bytes(row.hash) for row in connection.execute(chosen.order_by(index))]


def load_edge(connection: sa.Connection, size: int) -> Edge:
    """Return the right edge of the tree at a size it has or had.

    At most 255 entries and 255 hashes a level are read.

    Raises:
        ValueError: Some of them are missing.
    """
    upper = []
    level = 1
    while size >> (8 * level):
        count = size >> (8 * level)
        upper.append(nodes_between(connection, level, count - count % WIDTH, count))
        level += 1
    return Edge(size, entries_between(connection, size - size % WIDTH, size), upper)


def insert_checkpoint(connection: sa.Connection, head: Head, note: str) -> bool:
    """Keep a signed checkpoint unless there is one of its size."""
    values = {"size": head.size, "root": head.root, "note": note, "at": now()}
    statement = sa.text(
        "insert into qcos.ledger_checkpoint (size, root, note, at) values (:size, :root, :note, :at) "
        "on conflict (size) do nothing"
    )
    return connection.execute(statement, values).rowcount == 1


def checkpoint_of(connection: sa.Connection, size: int) -> tuple[bytes, str] | None:
    """Return root and note of the checkpoint of a size."""
    table = checkpoint_table
    row = connection.execute(sa.select(table.c.root, table.c.note).where(table.c.size == size)).one_or_none()
    return (bytes(row.root), row.note) if row else None


def size_at(connection: sa.Connection, at: dt.datetime) -> int:
    """Return how many entries the newest checkpoint covered at an instant."""
    found = connection.execute(
        sa.select(checkpoint_table.c.size)
        .where(checkpoint_table.c.at <= at)
        .order_by(checkpoint_table.c.size.desc())
        .limit(1)
    ).scalar_one_or_none()
    return int(found or 0)


def latest_checkpoint(connection: sa.Connection) -> tuple[int, str] | None:
    """Return size and note of the newest checkpoint."""
    table = checkpoint_table
    row = connection.execute(
        sa.select(table.c.size, table.c.note).order_by(table.c.size.desc()).limit(1)
    ).one_or_none()
    return (row.size, row.note) if row else None


def latest_checkpoint_time(connection: sa.Connection) -> dt.datetime | None:
    """Return when the newest checkpoint was signed, by this installation's clock."""
    table = checkpoint_table
    found: dt.datetime | None = connection.execute(
        sa.select(table.c.at).order_by(table.c.size.desc()).limit(1)
    ).scalar()
    return found


def checkpoint_sizes(connection: sa.Connection, after: int, until: int) -> list[int]:
    """Return the sizes of the checkpoints in ``(after, until]``."""
    size = checkpoint_table.c.size
    return list(connection.scalars(sa.select(size).where(size > after, size <= until).order_by(size)))


def placed(connection: sa.Connection, tenant: UUID, record_ids: Sequence[str]) -> list[Placed]:
    """Return records with their places, in no order; those that are not there are left out."""
    chosen = _placed().where(
        record_table.c.tenant == tenant,
        record_table.c.id == sa.any_(sa.literal(list(record_ids), sa.ARRAY(sa.Text))),
    )
    return [_placed_of(row) for row in connection.execute(chosen)]


def search(
    connection: sa.Connection,
    tenant: UUID,
    *,
    actor: str | None = None,
    object: str | None = None,
    act: str | None = None,
    project: str | None = None,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    after: str | None = None,
    limit: int = PAGE_DEFAULT,
) -> Page:
    """Return a tenant's records, newest first, page by page (R5.1 to R5.4).

    Args:
        connection: A scope of the tenant.
        tenant: Whose records.
        actor: Only acts of this principal.
        object: Only acts on this object.
        act: Only this act.
        project: Only acts of this project.
        since: From this instant on.
        until: Before this instant.
        after: `Page.next` of the page before: a record id. One that does not exist gives an empty page.
        limit: Records a page, at most `PAGE_MAX`.
    """
    columns = record_table.c
    limit = max(1, min(limit, PAGE_MAX))
    query = _placed().where(columns.tenant == tenant)
    asked = [
        (column, value)
        for column, value in (
            (columns.actor, actor),
            (columns.object, object),
            (columns.act, act),
            (columns.project, project),
        )
        if value is not None
    ]
    for column, value in asked:
        query = query.where(column == value)
    if since is not None:
        query = query.where(columns.time >= since)
    if until is not None:
        query = query.where(columns.time < until)
    if after is not None:
        last = record_table.alias("last")
        place = (
            sa.select(last.c.time, last.c.seq)
            .where(last.c.tenant == tenant, last.c.id == after)
            .scalar_subquery()
        )
        query = query.where(sa.tuple_(columns.time, columns.seq) < place)
    query = query.order_by(columns.time.desc(), columns.seq.desc()).limit(limit + 1)
    with _planned_for_values(connection, len(asked) > 1):
        rows = connection.execute(query).all()
    items = tuple(_placed_of(row) for row in rows[:limit])
    return Page(items, items[-1].record_id if len(rows) > limit else None)


@contextlib.contextmanager
def _planned_for_values(connection: sa.Connection, wanted: bool) -> Iterator[None]:
    """Let the server look at the values when it plans: which of several filters is rare decides which index is best."""
    if wanted:
        connection.exec_driver_sql("set local plan_cache_mode = force_custom_plan")
    yield
    if wanted:
        connection.exec_driver_sql("set local plan_cache_mode to default")


def held_back(connection: sa.Connection) -> int:
    """Return how many entries the sequencer has passed by: neither numbered nor in a gap that it still looks into."""
    return int(connection.execute(_HELD_BACK).scalar_one())


def records_after(
    connection: sa.Connection, tenant: UUID, after: tuple[dt.datetime, int] | None, limit: int
) -> list[sa.Row[Any]]:  # Any: columns of several types
    """Return a tenant's records by time and sequence number, for checking.

    Each is (time, seq, id, act, actor, object, project, record, digest in its entry or None).
    """
    columns = record_table.c
    names = (columns.time, columns.seq, columns.id, columns.act, columns.actor, columns.object)
    chosen = sa.select(*names, columns.project, columns.record, entry_table.c.digest).join_from(
        record_table, entry_table, columns.seq == entry_table.c.seq, isouter=True
    )
    here = chosen.where(columns.tenant == tenant)
    if after is not None:
        here = here.where(sa.tuple_(columns.time, columns.seq) > after)
    return list(connection.execute(here.order_by(columns.time, columns.seq).limit(limit)))


def _placed() -> sa.Select[Any]:  # Any: the columns of `Placed`
    run, seq = run_table.c, record_table.c.seq
    held = sa.select(run.seq, run.index, run.count).where(run.seq <= seq).order_by(run.seq.desc()).limit(1)
    near = held.lateral("near")
    place = sa.case((seq < near.c.seq + near.c.count, near.c.index + seq - near.c.seq)).label("place")
    return (
        sa.select(record_table.c.id, record_table.c.record, seq, place)
        .select_from(record_table)
        .join(near, sa.true(), isouter=True)
    )


def _placed_of(row: sa.Row[Any]) -> Placed:  # Any: the columns of `Placed`
    return Placed(row.id, bytes(row.record), row.place, row.seq)
