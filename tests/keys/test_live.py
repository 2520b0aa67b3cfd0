"""Processes follow the registry of keys: made once, changed by one at a time, never signed with after they stopped counting."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from qcos.base.clock import now
from qcos.base.errors import Conflict, Integrity, Invalid, Unavailable
from qcos.base.limits import KEY_LEASE_S
from qcos.db.engine import make_engine, scope
from qcos.keys import live as live_module
from qcos.keys import store
from qcos.keys.file import FileKeyring
from qcos.keys.live import Followed, LiveKeyring
from qcos.keys.make import make_keys
from qcos.keys.model import KeyEntry, Keyring
from qcos.keys.open import FileStore, KeyStores
from qcos.keys.protect import Protection


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Hanging(KeyStores):
    """A key store that is asked, and answers when it is let go."""

    def __init__(self, folder: Path) -> None:
        super().__init__({"file": FileStore(folder, Protection())})
        self.asked, self.go = threading.Event(), threading.Event()
        self.go.set()

    def keyring(self, entries: Sequence[KeyEntry], version: int) -> Keyring:
        self.asked.set()
        assert self.go.wait(120)
        return super().keyring(entries, version)


def stores(folder: Path) -> KeyStores:
    return KeyStores({"file": FileStore(folder, Protection())})


def live(engine: sa.Engine, folder: Path, clock: Clock | None = None) -> LiveKeyring:
    return LiveKeyring(
        engine, stores(folder), FileKeyring(folder).open_or_create, clock=clock or time.monotonic
    )


def registry(engine: sa.Engine) -> tuple[KeyEntry, ...]:
    with scope(engine, None) as connection:
        return store.load(connection).entries


def put_in_force(engine: sa.Engine, made: Sequence[KeyEntry], seen: Sequence[KeyEntry]) -> None:
    slots = {entry.slot for entry in made}
    replaced = [entry.key_id for entry in seen if entry.in_force and entry.slot in slots]
    with scope(engine, None) as connection:
        store.lock(connection)
        store.replace(connection, replaced, now() + dt.timedelta(hours=1))
        store.add(connection, made)


def rotate(
    engine: sa.Engine, folder: Path, algorithms: Sequence[str] = ("ML-DSA-65", "Ed25519")
) -> list[KeyEntry]:
    seen = registry(engine)
    made = make_keys(stores(folder), seen, "evidence", algorithms, now())  # type: ignore[arg-type] # names of algorithms
    put_in_force(engine, made, seen)
    return made


def test_the_keys_of_an_older_installation_become_the_first_generation(
    engine: sa.Engine, tmp_path: Path
) -> None:
    """R10.5: an installation made before there was a registry goes on with its keys."""
    old = FileKeyring(tmp_path).open_or_create()
    found = live(engine, tmp_path).current()
    assert [signer.key_id for signer in found.evidence] == [signer.key_id for signer in old.evidence]
    assert found.tsa_chain == old.tsa_chain
    assert {entry.generation for entry in found.entries} == {1}
    assert len(found.entries) == 7
    assert found.entries == registry(engine) == old.entries


def test_processes_that_start_at_once_register_the_same_keys(engine: sa.Engine, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: live(engine, tmp_path).current(), range(4)))
    assert len({keyring.entries for keyring in found}) == 1
    assert len(registry(engine)) == 7


def test_a_folder_of_other_keys_is_not_used(engine: sa.Engine, tmp_path: Path) -> None:
    """A second host with a folder of its own must not sign with keys that nobody registered."""
    live(engine, tmp_path / "a")
    with pytest.raises(Integrity) as refused:
        FileKeyring(tmp_path / "b").open_or_create()
        live(engine, tmp_path / "b")
    assert refused.value.code == "keys.changed"


def test_a_lost_folder_is_an_error_and_makes_no_keys(engine: sa.Engine, tmp_path: Path) -> None:
    live(engine, tmp_path / "a")
    with pytest.raises(Integrity) as refused:
        live(engine, tmp_path / "b")
    assert refused.value.code == "keys.missing"
    assert not list((tmp_path / "b").glob("*.pem"))


def test_a_rotated_key_is_noticed(engine: sa.Engine, tmp_path: Path) -> None:
    clock = (
        Clock()
    )  # stands still: however long this takes, nothing is asked for of which the lease has ended
    process = live(engine, tmp_path, clock)
    before = process.current()
    assert process.holds(before)
    made = rotate(engine, tmp_path)
    assert process.current() is before, "no question to the database for each signature"
    after = process.refresh()
    assert [signer.key_id for signer in after.evidence] == [entry.key_id for entry in made]
    assert not process.holds(before)
    assert after.ledger[0].key_id == before.ledger[0].key_id
    assert process.refresh() is after
    stop = threading.Event()
    seen: list[int] = []
    watcher = threading.Thread(
        target=process.watch, args=(stop, lambda keyring: seen.append(keyring.version))
    )
    watcher.start()
    rotate(engine, tmp_path)
    deadline = time.monotonic() + 120
    while max(seen, default=0) <= after.version and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    watcher.join(120)
    assert process.current().version > after.version
    assert seen[-1] == process.current().version


def test_a_process_that_was_stopped_looks_before_it_signs(engine: sa.Engine, tmp_path: Path) -> None:
    """What it signs after a revocation would count for nothing."""
    clock = Clock()
    process = live(engine, tmp_path, clock)
    before = process.current()
    rotate(engine, tmp_path)
    clock.now += KEY_LEASE_S
    assert process.current() is before
    clock.now += 0.1
    assert process.current() is not before
    assert not process.holds(before)


def test_without_the_registry_nothing_is_signed_for_long(engine: sa.Engine, database, tmp_path: Path) -> None:
    clock = Clock()
    own = make_engine(database.app_url, pool_size=1)
    process = live(own, tmp_path, clock)
    own.dispose()
    with engine.connect():
        pass
    broken = make_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", pool_size=1)
    process._engine = broken  # as if the database had gone away
    assert process.current() is not None
    clock.now += KEY_LEASE_S + 0.1
    with pytest.raises(Unavailable):
        process.current()
    process._engine = engine
    assert process.current() is not None


def test_two_at_once_are_one_rotation(engine: sa.Engine, tmp_path: Path) -> None:
    """Both decided on the same registry: one wins, the other changes nothing."""
    live(engine, tmp_path)
    seen = registry(engine)
    both = [make_keys(stores(tmp_path), seen, "evidence", ["Ed25519"], now()) for _ in range(2)]
    put_in_force(engine, both[0], seen)
    with pytest.raises(Conflict) as refused:
        put_in_force(engine, both[1], seen)
    assert refused.value.code == "keys.changed_meanwhile"
    in_force = [
        entry.key_id for entry in registry(engine) if entry.in_force and entry.slot == "evidence-ed25519"
    ]
    assert in_force == [both[0][0].key_id]
    with pytest.raises(Conflict), scope(engine, None) as connection:
        store.add(
            connection, [replace(both[1][0], generation=9)]
        )  # the database itself knows that one is in force


def test_who_is_killed_between_key_and_registry_leaves_nothing_half_done(
    engine: sa.Engine, tmp_path: Path
) -> None:
    process = live(engine, tmp_path)
    before = process.current()
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, signal, sys; from pathlib import Path; from qcos.keys.open import FileStore;"
            "from qcos.keys.protect import Protection;"
            "FileStore(Path(sys.argv[1]), Protection()).make('evidence', 'ML-DSA-65'); os.kill(os.getpid(), signal.SIGKILL)",
            str(tmp_path),
        ],
        check=False,
    )
    assert killed.returncode == -9
    (orphan,) = tmp_path.glob("evidence-mldsa65-*.pem")
    assert process.refresh() is before
    made = rotate(engine, tmp_path)
    files = FileStore(tmp_path, Protection())
    known = [entry.locator for entry in registry(engine)]
    assert files.sweep(known, time.time() - 3600) == [], "its maker may be about to register it"
    os.utime(orphan, (1, 1))
    half = tmp_path / ".new-0123456789abcdef"
    os.link(orphan, half)  # killed between the two names of a file
    assert files.sweep(known, time.time() - 3600) == [orphan.name]
    assert not half.exists()
    assert {entry.locator for entry in made} <= {path.name for path in tmp_path.iterdir()}
    assert [signer.key_id for signer in live(engine, tmp_path).current().evidence] == [e.key_id for e in made]


def test_another_key_in_the_file_is_noticed(engine: sa.Engine, tmp_path: Path) -> None:
    process = live(engine, tmp_path)
    (made,) = rotate(engine, tmp_path, ["Ed25519"])
    other, locator = FileStore(tmp_path, Protection()).make("evidence", "Ed25519")
    (tmp_path / locator).replace(tmp_path / made.locator)
    for _ in range(2):  # no failure of what was to be signed: it waits until the right key is back
        with pytest.raises(Unavailable) as refused:
            process.refresh()
        assert (refused.value.code, refused.value.got) == ("keys.changed", other.key_id)
    (tmp_path / made.locator).chmod(0o644)
    with pytest.raises(Unavailable) as refused:
        process.refresh()
    assert refused.value.code == "keys.permissions"


def test_what_is_made_of_the_keys_waits_until_it_can_be_made(engine: sa.Engine, tmp_path: Path) -> None:
    """R8.7: a certificate file that is gone at a rotation must not fail jobs that were paid for."""
    wrong = [Invalid("timestamp.trust", "the pinned certificates cannot be read", subject="tsa.pem")]

    def make(keyring: Keyring) -> str:
        if wrong:
            raise wrong.pop()
        return keyring.tsa_key.key_id

    process = live(engine, tmp_path)
    followed = Followed(process, make)
    with pytest.raises(Unavailable) as refused:
        followed()
    assert (refused.value.code, refused.value.subject) == ("timestamp.trust", "tsa.pem")
    assert followed() == process.current().tsa_key.key_id


def test_a_locator_is_no_path_and_a_store_must_be_there(engine: sa.Engine, tmp_path: Path) -> None:
    entry = replace(live(engine, tmp_path).current().entries[0], locator="../evidence-mldsa65.pem")
    with pytest.raises(Integrity):
        stores(tmp_path).open(entry)
    with pytest.raises(Invalid) as refused:
        stores(tmp_path).open(replace(entry, store="moon"))
    assert refused.value.code == "keys.store"


def test_keys_are_private_and_encrypted_in_every_generation(engine: sa.Engine, tmp_path: Path) -> None:
    """R10.5: the passphrase and the mode hold for new keys too."""
    protected = KeyStores({"file": FileStore(tmp_path, Protection(b"correct horse"))})
    LiveKeyring(engine, protected, FileKeyring(tmp_path, b"correct horse").open_or_create)
    seen = registry(engine)
    made = make_keys(protected, seen, "tsa-ca", ["ECDSA-P384"], now())
    assert [entry.role for entry in made] == ["tsa-ca", "tsa"]
    put_in_force(engine, made, seen)
    for entry in made:
        path = tmp_path / entry.locator
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    reopened = LiveKeyring(
        engine, protected, FileKeyring(tmp_path, b"correct horse").open_or_create
    ).current()
    assert reopened.tsa_chain == made[1].chain
    with pytest.raises(Invalid):
        live(engine, tmp_path)


def test_a_key_is_revoked_from_the_earliest_time_that_was_said(engine: sa.Engine, tmp_path: Path) -> None:
    key = live(engine, tmp_path).current().entries[0]
    at = now()
    with scope(engine, None) as connection:
        assert store.revoke(connection, key.key_id, at, "lost")
        assert not store.revoke(connection, key.key_id, at + dt.timedelta(hours=1), "later")
        assert store.revoke(connection, key.key_id, at - dt.timedelta(hours=1), "earlier than thought")
    found = registry(engine)[0]
    assert (found.revoked_at, found.reason) == (at - dt.timedelta(hours=1), "earlier than thought")
    assert found.state(at) == "revoked"


def test_the_application_cannot_change_what_a_key_is(engine: sa.Engine, tmp_path: Path) -> None:
    live(engine, tmp_path)
    for statement in (
        "update qcos.signing_key set spki = ''",
        "update qcos.signing_key set not_before = now()",
        "update qcos.signing_key set role = 'tsa'",
        "delete from qcos.signing_key",
    ):
        with (
            pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
            scope(engine, None) as connection,
        ):
            connection.exec_driver_sql(statement)


def test_a_key_store_that_hangs_holds_one_thread_and_not_all(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R10.5: who needs the keys meanwhile is told so; when the store answers, all goes on with the new ones."""
    monkeypatch.setattr(live_module, "KEY_STORE_WAIT_S", 0.1)
    clock, store_ = Clock(), Hanging(tmp_path)
    process = LiveKeyring(engine, store_, FileKeyring(tmp_path).open_or_create, clock=clock)
    before = process.current()
    made = rotate(engine, tmp_path)
    store_.asked.clear()
    store_.go.clear()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(process.refresh)
        assert store_.asked.wait(120)
        assert process.current() is before, "within the lease"
        clock.now += KEY_LEASE_S + 1
        for _ in range(3):
            with pytest.raises(Unavailable) as refused:
                process.current()
            assert refused.value.code == "keys.unread"
        store_.go.set()
        assert [signer.key_id for signer in reading.result(120).evidence] == [entry.key_id for entry in made]
    assert process.current() is reading.result()
