"""Trust documents of an installation: which become versions, when, and in what order (R10.5)."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from qcos.administration import installation
from qcos.administration.key_changes import Plan, decide_revocation, decide_rotation
from qcos.administration.trust import Issuer, Prepared, follow, held_of, keep, prepare
from qcos.app import open_keys
from qcos.base.clock import now
from qcos.base.errors import Conflict, Integrity, Invalid, NotFound, Unavailable
from qcos.base.limits import KEY_OVERLAP_MAX_S, KEY_OVERLAP_S
from qcos.db.engine import scope
from qcos.evidence.succession import Held, hold, update, write_step
from qcos.keys import store
from qcos.keys.certify import to_pem
from qcos.keys.file import FileKeyring
from qcos.keys.live import LiveKeyring
from qcos.keys.make import make_keys
from qcos.keys.model import KeyEntry
from qcos.ledger.store import checkpoint_table
from qcos.published import make_issuer, trust_of
from qcos.settings import Settings


@pytest.fixture
def issuer(engine: sa.Engine, tmp_path: Path) -> Issuer:
    installation.create_tenant(engine, "test")
    return issuer_of(engine, tmp_path)


def issuer_of(engine: sa.Engine, data: Path, **settings: Any) -> Issuer:
    chosen = Settings(data=data, **settings)
    return make_issuer(chosen, engine, open_keys(chosen, engine))


def chain(engine: sa.Engine) -> list[Held]:
    """Return the documents, after following them from the first."""
    with scope(engine, None) as connection:
        found = store.documents(connection, 0, 100)
    first = held_of(found[0])
    return [first, *update(first, [one.step for one in found])]


def rotation(
    issuer: Issuer, role: Any = "evidence", algorithm: Any = "Ed25519"
) -> tuple[Any, list[KeyEntry]]:
    with scope(issuer.engine, None) as connection:
        entries = store.load(connection).entries
    made = make_keys(issuer.keys.stores, entries, role, [algorithm], now())
    old = [e.key_id for e in entries if e.in_force and e.slot == made[0].slot]
    plan = Plan(entries, role, (algorithm,), tuple(old))
    return decide_rotation(plan, made, KEY_OVERLAP_S, now()), made


def kept(issuer: Issuer, change: Any, made: list[KeyEntry], prepared: Prepared) -> None:
    with scope(issuer.engine, None) as connection:
        store.lock(connection)
        store.replace(connection, change.plan.replaced, change.not_after)
        store.add(connection, made)
        keep(connection, prepared)


def test_the_present_document_of_an_older_installation_becomes_the_first(
    engine: sa.Engine, tmp_path: Path
) -> None:
    issuer = issuer_of(engine, tmp_path)
    old = trust_of(Settings(data=tmp_path), engine)
    assert "version" not in old
    assert not follow(issuer), "nobody's ledger could record it yet"
    with scope(engine, None) as connection:
        first_key = store.load(connection).entries[0].key_id
    away = replace(issuer, keys=_Without(issuer.keys, first_key))  # type: ignore[arg-type] # stands in for one
    assert not follow(away), "and no key is asked to sign before it can be"
    assert trust_of(Settings(data=tmp_path), engine) == old
    installation.create_tenant(engine, "test")
    assert follow(issuer) and follow(issuer)
    (first,) = chain(engine)
    assert {k: v for k, v in first.document.items() if k not in ("version", "issued")} == old
    assert trust_of(Settings(data=tmp_path), engine) == first.document
    assert [one.version for one in update(hold(old), [_step(engine, 1)])] == [1]


def _step(engine: sa.Engine, version: int) -> dict[str, Any]:
    with scope(engine, None) as connection:
        return store.documents(connection, version - 1, 1)[0].step


def test_settings_that_change_the_document_make_a_successor_at_the_next_look(
    engine: sa.Engine, issuer: Issuer, tmp_path: Path
) -> None:
    assert follow(issuer)
    pins = tmp_path / "pins.pem"
    pins.write_text("".join(map(to_pem, FileKeyring(tmp_path / "other").open_or_create().tsa_chain)))
    changed = issuer_of(engine, tmp_path, tsa_certificates=pins)
    assert follow(changed) and follow(changed)
    assert [len(one.document["timestamp"]) for one in chain(engine)] == [1, 2]


def test_a_key_that_no_act_told_of_is_not_vouched_for(engine: sa.Engine, issuer: Issuer) -> None:
    """Who writes to the database as the application has no key: the true ones must not sign for what he put there."""
    assert follow(issuer)
    change, made = rotation(issuer)
    prepared = prepare(issuer, change, now())
    good, _ = rotation(issuer, "ledger", "ML-DSA-65")
    with scope(engine, None) as connection:
        store.replace(connection, change.plan.replaced, change.not_after)
        store.add(connection, made)
    for attempt in (lambda: follow(issuer), lambda: prepare(issuer, good, now())):
        with pytest.raises(Integrity) as refused:
            attempt()
        assert refused.value.code == "trust.untold"
    assert prepared.document is not None and len(chain(engine)) == 1


@pytest.mark.parametrize("version", [2, 7])
def test_a_document_that_nobody_signed_is_not_continued(
    engine: sa.Engine, issuer: Issuer, version: int
) -> None:
    assert follow(issuer)
    with scope(engine, None) as connection:
        first = store.newest_document(connection)
        assert first is not None
        step = write_step(dict(held_of(first).document) | {"version": version, "previous": first.digest}, ())
        store.publish(connection, store.Published(version, now(), first.digest, step))
    with pytest.raises(Integrity):
        follow(issuer)


def test_what_the_ledger_had_at_a_revocation_is_not_read_again_once_it_is_told(
    engine: sa.Engine, issuer: Issuer
) -> None:
    """Who writes to the ledger's tables as the application must not have later entries vouched for."""
    assert follow(issuer)
    at = now()
    with scope(engine, None) as connection:
        entries = store.load(connection).entries
    tsa = next(entry for entry in entries if entry.role == "tsa")
    made = make_keys(issuer.keys.stores, entries, "tsa", ["ECDSA-P384"], at)
    plan = Plan(entries, "tsa", ("ECDSA-P384",), (tsa.key_id,))
    change = decide_revocation(tsa.key_id, plan, made, "copied", at)
    prepared = prepare(issuer, change, at)
    with scope(engine, None) as connection:
        store.lock(connection)
        store.replace(connection, plan.replaced, change.effect)
        store.add(connection, made)
        store.revoke(connection, tsa.key_id, change.effect, "copied")
        keep(connection, prepared)

    def signed(size: int, after_s: float) -> None:
        with scope(engine, None) as connection:
            row = {"size": size, "root": bytes(32), "note": "", "at": at + dt.timedelta(seconds=after_s)}
            connection.execute(checkpoint_table.insert(), row)

    def told(after_s: float) -> Prepared:
        prepared = prepare(issuer, tuple, at + dt.timedelta(seconds=after_s))
        if prepared.document is not None:
            with scope(engine, None) as connection:
                keep(connection, prepared)
        return prepared

    signed(5, 11)
    assert told(20).document is not None, "the revocation has taken effect"
    signed(7, 12)
    assert told(25).document is not None, "a checkpoint that was kept late"
    signed(9, 13)
    assert told(120).document is None
    one = next(one for one in chain(engine)[-1].trust.authorities.values() if one.revoked_at is not None)
    assert one.ledger_size == 7


