"""Wiring, once, top to bottom: what each process of the server works with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import SecretStr

from qcos.administration.anchor import Anchoring
from qcos.administration.archive import Archive
from qcos.administration.trust import Issuer
from qcos.backends.catalogue import Catalogue
from qcos.base.errors import Invalid, Unavailable
from qcos.circuits.reader import CircuitReader
from qcos.db import embedded
from qcos.db.engine import make_engine
from qcos.drivers.contract import Driver
from qcos.drivers.registry import load
from qcos.jobs.admit import Admission
from qcos.jobs.execute import Execution
from qcos.jobs.restamp import Restamper
from qcos.jobs.seal import LiveSealer
from qcos.keys.folder import read_secret
from qcos.keys.keystore import (
    Keystore,
    demand_settings,
    open_file_keystore,
    open_kms_keystore,
    open_token_keystore,
    open_transit_keystore,
    stores_of,
)
from qcos.keys.live import Followed, LiveKeyring
from qcos.keys.model import Keyring
from qcos.keys.open import has_later_keys
from qcos.keys.where import KmsAt, TokenAt, TransitAt
from qcos.keys.wrap import KeyWrapper
from qcos.ledger.anchor.bitcoin import OpenTimestamps
from qcos.ledger.anchor.ethereum import Ethereum
from qcos.ledger.anchor.model import Chain
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.collect import Witnesses
from qcos.ledger.files import LogFolder
from qcos.ledger.quorum import NOBODY, Policy
from qcos.ledger.sequence import Sequencer
from qcos.ledger.sign import LedgerSigners
from qcos.metering.price import shipped_book
from qcos.policy import store as policies
from qcos.policy.bundle import shipped
from qcos.policy.evaluate import PolicyEngine
from qcos.published import ledger_vkeys, make_issuer, open_witnesses, outside_certificates
from qcos.secrecy.unlock import TenantKeys
from qcos.settings import Settings
from qcos.timestamp.authority import LocalAuthority
from qcos.timestamp.fallback import LOCAL, Authorities, Authority
from qcos.timestamp.guard import ClockGuard
from qcos.timestamp.mark import Mark
from qcos.timestamp.sources import open_remote, read_sources
from qcos.timestamp.token import Accuracy
from qcos.worm.open import open_store


@dataclass(frozen=True, slots=True)
class Api:
    """What the API process works with."""

    settings: Settings
    engine: sa.Engine
    keys: LiveKeyring
    admission: Admission
    log: LogFolder
    restamping: Followed[Restamper]
    issuer: Issuer
    witnesses: Policy = NOBODY

    @property
    def keyring(self) -> Keyring:
        """Return the keys in force."""
        return self.keys.current()

    @property
    def restamper(self) -> Restamper:
        """Return what renews time stamps, by the authority in force."""
        return self.restamping()

    def close(self) -> None:
        """End child processes and connections."""
        self.admission.policy.close()
        self.admission.circuits.close()
        self.engine.dispose()


def open_keystore(settings: Settings) -> Keystore:
    """Open what holds or wraps the installation's keys, making its keys on the first start.

    Raises:
        Invalid: ``keys.settings`` and what the kind of key store raises.
    """
    passphrase = settings.key_passphrase.get_secret_value()
    if settings.keystore == "file":
        return open_file_keystore(settings.keys, passphrase.encode() if passphrase else None)
    if passphrase:
        raise Invalid(
            "keys.settings",
            "keys that a key store wraps have no passphrase",
            got=f"QCOS_KEYSTORE={settings.keystore} and QCOS_KEY_PASSPHRASE",
            hint="unset one of them",
        )
    if settings.keystore == "transit":
        return open_transit_keystore(settings.keys, _transit_at(settings))
    if settings.keystore == "awskms":
        return open_kms_keystore(settings.keys, _kms_at(settings))
    return open_token_keystore(settings.keys, _token_at(settings))


def _token_at(settings: Settings) -> TokenAt:
    pin = settings.pkcs11_pin.get_secret_value()
    if settings.pkcs11_pin_file is not None:
        pin = read_secret(settings.pkcs11_pin_file, "the token's PIN")
    demand_settings(
        "pkcs11", pkcs11_module=settings.pkcs11_module, pkcs11_token=settings.pkcs11_token, pkcs11_pin=pin
    )
    return TokenAt(settings.pkcs11_module, settings.pkcs11_token, pin, settings.pkcs11_label)


def _transit_at(settings: Settings) -> TransitAt:
    demand_settings("transit", transit_url=settings.transit_url)
    return TransitAt(
        url=settings.transit_url,
        token_file=settings.transit_token_file,
        role_id=settings.transit_role_id,
        secret_id_file=settings.transit_secret_id_file,
        ca=settings.transit_ca,
        namespace=settings.transit_namespace,
        mount=settings.transit_mount,
        approle_mount=settings.transit_approle_mount,
        label=settings.transit_label,
    )


def _kms_at(settings: Settings) -> KmsAt:
    demand_settings("awskms", kms_wrapping_key=settings.kms_wrapping_key)
    return KmsAt(
        wrapping_key=settings.kms_wrapping_key,
        mldsa_key=settings.kms_mldsa_key,
        countersigning_key=settings.kms_countersigning_key,
        region=settings.kms_region,
        endpoint=settings.kms_endpoint,
    )


def open_keyring(settings: Settings) -> Keyring:
    """Open the first generation of the installation's keys, making them on the first start."""
    return open_keystore(settings).keyring().open_or_create()


