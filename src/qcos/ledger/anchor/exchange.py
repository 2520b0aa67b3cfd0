"""Exchange bytes with a chain's node or a calendar: whatever it answers, at most so many bytes and so many seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import httpx

from qcos.base import tls
from qcos.base.errors import Unavailable
from qcos.base.limits import ANCHOR_EXCHANGE_S

_SILENCE_S: Final = 10.0  # one read or write


def exchange(
    method: str,
    url: str,
    at_most: int,
    *,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = ANCHOR_EXCHANGE_S,
) -> tuple[int, bytes]:
    """Return the status and the body of an answer.

    Args:
        method: ``GET`` or ``POST``.
        url: Where to; it is not left for another address.
        at_most: Bytes of the body.
        content: What is sent.
        headers: With it.
        timeout_s: Seconds until the last byte.

    Raises:
        Unavailable: ``anchor.unavailable``: it does not answer, answers too much, or takes too long.
    """
    late = time.monotonic() + timeout_s
    plain = {
        **(headers or {}),
        "Accept-Encoding": "identity",
    }  # what is packed has no bound until it is unpacked
    body = bytearray()
    try:
        with httpx.stream(
            method,
            url,
            content=content,
            headers=plain,
            timeout=min(_SILENCE_S, timeout_s),
            verify=tls.trusted(url),
        ) as answer:
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > at_most:
                    raise Unavailable(
                        "anchor.unavailable",
                        "the answer is too long",
                        subject=url,
                        expected=f"at most {at_most} bytes",
                    )
                if time.monotonic() > late:  # one that drips: httpx counts each read for itself
                    raise Unavailable(
                        "anchor.unavailable",
                        "the answer takes too long",
                        subject=url,
                        expected=f"{timeout_s:g} s",
                    )
            return answer.status_code, bytes(body)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            "anchor.unavailable",
            "it does not answer",
            subject=url,
            got=f"{type(error).__name__}: {error}"[:200],
        ) from error