def test_another_name_of_the_ledger_makes_no_successor(
    engine: sa.Engine, issuer: Issuer, tmp_path: Path
) -> None:
    assert follow(issuer)
    with pytest.raises(Integrity) as refused:
        follow(issuer_of(engine, tmp_path, origin="else.test/ledger"))
    assert refused.value.code == "trust.origin"
    assert len(chain(engine)) == 1


def test_of_two_that_were_signed_at_once_one_is_kept(engine: sa.Engine, issuer: Issuer) -> None:
    assert follow(issuer)
    (first, made_first), (second, made_second) = rotation(issuer), rotation(issuer, "ledger", "ML-DSA-65")
    prepared = [prepare(issuer, change, now()) for change in (first, second)]
    kept(issuer, first, made_first, prepared[0])
    with pytest.raises(Conflict) as refused:
        kept(issuer, second, made_second, prepared[1])
    assert refused.value.code == "trust.overtaken"
    kept(issuer, second, made_second, prepare(issuer, second, now()))  # signed anew, it follows the other
    assert [one.version for one in chain(engine)] == [1, 2, 3]
    with pytest.raises(Conflict) as refused:
        prepare(issuer, first, now())
    assert refused.value.code == "keys.changed_meanwhile"


def test_a_successor_is_for_the_change_it_was_signed_for(engine: sa.Engine, issuer: Issuer) -> None:
    assert follow(issuer)
    change, made = rotation(issuer)
    prepared = prepare(issuer, change, now())
    other = replace(change, not_after=change.not_after + dt.timedelta(seconds=1))
    with pytest.raises(Conflict) as refused:
        kept(issuer, other, made, prepared)
    assert refused.value.code == "trust.overtaken"
    assert len(chain(engine)) == 1


