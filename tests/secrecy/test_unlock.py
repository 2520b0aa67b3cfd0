"""Tenants' keys: made once however many ask, kept in memory for a while only, of no use under another wrapping key."""

from __future__ import annotations

import datetime as dt
import gc
import threading
import time
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from qcos.base.errors import Invalid, NotFound, Unavailable
from qcos.base.limits import KEY_STORE_REST_S, TENANT_KEY_AHEAD_S, TENANT_KEY_KEPT_S
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.keys.wrap import MemoryWrapper
from qcos.secrecy import store
from qcos.secrecy.envelope import TenantKey
from qcos.secrecy.unlock import TenantKeys, rewrap


class Counting(MemoryWrapper):
    """A wrapping key that counts what it is asked."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.unwrapped = 0

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        self.unwrapped += 1
        return super().unwrap(wrapped, context)


@pytest.fixture
def tenant(engine: sa.Engine) -> UUID:
    with scope(engine, None) as connection:
        return identity.create_tenant(connection, "one")


@pytest.fixture
def wrapper() -> Counting:
    return Counting(b"w" * 32)


def test_the_first_key_is_made_once_by_however_many_ask(
    engine: sa.Engine, tenant: UUID, wrapper: Counting
) -> None:
    opened = []

    def ask() -> None:
        key, wrapped = TenantKeys(engine, wrapper).newest(tenant).new_payload_key("job-1")
        opened.append((key.seal("spec", b"secret"), wrapped))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = TenantKeys(engine, wrapper)
    assert {keys.open(tenant, w, "job-1").open("spec", s) for s, w in opened} == {b"secret"}
    with scope(engine, tenant) as connection:
        assert [key.generation for key in store.every(connection, tenant)] == [1]


def test_a_key_is_forgotten_after_a_while(engine: sa.Engine, tenant: UUID, wrapper: Counting) -> None:
    at = [0.0]
    TenantKeys(engine, wrapper).newest(tenant)
    keys = TenantKeys(engine, wrapper, clock=lambda: at[0])
    for _ in range(3):
        keys.newest(tenant)
        keys.generation(tenant, 1)
    assert wrapper.unwrapped == 1
    at[0] = TENANT_KEY_KEPT_S
    keys.newest(tenant)
    assert wrapper.unwrapped == 2
    keys.forget()
    keys.newest(tenant)
    assert wrapper.unwrapped == 3


def test_an_older_generation_opens_what_it_wrapped(
    engine: sa.Engine, tenant: UUID, wrapper: Counting
) -> None:
    keys = TenantKeys(engine, wrapper)
    old, wrapped = keys.newest(tenant).new_payload_key("job-1")
    sealed = old.seal("spec", b"secret")
    assert keys.rotate(tenant).generation == 2 == keys.newest(tenant).generation
    for fresh in (keys, TenantKeys(engine, wrapper)):
        assert fresh.open(tenant, wrapped, "job-1").open("spec", sealed) == b"secret"


def test_another_wrapping_key_opens_nothing_and_blames_no_payload(
    engine: sa.Engine, tenant: UUID, wrapper: Counting
) -> None:
    """A worker that was started with the wrong key folder must not fail jobs for it: they wait."""
    keys = TenantKeys(engine, wrapper)
    _, wrapped = keys.newest(tenant).new_payload_key("job-1")
    stranger = TenantKeys(engine, MemoryWrapper(b"x" * 32))
    for ask in (lambda: stranger.newest(tenant), lambda: stranger.open(tenant, wrapped, "job-1")):
        with pytest.raises(Unavailable) as refused:
            ask()
        assert refused.value.code == "payload.locked"
    with scope(engine, tenant) as connection:
        assert store.remove(connection, tenant, 1)
    with pytest.raises(Unavailable) as refused:
        TenantKeys(engine, wrapper).open(tenant, wrapped, "job-1")
    assert "payload.tenant_key" in refused.value.got


def test_a_row_of_another_tenant_opens_nothing(engine: sa.Engine, tenant: UUID, wrapper: Counting) -> None:
    """R10.1: somebody who can write to the table puts another tenant's wrapped key into his own row."""
    with scope(engine, None) as connection:
        mine = identity.create_tenant(connection, "two")
    TenantKeys(engine, wrapper).newest(tenant)
    with scope(engine, tenant) as connection:
        theirs = store.newest(connection, tenant)
    assert theirs is not None
    with scope(engine, mine) as connection:
        assert store.add(connection, mine, theirs)
    with pytest.raises(Unavailable):
        TenantKeys(engine, wrapper).newest(mine)


def test_a_tenant_that_is_not_gets_no_key(engine: sa.Engine, wrapper: Counting) -> None:
    with pytest.raises(NotFound):
        TenantKeys(engine, wrapper).newest(uuid4())


