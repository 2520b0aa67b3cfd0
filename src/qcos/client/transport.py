"""One request to the API: sent, repeated where that is safe, read within limits, its problem raised as an
error.
"""

from __future__ import annotations

import importlib.metadata
import json
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from qcos.base import tls
from qcos.base.errors import Invalid, Limit, QcosError, Unavailable
from qcos.base.hosts import is_loopback
from qcos.base.limits import CLIENT_ANSWER_BYTES
from qcos.client.problems import error_of
from qcos.client.retry import Retry, again_after_status, retry_after_s

_IDLE_S = 2.0  # seconds; servers close idle connections after 5, and a request must not meet that moment
Params = Mapping[str, str | int | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer, read to its end."""

    status: int
    body: bytes

    def json(self) -> Any:  # Any: a JSON value
        """Return the JSON value of the body; raises `Unavailable` ``client.not_json`` when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Unavailable(
                "client.not_json",
                "the answer is not JSON",
                got=self.body[:100].decode("utf-8", "replace"),
                hint="is the URL that of a QCOS server?",
            ) from None


class Transport:
    """The connection to one server with one token. Safe for use by several threads."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float,
        retry: Retry,
        sleep: Callable[[float], None] = time.sleep,
        allow_clear_text: bool = False,
    ) -> None:
        self.base = _base(url, has_token=bool(token), allow_clear_text=allow_clear_text)
        self._retry = retry
        self._sleep = sleep
        self._chance = random.SystemRandom().random
        headers = {
            "User-Agent": f"qcos-client/{importlib.metadata.version('qcos')}",
            "Accept": "application/json",
        }
        if token:
            headers["Authorization"] = f"Bearer {token}"
        # A proxy of the environment never serves loopback.
        environment = not is_loopback(httpx.URL(self.base).host)
        self._http = httpx.Client(
            base_url=self.base,
            headers=headers,
            timeout=timeout_s,
            limits=httpx.Limits(keepalive_expiry=_IDLE_S),
            follow_redirects=False,  # a redirect could carry the token away
            trust_env=environment,
            verify=tls.trusted(self.base, trust_env=environment),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,  # Any: a JSON value
        params: Params | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
        accept: str = "application/json",
    ) -> Answer:
        """Send a request and return its answer.

        Args:
            method: HTTP method.
            path: Path below ``/v1/``, its variable parts quoted.
            json: Body.
            params: Query parameters; those that are None are left out.
            key: Idempotency key, given when the server promises to carry out a request with this key once.
                Every POST carries a key, its own when none is given, but only a given one makes the POST
                repeatable.
            timeout_s: Seconds to wait for the server, when not the client's own.
            accept: Media type wanted.

        Raises:
            QcosError: The error the server answered with; `Unavailable` ``client.unreachable`` (certainly not
                carried out), ``client.no_answer`` (unknown for a request that is not repeatable).
        """
        headers = {"Accept": accept}
        if method == "POST":
            headers["Idempotency-Key"] = key or secrets.token_hex(16)
        repeatable = method != "POST" or key is not None
        request = self._http.build_request(
            method,
            path,
            json=json,
            params=_given(params),
            headers=headers,
            timeout=httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s,
        )
        sent = 0
        while True:
            sent += 1
            failure, again = self._send(request, repeatable=repeatable)
            if isinstance(failure, Answer):
                return failure
            pause = self._retry.pause_s(sent, failure.retry_after_s, self._chance) if again else None
            if pause is None:
                raise failure
            self._sleep(pause)

    def _send(self, request: httpx.Request, *, repeatable: bool) -> tuple[Answer | QcosError, bool]:
        try:
            response = self._http.send(request, stream=True)
            try:
                body = _read(response)
            finally:
                response.close()
        except httpx.TransportError as error:
            connected = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            return self._lost(error, connected, repeatable), repeatable or not connected
        if response.is_success:
            return Answer(response.status_code, body), False
        return _failed(response, body), again_after_status(response.status_code, repeatable=repeatable)

    def _lost(self, error: httpx.TransportError, connected: bool, repeatable: bool) -> Unavailable:
        reason = str(error) or type(error).__name__
        if not connected:
            hint = "is the server running, and QCOS_URL right?"
            return Unavailable("client.unreachable", f"no connection: {reason}", subject=self.base, hint=hint)
        hint = (
            "try again"
            if repeatable
            else "the request may have been carried out: look before sending it again"
        )
        return Unavailable(
            "client.no_answer", f"the answer did not come: {reason}", subject=self.base, hint=hint
        )

    @contextmanager
    def stream(self, path: str, *, headers: Mapping[str, str], timeout_s: float) -> Iterator[Iterator[bytes]]:
        """Open an answer that is read as it comes; sent once, the caller resumes.

        Raises:
            QcosError: As `call`; also while the chunks are read.
        """
        try:
            with self._http.stream("GET", path, headers=dict(headers), timeout=timeout_s) as response:
                if not response.is_success:
                    raise _failed(response, _read(response))
                yield response.iter_bytes()
        except httpx.TransportError as error:
            connected = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            raise self._lost(error, connected, True) from None


def quoted(part: str) -> str:
    """Return a name as one segment of a path."""
    if part in ("", ".", ".."):
        raise Invalid("client.name", "not a name", got=repr(part))
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._~@:") else _percent(c) for c in part)


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())


def _failed(response: httpx.Response, body: bytes) -> QcosError:
    return error_of(
        response.status_code, body, retry_after_s(response.headers.get("Retry-After"), time.time())
    )


def _read(response: httpx.Response) -> bytes:
    chunks = bytearray()
    for chunk in response.iter_bytes():
        chunks += chunk
        if len(chunks) > CLIENT_ANSWER_BYTES:
            raise Limit(
                "client.answer_size",
                "the answer is too long",
                expected=f"at most {CLIENT_ANSWER_BYTES} bytes",
            )
    return bytes(chunks)


def _given(params: Params | None) -> dict[str, str | int]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _base(url: str, *, has_token: bool, allow_clear_text: bool) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL("")
    if (
        parsed.scheme not in ("http", "https")
        or not parsed.host
        or parsed.userinfo
        or parsed.query
        or parsed.fragment
    ):
        raise Invalid(
            "client.url",
            "not the address of a server",
            got=url,
            expected="http(s)://host[:port]",
            hint="set QCOS_URL",
        )
    if parsed.scheme == "http" and has_token and not allow_clear_text and not is_loopback(parsed.host):
        raise Invalid(
            "client.clear_text",
            "the token would travel unencrypted",
            subject=url,
            expected="https, or a loopback address",
            hint="use https; on a network that is trusted or encrypted beneath, set QCOS_ALLOW_CLEAR_TEXT=1",
        )
    return str(parsed).rstrip("/").removesuffix("/v1") + "/v1/"
