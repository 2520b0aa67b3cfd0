"""An act of keys and the trust document that tells of it: both or neither, wherever the process dies (law 1, R10.5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from qcos.administration.trust import follow, held_of
from qcos.app import open_keys
from qcos.base.errors import Conflict
from qcos.base.limits import KEY_EFFECT_S
from qcos.db.engine import scope
from qcos.evidence.succession import Held, hold, signing_keys, update
from qcos.keys import store
from qcos.published import make_issuer
from qcos.settings import Settings

from .dying import Dying
from .keys import revoke, rotate
from .world import World

TABLES = ("signing_key", "signing_key_state", "trust_document", "ledger_record", "ledger_entry")


def everything(world: World) -> dict[str, list[str]]:
    """Return every row that a rotation touches, but for what says nothing outside the process."""
    return {name: sorted(map(str, world.rows(f"select * from qcos.{name}"))) for name in TABLES}


def start(world: World, data: Path) -> None:
    """Make the first generation of keys, and version 1 of the trust document."""
    settings = Settings(data=data)
    assert follow(make_issuer(settings, world.engine, open_keys(settings, world.engine)))


def chain(world: World) -> list[store.Published]:
    with scope(world.engine, None) as connection:
        return store.documents(connection, 0, 100)


def assert_told(world: World) -> Held:
    """The newest document tells of the keys in force, follows from the first, and each one stands in the ledger."""
    documents = chain(world)
    first = held_of(documents[0])
    newest = (first, *update(first, [one.step for one in documents]))[-1]
    with scope(world.engine, None) as connection:
        entries = store.load(connection).entries
    assert {e.key_id for e in entries if e.in_force and e.role in ("evidence", "ledger")} == set(
        signing_keys(newest.trust)
    )
    issued = world.rows("select object from qcos.ledger_record where act = 'trust.issued' order by time")
    assert [row.object for row in issued] == [one.digest for one in documents]
    assert newest.digest == documents[-1].digest
    return newest


def generation(world: World) -> int:
    with scope(world.engine, None) as connection:
        return max(entry.generation for entry in store.load(connection).entries)


def test_a_rotation_that_is_killed_anywhere_left_both_or_neither(
    world: World, database: Any, tmp_path: Path
) -> None:
    start(world, tmp_path)
    order = {
        "url": database.app_url,
        "data": tmp_path,
        "tenant": world.tenant,
        "token": world.admin_hash.hex(),
    }
    with Dying() as dying:
        k, outcomes = 1, []
        while (ended := dying.run("rotate", k, **order)).killed:
            outcomes.append((ended.points[-1], assert_told(world).version == generation(world)))
            k += 1
    assert len(outcomes) > 4 and all(same for _, same in outcomes)
    assert {point for point, _ in outcomes} == {"before a commit", "after a commit"}
    assert generation(world) > 2, "some died after the act, and it stands"
    assert assert_told(world).version == generation(world)


@pytest.mark.parametrize("table", ["trust_document", "ledger_record"])
def test_a_successor_that_cannot_be_kept_leaves_the_keys_as_they_were(
    world: World, database: Any, tmp_path: Path, table: str
) -> None:
    start(world, tmp_path)
    owner = sa.create_engine(database.admin_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    before = everything(world)
    with owner.connect() as connection:
        connection.exec_driver_sql(f"revoke insert on qcos.{table} from qcos_app")
        with pytest.raises(Exception, match=r"permission denied|cannot be recorded|ledger"):
            rotate(world.engine, tmp_path, world.tenant, world.admin_hash)
        connection.exec_driver_sql(f"grant insert on qcos.{table} to qcos_app")
    assert everything(world) == before
    rotate(world.engine, tmp_path, world.tenant, world.admin_hash)
    assert assert_told(world).version == 2


def test_the_application_changes_no_document_that_was_published(world: World, tmp_path: Path) -> None:
    start(world, tmp_path)
    for statement in ("update qcos.trust_document set digest = ''", "delete from qcos.trust_document"):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            world.rows(statement)
    assert hold(held_of(chain(world)[0]).document).version == 1


def test_a_revocation_that_waited_too_long_is_not_kept(world: World, tmp_path: Path) -> None:
    """Processes would go on signing with the key after the instant at which it does not count any more."""
    start(world, tmp_path)
    before = everything(world)
    with pytest.raises(Conflict) as refused:
        revoke(world.engine, tmp_path, world.tenant, world.admin_hash, waited_s=KEY_EFFECT_S)
    assert refused.value.code == "trust.overtaken"
    assert everything(world) == before
    revoke(world.engine, tmp_path, world.tenant, world.admin_hash, waited_s=-60)
    assert assert_told(world).version == 2
