"""The tenants' keys, unwrapped: made when a tenant first needs one, kept in memory for a few minutes.

Unwrapping may ask an HSM or a KMS over a network, so it is never done inside a scope: callers fetch a key first
and open their scope then.
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
from qcos.base.limits import TENANT_KEY_KEPT_S, TENANT_KEYS_KEPT
from qcos.db.engine import scope
from qcos.secrecy import store
from qcos.secrecy.envelope import KEY_BYTES, PayloadKey, TenantKey, generation_of
from qcos.secrecy.store import WrappedTenantKey

_NEWEST = 0  # stands for "the generation that wraps now" in the memory


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
    """

    def __init__(
        self, engine: sa.Engine, wrapper: Wrapper, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._wrapper = wrapper
        self._clock = clock
        self._kept: dict[tuple[UUID, int], tuple[float, TenantKey]] = {}
        self._lock = threading.Lock()

    def newest(self, tenant: UUID) -> TenantKey:
        """Return the generation that wraps new payload keys; the first is made when there is none.

        Raises:
            NotFound: ``tenant.unknown``.
            Unavailable: Database or wrapping key away; ``payload.locked``.
        """
        found = self._recall(tenant, _NEWEST)
        if found is not None:
            return found
        with scope(self._engine, tenant) as connection:
            kept = store.newest(connection, tenant)
        key = self._unwrapped(tenant, kept) if kept is not None else self._made(tenant, 1)
        self._keep(tenant, _NEWEST, key)
        return key

    def open(self, tenant: UUID, wrapped: bytes, owner: str) -> PayloadKey:
        """Return an owner's payload key.

        Raises:
            Integrity: ``payload.key``: this owner's alone.
            Unavailable: Database or wrapping key away; ``payload.locked`` when this process has another wrapping
                key, or the tenant's key is gone: no payload of the tenant opens here.
        """
        return self.generation(tenant, generation_of(wrapped)).unwrap(wrapped, owner)

    def generation(self, tenant: UUID, generation: int) -> TenantKey:
        """Return one generation; raises as `open`."""
        found = self._recall(tenant, generation)
        if found is not None:
            return found
        try:
            with scope(self._engine, tenant) as connection:
                kept = store.get(connection, tenant, generation)
        except NotFound as error:
            raise _locked(tenant, generation, error) from error
        key = self._unwrapped(tenant, kept)
        self._keep(tenant, generation, key)
        return key

    def rotate(self, tenant: UUID) -> TenantKey:
        """Make the next generation; the older ones go on opening what they wrapped."""
        with scope(self._engine, tenant) as connection:
            kept = store.newest(connection, tenant)
        key = self._made(tenant, kept.generation + 1 if kept is not None else 1)
        self._keep(tenant, _NEWEST, key)
        return key

    def forget(self) -> None:
        """Forget every key in memory; they are unwrapped again when needed."""
        with self._lock:
            self._kept.clear()

    def _made(self, tenant: UUID, generation: int) -> TenantKey:
        """Make a generation, or take the one that somebody else has just made."""
        made = os.urandom(KEY_BYTES)
        try:
            wrapped = self._wrapper.wrap(made, context_of(tenant, generation))
        except (Integrity, Invalid) as error:
            raise _locked(tenant, generation, error) from error
        row = WrappedTenantKey(generation, wrapped, self._wrapper.key_id, now())
        with scope(self._engine, tenant) as connection:
            if store.add(connection, tenant, row):
                return TenantKey(made, tenant, generation)
            theirs = store.get(connection, tenant, generation)
        return self._unwrapped(tenant, theirs)

    def _unwrapped(self, tenant: UUID, kept: WrappedTenantKey) -> TenantKey:
        try:
            key = self._wrapper.unwrap(kept.wrapped, context_of(tenant, kept.generation))
        except (Integrity, Invalid) as error:  # of the key store's settings, say: no job is to fail of it
            raise _locked(tenant, kept.generation, error) from error
        return TenantKey(key, tenant, kept.generation)

    def _recall(self, tenant: UUID, generation: int) -> TenantKey | None:
        found = self._kept.get((tenant, generation))
        return found[1] if found is not None and found[0] > self._clock() else None

    def _keep(self, tenant: UUID, place: int, key: TenantKey) -> None:
        until = self._clock() + TENANT_KEY_KEPT_S
        with self._lock:
            if len(self._kept) >= TENANT_KEYS_KEPT:
                self._kept.clear()
            self._kept[tenant, place] = self._kept[tenant, key.generation] = (until, key)


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
