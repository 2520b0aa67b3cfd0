"""Problem answers (RFC 9457) back to the error families they were made from."""

from __future__ import annotations

import json
from typing import Any

from qcos.base.errors import (
    Conflict,
    Denied,
    DriverError,
    Integrity,
    Invalid,
    Limit,
    NotFound,
    Problem,
    QcosError,
    Unavailable,
)

_FAMILIES: dict[str, type[QcosError]] = {
    kind.family: kind
    for kind in (Invalid, NotFound, Conflict, Denied, Limit, Unavailable, DriverError, Integrity)
}
_BY_STATUS: dict[int, type[QcosError]] = {
    401: Denied,
    403: Denied,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: Limit,
    429: Limit,
}
_OWN = frozenset({"family", "code", "message", "subject", "expected", "got", "hint", "problems"})


def error_of(status: int, body: bytes, retry_after_s: float | None = None) -> QcosError:
    """Return the error that an answer with a failing status stands for; every member of the problem is kept
    in ``details``.

    An answer that is no problem document (a proxy's page, say) becomes an error of the family its status
    stands for.
    """
    members = _members(body)
    status_family = _BY_STATUS.get(status, Unavailable if status >= 500 else Invalid)
    kind = _FAMILIES.get(_text(members, "family"), status_family)
    fallback = "" if members else body[:200].decode("utf-8", "replace").strip()
    return kind(
        _text(members, "code") or f"http.{status}",
        _text(members, "message")
        or _text(members, "detail")
        or _text(members, "title")
        or f"the server answered {status}",
        subject=_text(members, "subject"),
        expected=_text(members, "expected"),
        got=_text(members, "got") or fallback,
        hint=_text(members, "hint"),
        problems=[_problem(item) for item in _list(members, "problems") if isinstance(item, dict)],
        details={"status": status} | {k: v for k, v in members.items() if k not in _OWN},
        retry_after_s=retry_after_s,
    )


def _members(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _problem(item: dict[str, Any]) -> Problem:
    names = ("pointer", "message", "expected", "got", "hint", "code")
    return Problem(**{name: _text(item, name) for name in names})


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name, "")
    return value if isinstance(value, str) else json.dumps(value)


def _list(members: dict[str, Any], name: str) -> list[Any]:
    value = members.get(name, [])
    return value if isinstance(value, list) else []