def test_tenants_keys_move_to_another_wrapping_key(
    engine: sa.Engine, tenant: UUID, wrapper: Counting
) -> None:
    """The end of the old wrapping key: nothing that the database holds now opens with it."""
    keys = TenantKeys(engine, wrapper)
    key, wrapped = keys.newest(tenant).new_payload_key("job-1")
    sealed = key.seal("spec", b"secret")
    keys.rotate(tenant)
    new = MemoryWrapper(b"n" * 32)
    assert rewrap(engine, tenant, wrapper, new) == 2
    assert rewrap(engine, tenant, wrapper, new) == 0
    assert TenantKeys(engine, new).open(tenant, wrapped, "job-1").open("spec", sealed) == b"secret"
    with pytest.raises(Unavailable):
        TenantKeys(engine, wrapper).newest(tenant)
    with scope(engine, tenant) as connection:
        assert all(row.wrapper == new.key_id for row in store.every(connection, tenant))
        assert all(row.created < dt.datetime.now(dt.UTC) for row in store.every(connection, tenant))


def test_a_key_store_that_is_set_up_wrongly_fails_no_job(
    engine: sa.Engine, tenant: UUID, wrapper: Counting
) -> None:
    """R8.7: the file of its token gone while an agent renews it, say: what was paid for waits."""

    class Misled(MemoryWrapper):
        def wrap(self, key: bytes, context: bytes) -> bytes:
            raise Invalid("keys.secret", "the file of the key store's token cannot be used")

        unwrap = wrap

    misled = TenantKeys(engine, Misled(b"w" * 32))
    with pytest.raises(Unavailable) as refused:
        misled.newest(tenant)
    assert refused.value.code == "payload.locked"
    _, wrapped = TenantKeys(engine, wrapper).newest(tenant).new_payload_key("job-1")
    with pytest.raises(Unavailable) as refused:
        misled.open(tenant, wrapped, "job-1")
    assert refused.value.got.startswith("keys.secret")


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_key_in_use_is_asked_for_anew_before_its_time_is_over(
    engine: sa.Engine, tenant: UUID, wrapper: Counting
) -> None:
    """No request waits for a key store that is slow; a key that was destroyed in the database ends all the same."""
    at = [0.0]
    TenantKeys(engine, wrapper).newest(tenant)
    keys = TenantKeys(engine, wrapper, clock=lambda: at[0])
    keys.newest(tenant)
    at[0] = TENANT_KEY_KEPT_S - TENANT_KEY_AHEAD_S
    first = keys.generation(tenant, 1)
    _until(lambda: wrapper.unwrapped == 2 and keys.generation(tenant, 1) is not first)
    at[0] = TENANT_KEY_KEPT_S  # the first one's time is over, not the second one's
    keys.generation(tenant, 1)
    assert wrapper.unwrapped == 2
    with scope(engine, tenant) as connection:
        assert store.remove(connection, tenant, 1)
    at[0] = 2 * TENANT_KEY_KEPT_S - TENANT_KEY_AHEAD_S - 1
    keys.generation(tenant, 1)
    at[0] += 1
    with pytest.raises(Unavailable) as refused:
        keys.generation(tenant, 1)
    assert refused.value.code == "payload.locked"
    _until(lambda: not keys._unwrapping._calls)  # what was asked ahead found no row
    assert wrapper.unwrapped == 2


def test_a_key_is_served_to_the_end_of_its_time_while_the_key_store_hangs(
    engine: sa.Engine, tenant: UUID, wrapper: Counting
) -> None:
    """R8.7: what needs no key store goes on, for as long as is promised; other tenants' keys in memory are served, too."""
    at, let = [0.0], threading.Event()

    class Hanging(Counting):
        def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
            self.unwrapped += 1
            assert let.wait(600)
            return super().unwrap(wrapped, context)

    store_that_hangs = Hanging(b"w" * 32)
    keys = TenantKeys(engine, store_that_hangs, clock=lambda: at[0], wait_s=600)
    made = keys.newest(tenant)  # made here, so nothing was to be unwrapped
    keys._unwrapping._wait_s = 0.05  # only for what hangs: making the key took as long as it took
    at[0] = TENANT_KEY_KEPT_S - 1
    for _ in range(50):
        assert keys.newest(tenant) is made
    assert store_that_hangs.unwrapped <= 1
    at[0] = TENANT_KEY_KEPT_S
    with pytest.raises(Unavailable) as refused:
        keys.newest(tenant)
    assert refused.value.code == "payload.keystore"
    let.set()

    def opens() -> bool:
        at[0] += KEY_STORE_REST_S
        try:
            return keys.newest(tenant).generation == 1
        except Unavailable:
            return False

    _until(opens)


def test_a_key_that_nobody_needs_does_not_stay_in_memory(
    engine: sa.Engine, tenant: UUID, wrapper: Counting
) -> None:
    """The promise is that it is gone, not that it is no longer used. It takes a second: a look for such keys has that pause."""
    at = [0.0]
    keys = TenantKeys(engine, wrapper, clock=lambda: at[0])
    keys.newest(tenant)

    def in_memory() -> int:
        return sum(isinstance(found, TenantKey) and found.tenant == tenant for found in gc.get_objects())

    assert in_memory() == 1
    at[0] = TENANT_KEY_KEPT_S
    _until(lambda: in_memory() == 0)
