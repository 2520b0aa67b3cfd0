"""An installation of before entries were written once keeps its log: same entries, same indices, what waited is still numbered."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from qcos.db import embedded, migrations
from qcos.db.engine import make_engine, scope
from qcos.db.migrate import migrate
from qcos.ledger import prove, store
from qcos.ledger.edge import Edge
from qcos.ledger.fsck import fsck
from qcos.ledger.record import Appended, Record, prepare
from qcos.ledger.sequence import Sequencer
from qcos.ledger.verify import verify_proof

from .conftest import ORIGIN, make_signers, record_acts

TENANT = UUID(int=7)
_VERSIONS = Path(migrations.__file__).parent / "versions"
BEFORE = re.findall(r'^down_revision = "(.*)"', next(_VERSIONS.glob("*_ledger_runs.py")).read_text(), re.M)[0]


@pytest.fixture
def old(postgres: embedded.EmbeddedServer) -> Iterator[tuple[sa.Engine, str, str]]:
    """A database of before: its owner's engine, its URLs."""
    name = f"test_{secrets.token_hex(6)}"
    admin_url, app_url = (
        sa.make_url(url).set(database=name).render_as_string(hide_password=False)
        for url in (postgres.admin_url, postgres.app_url)
    )
    admin = sa.create_engine(
        sa.make_url(admin_url).set(database="template1"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create database {name} template template0")
    migrate(admin_url, revision=BEFORE)
    owner = sa.create_engine(admin_url, poolclass=sa.NullPool)
    yield owner, admin_url, app_url
    with admin.connect() as connection:
        connection.exec_driver_sql(f"drop database {name} with (force)")


def keep_as_before(owner: sa.Engine, items: list[Appended], order: list[int | None]) -> bytes:
    """Write records as they were; ``order`` has each one's index, None for one that waits. Returns the root."""
    with owner.begin() as connection:
        for seq, (item, index) in enumerate(zip(items, order, strict=True), 1):
            if index == -1:  # rolled back: the number is used up
                connection.exec_driver_sql("select nextval('qcos.ledger_entry_seq_seq')")
                continue
            connection.execute(
                sa.text(
                    "insert into qcos.ledger_entry (record_id, entry, index) values (:id, :entry, :index)"
                ),
                {"id": item.record_id, "entry": item.entry_bytes, "index": index},
            )
            row = {name: getattr(item.record, name) for name in ("act", "actor", "object", "project")}
            row |= {
                "tenant": TENANT,
                "id": item.record_id,
                "seq": seq,
                "time": item.at,
                "record": item.record_bytes,
            }
            connection.execute(sa.insert(store.record_table), row)
        numbered = sorted((i, item) for item, i in zip(items, order, strict=True) if i is not None and i >= 0)
        edge = Edge()
        nodes = edge.extend([item.entry_bytes for _, item in numbered]).nodes
        for node in nodes:
            connection.execute(
                sa.insert(store.node_table), {"level": node.level, "index": node.index, "hash": node.hash}
            )
        connection.execute(
            sa.text("update qcos.ledger_state set size = :size, root = :root"),
            {"size": edge.size, "root": edge.root()},
        )
    return edge.root()


def test_a_log_of_before_goes_on_as_it_was(old: tuple[sa.Engine, str, str], tmp_path: Path) -> None:
    owner, admin_url, app_url = old
    at = dt.datetime(2026, 1, 9, tzinfo=dt.UTC)
    items = [prepare(TENANT, Record("job.submitted", "user:a", f"job-{n}"), at) for n in range(302)]
    # Numbered in order, but: 3 and 4 came late, 6 was rolled back, 8 and the last two still wait.
    order: list[int | None] = [0, 1, None, None, 2, -1, 3, None, *range(4, 294)]
    order[2], order[3] = 294, 295
    order += [296, 297, None, None]
    assert len(order) == len(items)
    root = keep_as_before(owner, items, order)
    migrate(admin_url)

    engine, signers = make_engine(app_url), make_signers()
    with scope(engine, TENANT) as connection:
        assert store.glance(connection).head == store.Head(298, root)
        placed = {
            p.record_id: p.index for p in store.placed(connection, TENANT, [i.record_id for i in items])
        }
    kept = [(item, index) for item, index in zip(items, order, strict=True) if index != -1]
    assert [placed[item.record_id] for item, _ in kept] == [index for _, index in kept]
    more = record_acts(engine, TENANT, 3)
    sequencer = Sequencer(engine, tmp_path, signers, ORIGIN)
    assert sequencer.step().size == 304
    with scope(engine, TENANT) as connection:
        proofs = prove.proofs_of(connection, TENANT, [item.record_id for item in [*items, *more]])
    assert sorted(proof.index for proof in proofs.values()) == list(range(304))
    assert [proofs[item.record_id].index for item in more] == [301, 302, 303]
    verify_proof(proofs[items[7].record_id].as_dict(), signers.vkeys, {"object": "job-7"})
    report = fsck(tmp_path, signers.vkeys, engine, tenants=[TENANT])
    assert report.ok, report.problems
    assert report.records == 304
    engine.dispose()


def test_an_empty_log_stays_empty(old: tuple[sa.Engine, str, str], tmp_path: Path) -> None:
    _, admin_url, app_url = old
    migrate(admin_url)
    engine = make_engine(app_url)
    tenant = uuid4()
    items = record_acts(engine, tenant, 2)
    assert Sequencer(engine, tmp_path, make_signers(), ORIGIN).step().size == 2
    with scope(engine, tenant) as connection:
        assert [p.index for p in store.placed(connection, tenant, [items[0].record_id])] == [0]
    engine.dispose()


def test_entries_that_no_release_wrote_stop_the_migration(old: tuple[sa.Engine, str, str]) -> None:
    owner, admin_url, _ = old
    with owner.begin() as connection:
        connection.exec_driver_sql("insert into qcos.ledger_entry (record_id, entry) values ('x', 'forged')")
    with pytest.raises(RuntimeError, match="1 ledger entries are none"):
        migrate(admin_url)
    with owner.connect() as connection:
        assert connection.exec_driver_sql("select entry from qcos.ledger_entry").scalar() == b"forged"
