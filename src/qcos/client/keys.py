"""The installation's signing keys: list, rotate, revoke, certify."""

from __future__ import annotations

from typing import Any, cast

from qcos.client.model import Json
from qcos.client.transport import Transport, quoted


class Keys:
    """``/keys``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Json:
        """Return every key there was, with its role, its state and when it counts."""
        return cast(Json, self._transport.call("GET", "keys").json())

    def rotate(
        self,
        role: str,
        *,
        algorithm: str | None = None,
        store: str | None = None,
        overlap_s: int | None = None,
        reason: str = "",
    ) -> Json:
        """Put new keys of a role in force; what the old ones signed counts for the overlap, seconds.

        It is sent once: who gets no answer looks at `list` first.
        """
        body = _given(algorithm=algorithm, store=store, overlap_s=overlap_s, reason=reason or None)
        return cast(Json, self._transport.call("POST", f"keys/{quoted(role)}/rotate", json=body).json())

    def revoke(self, key_id: str, *, reason: str, since: str | None = None, store: str | None = None) -> Json:
        """Let what a key signs not count any more: from now on, or since an instant (RFC 3339)."""
        body = _given(reason=reason, since=since, store=store)
        return cast(Json, self._transport.call("POST", f"keys/{quoted(key_id)}/revoke", json=body).json())

    def request(self, role: str, *, name: str = "") -> Json:
        """Return certificate requests (PKCS#10, PEM) of the keys in force of a role."""
        return cast(
            Json, self._transport.call("POST", f"keys/{quoted(role)}/request", json={"name": name}).json()
        )

    def certify(self, chain: str) -> Json:
        """Keep the certificates (PEM, to the root) that a CA issued for one of the keys."""
        return cast(Json, self._transport.call("POST", "keys/certificates", json={"chain": chain}).json())


def _given(**values: Any) -> Json:  # Any: JSON
    return {name: value for name, value in values.items() if value is not None}
