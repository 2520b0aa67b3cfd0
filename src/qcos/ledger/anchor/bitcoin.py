"""Commit a digest to Bitcoin by OpenTimestamps calendars: free, and confirmed within hours.

A calendar promises at once, and tells the way into a block later. The block's header comes from a source of one's own:
a server with Esplora's HTTP interface.
"""

from __future__ import annotations

import base64
import datetime as dt
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from qcos.base.errors import Integrity, Unavailable
from qcos.base.limits import ANCHOR_CALENDAR_BYTES
from qcos.ledger.anchor.bitcoin_proof import attested, header_hash, packages, read
from qcos.ledger.anchor.exchange import exchange
from qcos.ledger.anchor.model import Anchored, Kind

_MEDIA: Final = "application/vnd.opentimestamps.v1"


@dataclass(frozen=True, slots=True)
class OpenTimestamps:
    """Some calendars, and where headers come from.

    Attributes:
        calendars: URLs; one that answers is enough to begin.
        headers: URL of a server with Esplora's interface (``/block-height/<n>``, ``/block/<hash>/header``).
        confirmations: Blocks on top of ours before it counts; 6 are customary.
    """

    calendars: tuple[str, ...]
    headers: str
    confirmations: int = 6

    @property
    def kind(self) -> Kind:
        """Return ``opentimestamps``."""
        return "opentimestamps"

    def prepare(self, digest: bytes) -> Mapping[str, Any]:
        """Return a proof without promises. Its random nonce keeps calendars from knowing the digest."""
        packages()  # missing ones are told before anything is kept
        return {"nonce": secrets.token_hex(16), "ots": None, "promises": {}}

    def advance(self, digest: bytes, work: Mapping[str, Any]) -> Anchored:
        """Ask the calendars that have not promised yet for a promise, the others for the way into a block."""
        library = packages()
        file = library.DetachedTimestampFile(library.OpSHA256(), library.Timestamp(digest))
        nonce = bytes.fromhex(work["nonce"])
        leaf = file.timestamp.ops.add(library.OpAppend(nonce)).ops.add(library.OpSHA256())
        promises = dict(work["promises"])
        problems = []
        for calendar in self.calendars:
            try:
                if calendar not in promises:
                    promise = self._submit(calendar, leaf.msg)
                    _read(library, promise, leaf.msg)  # one that cannot be read is not kept
                    promises[calendar] = base64.b64encode(promise).decode()
                self._complete(library, leaf, calendar, promises[calendar])
            except (*library.errors, Unavailable) as error:
                problems.append(f"{calendar}: {error}")
        if not promises:
            raise Unavailable("anchor.unavailable", "no calendar answers", got="; ".join(problems)[:300])
        context = library.BytesSerializationContext()
        file.serialize(context)
        done = {**work, "promises": promises, "ots": base64.b64encode(context.getbytes()).decode()}
        return self._confirmed(library, done)

    def _confirmed(self, library: Any, work: Mapping[str, Any]) -> Anchored:
        headers: dict[str, str] = {}
        times = []
        tip = None
        for message, attestation in attested(library, read(work["ots"])):
            height = int(attestation.height)
            tip = int(self._get("blocks/tip/height")) if tip is None else tip
            if tip - height < self.confirmations:
                continue
            name = self._get(f"block-height/{height}").decode("ascii").strip()
            header = bytes.fromhex(self._get(f"block/{name}/header").decode("ascii").strip())
            if header_hash(header) != name:
                raise Integrity(
                    "anchor.chain",
                    "a header that does not give its block's hash",
                    subject=str(height),
                    expected=name,
                    got=header_hash(header),
                )
            parsed = library.CBlockHeader.deserialize(header)
            if parsed.hashMerkleRoot != message:  # the calendar named a block that does not hold it
                continue
            headers[str(height)] = header.hex()
            times.append(parsed.nTime)
        if not headers:
            return Anchored(work)
        at = dt.datetime.fromtimestamp(min(times), dt.UTC)
        return Anchored(work, {"ots": work["ots"], "headers": headers}, at)

    def _submit(self, calendar: str, digest: bytes) -> bytes:
        return self._exchange("POST", calendar.rstrip("/") + "/digest", digest)

    def _complete(self, library: Any, leaf: Any, calendar: str, promise: str) -> None:
        """Put a calendar's promise into the proof, and the way into a block where that calendar knows it now.

        A calendar that names another address is not followed: it could name any.
        """
        given = _read(library, base64.b64decode(promise), leaf.msg)
        leaf.merge(given)
        for node in _nodes(leaf):
            for attestation in list(node.attestations):
                pending = isinstance(attestation, library.PendingAttestation)
                if pending and attestation.uri.rstrip("/") == calendar.rstrip("/"):
                    answer = self._upgrade(calendar, node.msg)
                    if answer is not None:
                        node.merge(_read(library, answer, node.msg))

    def _upgrade(self, calendar: str, commitment: bytes) -> bytes | None:
        try:
            return self._exchange("GET", f"{calendar.rstrip('/')}/timestamp/{commitment.hex()}")
        except _NotYet:
            return None

    def _get(self, path: str) -> bytes:
        return self._exchange("GET", f"{self.headers.rstrip('/')}/{path}")

    def _exchange(self, method: str, url: str, content: bytes | None = None) -> bytes:
        status, data = exchange(
            method, url, ANCHOR_CALENDAR_BYTES, content=content, headers={"Accept": _MEDIA}
        )
        if status == 404:
            raise _NotYet("anchor.unavailable", "not there yet", subject=url)
        if status != 200:
            raise Unavailable(
                "anchor.unavailable", "it refuses", subject=url, expected="HTTP 200", got=f"HTTP {status}"
            )
        return data


class _NotYet(Unavailable):
    """A calendar does not know the way into a block yet."""


def _read(library: Any, answer: bytes, message: bytes) -> Any:
    return library.Timestamp.deserialize(library.BytesDeserializationContext(answer), message)


def _nodes(timestamp: Any) -> list[Any]:
    found, waiting = [], [timestamp]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += node.ops.values()
    return found