def test_a_rotation_before_the_first_document_is_signed_by_the_keys_it_replaces(
    engine: sa.Engine, issuer: Issuer, tmp_path: Path
) -> None:
    """The upgrade's processes were not through when somebody rotated: documents that are held still lead on."""
    old = hold(trust_of(Settings(data=tmp_path), engine))
    change, made = rotation(issuer)
    kept(issuer, change, made, prepare(issuer, change, now()))
    assert [one.version for one in update(old, [_step(engine, 1)])] == [1]
    assert made[0].key_id in chain(engine)[0].trust.keys


def test_a_key_that_cannot_sign_is_revoked_all_the_same(
    engine: sa.Engine, issuer: Issuer, tmp_path: Path
) -> None:
    """The others vouch for it; and nothing else that needs its signature comes about."""
    assert follow(issuer)
    with scope(engine, None) as connection:
        entries = store.load(connection).entries
    lost = next(e for e in entries if e.slot == "evidence-ed25519")
    away = replace(issuer, keys=_Without(issuer.keys, lost.key_id))  # type: ignore[arg-type] # stands in for one
    with pytest.raises(Unavailable):
        prepare(away, rotation(issuer, "evidence", "ML-DSA-65")[0], now())
    made = make_keys(issuer.keys.stores, entries, "evidence", ["Ed25519"], now())
    plan = Plan(entries, "evidence", ("Ed25519",), (lost.key_id,))
    prepared = prepare(away, decide_revocation(lost.key_id, plan, made, "lost", now()), now())
    assert prepared.document is not None and prepared.document.version == 2


def test_a_key_that_is_gone_is_revoked_by_a_process_that_cannot_open_the_keys_any_more(
    engine: sa.Engine, issuer: Issuer, tmp_path: Path
) -> None:
    """Its file is lost, and the registry has changed since this process read it: nothing can be sealed before the revocation."""
    assert follow(issuer)
    with scope(engine, None) as connection:
        entries = store.load(connection).entries
    lost = next(e for e in entries if e.slot == "evidence-ed25519")
    made = make_keys(issuer.keys.stores, entries, "evidence", ["Ed25519"], now())
    plan = Plan(entries, "evidence", ("Ed25519",), (lost.key_id,))
    clock = [0.0]
    stale = LiveKeyring(
        engine, issuer.keys.stores, FileKeyring(tmp_path / "keys").open_or_create, clock=lambda: clock[0]
    )
    (tmp_path / "keys" / lost.locator).unlink()
    with scope(engine, None) as connection:
        connection.execute(store.STATE.update().values(version=store.STATE.c.version + 1))
    clock[0] += 60
    with pytest.raises(Unavailable):
        stale.current()
    prepared = prepare(
        replace(issuer, keys=stale), decide_revocation(lost.key_id, plan, made, "lost", now()), now()
    )
    assert prepared.document is not None and prepared.document.version == 2


class _Without:
    """Keys of which one cannot be reached, as in a key store that is away."""

    def __init__(self, keys: Any, key_id: str) -> None:
        self._keys = keys
        self._key_id = key_id

    @property
    def stores(self) -> Any:
        return self

    def open(self, entry: KeyEntry) -> Any:
        if entry.key_id == self._key_id:
            raise Unavailable("keys.store_away", "the key store is away")
        return self._keys.stores.open(entry)

    def current(self) -> Any:
        return _Nothing()


class _Nothing:
    evidence_signers = ()
    ledger = ()


def test_a_clock_that_was_set_back_does_not_turn_the_succession_round(
    engine: sa.Engine, issuer: Issuer
) -> None:
    assert follow(issuer)
    change, made = rotation(issuer)
    kept(issuer, change, made, prepare(issuer, change, now() - dt.timedelta(days=1)))
    first, second = chain(engine)
    assert first.trust.issued == second.trust.issued


def test_decisions_are_refused_before_anything_is_signed(issuer: Issuer) -> None:
    with scope(issuer.engine, None) as connection:
        entries = store.load(connection).entries
    plan = Plan(entries, None)
    key = entries[0]
    for overlap in (0, KEY_OVERLAP_MAX_S + 1):
        with pytest.raises(Invalid) as refused:
            decide_rotation(plan, [], overlap, now())
        assert refused.value.code == "keys.overlap"
    for reason, since, code in (
        (" ", None, "keys.reason"),
        ("why", key.not_before - dt.timedelta(days=1), "keys.since"),
        ("why", now() + dt.timedelta(days=1), "keys.since"),
    ):
        with pytest.raises(Invalid) as refused:
            decide_revocation(key.key_id, plan, [], reason, now(), since)
        assert refused.value.code == code
    with pytest.raises(NotFound):
        decide_revocation("0" * 16, plan, [], "why", now())
