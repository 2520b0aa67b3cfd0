"""The tenants' keys, unwrapped: made when a tenant first needs one, kept in memory for a few minutes.

Unwrapping may ask an HSM or a KMS over a network, so it is never done inside a scope: callers fetch a key first
and open their scope then. The store may hang, so callers wait for it with a limit (`qcos.secrecy.asking`). A key that is
in use is asked for anew before its time is over; while the store is away it is served until then and not a moment longer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

import sqlalchemy as sa

from qcos.base.clock import now
from qcos.base.errors import Integrity, Invalid, NotFound, Unavailable
from qcos.base.limits import (
    KEY_STORE_WAIT_S,
    TENANT_KEY_AHEAD_S,
    TENANT_KEY_KEPT_S,
    TENANT_KEY_SWEEP_S,
    TENANT_KEYS_KEPT,
)
from qcos.db.engine import scope
from qcos.secrecy import store
from qcos.secrecy.asking import Asking
from qcos.secrecy.envelope import KEY_BYTES, PayloadKey, TenantKey, generation_of
from qcos.secrecy.store import WrappedTenantKey


class Wrapper(Protocol):
    """The installation's wrapping key (`qcos.keys.wrap.KeyWrapper`)."""

    @property
    def key_id(self) -> str:
        """Return a name of the key that never changes."""
        ...

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Return the key, encrypted and bound to the context."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the key that was wrapped in this context."""
        ...


