"""The catalogue: statuses of all backends, read from the database at most once a second a process."""

from __future__ import annotations

import threading
import time

import sqlalchemy as sa

from qcos.backends import store
from qcos.backends.model import BackendStatus
from qcos.base.errors import NotFound
from qcos.db.engine import scope


class Catalogue:
    """A cached snapshot of all backends; safe for many threads.

    Args:
        engine: Where the tables are.
        max_age_s: Oldest snapshot that is given out, in seconds.
    """

    def __init__(self, engine: sa.Engine, max_age_s: float = 1.0) -> None:
        self._engine = engine
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._statuses: tuple[BackendStatus, ...] = ()

    def statuses(self) -> tuple[BackendStatus, ...]:
        """Return all backends, offline ones too, ordered by name.

        Raises:
            Unavailable: ``database.unavailable``; an old snapshot is never given out instead.
        """
        with self._lock:  # one thread reads, the others wait for what it reads
            if time.monotonic() - self._read_at > self._max_age_s:
                started = time.monotonic()
                with scope(self._engine, None) as connection:
                    self._statuses = tuple(store.load(connection))
                self._read_at = started
            return self._statuses

    def get(self, name: str) -> BackendStatus:
        """Return one backend.

        Raises:
            NotFound: ``backends.unknown``.
        """
        known = self.statuses()
        for status in known:
            if status.backend.name == name:
                return status
        names = ", ".join(s.backend.name for s in known) or "none: no worker has registered one"
        raise NotFound("backends.unknown", "there is no such backend", subject=name, expected=names)

    def forget(self) -> None:
        """Read anew at the next call."""
        with self._lock:
            self._read_at = float("-inf")
