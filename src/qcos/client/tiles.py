"""A log's checkpoint, tiles and entries over HTTP (C2SP tlog-tiles): of QCOS or of any other such log."""

from __future__ import annotations

from typing import Final

import httpx

from qcos.base import tls
from qcos.base.errors import Integrity, Invalid, Unavailable
from qcos.base.hosts import is_loopback
from qcos.base.limits import CLIENT_TIMEOUT_S, MAX_ENTRY_BYTES, MAX_NOTE_BYTES
from qcos.ledger.submission import origin_hash
from qcos.ledger.tile import ENTRIES, WIDTH, Address, Pyramid, split_hashes, unpack_entries
from qcos.ledger.tree import HASH_BYTES

_MAX_BUNDLE: Final = WIDTH * (MAX_ENTRY_BYTES + 2)


class LogTiles:
    """Reads one log. Tiles are kept while the object lives: make a new one for each observation.

    Args:
        url: The log's prefix; of a QCOS server its address alone is enough.

    Raises:
        Invalid: ``client.url``.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
            raise Invalid(
                "client.url",
                "not the address of a log",
                got=url[:200],
                expected="http(s)://host[:port][/prefix]",
            )
        self.url = url.rstrip("/") if parsed.path.strip("/") else f"{url.rstrip('/')}/v1/ledger"
        environment = not is_loopback(parsed.host)
        self._http = httpx.Client(
            timeout=CLIENT_TIMEOUT_S,
            follow_redirects=False,
            trust_env=environment,
            verify=tls.trusted(parsed, trust_env=environment),
        )
        self._kept: dict[Address, Pyramid] = {}

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def checkpoint(self) -> str:
        """Return the signed checkpoint the log shows now."""
        return self._note(f"{self.url}/checkpoint")

    def witnessed(self, url: str, origin: str) -> str:
        """Return the checkpoint of a log that a witness shows below its monitoring prefix."""
        return self._note(f"{url.rstrip('/')}/{origin_hash(origin)}/checkpoint")

    def pyramid(self, level: int, n: int, width: int) -> Pyramid:
        """Return the nodes of a tile.

        Raises:
            Integrity: ``ledger.tile`` when it is malformed or too narrow.
            Unavailable: ``ledger.no_tile``, ``client.unreachable``.
        """
        address = Address(level, n, width)
        if address not in self._kept:
            hashes = split_hashes(self._tile(address, WIDTH * HASH_BYTES))
            if len(hashes) < width:
                raise Integrity(
                    "ledger.tile", "a tile is too narrow", subject=address.path, got=str(len(hashes))
                )
            self._kept[address] = Pyramid(hashes[:width])
        return self._kept[address]

    def entries(self, n: int, width: int) -> list[bytes]:
        """Return the first entries of a bundle; raises as `pyramid`, and ``ledger.bundle``."""
        entries = unpack_entries(self._tile(Address(ENTRIES, n, width), _MAX_BUNDLE))
        if len(entries) < width:
            raise Integrity(
                "ledger.bundle", "an entry bundle is too short", expected=str(width), got=str(len(entries))
            )
        return entries[:width]

    def _tile(self, address: Address, limit: int) -> bytes:
        for candidate in dict.fromkeys(
            (address, address.full)
        ):  # partial tiles go once the full one is there
            found = self._get(f"{self.url}/{candidate.path}", limit)
            if found is not None:
                return found
        raise Unavailable("ledger.no_tile", "a tile is missing", subject=f"{self.url}/{address.path}")

    def _note(self, url: str) -> str:
        found = self._get(url, MAX_NOTE_BYTES)
        if found is None:
            raise Unavailable("ledger.empty", "no checkpoint is shown there", subject=url)
        try:
            return found.decode()
        except UnicodeDecodeError:
            raise Integrity("ledger.note", "the checkpoint is not text", subject=url) from None

    def _get(self, url: str, limit: int) -> bytes | None:
        """Return a body of a bounded length; None when there is no such thing."""
        body = bytearray()
        try:
            with self._http.stream("GET", url) as answer:
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > limit:
                        raise Integrity(
                            "ledger.file_size", "too large", subject=url, expected=f"at most {limit} bytes"
                        )
        except httpx.HTTPError as error:
            raise Unavailable(
                "client.unreachable", f"no answer: {str(error) or type(error).__name__}", subject=url
            ) from None
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise Unavailable("client.unreachable", f"status {answer.status_code}", subject=url)
        return bytes(body)
