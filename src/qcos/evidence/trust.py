"""The trust document as a verifier reads it: pinned keys and certificates (`qcos.keys.trust` writes it)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from qcos.base.canonical import loads_strict
from qcos.base.clock import parse_rfc3339
from qcos.base.errors import Invalid, QcosError
from qcos.evidence.envelope import from_base64
from qcos.keys.signer import PublicKey
from qcos.ledger.pinned import PinnedVkey, read_pinned
from qcos.ledger.quorum import NOBODY, Policy
from qcos.ledger.trust import witnesses_of
from qcos.timestamp.pinned import Pins, read_pins

SCHEMA: Final = "qcos.trust/v1"
MAX_TRUST_BYTES: Final = 1024 * 1024  # about 15 kB a generation of keys

_MOST_VERSIONS: Final = 2**53 - 1  # what canonical JSON can say
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NOTHING: Final = re.compile("")
_VALIDITY: Final = ("notBefore", "notAfter", "revokedAt", "reason", "ledgerSize")
_KEY_MEMBERS: Final = frozenset({"keyId", "algorithm", "publicKey", "certificate", *_VALIDITY})
_AUTHORITY_MEMBERS: Final = frozenset({"certificate", "chain", *_VALIDITY})


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A pinned evidence key and the time in which its signatures count.

    Attributes:
        public: The key.
        not_before: When it was made, UTC.
        not_after: When it was replaced, UTC, if it was: later signatures do not count.
        revoked_at: From when on it is not to be trusted, UTC, if it was revoked.
        reason: Why it was revoked.
        chain: PEM certificates, its own first, if it is certified.
    """

    public: PublicKey
    not_before: dt.datetime
    not_after: dt.datetime | None
    revoked_at: dt.datetime | None = None
    reason: str = ""
    chain: str = ""

    def in_force(self, at: dt.datetime) -> bool:
        """Return whether the key was in use at that time."""
        ends = [end for end in (self.not_after, self.revoked_at) if end is not None]
        return self.not_before <= at and all(at < end for end in ends)


@dataclass(frozen=True, slots=True)
class TrustedAuthority:
    """A pinned time-stamping authority and the time in which its tokens count.

    Attributes:
        not_after: When its key was replaced, UTC, if it was.
        revoked_at: From when on its key is not to be trusted, UTC, if it was revoked.
        reason: Why it was revoked.
        ledger_size: Entries the ledger had when it was revoked: a stolen key states any time, but the ledger's order says what
            was there before.
        chain: PEM certificates, its own first.
    """

    not_after: dt.datetime | None
    revoked_at: dt.datetime | None
    reason: str
    ledger_size: int | None
    chain: str

    def counts_as(self, other: TrustedAuthority) -> bool:
        """Return whether its tokens count in the same time; one certificate may stand with several chains of issuers."""
        own, others = ((one.not_after, one.revoked_at, one.reason, one.ledger_size) for one in (self, other))
        return own == others


@dataclass(frozen=True, slots=True)
class Trust:
    """What a verifier trusts.

    Attributes:
        origin: Name of the ledger.
        keys: Evidence keys by key id.
        vkeys: The ledger's verifier keys (C2SP signed-note), and when they count.
        certificates: PEM certificates of time-stamping authorities and their issuers.
        authorities: The authorities by the DER of their certificate.
        witnesses: Whose cosignatures the ledger's checkpoints must carry; by default nobody's.
        version: Its number in the succession of documents; 0: of before there was one (`qcos.evidence.succession`).
        previous: Digest of the document before it; empty for the first.
        issued: When it was made, UTC; None: of before the succession.
    """

    origin: str
    keys: Mapping[str, TrustedKey]
    vkeys: tuple[PinnedVkey, ...]
    certificates: tuple[str, ...]
    authorities: Mapping[bytes, TrustedAuthority]
    witnesses: Policy = NOBODY
    version: int = 0
    previous: str = ""
    issued: dt.datetime | None = None

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
        vkeys = tuple(read_pinned(entry) for entry in document["ledger"])
        if len(keys) != len(document["evidence"]) or len({key.vkey for key in vkeys}) != len(vkeys):
            raise ValueError("a key stands twice in it: which of them says when it counts?")
        stamping = [_authority(entry) for entry in document["timestamp"]]
        authorities: dict[bytes, TrustedAuthority] = {}
        for found, own in stamping:
            for certificate in own:
                if not found.counts_as(authorities.setdefault(certificate, found)):
                    raise ValueError("an authority stands twice in it: which of them says when it counts?")
        certificates = tuple(found.chain for found, _ in stamping)
        witnesses = witnesses_of(document, [key.vkey for key in vkeys])
        place = _place(document)
        return cls(str(document["origin"]), keys, vkeys, certificates, authorities, witnesses, *place)


def _place(document: Any) -> tuple[int, str, dt.datetime | None]:  # Any: JSON from a file
    """Return a document's place in the succession: version, digest of its predecessor, and when it was made."""
    if not {"version", "previous", "issued"} & document.keys():
        return 0, "", None
    version, previous = document["version"], document.get("previous", "")
    if not isinstance(version, int) or isinstance(version, bool) or not 0 < version <= _MOST_VERSIONS:
        raise ValueError(f"version {version!r}")
    if not isinstance(previous, str) or (_DIGEST if version > 1 else _NOTHING).fullmatch(previous) is None:
        raise ValueError(f"version {version} after {previous!r}")
    return version, previous, parse_rfc3339(document["issued"])


def _key(entry: Any) -> tuple[str, TrustedKey]:  # Any: JSON from a file
    public = PublicKey.load(from_base64(entry["publicKey"], "/evidence/publicKey"))
    if (entry["keyId"], entry["algorithm"]) != (public.key_id, public.algorithm):
        raise ValueError(f"key {entry['keyId']} is a {public.algorithm} key with id {public.key_id}")
    _refuse_unknown(entry, _KEY_MEMBERS, "an evidence key")
    return public.key_id, TrustedKey(
        public,
        parse_rfc3339(entry["notBefore"]),
        _instant(entry, "notAfter"),
        _instant(entry, "revokedAt"),
        str(entry.get("reason", "")),
        str(entry.get("certificate", "")),
    )


def _authority(entry: Any) -> tuple[TrustedAuthority, Pins]:  # Any: JSON from a file
    _refuse_unknown(entry, _AUTHORITY_MEMBERS, "a time-stamping authority")
    chain = entry["certificate"] + entry.get("chain", "")
    size = entry.get("ledgerSize")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise ValueError(f"ledgerSize {size!r}")
    read_pins([chain])
    found = TrustedAuthority(
        _instant(entry, "notAfter"), _instant(entry, "revokedAt"), str(entry.get("reason", "")), size, chain
    )
    return found, read_pins([entry["certificate"]])


def _instant(entry: Any, name: str) -> dt.datetime | None:  # Any: JSON from a file
    return parse_rfc3339(entry[name]) if entry.get(name) is not None else None


def _refuse_unknown(entry: Any, known: frozenset[str], what: str) -> None:  # Any: JSON from a file
    """Refuse members of a key that are not known: one of them might say that it does not count."""
    if unknown := entry.keys() - known:
        raise ValueError(f"{what} has members this version does not know: {', '.join(sorted(unknown))}")
