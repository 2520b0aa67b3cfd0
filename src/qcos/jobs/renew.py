"""Keeping secrecy up: tenants' keys are renewed in time, and payloads of before encryption are sealed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from qcos.base.clock import now
from qcos.base.errors import Unavailable
from qcos.base.limits import ERASURE_BATCH, TENANT_KEY_DAYS
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.jobs.conceal import conceal_old
from qcos.secrecy import store
from qcos.secrecy.unlock import TenantKeys


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a round did.

    Attributes:
        keys: Tenants' keys that were renewed.
        sealed: Jobs whose plain payloads were sealed.
        locked: Tenants for whom that was due and could not be done: their key does not open here.
    """

    keys: int
    sealed: int
    locked: tuple[UUID, ...] = ()


def renew_keys(engine: sa.Engine, keys: TenantKeys, *, at: dt.datetime | None = None) -> Renewed:
    """Give tenants whose key is old the next generation, and seal what is plain. Several at once are harmless.

    A tenant whose key does not open here keeps no other tenant's from being renewed.

    Args:
        engine: As the application's role.
        keys: What payloads are sealed with.
        at: What time it is; now by default.

    Raises:
        Unavailable: Database or wrapping key away.
    """
    old = (at or now()) - dt.timedelta(days=TENANT_KEY_DAYS)
    with scope(engine, None) as connection:
        tenants = [tenant for tenant, _ in identity.tenants(connection)]
    renewed = sealed = 0
    locked = []
    for tenant in tenants:
        with scope(engine, tenant) as connection:
            newest = store.newest(connection, tenant)
        try:
            if newest is not None and newest.created < old:
                keys.rotate(tenant)
                renewed += 1
            while (count := conceal_old(engine, keys, tenant, ERASURE_BATCH)) > 0:
                sealed += count
        except Unavailable as error:
            if error.code != "payload.locked":
                raise
            locked.append(tenant)
    return Renewed(renewed, sealed, tuple(locked))
