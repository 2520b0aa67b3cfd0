"""An outside time-stamping authority, asked over HTTP (RFC 3161, part 3.4).

Nothing it says is believed before it is verified: status, the pinned certificate, the imprint, the nonce,
the strength of the imprint. An answer is bounded in size and in time; redirections are not followed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
from asn1crypto import cms, core, tsp

from qcos.base import tls
from qcos.base.errors import Integrity
from qcos.base.limits import MAX_CLOCK_DRIFT_S
from qcos.timestamp.authority import NoTime
from qcos.timestamp.request import MALFORMED, Request
from qcos.timestamp.token import MAX_TOKEN_BYTES
from qcos.timestamp.verify import TimeInfo, verify_root

MAX_REPLY_BYTES: Final = MAX_TOKEN_BYTES + 1024  # a token, its status and their text
_REPLY: Final = "application/timestamp-reply"
_USABLE: Final = ("granted", "granted_with_mods")  # whatever was modified is verified here


class _Reply(core.Sequence):  # type: ignore[misc] # asn1crypto carries no types
    """TimeStampResp; asn1crypto's own demands a token even with a rejection."""

    _fields: Final = [
        ("status", tsp.PKIStatusInfo),
        ("time_stamp_token", cms.ContentInfo, {"optional": True}),
    ]


@dataclass(frozen=True, slots=True)
class Stamped:
    """A verified token, and between which readings of the monotonic clock it was made.

    Attributes:
        token: DER TimeStampToken.
        info: What it says.
        sent: Monotonic clock when the request went out, seconds.
        received: Monotonic clock when the answer was there, seconds.
    """

    token: bytes
    info: TimeInfo
    sent: float
    received: float


class RemoteAuthority:
    """One authority at a URL. Safe for many threads.

    Args:
        url: ``http`` or ``https``; the answers are verified all the same.
        trusted: Pinned certificates, PEM or DER: its own and its issuers'.
        timeout_s: Seconds one exchange may take.
        wall: This machine's clock, seconds since 1970.
        monotonic: A clock that never jumps, seconds.
    """

    def __init__(
        self,
        url: str,
        trusted: Sequence[str | bytes],
        *,
        timeout_s: float,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = url
        self._trusted = tuple(trusted)
        self._timeout_s = timeout_s
        self._wall = wall
        self._monotonic = monotonic
        self._client = httpx.Client(timeout=timeout_s, follow_redirects=False, verify=tls.trusted(url))

    def stamp_digest(self, digest: bytes, hash_name: str = "sha512") -> bytes:
        """Return a DER TimeStampToken over a digest.

        Raises:
            NoTime: ``timestamp.remote``: it does not answer, refuses, answers what does not verify, or names a
                time so far from this machine's that no verifier would accept evidence with it.
        """
        stamped = self.stamp(digest, hash_name)
        drift = abs(stamped.info.time.timestamp() - self._wall())
        if drift > MAX_CLOCK_DRIFT_S:
            raise self._failed(
                "its time and this machine's are too far apart",
                f"at most {MAX_CLOCK_DRIFT_S} s",
                f"{drift:.0f} s",
            )
        return stamped.token

    def stamp(self, digest: bytes, hash_name: str = "sha512") -> Stamped:
        """Return a token over a digest, with what it says, whatever that is; raises as `stamp_digest`."""
        request = Request(hash_name, digest, nonce=secrets.randbits(64))
        sent = self._monotonic()
        reply = self._exchange(request.encode(), sent + self._timeout_s)
        received = self._monotonic()
        token = self._token(reply)
        try:
            info = verify_root(token, digest, self._trusted)
        except Integrity as error:
            raise self._failed(f"{error.code}: {error.message}", error.expected, error.got) from error
        if info.nonce != request.nonce:
            raise self._failed(
                "the answer is to another request", f"nonce {request.nonce}", f"nonce {info.nonce}"
            )
        if info.hash_name != hash_name:
            raise self._failed("another imprint than was asked for", hash_name, info.hash_name)
        return Stamped(token, info, sent, received)

    def _exchange(self, request: bytes, deadline: float) -> bytes:
        headers = {
            "Content-Type": "application/timestamp-query",
            "Accept": _REPLY,
            "Accept-Encoding": "identity",
        }
        reply = bytearray()
        try:
            with self._client.stream("POST", self.name, content=request, headers=headers) as answer:
                if answer.status_code != 200:
                    raise self._failed("no time-stamp reply", "HTTP 200", f"HTTP {answer.status_code}")
                for part in answer.iter_raw():
                    reply += part
                    if len(reply) > MAX_REPLY_BYTES:
                        raise self._failed(
                            "the answer is too long", f"at most {MAX_REPLY_BYTES} bytes", "more"
                        )
                    if self._monotonic() > deadline:  # one that drips: httpx counts each read for itself
                        raise self._failed("the answer takes too long", f"{self._timeout_s:g} s", "longer")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self._failed(
                "the authority cannot be reached", "", f"{type(error).__name__}: {error}"
            ) from error
        return bytes(reply)

    def _token(self, reply: bytes) -> bytes:
        try:
            parsed = _Reply.load(reply, strict=True)
            status = parsed["status"]["status"].native
            text = parsed["status"]["status_string"].native or ()
            failure = sorted(parsed["status"]["fail_info"].native or ())
            token = parsed["time_stamp_token"]
            found: bytes = token.dump() if token.native is not None else b""
        except MALFORMED as error:
            raise self._failed("not a time-stamp reply", "TimeStampResp", f"{type(error).__name__}") from None
        if status not in _USABLE or not found:
            said = " ".join(str(part) for part in (status, *failure, *text))
            raise self._failed("the authority refuses", "granted", said)
        return found

    def _failed(self, message: str, expected: str, got: str) -> NoTime:
        return NoTime("timestamp.remote", message, subject=self.name, expected=expected[:200], got=got[:200])

    def close(self) -> None:
        """Close its connections."""
        self._client.close()