class TenantKeys:
    """The keys of all tenants, for many threads.

    Args:
        engine: As the application's role.
        wrapper: The installation's wrapping key.
        clock: Monotonic time, seconds.
        wait_s: Seconds a caller waits for the wrapping key's store.
    """

    def __init__(
        self,
        engine: sa.Engine,
        wrapper: Wrapper,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait_s: float = KEY_STORE_WAIT_S,
    ) -> None:
        self._engine = engine
        self._wrapper = wrapper
        self._clock = clock
        self._unwrapping: Asking[TenantKey] = Asking(clock=clock, wait_s=wait_s)
        self._wrapping: Asking[tuple[bytes, WrappedTenantKey]] = Asking(clock=clock, wait_s=wait_s)
        self._kept: dict[tuple[UUID, int], tuple[float, TenantKey]] = {}
        self._newest: dict[UUID, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._sweeping = False

    def newest(self, tenant: UUID) -> TenantKey:
        """Return the generation that wraps new payload keys; the first is made when there is none.

        Raises:
            NotFound: ``tenant.unknown``.
            Unavailable: Database or wrapping key away; ``payload.keystore``, ``payload.locked``.
        """
        known = self._newest.get(tenant)
        if known is not None and known[0] > self._clock():
            return self.generation(tenant, known[1])
        with scope(self._engine, tenant) as connection:
            kept = store.newest(connection, tenant)
        key = self._opened(tenant, kept) if kept is not None else self._made(tenant, 1)
        self._name_newest(tenant, key)
        return key

    def open(self, tenant: UUID, wrapped: bytes, owner: str) -> PayloadKey:
        """Return an owner's payload key.

        Raises:
            Integrity: ``payload.key``: this owner's alone.
            Unavailable: Database or wrapping key away; ``payload.keystore`` when its key store does not answer in time;
                ``payload.locked`` when this process has another wrapping key, or the tenant's key is gone: no payload
                of the tenant opens here.
        """
        return self.generation(tenant, generation_of(wrapped)).unwrap(wrapped, owner)

    def generation(self, tenant: UUID, generation: int) -> TenantKey:
        """Return one generation; raises as `open`."""
        found = self._recall(tenant, generation)
        if found is not None:
            if self._ageing(found):
                self._renew(tenant, generation)
            return found[1]
        try:
            with scope(self._engine, tenant) as connection:
                kept = store.get(connection, tenant, generation)
        except NotFound as error:
            raise _locked(tenant, generation, error) from error
        return self._opened(tenant, kept)

    def rotate(self, tenant: UUID) -> TenantKey:
        """Make the next generation; the older ones go on opening what they wrapped."""
        with scope(self._engine, tenant) as connection:
            kept = store.newest(connection, tenant)
        key = self._made(tenant, kept.generation + 1 if kept is not None else 1)
        self._name_newest(tenant, key)
        return key

    def forget(self) -> None:
        """Forget every key in memory; they are unwrapped again when needed."""
        with self._lock:
            self._kept.clear()
            self._newest.clear()

    def _made(self, tenant: UUID, generation: int) -> TenantKey:
        """Make a generation, or take the one that somebody else has just made."""
        context = context_of(tenant, generation)

        def make() -> tuple[bytes, WrappedTenantKey]:
            key = os.urandom(KEY_BYTES)
            wrapped = self._wrapper.wrap(key, context)
            return key, WrappedTenantKey(generation, wrapped, self._wrapper.key_id, now())

        try:
            made, row = self._wrapping.ask((tenant, generation), make)
        except (Integrity, Invalid) as error:
            raise _locked(tenant, generation, error) from error
        with scope(self._engine, tenant) as connection:
            if store.add(connection, tenant, row):
                return self._keep(TenantKey(made, tenant, generation))
            theirs = store.get(connection, tenant, generation)
        return self._opened(tenant, theirs)

    def _opened(self, tenant: UUID, kept: WrappedTenantKey) -> TenantKey:
        """Return the key of a row: from memory, or by asking for it."""
        found = self._recall(tenant, kept.generation)
        if found is not None:
            return found[1]
        try:
            return self._unwrapping.ask((tenant, kept.generation), lambda: self._unwrapped(tenant, kept))
        except (Integrity, Invalid) as error:  # of the key store's settings, say: no job is to fail of it
            raise _locked(tenant, kept.generation, error) from error

    def _unwrapped(self, tenant: UUID, kept: WrappedTenantKey) -> TenantKey:
        key = self._wrapper.unwrap(kept.wrapped, context_of(tenant, kept.generation))
        return self._keep(TenantKey(key, tenant, kept.generation))

    def _renew(self, tenant: UUID, generation: int) -> None:
        """Ask for a key anew before its time is over; the row first, for a key that was destroyed there must end here too."""

        def anew() -> TenantKey:
            found = self._recall(tenant, generation)
            if found is not None and not self._ageing(found):
                return found[1]  # somebody else has just done so
            with scope(self._engine, tenant) as connection:
                kept = store.get(connection, tenant, generation)
            return self._unwrapped(tenant, kept)

        self._unwrapping.ask_ahead((tenant, generation), anew)

    def _ageing(self, kept: tuple[float, TenantKey]) -> bool:
        return kept[0] - self._clock() <= TENANT_KEY_AHEAD_S

    def _recall(self, tenant: UUID, generation: int) -> tuple[float, TenantKey] | None:
        found = self._kept.get((tenant, generation))
        return found if found is not None and found[0] > self._clock() else None

    def _keep(self, key: TenantKey) -> TenantKey:
        until = self._clock() + TENANT_KEY_KEPT_S
        with self._lock:
            if len(self._kept) >= TENANT_KEYS_KEPT:
                self._kept.clear()
            self._kept[key.tenant, key.generation] = (until, key)
            if not self._sweeping:
                threading.Thread(target=self._sweep, name="tenants' keys", daemon=True).start()
                self._sweeping = True
        return key

    def _name_newest(self, tenant: UUID, key: TenantKey) -> None:
        with self._lock:
            if len(self._newest) >= TENANT_KEYS_KEPT:
                self._newest.clear()
            self._newest[tenant] = (self._clock() + TENANT_KEY_KEPT_S, key.generation)

    def _sweep(self) -> None:
        """Forget keys whose time is over, used or not, while there are any."""
        while True:
            time.sleep(TENANT_KEY_SWEEP_S)
            with self._lock:
                at = self._clock()
                self._kept = {place: kept for place, kept in self._kept.items() if kept[0] > at}
                if not self._kept:
                    self._sweeping = False
                    return


def _locked(tenant: UUID, generation: int, error: Integrity | Invalid | NotFound) -> Unavailable:
    """Return the error for a key that does not open here: a fault of the installation, not of one payload."""
    return Unavailable(
        "payload.locked",
        "the tenant's key does not open here",
        subject=f"tenant {tenant}, generation {generation}",
        got=f"{error.code}: {error.message}",
        hint="every process needs the wrapping key that the payloads were sealed under; see docs/reference/retention.md",
        retry_after_s=30.0,
    )


def context_of(tenant: UUID, generation: int) -> bytes:
    """Return what a wrapped tenant key is bound to."""
    return b"qcos.tenant-key/v1\0" + tenant.bytes + generation.to_bytes(4, "big")


def rewrap(engine: sa.Engine, tenant: UUID, old: Wrapper, new: Wrapper) -> int:
    """Wrap all keys of a tenant by another wrapping key; returns how many were changed.

    Afterwards the old wrapping key opens nothing of what the database holds now; what it opened in older copies of
    the database it goes on opening until it is destroyed itself.
    """
    with scope(engine, tenant) as connection:
        kept = [row for row in store.every(connection, tenant) if row.wrapper != new.key_id]
    anew = []
    for row in kept:
        context = context_of(tenant, row.generation)
        key = old.unwrap(row.wrapped, context)
        anew.append((row, WrappedTenantKey(row.generation, new.wrap(key, context), new.key_id, row.created)))
    with scope(engine, tenant) as connection:
        return sum(store.replace(connection, tenant, row, other) for row, other in anew)
