"""Who there is: projects, principals, their roles and tokens."""

from __future__ import annotations

from typing import Any, cast

from qcos.base.limits import PAGE_MAX
from qcos.client.model import Json
from qcos.client.transport import Transport, quoted


class Identity:
    """``/projects``, ``/principals`` and ``/tokens``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def projects(self) -> Json:
        """Return the projects of the tenant."""
        return self._all("projects", {})

    def create_project(self, project: str, *, team: str, cost_center: str) -> Json:
        """Create a project."""
        return self._json("POST", "projects", {"id": project, "team": team, "cost_center": cost_center})

    def principals(self) -> Json:
        """Return the principals of the tenant with their roles."""
        return self._all("principals", {})

    def create_principal(
        self, principal: str, *, team: str | None = None, attributes: Json | None = None
    ) -> Json:
        """Create a principal: ``user:alice@example.com`` or ``service:ci``."""
        body: Json = {"id": principal}
        if team is not None:
            body["team"] = team
        if attributes:
            body["attributes"] = attributes
        return self._json("POST", "principals", body)

    def disable_principal(self, principal: str) -> Json:
        """Shut a principal out with all its tokens, at once."""
        return self._json("POST", f"principals/{quoted(principal)}/disable")

    def enable_principal(self, principal: str) -> Json:
        """Let a disabled principal in again."""
        return self._json("POST", f"principals/{quoted(principal)}/enable")

    def grant_role(self, principal: str, role: str, *, project: str | None = None) -> Json:
        """Grant a role, in one project or everywhere (R11.4)."""
        body = {"role": role} | ({"project": project} if project is not None else {})
        return self._json("POST", f"principals/{quoted(principal)}/roles", body)

    def revoke_role(self, principal: str, role: str, *, project: str | None = None) -> None:
        """Revoke exactly this grant; raises `NotFound` when it is not held."""
        params = {"role": role, "project": project}
        self._transport.call("DELETE", f"principals/{quoted(principal)}/roles", params=params)

    def tokens(self, principal: str | None = None) -> Json:
        """Return the tokens of a principal, the caller's own unless told otherwise, without their secrets."""
        return self._all("tokens", {"principal": principal})

    def create_token(self, principal: str, *, days: int) -> Json:
        """Create a token (R11.8); member ``token`` of the answer is its text, told this once."""
        return self._json("POST", "tokens", {"principal": principal, "days": days})

    def revoke_token(self, token_id: str) -> Json:
        """Revoke a token at once, with all that were made with it; member ``ended`` says how many were still good."""
        return self._json("DELETE", f"tokens/{quoted(token_id)}")

    def _json(self, method: str, path: str, body: Any = None) -> Json:  # Any: a JSON value
        return cast(Json, self._transport.call(method, path, json=body).json())

    def _all(self, path: str, params: dict[str, str | None]) -> Json:
        """Return a whole listing as one page: these are short."""
        items: list[Any] = []  # Any: JSON objects
        after: str | None = None
        while True:
            asked = {**params, "limit": str(PAGE_MAX), "after": after}
            page = cast(Json, self._transport.call("GET", path, params=asked).json())
            items += page["items"]
            after = page.get("next")
            if not after:
                return {**page, "items": items, "next": None}