def open_keys(settings: Settings, engine: sa.Engine) -> LiveKeyring:
    """Open the installation's keys in force; the first start makes and registers them."""
    keystore = open_keystore(settings)
    return LiveKeyring(engine, stores_of(keystore), keystore.keyring().open_or_create)


class LiveLedgerSigners:
    """Signs checkpoints with the log's keys in force.

    Args:
        settings: Name the log, which stays the same for all generations.
        keys: The keys.
    """

    def __init__(self, settings: Settings, keys: LiveKeyring) -> None:
        self._settings = settings
        self._keys = keys

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Return the verifier keys of all generations."""
        return tuple(ledger_vkeys(self._settings, self._keys.current().entries))

    def sign(self, checkpoint: Checkpoint, time: int) -> str:
        """Return the signed note.

        Raises:
            Unavailable: The registry of keys cannot be looked at.
        """
        return LedgerSigners(*self._keys.current().ledger, name=self._settings.origin).sign(checkpoint, time)


def open_wrapper(settings: Settings) -> KeyWrapper:
    """Open the installation's wrapping key, which payload keys are wrapped by; made on the first call."""
    return open_keystore(settings).wrapper


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
        tenant_keys=TenantKeys(engine, open_wrapper(settings)),
    )
    live = open_keys(settings, engine)
    witnesses = open_witnesses(settings, ledger_vkeys(settings, live.current().entries))
    unlock = admission.tenant_keys
    guard = guard_of(settings)
    restamping = Followed(live, lambda keyring: make_restamper(settings, engine, unlock, keyring, guard))
    issuer = make_issuer(settings, engine, live)
    return Api(settings, engine, live, admission, LogFolder(settings.ledger), restamping, issuer, witnesses)


def make_execution(
    settings: Settings, drivers: Sequence[str], worker: str
) -> tuple[Execution, list[Driver], LiveKeyring]:
    """Wire a worker process for some drivers; the keys are to be watched."""
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=8, application=worker)
    live = open_keys(settings, engine)
    loaded = [load(name) for name in drivers]
    guard = guard_of(settings)
    authority = Followed(live, lambda keyring: make_authority(settings, keyring, guard))
    authority()  # what is wrong with the settings is told now, not by the first job
    execution = Execution(
        engine,
        {d.name: d for d in loaded},
        LiveSealer(live, authority),
        shipped_book(),
        worker,
        TenantKeys(engine, open_wrapper(settings)),
    )
    return execution, loaded, live


Guarding = Callable[[], ClockGuard | None]


def guard_of(settings: Settings) -> Guarding:
    """Return what gives the guard of this process's clock: one, started when first asked for; None without sources.

    The clock is the same whichever key the authority has, so authorities that follow each other share its guard.
    """
    return functools.cache(lambda: _start_guard(settings))


def make_authority(settings: Settings, keyring: Keyring, guard: Guarding) -> Authority:
    """Wire the time-stamping authorities that evidence is stamped by, in their order.

    Raises:
        Invalid: ``timestamp.source`` or ``timestamp.trust`` when a URL or the pinned certificates are wrong.
    """
    names = settings.tsa_urls.split()
    if names == [LOCAL]:
        return make_local_authority(settings, keyring, guard)
    trusted = outside_certificates(settings)
    return Authorities(
        [
            (name, make_local_authority(settings, keyring, guard))
            if name == LOCAL
            else (name, open_remote(name, trusted, timeout_s=settings.tsa_timeout_s))
            for name in dict.fromkeys(names)
        ]
    )


