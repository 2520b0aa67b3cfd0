"""The local time-stamping authority (RFC 3161): for air-gapped sites, and the default everywhere.

It names the time of this machine's clock. What makes that time trustworthy is how the clock is kept, and
the ledger, which fixes the order of tokens; an outside authority can be pinned beside it. It refuses to go
backwards.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from qcos.base.clock import now
from qcos.base.errors import Unavailable
from qcos.timestamp import der
from qcos.timestamp.mark import NEVER, Mark
from qcos.timestamp.request import TIME_NOT_AVAILABLE, UNACCEPTED_POLICY, Refused, Request, read_request
from qcos.timestamp.token import Accuracy, Frame

# A UUID-based arc (ITU-T X.667) needs no registration and belongs to nobody else.
DEFAULT_POLICY: Final = "2.25.301726550550190034910296714974736025509"
_GRANTED: Final = der.tlv(der.SEQUENCE, der.integer(0))
SERIAL_BITS: Final = 159  # RFC 3161 asks users to be ready for 160; one bit keeps the integer positive


class Signer(Protocol):
    """What the authority signs with: ECDSA with SHA-512, DER signatures (see `qcos.keys`)."""

    def sign(self, data: bytes) -> bytes:
        """Return the signature over the data."""
        ...


class NoTime(Unavailable):
    """No authority can name the time now; whoever needs a token keeps what he has and waits."""


class Guard(Protocol):
    """What watches the clock (see `qcos.timestamp.guard`)."""

    def check(self) -> None:
        """Raise `NoTime` when the clock is known to be wrong."""
        ...

    def status(self) -> dict[str, Any]:  # Any: JSON
        """Return what is known of the clock, for people."""
        ...


class LocalAuthority:
    """Issues tokens. Safe for many threads.

    Args:
        key: ECDSA key of the first certificate.
        chain: DER certificates, the authority's own first.
        policy_oid: Policy under which all tokens are issued.
        accuracy: Promised in every token.
        guard: Asked before each token whether the clock can be trusted.
        mark: Keeps the latest time named over restarts.
        clock: Returns the present instant, UTC.
    """

    def __init__(
        self,
        key: Signer,
        chain: Sequence[bytes],
        policy_oid: str = DEFAULT_POLICY,
        accuracy: Accuracy | None = None,
        *,
        guard: Guard | None = None,
        mark: Mark | None = None,
        clock: Callable[[], dt.datetime] = now,
    ) -> None:
        self._key = key
        self._policy = policy_oid
        self._accuracy = accuracy or Accuracy()
        self._frame = Frame(chain, policy_oid, self._accuracy)
        self._guard = guard
        self._clock = clock
        self._lock = threading.Lock()
        self._mark = mark
        self._latest = mark.latest() if mark is not None else NEVER

    def stamp(self, data: bytes) -> bytes:
        """Return a DER TimeStampToken over the SHA-512 digest of the data.

        Raises:
            NoTime: ``timestamp.clock`` when the clock went back by more than the promised accuracy, and what
                the guard raises.
        """
        return self.stamp_digest(hashlib.sha512(data).digest())

    def stamp_digest(self, digest: bytes, hash_name: str = "sha512") -> bytes:
        """Return a DER TimeStampToken over a digest.

        Raises:
            NoTime: As `stamp`.
        """
        return self._issue(Request(hash_name, digest))

    def reply(self, request: bytes) -> bytes:
        """Return the DER TimeStampResp to a DER request: a token, or a rejection that says why."""
        return self.answer(request)[0]

    def answer(self, request: bytes) -> tuple[bytes, bool]:
        """Return the same, and whether it holds a token."""
        try:
            asked = read_request(request)
            if asked.policy not in (None, self._policy):
                raise Refused(
                    UNACCEPTED_POLICY, "an unknown policy", expected=self._policy, got=str(asked.policy)
                )
            token = self._issue(asked)
        except Refused as refused:
            return _rejection(refused.failure, refused.message), False
        except NoTime as error:
            return _rejection(TIME_NOT_AVAILABLE, error.message), False
        return der.tlv(der.SEQUENCE, _GRANTED, token), True

    def check(self) -> None:
        """Raise NoTime when no token could be issued now, as `stamp` does."""
        self._time()

    def status(self) -> dict[str, Any]:  # Any: JSON
        """Return what the guard knows of the clock; nothing without one."""
        return self._guard.status() if self._guard is not None else {}

    def _issue(self, request: Request) -> bytes:
        serial = secrets.randbits(SERIAL_BITS) | 1
        return self._frame.compose(request, serial, self._time(), self._key.sign)

    def _time(self) -> dt.datetime:
        if self._guard is not None:
            self._guard.check()
        with self._lock:
            at = self._clock()
            if at < self._latest - self._accuracy.interval:
                raise NoTime(
                    "timestamp.clock",
                    "the clock went back: no token is issued until it has caught up",
                    expected=f"a time after {self._latest.isoformat()}",
                    got=at.isoformat(),
                    hint="look at the time synchronisation of this machine",
                    retry_after_s=(self._latest - at).total_seconds(),
                )
            self._latest = max(at, self._latest)
            if self._mark is not None:
                self._mark.note(self._latest)
            return self._latest


def _rejection(failure: int, message: str) -> bytes:
    unused = 7 - failure % 8
    bits = (1 << unused).to_bytes(1, "big").rjust(failure // 8 + 1, b"\0")
    return der.tlv(
        der.SEQUENCE,
        der.tlv(
            der.SEQUENCE,
            der.integer(2),
            der.tlv(der.SEQUENCE, der.tlv(der.UTF8_STRING, message.encode())),
            der.tlv(der.BIT_STRING, bytes((unused,)), bits),
        ),
    )
