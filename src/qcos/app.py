"""Wiring, once, top to bottom: what each process of the server works with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import SecretStr

from qcos.administration.archive import Archive
from qcos.backends.catalogue import Catalogue
from qcos.base.errors import Invalid, Unavailable
from qcos.circuits.reader import CircuitReader
from qcos.db import embedded
from qcos.db.engine import make_engine
from qcos.drivers.contract import Driver
from qcos.drivers.registry import load
from qcos.jobs.admit import Admission
from qcos.jobs.execute import Execution
from qcos.jobs.seal import Sealer
from qcos.keys.file import FileKeyring
from qcos.keys.model import Keyring
from qcos.keys.wrap import KeyWrapper, open_file_wrapper
from qcos.ledger.files import LogFolder
from qcos.ledger.sequence import Sequencer
from qcos.ledger.sign import LedgerSigners
from qcos.metering.price import shipped_book
from qcos.policy import store as policies
from qcos.policy.bundle import shipped
from qcos.policy.evaluate import PolicyEngine
from qcos.settings import Settings
from qcos.timestamp.authority import LocalAuthority
from qcos.worm.open import open_store


@dataclass(frozen=True, slots=True)
class Api:
    """What the API process works with."""

    settings: Settings
    engine: sa.Engine
    keyring: Keyring
    admission: Admission
    log: LogFolder

    def close(self) -> None:
        """End child processes and connections."""
        self.admission.policy.close()
        self.admission.circuits.close()
        self.engine.dispose()


def open_keyring(settings: Settings) -> Keyring:
    """Open the installation's keys, making them on the first start."""
    passphrase = settings.key_passphrase.get_secret_value()
    return FileKeyring(settings.keys, passphrase=passphrase.encode() if passphrase else None).open_or_create()


def open_wrapper(settings: Settings) -> KeyWrapper:
    """Open the installation's wrapping key, which payload keys are wrapped by; made on the first call."""
    passphrase = settings.key_passphrase.get_secret_value()
    return open_file_wrapper(settings.keys, passphrase.encode() if passphrase else None)


def make_api(settings: Settings) -> Api:
    """Wire the API process."""
    engine = make_engine(
        settings.database_url.get_secret_value(), pool_size=settings.pool_size, application="qcos-api"
    )
    book = shipped_book()
    policy = PolicyEngine(settings.policy_processes, settings.policy_deadline_s)
    policy.warm(shipped())
    admission = Admission(
        engine=engine,
        circuits=CircuitReader(settings.circuit_processes),
        policy=policy,
        bundles=policies.ActiveBundles(),
        catalogue=Catalogue(engine),
        book=book,
    )
    return Api(settings, engine, open_keyring(settings), admission, LogFolder(settings.ledger))


def make_execution(settings: Settings, drivers: Sequence[str], worker: str) -> tuple[Execution, list[Driver]]:
    """Wire a worker process for some drivers."""
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=8, application=worker)
    keyring = open_keyring(settings)
    loaded = [load(name) for name in drivers]
    authority = LocalAuthority(keyring.tsa_key, keyring.tsa_chain)
    execution = Execution(
        engine,
        {d.name: d for d in loaded},
        Sealer(keyring.evidence_signers, authority),
        shipped_book(),
        worker,
    )
    return execution, loaded


def make_sequencer(settings: Settings) -> Sequencer:
    """Wire the ledger's sequencer."""
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=2, application="qcos-sequencer")
    ed25519, mldsa44, mldsa65 = open_keyring(settings).ledger
    signers = LedgerSigners(ed25519=ed25519, mldsa44=mldsa44, mldsa65=mldsa65, name=settings.origin)
    return Sequencer(engine, settings.ledger, signers, settings.origin)


def attached(settings: Settings) -> Settings:
    """Return settings that name the embedded database running on the data folder; for commands beside a running server.

    Raises:
        Unavailable: ``database.stopped`` when none runs.
    """
    if settings.database_url.get_secret_value():
        return settings
    folder = settings.data / "postgres"
    if not folder.is_dir() or embedded.running_pid(folder) is None:
        raise Unavailable(
            "database.stopped",
            "the embedded database does not run",
            subject=str(folder),
            hint="start the server (qcos up), set QCOS_DATA to its folder, or QCOS_DATABASE_URL to its database",
        )
    return settings.model_copy(update={"database_url": SecretStr(embedded.start(folder).app_url)})


def make_archive(settings: Settings) -> Archive:
    """Wire the copying to the configured WORM store, which has shown that it protects what it takes.

    Raises:
        Invalid: ``worm.none`` when none is configured; ``worm.address``, ``worm.unprotected``.
        Unavailable: ``worm.unavailable``.
    """
    if not settings.worm:
        raise Invalid(
            "worm.none",
            "no WORM store is configured",
            expected="QCOS_WORM",
            hint="see docs/reference/worm.md",
        )
    store = open_store(settings.worm, endpoint=settings.worm_endpoint, region=settings.worm_region)
    store.check()
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=2, application="qcos-archive")
    return Archive(engine, LogFolder(settings.ledger), store, settings.worm_days)
