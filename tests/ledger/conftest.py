"""A small log's keys and helpers to grow it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from qcos.db.engine import scope
from qcos.ledger.append import append
from qcos.ledger.record import Appended, Record
from qcos.ledger.sign import LedgerSigners

ORIGIN = "qcos.test/ledger"
VECTORS = Path(__file__).parents[3] / "shared" / "vectors"


@dataclass(frozen=True)
class Key:
    """A signer in memory, as small as the protocol."""

    algorithm: str
    key: ed25519.Ed25519PrivateKey | mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey

    @property
    def public_bytes(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data)


def make_signers(name: str = ORIGIN, seed: bytes | None = None) -> LedgerSigners:
    """Return new keys, or those of a seed of 32 bytes."""
    seed = seed or secrets.token_bytes(32)
    return LedgerSigners(
        Key("Ed25519", ed25519.Ed25519PrivateKey.from_private_bytes(seed)),
        Key("ML-DSA-44", mldsa.MLDSA44PrivateKey.from_seed_bytes(seed)),
        Key("ML-DSA-65", mldsa.MLDSA65PrivateKey.from_seed_bytes(seed)),
        name,
    )


@pytest.fixture(scope="session")
def signers() -> LedgerSigners:
    return make_signers()


@pytest.fixture
def tenant() -> UUID:
    return uuid4()


def record_acts(
    engine: sa.Engine, tenant: UUID, count: int, actor: str = "user:alice@example.com"
) -> list[Appended]:
    """Record some acts in a scope of their own."""
    records = [Record("job.submitted", actor, f"job-{n}", "p1", details={"n": n}) for n in range(count)]
    with scope(engine, tenant) as connection:
        return append(connection, tenant, records)


def vector(name: str) -> Path:
    """Return a file of the published vectors, or skip loudly."""
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"PUBLISHED VECTOR MISSING: {path}")
    return path
