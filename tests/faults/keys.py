"""A rotation and a revocation of evidence keys, step by step as the API does it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa

from qcos.administration import keys as acts
from qcos.administration.act import Authority, acting
from qcos.administration.key_changes import decide_revocation, decide_rotation
from qcos.administration.trust import prepare
from qcos.app import open_keys
from qcos.base.clock import now
from qcos.base.limits import KEY_OVERLAP_S
from qcos.keys.make import make_keys
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.store import ActiveBundles
from qcos.published import make_issuer
from qcos.settings import Settings


def rotate(engine: sa.Engine, data: Path, tenant: UUID, token_hash: bytes) -> None:
    """Rotate with keys in the folder ``keys`` of a data folder."""
    settings = Settings(data=data)
    issuer = make_issuer(settings, engine, open_keys(settings, engine))
    policy = PolicyEngine(1, 10.0)
    authority = Authority(engine, policy, ActiveBundles())
    try:
        with acting(authority, tenant, token_hash) as act:
            plan = acts.plan_rotation(act, "evidence")
        at = now()
        made = make_keys(issuer.keys.stores, plan.entries, "evidence", plan.algorithms, at)
        change = decide_rotation(plan, made, KEY_OVERLAP_S, at)
        prepared = prepare(issuer, change, at)
        with acting(authority, tenant, token_hash) as act:
            acts.rotate(act, change, prepared)
    finally:
        policy.close()


def revoke(engine: sa.Engine, data: Path, tenant: UUID, token_hash: bytes, waited_s: float) -> None:
    """Revoke the Ed25519 key of evidence, as decided some seconds ago; negative: for an instant ahead, as with a slow key store."""
    settings = Settings(data=data)
    issuer = make_issuer(settings, engine, open_keys(settings, engine))
    policy = PolicyEngine(1, 10.0)
    authority = Authority(engine, policy, ActiveBundles())
    key = next(one for one in issuer.keys.current().entries if one.slot == "evidence-ed25519")
    try:
        with acting(authority, tenant, token_hash) as act:
            plan = acts.plan_revocation(act, key.key_id)
        at = now()
        made = make_keys(issuer.keys.stores, plan.entries, "evidence", plan.algorithms, at)
        decided = at - dt.timedelta(seconds=waited_s)
        change = decide_revocation(key.key_id, plan, made, "lost", decided)
        prepared = prepare(issuer, change, at)
        with acting(authority, tenant, token_hash) as act:
            acts.revoke(act, change, prepared)
    finally:
        policy.close()
