"""API tokens: their text, their hash, their life (R11.8). Pure.

A token's text is ``qcos_`` and the base64url of 48 bytes: the tenant's 16, so that the scope can be bound
before the token is looked up, and 32 random ones. With 256 random bits a plain SHA-256 is enough to store:
there is nothing to guess, so nothing to slow down.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
import secrets
from uuid import UUID

from qcos.base.errors import Denied, Invalid
from qcos.base.ids import new_id
from qcos.base.limits import TOKEN_DAYS_DEFAULT, TOKEN_DAYS_MAX
from qcos.identity.model import Minted

_PREFIX = "qcos_"  # lets secret scanners find a leaked token
_TEXT = re.compile(r"qcos_[A-Za-z0-9_-]{64}\Z")  # 48 bytes are exactly 64 characters: one text for each token


def mint(tenant: UUID) -> Minted:
    """Return a new token of a tenant."""
    text = _PREFIX + base64.urlsafe_b64encode(tenant.bytes + secrets.token_bytes(32)).decode()
    return Minted(text, _hash(text), new_id("tok"))


def read(text: str) -> tuple[UUID, bytes]:
    """Return the tenant that a presented token names, and the token's hash; neither is proof of anything yet.

    Raises:
        Denied: ``auth.token`` when it has not the form of a token; the text is not repeated.
    """
    if not _TEXT.match(text):
        raise Denied(
            "auth.token",
            "not an API token",
            expected=f"{_PREFIX} and 64 characters",
            got=f"{len(text)} characters",
            hint="send the header 'Authorization: Bearer <token>'; an administrator makes tokens",
        )
    raw = base64.urlsafe_b64decode(text[len(_PREFIX) :])
    return UUID(bytes=raw[:16]), _hash(text)


def expiry(at: dt.datetime, days: int | None = None) -> dt.datetime:
    """Return when a token made at an instant ends.

    Args:
        at: When it is made.
        days: How long it lives; None for `TOKEN_DAYS_DEFAULT`.

    Raises:
        Invalid: ``token.days`` when it would live for no day, or longer than `TOKEN_DAYS_MAX`.
    """
    chosen = TOKEN_DAYS_DEFAULT if days is None else days
    if not 1 <= chosen <= TOKEN_DAYS_MAX:
        raise Invalid(
            "token.days",
            "a token cannot live for so long",
            expected=f"1 to {TOKEN_DAYS_MAX} days",
            got=str(chosen),
        )
    return at + dt.timedelta(days=chosen)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
