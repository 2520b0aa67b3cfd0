"""Whom a connection over TLS trusts."""

from __future__ import annotations

import os
import ssl
from functools import cache

import httpx


def trusted(url: str | httpx.URL, *, trust_env: bool = True) -> ssl.SSLContext:
    """Return the authorities that vouch for a server, for the ``verify`` of an httpx client that speaks to this URL alone.

    They are httpx's own, read once: each of its clients would read them again, 30 ms of processor time, and even to speak in clear
    text. For an address in clear text nobody is trusted: it needs nobody, and led elsewhere it gets nowhere.

    Args:
        url: Where the client connects to.
        trust_env: Whether ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` of the environment count.
    """
    if not str(url).lower().startswith("https:"):
        return _nobody()
    places = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")) if trust_env else (None, None)
    return _authorities(trust_env, *places)


@cache
def _nobody() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache
def _authorities(trust_env: bool, _file: str | None, _folder: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=trust_env)
