"""The first tenant of an installation, with its administrator and the shipped policies: made once, recorded like any other act."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from uuid import UUID

import sqlalchemy as sa

from qcos.administration.people import state_of
from qcos.base.canonical import digest_of
from qcos.base.clock import now, rfc3339
from qcos.db.engine import bind_tenant, scope
from qcos.identity import store as identity
from qcos.identity import tokens
from qcos.identity.model import Minted
from qcos.ledger.append import append
from qcos.ledger.record import Record, change
from qcos.policy import store as policies
from qcos.policy.bundle import shipped

ADMINISTRATOR = "user:admin"
_SYSTEM = "service:qcos-installation"


@dataclass(frozen=True, slots=True)
class FirstAdministrator:
    """The tenant made, and the token of its administrator; the text is shown once."""

    tenant: UUID
    token: str


def create_tenant(engine: sa.Engine, name: str, *, token_days: int = 90) -> FirstAdministrator:
    """Make a tenant with one administrator and the shipped policies active."""
    bundle = shipped()
    with scope(engine, None) as connection:
        tenant = identity.create_tenant(connection, name)
        bind_tenant(connection, tenant)
        identity.create_principal(connection, tenant, ADMINISTRATOR)
        identity.grant_role(connection, tenant, ADMINISTRATOR, "quantum-admin")
        minted, expires = tokens.mint(tenant), now() + dt.timedelta(days=token_days)
        identity.create_token(connection, tenant, ADMINISTRATOR, minted.hash, minted.id, expires)
        policies.insert_bundle(
            connection,
            tenant,
            bundle,
            note="shipped with this release",
            uploaded_by=_SYSTEM,
            uploaded_at=now(),
            tests={},
        )
        policies.activate(connection, tenant, bundle.version, actor=_SYSTEM, at=now())
        append(connection, tenant, _first_records(connection, tenant, name, minted, expires, bundle.version))
    return FirstAdministrator(tenant, minted.text)


def has_tenants(engine: sa.Engine) -> bool:
    """Return whether the installation has been set up."""
    with scope(engine, None) as connection:
        return bool(identity.tenants(connection))


def new_administrator_token(engine: sa.Engine, *, token_days: int = 90) -> str:
    """Make a new token for the administrator of the first tenant; for whoever holds the data folder."""
    with scope(engine, None) as connection:
        tenant = identity.tenants(connection)[0][0]
    with scope(engine, tenant) as connection:
        minted, expires = tokens.mint(tenant), now() + dt.timedelta(days=token_days)
        identity.create_token(connection, tenant, ADMINISTRATOR, minted.hash, minted.id, expires)
        append(connection, tenant, [_token_record(minted, expires, reason="token file was missing")])
    return minted.text


def _first_records(
    connection: sa.Connection, tenant: UUID, name: str, minted: Minted, expires: dt.datetime, version: str
) -> list[Record]:
    account = identity.get_principal(connection, tenant, ADMINISTRATOR)
    without = replace(account, roles=())
    return [
        Record(
            act="tenant.created",
            actor=_SYSTEM,
            object=name,
            details={"tenant": str(tenant), "change": change(None, {"tenant": str(tenant), "name": name})},
        ),
        Record(
            act="principal.created",
            actor=_SYSTEM,
            object=ADMINISTRATOR,
            details={
                "team": account.team,
                "attributes": digest_of(account.attributes),
                "change": change(None, state_of(without)),
            },
        ),
        Record(
            act="role.granted",
            actor=_SYSTEM,
            object=ADMINISTRATOR,
            details={"role": "quantum-admin", "change": change(state_of(without), state_of(account))},
        ),
        _token_record(minted, expires),
        Record(
            act="policy.activated",
            actor=_SYSTEM,
            object=version,
            reason="shipped with this release",
            details={"before": None, "change": change(None, {"active": version})},
        ),
    ]


def _token_record(minted: Minted, expires: dt.datetime, reason: str = "") -> Record:
    return Record(
        act="token.created",
        actor=_SYSTEM,
        object=minted.id,
        reason=reason,
        details={
            "principal": ADMINISTRATOR,
            "expires": rfc3339(expires),
            "parent": None,
            "change": change(None, {"id": minted.id, "revoked": False}),
        },
    )
