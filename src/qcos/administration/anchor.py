"""Commit the ledger's checkpoint to public chains now and then, and bring commitments to their end (R5.7).

The intent is kept before anything is sent, with all that sending needs: after a crash the very same transaction is sent
again, which a chain takes once.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from qcos.base.clock import now, rfc3339
from qcos.base.errors import QcosError
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.ledger.anchor import store
from qcos.ledger.anchor.model import Chain, anchored_digest, size_of
from qcos.ledger.anchor.store import Anchor
from qcos.ledger.append import append
from qcos.ledger.files import LogFolder
from qcos.ledger.record import Record

_ACTOR = "service:qcos-anchor"
_log = logging.getLogger("qcos.anchor")


@dataclass(frozen=True, slots=True)
class Anchoring:
    """Anchoring of one installation; for one thread. Two at once are harmless: each checkpoint is begun once.

    Attributes:
        engine: As the application's role.
        log: The ledger's files.
        chains: Where to.
        interval_s: Seconds between two commitments to a chain.
    """

    engine: sa.Engine
    log: LogFolder
    chains: Sequence[Chain]
    interval_s: float

    def round(self) -> list[Anchor]:
        """Begin what is due, advance what was begun; returns what was confirmed now. A chain that fails holds up no other."""
        done = []
        for chain in self.chains:
            try:
                self._begin_if_due(chain)
            except Exception as error:
                _waits(chain, error)
            done += self._advance(chain)
        return done

    def _begin_if_due(self, chain: Chain) -> None:
        note = self.log.checkpoint()
        if note is None:
            return
        size = size_of(note)
        with scope(self.engine, None) as connection:
            last = store.newest(connection, chain.kind)
        if last is not None and (
            size <= last.size or now() - last.begun_at < dt.timedelta(seconds=self.interval_s)
        ):
            return
        work = chain.prepare(anchored_digest(note))
        with scope(self.engine, None) as connection:
            store.begin(connection, Anchor(chain.kind, size, note, work, None, now(), None))

    def _advance(self, chain: Chain) -> list[Anchor]:
        with scope(self.engine, None) as connection:
            waiting = store.unfinished(connection, chain.kind)
        done = []
        for anchor in waiting:
            try:
                seen = chain.advance(anchored_digest(anchor.note), anchor.work)
            except Exception as error:  # one that fails holds up none behind it
                _waits(chain, error)
                continue
            if seen.work == anchor.work and seen.proof is None:
                continue
            moved = replace(anchor, work=seen.work, proof=seen.proof, block_at=seen.at)
            if self._keep(moved) and moved.proof is not None:
                done.append(moved)
                _log.info("a checkpoint is anchored", extra={"chain": anchor.kind, "size": anchor.size})
        return done

    def _keep(self, anchor: Anchor) -> bool:
        with scope(self.engine, None) as connection:
            tenant = next((tenant for tenant, _ in identity.tenants(connection)), None)
        with scope(self.engine, tenant) as connection:
            moved = store.move(connection, anchor)
            if moved and anchor.proof is not None and tenant is not None:
                details = {
                    "chain": anchor.kind,
                    "block_time": rfc3339(anchor.block_at) if anchor.block_at else None,
                }
                append(
                    connection,
                    tenant,
                    [
                        Record(
                            act="ledger.anchored",
                            actor=_ACTOR,
                            object=f"checkpoint:{anchor.size}",
                            details=details,
                        )
                    ],
                )
        return moved


def _waits(chain: Chain, error: Exception) -> None:
    """Say why a chain waits; an answer that nobody expected is told with its place in the code."""
    if isinstance(error, QcosError):
        _log.warning("anchoring to %s waits: %s", chain.kind, error, extra={"code": error.code})
    else:
        _log.error("anchoring to %s waits: its answer is not understood", chain.kind, exc_info=error)
