"""The trust document as a verifier reads it: pinned keys and certificates (`qcos.keys.trust` writes it)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from qcos.base.canonical import loads_strict
from qcos.base.clock import parse_rfc3339
from qcos.base.errors import Invalid, QcosError
from qcos.evidence.envelope import from_base64
from qcos.keys.signer import PublicKey
from qcos.ledger.note import parse_vkey
from qcos.ledger.quorum import NOBODY, Policy
from qcos.ledger.trust import witnesses_of
from qcos.timestamp.pinned import read_pins

SCHEMA: Final = "qcos.trust/v1"
MAX_TRUST_BYTES: Final = 1024 * 1024  # about 15 kB a generation of keys


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A pinned evidence key and the time in which its signatures count.

    Attributes:
        public: The key.
        not_before: When it was made, UTC.
        not_after: When it was retired, UTC, if it was: later signatures do not count.
    """

    public: PublicKey
    not_before: dt.datetime
    not_after: dt.datetime | None

    def in_force(self, at: dt.datetime) -> bool:
        """Return whether the key was in use at that time."""
        return self.not_before <= at and (self.not_after is None or at < self.not_after)


@dataclass(frozen=True, slots=True)
class Trust:
    """What a verifier trusts.

    Attributes:
        origin: Name of the ledger.
        keys: Evidence keys by key id.
        vkeys: The ledger's verifier keys (C2SP signed-note).
        certificates: PEM certificates of time-stamping authorities and their issuers.
        witnesses: Whose cosignatures the ledger's checkpoints must carry; by default nobody's.
    """

    origin: str
    keys: Mapping[str, TrustedKey]
    vkeys: tuple[str, ...]
    certificates: tuple[str, ...]
    witnesses: Policy = NOBODY

    @classmethod
    def load(cls, document: bytes | str | Mapping[str, Any]) -> Trust:  # Any: JSON
        """Read a trust document.

        Raises:
            Invalid: ``trust.malformed`` with what is wrong; it is the verifier's own document, so this is
                the caller's error.
        """
        try:
            if isinstance(document, (bytes, str)):
                if len(document) > MAX_TRUST_BYTES:
                    raise ValueError(f"longer than {MAX_TRUST_BYTES} bytes")
                document = loads_strict(document, subject="trust document")
            return cls._read(document)
        except (QcosError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Invalid(
                "trust.malformed",
                "the trust document cannot be used",
                expected=f"a document of schema {SCHEMA}",
                got=f"{type(error).__name__}: {error}"[:300],
                hint="get it again from where you trust it; the server publishes it at /v1/trust",
            ) from None

    @classmethod
    def _read(cls, document: Any) -> Trust:  # Any: JSON from a file
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']!r}")
        keys = dict(_key(entry) for entry in document["evidence"])
        vkeys = tuple(entry["vkey"] for entry in document["ledger"])
        for vkey in vkeys:
            parse_vkey(vkey)
        certificates = tuple(entry["certificate"] + entry.get("chain", "") for entry in document["timestamp"])
        read_pins(certificates)
        witnesses = witnesses_of(document, vkeys)
        return cls(str(document["origin"]), keys, vkeys, certificates, witnesses)


def _key(entry: Any) -> tuple[str, TrustedKey]:  # Any: JSON from a file
    public = PublicKey.load(from_base64(entry["publicKey"], "/evidence/publicKey"))
    if (entry["keyId"], entry["algorithm"]) != (public.key_id, public.algorithm):
        raise ValueError(f"key {entry['keyId']} is a {public.algorithm} key with id {public.key_id}")
    retired = entry.get("notAfter")
    return public.key_id, TrustedKey(
        public, parse_rfc3339(entry["notBefore"]), parse_rfc3339(retired) if retired is not None else None
    )
