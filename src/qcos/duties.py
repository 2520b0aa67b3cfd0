"""The duties process: what must happen without anybody asking. It sequences the ledger, mends what crashes left behind, and keeps payloads
no longer than they are to be kept.

Several at once are harmless: the sequencer works by compare-and-swap, recovery enqueues a task at most once, payloads are erased under a
lock.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa

from qcos.administration.anchor import Anchoring
from qcos.administration.keys import announce
from qcos.administration.trust import follow
from qcos.app import (
    guard_of,
    make_anchoring,
    make_archive,
    make_restamper,
    make_sequencer,
    open_keys,
    open_wrapper,
    stamping_certificates,
)
from qcos.base.clock import now
from qcos.base.errors import Conflict, Integrity, QcosError, Unavailable
from qcos.base.limits import ERASURE_INTERVAL_S, RENEWAL_INTERVAL_S
from qcos.base.process import collect_rarely
from qcos.db.engine import make_engine
from qcos.jobs.erase import erase_due
from qcos.jobs.recover import recover
from qcos.jobs.renew import renew_keys
from qcos.jobs.restamp import expiring
from qcos.keys.live import LiveKeyring
from qcos.keys.model import Keyring
from qcos.published import make_issuer, publish_trust
from qcos.secrecy.unlock import TenantKeys
from qcos.settings import Settings
from qcos.telemetry import configure, instruments, shutdown

_log = logging.getLogger("qcos.duties")
_RECOVER_S = 5.0
_SETTLE_S = (
    60.0  # after a change of the keys the trust document changes once more: when a revocation takes effect
)


def run(settings: Settings) -> None:
    """Run until SIGTERM."""
    configure("qcos-duties")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=2, application="qcos-duties")
    keys = open_keys(settings, engine)
    threads = [
        threading.Thread(
            target=_fatal,
            args=(stop, lambda: make_sequencer(settings, keys).run(stop)),
            name="sequencer",
            daemon=True,
        ),
        threading.Thread(
            target=_fatal, args=(stop, lambda: _recover(engine, stop)), name="recover", daemon=True
        ),
        threading.Thread(
            target=_fatal,
            args=(stop, lambda: _retain(engine, TenantKeys(engine, open_wrapper(settings)), stop)),
            name="retain",
            daemon=True,
        ),
        threading.Thread(
            target=_fatal,
            args=(stop, lambda: keys.watch(stop, _Keys(settings, engine, keys).tell)),
            name="keys",
            daemon=True,
        ),
    ]
    threads.append(
        threading.Thread(target=_restamp, args=(settings, keys, stop), name="renewal", daemon=True)
    )
    if settings.worm:
        threads.append(threading.Thread(target=_archive, args=(settings, stop), name="archive", daemon=True))
    if (anchoring := make_anchoring(settings)) is not None:
        threads.append(
            threading.Thread(
                target=_anchor, args=(anchoring, settings.anchor_look_s, stop), name="anchor", daemon=True
            )
        )
    collect_rarely()
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join(10)
    engine.dispose()
    shutdown()


class _Keys:
    """Tells the ledger, and ``trust.json``, of every change of the keys."""

    def __init__(self, settings: Settings, engine: sa.Engine, keys: LiveKeyring) -> None:
        self._settings = settings
        self._engine = engine
        self._issuer = make_issuer(settings, engine, keys)
        self._announced: set[str] = set()
        self._version = -1
        self._settled = 0.0
        self._behind = True

    def tell(self, keyring: Keyring) -> None:
        """Tell of these keys what was not told yet."""
        self._announced |= announce(
            self._engine, [entry for entry in keyring.entries if entry.key_id not in self._announced]
        )
        if keyring.version != self._version:
            self._version, self._settled = keyring.version, time.monotonic() + _SETTLE_S
        if self._behind or time.monotonic() < self._settled:
            self._behind = self._follow()
            publish_trust(self._settings, self._engine)

    def _follow(self) -> bool:
        """Keep the trust document true; returns whether to try again however long it takes."""
        try:
            return not follow(self._issuer)
        except (Conflict, Unavailable) as error:  # somebody else was faster, or the ledger takes no records
            _log.warning("the trust document is not followed yet: %s", error)
            return True
        except Integrity:
            _log.exception("the trust document cannot be followed")
            return False


def _recover(engine: sa.Engine, stop: threading.Event) -> None:
    while not stop.wait(_RECOVER_S):
        with contextlib.suppress(Unavailable):
            report = recover(engine)
            instruments.set_queue_depths(report.depths)
            if report.enqueued:
                _log.warning(
                    "unfinished jobs without a task were enqueued again", extra={"jobs": report.enqueued}
                )


def _archive(settings: Settings, stop: threading.Event) -> None:
    """Copy to the WORM store for ever. A store that does not answer, or does not protect, holds up nothing else."""
    archive = None
    while not stop.wait(settings.worm_interval_s):
        try:
            archive = archive or make_archive(settings)
            done = archive.round()
            if done.copies:
                _log.info("copied to the WORM store", extra={"copies": done.copies, "size": done.size})
        except QcosError as error:
            _log.error("nothing was copied to the WORM store: %s", error, extra={"code": error.code})
        except Exception:
            _log.exception("a round of copying to the WORM store failed")


def _anchor(anchoring: Anchoring, pause_s: float, stop: threading.Event) -> None:
    """Anchor for ever. A chain that does not answer holds up nothing else."""
    while not stop.wait(pause_s):
        try:
            anchoring.round()
        except Exception:
            _log.exception("a round of anchoring failed")


def _restamp(settings: Settings, live: LiveKeyring, stop: threading.Event) -> None:
    """Renew time stamps in time, for ever. Authorities that do not answer hold up nothing else."""
    engine = make_engine(settings.database_url.get_secret_value(), pool_size=1, application="qcos-renewal")
    guard, with_key, restamper = guard_of(settings), b"", None
    pause = _RECOVER_S
    while not stop.wait(pause):
        pause = RENEWAL_INTERVAL_S
        try:
            keyring, before = live.current(), now() + dt.timedelta(days=settings.tsa_renewal_days)
            if not expiring(stamping_certificates(settings, keyring), before):
                continue
            if restamper is None or keyring.tsa_chain[0] != with_key:
                keys = TenantKeys(engine, open_wrapper(settings))
                with_key, restamper = (
                    keyring.tsa_chain[0],
                    make_restamper(settings, engine, keys, keyring, guard),
                )
            if count := restamper.renew_due(before):
                _log.warning("time stamps were renewed", extra={"bundles": count})
        except QcosError as error:
            _log.error("time stamps are not renewed: %s", error, extra={"code": error.code})
        except Exception:
            _log.exception("a round of renewing time stamps failed")


def _retain(engine: sa.Engine, keys: TenantKeys, stop: threading.Event) -> None:
    pause = 0.0  # the first round is at once: an upgrade's old payloads are not to lie plain for long
    while not stop.wait(pause):
        pause = ERASURE_INTERVAL_S
        try:
            _retain_once(engine, keys)
        except Exception:  # a payload that cannot be erased must not stop the ledger
            _log.exception("a round of erasing failed")


def _retain_once(engine: sa.Engine, keys: TenantKeys) -> None:
    with contextlib.suppress(Unavailable):  # of the wrapping key: erasing needs none
        renewed = renew_keys(engine, keys)
        if renewed.sealed:
            _log.warning("payloads of before encryption were sealed", extra={"jobs": renewed.sealed})
        if renewed.locked:
            _log.error(
                "keys of tenants do not open here", extra={"tenants": [str(t) for t in renewed.locked]}
            )
    with contextlib.suppress(Unavailable):
        erased = erase_due(engine)
        if erased.erased:
            _log.info("payloads were erased", extra={"jobs": erased.erased})


def _fatal(stop: threading.Event, duty: Callable[[], None]) -> None:
    """Run a duty; when it fails the whole process ends, and its supervisor starts it anew."""
    try:
        duty()
    except BaseException:
        _log.exception("a duty failed")
        sys.stderr.flush()
        os._exit(1)
    stop.set()
