"""The keys a running process signs with: those in force in the registry, within seconds of every change, without a restart.

A process looks at the registry's version each second and may sign for `KEY_LEASE_S` after it last looked. A revocation takes
effect `KEY_EFFECT_S` after the act. So no honest process signs with a key that no longer counts, and no job asks the database
which key it is.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import sqlalchemy as sa

from qcos.base.errors import Integrity, Invalid, QcosError, Unavailable
from qcos.base.limits import KEY_LEASE_S, KEY_POLL_S, KEY_STORE_WAIT_S
from qcos.db.engine import scope
from qcos.keys import store
from qcos.keys.model import Keyring
from qcos.keys.open import KeyStores
from qcos.keys.store import Registry

_log = logging.getLogger(__name__)
Made = TypeVar("Made")
_REGISTER = (
    7_205_002  # advisory lock: processes that start at once register the first generation one after the other
)


class LiveKeyring:
    """The keys in force. Safe for many threads.

    Args:
        engine: As the application's role.
        stores: Where private halves are.
        first: Opens or makes the first generation; asked only while the registry is empty.
        clock: Monotonic time, seconds.

    Raises:
        Invalid, Integrity, Unavailable: As opening the keys does.
    """

    def __init__(
        self,
        engine: sa.Engine,
        stores: KeyStores,
        first: Callable[[], Keyring],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self.stores = stores
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = clock()
        registry = self._registry()
        if not registry.entries:
            registry = self._register(first())
        self._keyring = stores.keyring(registry.entries, registry.version)

    def current(self) -> Keyring:
        """Return the keys to sign with now.

        Raises:
            Unavailable: The registry could not be looked at for `KEY_LEASE_S`: a key may have been revoked since.
        """
        if self._clock() - self._looked > KEY_LEASE_S:
            self.refresh()
        return self._keyring

    def holds(self, keyring: Keyring) -> bool:
        """Return whether what these keys have just signed counts. Ask after signing: the process may have been stopped in between."""
        return self.current() is keyring

    def refresh(self) -> Keyring:
        """Look at the registry, and open other keys if it says so.

        Raises:
            Unavailable: The database, or a key store, is away; or a key in force cannot be opened here, with the code that
                says why: nothing is signed until it can, and what was to be signed waits. ``keys.unread`` while another thread
                waits for a key store that hangs.
        """
        with self._alone():
            began = self._clock()
            with scope(self._engine, None) as connection:
                version = store.version(connection)
            if version != self._keyring.version:
                registry = self._registry()
                with _waiting():
                    self._keyring = self.stores.keyring(registry.entries, registry.version)
                _log.info("the keys in force were read again", extra={"version": registry.version})
            self._looked = began
            return self._keyring

    def watch(self, stop: threading.Event, each: Callable[[Keyring], None] = lambda keyring: None) -> None:
        """Refresh each `KEY_POLL_S` until told to stop, and hand the keys to ``each``."""
        while not stop.wait(KEY_POLL_S):
            try:
                each(self.refresh())
            except Unavailable as error:
                _log.warning("the keys in force cannot be looked at: %s", error)
            except QcosError:
                _log.exception("the keys in force cannot be opened")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=KEY_STORE_WAIT_S):
            raise Unavailable(
                "keys.unread",
                "the keys in force are still being read",
                expected=f"an answer of the key store within {KEY_STORE_WAIT_S:g} s",
                hint="try again; look whether the key store answers",
                retry_after_s=KEY_POLL_S,
            )
        try:
            yield
        finally:
            self._lock.release()

    def _registry(self) -> Registry:
        with scope(self._engine, None) as connection:
            return store.load(connection)

    def _register(self, keyring: Keyring) -> Registry:
        """Enter the first generation: of a new installation, or of one older than the registry."""
        with scope(self._engine, None) as connection:
            connection.exec_driver_sql("select pg_advisory_xact_lock(%s)", (_REGISTER,))
            found = store.load(connection)
            if not found.entries:
                store.add(connection, keyring.entries)
                found = store.load(connection)
        return found


class Followed(Generic[Made]):
    """Something made with the authority's key, and made anew when that has another certificate.

    Args:
        keys: The keys.
        make: Makes it.
    """

    def __init__(self, keys: LiveKeyring, make: Callable[[Keyring], Made]) -> None:
        self._keys = keys
        self._make = make
        self._made: tuple[tuple[bytes, ...], Made] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Made:
        """Return it.

        Raises:
            Unavailable: As `LiveKeyring.current`; or it cannot be made of the new keys, with the code that says why.
        """
        keyring = self._keys.current()
        with self._lock:
            if self._made is None or self._made[0] != keyring.tsa_chain:
                with _waiting():
                    self._made = (keyring.tsa_chain, self._make(keyring))
            return self._made[1]


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    """Turn what is wrong with a running installation into what passes: no job that waits for its evidence fails of it."""
    try:
        yield
    except (Invalid, Integrity) as error:
        raise Unavailable(
            error.code,
            error.message,
            subject=error.subject,
            expected=error.expected,
            got=error.got,
            hint=error.hint,
        ) from error
