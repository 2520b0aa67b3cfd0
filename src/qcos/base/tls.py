"""Whom a connection over TLS trusts."""

from __future__ import annotations

import os
import ssl
from functools import cache, lru_cache
from pathlib import Path

import httpx


def trusted(url: str | httpx.URL, *, trust_env: bool = True) -> ssl.SSLContext:
    """Return the authorities that vouch for a server, for the ``verify`` of an httpx client that speaks to this URL alone.

    They are httpx's own, read once, and anew when replaced: each of its clients would read them again, 30 ms of processor time, and even
    to speak in clear text. For an address in clear text nobody is trusted: it needs nobody, and led elsewhere it gets nowhere.

    Args:
        url: Where the client connects to.
        trust_env: Whether ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` of the environment count.
    """
    if not str(url).lower().startswith("https:"):
        return _nobody()
    return _authorities(
        trust_env, *(_state(name) if trust_env else None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    )


def _state(name: str) -> tuple[str, int] | None:
    """Return what a variable names, and when that was changed: what is replaced is read anew."""
    place = os.environ.get(name)
    if not place:
        return None
    return place, Path(place).stat().st_mtime_ns if Path(place).exists() else 0


@cache
def _nobody() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@lru_cache(8)
def _authorities(
    trust_env: bool, _file: tuple[str, int] | None, _folder: tuple[str, int] | None
) -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=trust_env)
