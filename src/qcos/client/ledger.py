"""The audit ledger: its checkpoint, records and proofs, as its server tells them. `qcos.ledger.verify` checks
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from qcos.client.model import Json, Page
from qcos.client.transport import Transport, quoted


class Ledger:
    """``/ledger``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def checkpoint(self) -> bytes:
        """Return the latest signed checkpoint (C2SP signed note)."""
        return self._transport.call("GET", "ledger/checkpoint", accept="text/plain").body

    def status(self) -> Json:
        """Return how far the ledger is, and what its witnesses answered last."""
        return cast(Json, self._transport.call("GET", "ledger/status").json())

    def tile(self, path: str) -> bytes:
        """Return one tile by its C2SP path below ``tile/``, for example ``0/x001/234``."""
        parts = "/".join(quoted(part) for part in path.split("/"))
        return self._transport.call("GET", f"ledger/tile/{parts}", accept="application/octet-stream").body

    def records(
        self,
        *,
        actor: str | None = None,
        object: str | None = None,
        act: str | None = None,
        since: str | None = None,
        until: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Page[Json]:
        """Return one page of the tenant's records, newest first."""
        params = {
            "actor": actor,
            "object": object,
            "act": act,
            "since": since,
            "until": until,
            "after": after,
            "limit": limit,
        }
        return cast(Page[Json], self._transport.call("GET", "ledger/records", params=params).json())

    def each(
        self, *, actor: str | None = None, object: str | None = None, act: str | None = None
    ) -> Iterator[Json]:
        """Return all matching records, fetched page by page."""
        after: str | None = None
        while True:
            page = self.records(actor=actor, object=object, act=act, after=after)
            yield from page["items"]
            after = page["next"]
            if after is None:
                return

    def proof(self, record_id: str) -> Json:
        """Return the inclusion proof of a record; raises `Unavailable` until a checkpoint covers it."""
        return cast(Json, self._transport.call("GET", f"ledger/proofs/{quoted(record_id)}").json())

    def consistency(self, old: int, new: int) -> Json:
        """Return the proof that the tree of size `new` continues that of size `old`."""
        return cast(
            Json, self._transport.call("GET", "ledger/consistency", params={"old": old, "new": new}).json()
        )

    def anchors(self, *, before: str | None = None, limit: int | None = None) -> Page[Json]:
        """Return one page of the checkpoints committed to public chains, newest first."""
        params = {"before": before, "limit": limit}
        return cast(Page[Json], self._transport.call("GET", "ledger/anchors", params=params).json())

    def anchor(self, kind: str, size: int) -> Json:
        """Return the receipt of one."""
        return cast(Json, self._transport.call("GET", f"ledger/anchors/{quoted(kind)}/{size}").json())
