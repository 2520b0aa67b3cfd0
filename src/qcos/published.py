"""What an installation publishes of itself for those who verify: its keys, its witnesses, the outside authorities it pins."""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from qcos.administration.trust import Issuer, present
from qcos.base.errors import Invalid
from qcos.db.engine import scope
from qcos.keys import store as keys
from qcos.keys.live import LiveKeyring
from qcos.keys.model import KeyEntry
from qcos.keys.signer import PublicKey
from qcos.keys.trust import trust_document
from qcos.ledger import store as ledger
from qcos.ledger.note import parse_vkey
from qcos.ledger.quorum import NOBODY, Policy, read_policy
from qcos.ledger.sign import vkey_of
from qcos.ledger.trust import fitting
from qcos.settings import Settings
from qcos.timestamp.pinned import read_authorities


def make_issuer(settings: Settings, engine: sa.Engine, live: LiveKeyring) -> Issuer:
    """Wire what makes the installation's trust documents."""
    return Issuer(engine, live, functools.partial(draft_trust, settings))


def draft_trust(
    settings: Settings, entries: Sequence[KeyEntry], ledger_size: Callable[[dt.datetime], int]
) -> dict[str, Any]:  # Any: JSON
    """Return the trust document that tells of some entries, without its place in the succession.

    Args:
        settings: They name the ledger, its witnesses and the outside authorities.
        entries: The registry's.
        ledger_size: Returns how many entries the ledger had at an instant.
    """
    vkeys = ledger_vkeys(settings, entries)
    return trust_document(
        entries,
        settings.origin,
        vkeys,
        open_witnesses(settings, vkeys).as_trust(),
        authorities=outside_authorities(settings),
        ledger_size=ledger_size,
    )


def trust_of(settings: Settings, engine: sa.Engine) -> dict[str, Any]:  # Any: JSON
    """Return the trust document of this installation: the newest that was signed; before the first, one that has no version yet."""
    with scope(engine, None) as connection:
        found = present(connection)
        if found is not None:
            return found
        entries = keys.load(connection).entries
        return draft_trust(settings, entries, lambda at: ledger.size_at(connection, at))


def publish_trust(settings: Settings, engine: sa.Engine) -> Path:
    """Write the trust document to ``trust.json`` of the data folder, whole, unless it says so already; return its path."""
    path = settings.data / "trust.json"
    text = json.dumps(trust_of(settings, engine), indent=2)
    if not path.exists() or path.read_text() != text:
        making = path.with_suffix(f".{os.getpid()}")
        making.write_text(text)
        making.chmod(0o644)
        making.rename(path)
    return path


def ledger_vkeys(settings: Settings, entries: Sequence[KeyEntry]) -> list[str]:
    """Return the verifier keys of the log, of all generations."""
    return [
        vkey_of(settings.origin, entry.algorithm, PublicKey.load(entry.spki).raw)
        for entry in entries
        if entry.role == "ledger"
    ]


def open_witnesses(settings: Settings, vkeys: Sequence[str]) -> Policy:
    """Read the policy of the ledger's witnesses; one that demands nothing when none is configured.

    Raises:
        Invalid: ``settings.witnesses`` when the file cannot be read; ``ledger.policy``, ``ledger.vkey``.
    """
    if settings.witnesses is None:
        return NOBODY
    try:
        text = settings.witnesses.read_bytes()
    except OSError as error:
        raise Invalid(
            "settings.witnesses",
            "the policy of witnesses cannot be read",
            subject=str(settings.witnesses),
            got=error.strerror or "",
            hint="see docs/how-to/witness-a-ledger.md",
        ) from None
    return fitting(read_policy(text), [parse_vkey(vkey) for vkey in vkeys])


def outside_authorities(settings: Settings) -> list[tuple[str, str]]:
    """Return the outside authorities that are pinned: each one's certificate and its issuers', PEM."""
    return [pair for pem in outside_certificates(settings) for pair in read_authorities(pem)]


def outside_certificates(settings: Settings) -> list[bytes]:
    """Return the file of pinned certificates of outside authorities, if there is one.

    Raises:
        Invalid: ``timestamp.trust`` when it cannot be read.
    """
    if settings.tsa_certificates is None:
        return []
    try:
        return [settings.tsa_certificates.read_bytes()]
    except OSError as error:
        raise Invalid(
            "timestamp.trust",
            "the pinned certificates cannot be read",
            subject=str(settings.tsa_certificates),
            got=str(error),
            hint="see QCOS_TSA_CERTIFICATES",
        ) from None