def make_local_authority(settings: Settings, keyring: Keyring, guard: Guarding) -> LocalAuthority:
    """Wire the installation's own time-stamping authority."""
    mark = Mark(settings.data / "tsa.latest")
    return LocalAuthority(
        keyring.tsa_key, keyring.tsa_chain, accuracy=_accuracy(settings), guard=guard(), mark=mark
    )


def _accuracy(settings: Settings) -> Accuracy:
    return Accuracy(*divmod(settings.tsa_accuracy_ms, 1000))


def _start_guard(settings: Settings) -> ClockGuard | None:
    if not settings.time_sources.strip():
        return None
    guard = ClockGuard(
        read_sources(settings.time_sources, outside_certificates(settings), timeout_s=settings.tsa_timeout_s),
        accuracy_s=_accuracy(settings).interval.total_seconds(),
        every_s=settings.time_poll_s,
        patience_s=settings.time_patience_s,
        refuse=settings.time_unwatched == "refuse",
    )
    guard.start()
    return guard


def make_restamper(
    settings: Settings, engine: sa.Engine, keys: TenantKeys, keyring: Keyring, guard: Guarding
) -> Restamper:
    """Wire the renewing of time stamps."""
    return Restamper(
        engine, keys, make_authority(settings, keyring, guard), stamping_certificates(settings, keyring)
    )


def stamping_certificates(settings: Settings, keyring: Keyring) -> tuple[bytes, ...]:
    """Return the certificates of every time-stamping authority there was, and of their issuers: DER, and PEM."""
    chains = [chain for entry in keyring.of("tsa") for chain in (entry.chain, *entry.former)]
    own = dict.fromkeys(certificate for chain in chains for certificate in chain)
    return (*own, *outside_certificates(settings))


def make_sequencer(settings: Settings, live: LiveKeyring) -> Sequencer:
    """Wire the ledger's sequencer."""
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=2, application="qcos-sequencer")
    policy = open_witnesses(settings, ledger_vkeys(settings, live.current().entries))
    witnesses = Witnesses(policy) if policy.witnesses else None
    signers = LiveLedgerSigners(settings, live)
    return Sequencer(engine, settings.ledger, signers, settings.origin, witnesses=witnesses)


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


def keyring_in_force(settings: Settings) -> Keyring:
    """Open the keys in force for the authority as a service: those of the registry where one runs, else the first generation.

    Raises:
        Unavailable: ``keys.generation`` when no registry runs and the authority's key was replaced: the first one may be revoked.
    """
    try:
        beside = attached(settings)
    except Unavailable as stopped:
        if not has_later_keys(settings.keys, "tsa"):
            return open_keyring(settings)
        raise Unavailable(
            "keys.generation",
            "the authority has keys of later generations, and nobody says which is in force",
            subject=str(settings.keys),
            expected="the registry of keys, in the database",
            got=stopped.message,
            hint=stopped.hint,
        ) from None
    engine = make_engine(beside.database_url.get_secret_value(), pool_size=1, application="qcos-keys")
    try:
        return open_keys(settings, engine).current()
    finally:
        engine.dispose()


def make_archive(settings: Settings) -> Archive:
    """Wire the copying to the configured WORM store, which its first round has to show that it protects what it takes.

    Raises:
        Invalid: ``worm.none`` when none is configured; ``worm.address``.
    """
    if not settings.worm:
        raise Invalid(
            "worm.none",
            "no WORM store is configured",
            expected="QCOS_WORM",
            hint="see docs/reference/worm.md",
        )
    store = open_store(settings.worm, endpoint=settings.worm_endpoint, region=settings.worm_region)
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=2, application="qcos-archive")
    return Archive(engine, LogFolder(settings.ledger), store, settings.worm_days)


def make_anchoring(settings: Settings) -> Anchoring | None:
    """Wire the anchoring of checkpoints; None when no chain is configured."""
    chains: list[Chain] = []
    if settings.anchor_ethereum_url:
        chains.append(
            Ethereum(
                settings.anchor_ethereum_url,
                settings.anchor_ethereum_key,
                settings.anchor_ethereum_confirmations,
            )
        )
    if settings.anchor_calendars:
        calendars = tuple(settings.anchor_calendars.split())
        chains.append(OpenTimestamps(calendars, settings.anchor_bitcoin_url))
    if not chains:
        return None
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=2, application="qcos-anchor")
    return Anchoring(engine, LogFolder(settings.ledger), chains, settings.anchor_interval_s)
