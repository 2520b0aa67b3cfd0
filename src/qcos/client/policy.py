"""Policy bundles on the server: list, read, test, upload, activate; decisions by id."""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Mapping
from typing import cast

from qcos.client.model import Decision, Json
from qcos.client.transport import Transport, quoted


class Policies:
    """``/policies`` and ``/decisions``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Json:
        """Return all bundles of the tenant, the latest first, and which of them is active."""
        items: builtins.list[Json] = []
        after: str | None = None
        while True:
            page = cast(Json, self._transport.call("GET", "policies", params={"after": after}).json())
            items += page["items"]
            after = page.get("next")
            if not after:
                return {**page, "items": items, "next": None}

    def get(self, version: str) -> Json:
        """Return one bundle with its files; raises `NotFound`."""
        return cast(Json, self._transport.call("GET", f"policies/{quoted(version)}").json())

    def test(self, files: Mapping[str, str]) -> Json:
        """Run the Rego tests of a bundle on the server without keeping it."""
        return cast(
            Json,
            self._transport.call(
                "POST", "policies/test", json={"files": dict(files)}, key=secrets.token_hex(16)
            ).json(),
        )

    def upload(self, files: Mapping[str, str], *, note: str = "") -> Json:
        """Keep a bundle under its digest; it decides nothing until it is activated."""
        body: Json = {"files": dict(files)} | ({"note": note} if note else {})
        return cast(Json, self._transport.call("POST", "policies", json=body).json())

    def activate(self, version: str, *, note: str = "") -> Json:
        """Let a bundle decide from now on: a governed act, its reason kept in the ledger."""
        return cast(
            Json,
            self._transport.call("POST", f"policies/{quoted(version)}/activate", json={"note": note}).json(),
        )

    def decision(self, decision_id: str) -> Decision:
        """Return a decision with its reasons and inputs (R3.6); raises `NotFound`."""
        return cast(Decision, self._transport.call("GET", f"decisions/{quoted(decision_id)}").json())
