"""Keeping secrecy up: tenants' keys are renewed in time, and payloads of before encryption are sealed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

from qcos.base.clock import now
from qcos.base.limits import ERASURE_BATCH, TENANT_KEY_DAYS
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.jobs.conceal import conceal_old
from qcos.secrecy import store
from qcos.secrecy.unlock import TenantKeys


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a round did: tenants' keys renewed, and jobs whose plain payloads were sealed."""

    keys: int
    sealed: int


def renew_keys(engine: sa.Engine, keys: TenantKeys, *, at: dt.datetime | None = None) -> Renewed:
    """Give tenants whose key is old the next generation, and seal what is plain. Several at once are harmless.

    Args:
        engine: As the application's role.
        keys: What payloads are sealed with.
        at: What time it is; now by default.
    """
    old = (at or now()) - dt.timedelta(days=TENANT_KEY_DAYS)
    with scope(engine, None) as connection:
        tenants = [tenant for tenant, _ in identity.tenants(connection)]
    renewed = sealed = 0
    for tenant in tenants:
        with scope(engine, tenant) as connection:
            newest = store.newest(connection, tenant)
        if newest is not None and newest.created < old:
            keys.rotate(tenant)
            renewed += 1
        while (count := conceal_old(engine, keys, tenant, ERASURE_BATCH)) > 0:
            sealed += count
    return Renewed(renewed, sealed)
