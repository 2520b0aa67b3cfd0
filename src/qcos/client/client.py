"""The client: one object for one server and one token."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import cast

from qcos.base.errors import Integrity, Invalid
from qcos.base.limits import CLIENT_TIMEOUT_S
from qcos.client import configuration
from qcos.client.identity import Identity
from qcos.client.jobs import Jobs
from qcos.client.keys import Keys
from qcos.client.ledger import Ledger
from qcos.client.metering import Metering
from qcos.client.model import Json
from qcos.client.policy import Policies
from qcos.client.retention import Retention
from qcos.client.retry import Retry
from qcos.client.transport import Transport


class Client:
    """A synchronous client of the QCOS API. Close it, or use it in a ``with`` statement.

    Args:
        url: Address of the server, with or without ``/v1``.
        token: API token. It is never logged and is no part of the text form.
        timeout: Seconds to wait for the server in one request.
        retry: How often and how patiently requests are sent again.
        sleep: Waits for some seconds.
        clock: Monotonic time, seconds.
        allow_clear_text: Let the token travel over http to another machine.

    Raises:
        Invalid: ``client.url``, ``client.clear_text``.

    Attributes:
        jobs: Jobs, their results and evidence.
        ledger: The audit ledger.
        policies: Policy bundles and decisions.
        metering: Budgets, quotas, usage and charges.
        identity: Projects, principals, roles and tokens.
        retention: Legal holds, what is due to be erased, erasing on request.
        keys: The installation's signing keys.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        timeout: float = CLIENT_TIMEOUT_S,
        *,
        retry: Retry | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        allow_clear_text: bool = False,
    ) -> None:
        self._transport = Transport(
            url,
            token,
            timeout_s=timeout,
            retry=retry or Retry(),
            sleep=sleep,
            allow_clear_text=allow_clear_text,
        )
        self.jobs = Jobs(self._transport, clock, sleep)
        self.ledger = Ledger(self._transport)
        self.policies = Policies(self._transport)
        self.metering = Metering(self._transport)
        self.identity = Identity(self._transport)
        self.retention = Retention(self._transport)
        self.keys = Keys(self._transport)

    def whoami(self) -> Json:
        """Return the principal the token stands for."""
        return cast(Json, self._transport.call("GET", "whoami").json())

    def backends(self) -> Json:
        """Return the backends with their state."""
        return cast(Json, self._transport.call("GET", "backends").json())

    def trust(self) -> Json:
        """Return the trust document. Take it once, over a channel you trust, and keep it: it is what evidence
        is verified with.
        """
        return cast(Json, self._transport.call("GET", "trust").json())

    def trust_updates(self, after: int) -> Iterator[list[Json]]:
        """Return the signed steps to the trust documents after a version, page by page. `qcos.evidence.succession` checks them.

        Nothing is taken on trust from the server, not even that its pages end: whoever reads on demands of each that it leads on.

        Raises:
            Integrity: ``trust.update`` when what it answers are no pages, or they do not go on.
        """
        while True:
            page = self._transport.call("GET", "trust/updates", params={"after": after}).json()
            items = page.get("items") if isinstance(page, dict) else None
            if not isinstance(items, list):
                raise Integrity(
                    "trust.update",
                    "the server's answer holds no updates of a trust document",
                    expected="members `items` and `next`",
                    got=str(page)[:80],
                )
            yield items
            following = page.get("next")
            if following is None:
                return
            if type(following) is not int or following <= after or not items:
                raise Integrity(
                    "trust.update",
                    "the server's updates of the trust document do not go on",
                    expected=f"a version after {after}",
                    got=str(following)[:40],
                )
            after = following

    def schema(self) -> Json:
        """Return the JSON Schema of the Job Spec."""
        return cast(Json, self._transport.call("GET", "schemas/job-spec.json").json())

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._transport.base!r})"


def from_environment(environ: Mapping[str, str] = os.environ, *, timeout: float = CLIENT_TIMEOUT_S) -> Client:
    """Return a client for ``QCOS_URL`` with ``QCOS_TOKEN`` or ``QCOS_TOKEN_FILE``, else as the user's
    configuration file says.

    Raises:
        Invalid: ``client.not_configured`` without a URL; ``config.*``, ``client.*`` when what is configured
            is wrong.
    """
    found = configuration.load(environ)
    if not found.url:
        raise Invalid(
            "client.not_configured",
            "no server is configured",
            expected="QCOS_URL, or url in the configuration file",
            hint="set QCOS_URL and QCOS_TOKEN, or run `qcos login URL`",
        )
    allow = environ.get("QCOS_ALLOW_CLEAR_TEXT", "") == "1"
    return Client(found.url, found.token, timeout, allow_clear_text=allow)
