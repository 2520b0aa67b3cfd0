"""A Vault or OpenBao server as a client sees it: logged in, asked again a few times, never for long, never in clear."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from qcos.base.errors import Invalid, Unavailable
from qcos.base.limits import KEYSTORE_ATTEMPTS, KEYSTORE_CALL_S, KEYSTORE_PAUSE_S
from qcos.keys.folder import read_secret
from qcos.keys.where import TransitAt, demand_private

try:
    import hvac
    import requests
    from hvac import exceptions as refused
except ImportError as missing:
    raise Invalid(
        "keys.extra", "the Vault client is not installed", got=str(missing), hint="pip install 'qcos[vault]'"
    ) from None

Value = TypeVar("Value")
Client = Any  # the library is not typed

_AWAY: Final = (
    *(refused.VaultDown, refused.InternalServerError, refused.BadGateway, refused.RateLimitExceeded),
    *(refused.VaultNotInitialized, OSError),  # all of requests, and a CA file that is gone
)
_WRONG: Final = (refused.InvalidRequest, refused.InvalidPath)
_DENIED: Final = (refused.Forbidden, refused.Unauthorized)


class Rejected(Exception):
    """The server says that a request is wrong."""


class Server:
    """A server that answers. Safe for many threads: each has its own connection.

    Raises:
        Invalid: ``keys.settings`` when it would be talked to in clear, ``keys.secret``.
        Unavailable: ``keys.store_away`` or ``keys.store_denied``.
    """

    def __init__(self, at: TransitAt) -> None:
        self.at = at
        demand_private(at.url, "QCOS_TRANSIT_URL")
        self._own = threading.local()
        self._lock = threading.Lock()
        self._token = ""
        self._login("")

    def read(self, path: str) -> dict[str, Any] | None:  # Any: JSON
        """Return the data at a path; None when there is nothing.

        Raises:
            Unavailable: ``keys.store_away`` when the server cannot be reached, is sealed or fails;
                ``keys.store_denied``; ``keys.store_answer``.
        """
        try:
            answer = self._patient(lambda: self._logged_in(lambda client: client.read(path)))
        except refused.InvalidPath:
            return None
        except refused.InvalidRequest as error:
            raise self._odd(error) from None
        return None if answer is None else _data(answer)

    def write(self, path: str, data: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        """Write data to a path and return the answer's.

        Raises:
            Rejected: The server says that the request is wrong, or the path.
            Unavailable: As `read`.
        """
        try:
            return _data(
                self._patient(lambda: self._logged_in(lambda client: client.write_data(path, data=data)))
            )
        except _WRONG as error:
            raise Rejected(str(error)[:300]) from None

    def _logged_in(self, question: Callable[[Client], Value]) -> Value:
        token = self._token
        try:
            return question(self._client(token))
        except _DENIED:
            self._login(token)
            return question(self._client(self._token))

    def _patient(self, call: Callable[[], Value]) -> Value:
        for attempt in range(1, KEYSTORE_ATTEMPTS + 1):
            try:
                return call()
            except _WRONG:  # what that means, the caller knows
                raise
            except _DENIED as error:
                raise self._denied(error) from None
            except _AWAY as error:
                certificate = isinstance(error, requests.exceptions.SSLError)
                if certificate or attempt == KEYSTORE_ATTEMPTS:
                    raise Unavailable(
                        "keys.store_away",
                        "the key store's server does not answer as it should",
                        subject=self.at.url,
                        got=f"{type(error).__name__}: {error}"[:300],
                        hint="QCOS_TRANSIT_CA is the PEM file of its issuer"
                        if certificate
                        else "is it running, reachable and unsealed? It is asked again",
                    ) from None
            except refused.VaultError as error:  # a gateway's 504, a standby's 472
                if attempt == KEYSTORE_ATTEMPTS:
                    raise self._odd(error) from None
            time.sleep(KEYSTORE_PAUSE_S * attempt)
        raise AssertionError("the last attempt returns or raises")

    def _login(self, old: str) -> None:
        """Get a token, unless another thread has got one since ``old`` was refused."""
        with self._lock:
            if self._token == old:
                self._token = self._new_token()

    def _new_token(self) -> str:
        at = self.at
        if at.token_file is not None:
            return read_secret(at.token_file, "the key store's token")
        if at.secret_id_file is None:
            raise Invalid(
                "keys.settings",
                "nothing to log in to the key store with",
                expected="QCOS_TRANSIT_TOKEN_FILE, or QCOS_TRANSIT_ROLE_ID and QCOS_TRANSIT_SECRET_ID_FILE",
            )
        secret = read_secret(at.secret_id_file, "the key store's secret id")
        try:
            answer = self._patient(
                lambda: self._client("").auth.approle.login(
                    at.role_id, secret_id=secret, use_token=False, mount_point=at.approle_mount
                )
            )
        except _WRONG as error:
            raise self._denied(error) from None
        try:
            return str(answer["auth"]["client_token"])
        except (LookupError, TypeError):
            raise self._odd(answer) from None

    def _client(self, token: str) -> Client:
        client = getattr(self._own, "client", None)
        if client is None:
            session = requests.Session()
            session.verify = self.at.ca or True  # hvac's own argument counts only where it makes the session
            session.trust_env = False  # no proxy, no .netrc: the settings say whom it talks to
            client = hvac.Client(
                url=self.at.url,
                timeout=KEYSTORE_CALL_S,
                namespace=self.at.namespace or None,
                session=session,
                allow_redirects=False,  # the token would go along
            )
            self._own.client = client
        client.token = token
        return client

    def _odd(self, answer: object) -> Unavailable:
        return Unavailable(
            "keys.store_answer",
            "the key store answers something else than it should",
            subject=self.at.url,
            got=f"{type(answer).__name__}: {answer}"[:300] if isinstance(answer, Exception) else "",
            hint="is QCOS_TRANSIT_URL the server's, and what is between healthy? It is asked again",
        )

    def _denied(self, error: Exception) -> Unavailable:
        return Unavailable(
            "keys.store_denied",
            "the key store's server refuses this installation",
            subject=self.at.url,
            got=f"{type(error).__name__}: {error}"[:300],
            hint="look at the token, or at the role, its secret id and its policy; see docs/how-to/use-vault.md",
        )

    def __repr__(self) -> str:
        return f"<server {self.at.url}>"


def _data(answer: Any) -> dict[str, Any]:  # Any: JSON, or a response without any
    if isinstance(answer, dict) and isinstance(answer.get("data"), dict):
        data: dict[str, Any] = answer["data"]
        return data
    if getattr(answer, "status_code", 0) == 204:
        return {}
    raise Unavailable(
        "keys.store_answer", "the key store answers something else than it should", got=repr(answer)[:100]
    )
