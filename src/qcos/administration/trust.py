"""The succession of trust documents, on the installation's side: what changes the document keeps its signed successor in its scope.

Drafted and signed before the scope, for keys may lie behind a network; the scope then demands that registry and newest document are
those that were signed for. So act and successor are kept both or neither, and there is one successor of each document.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from qcos.base.canonical import loads_strict
from qcos.base.clock import now, rfc3339
from qcos.base.errors import Conflict, Integrity, Unavailable
from qcos.db.engine import scope
from qcos.evidence.envelope import from_base64
from qcos.evidence.succession import Held, due_signers, hold, read_step, verify_step, write_step
from qcos.identity import store as identity
from qcos.keys import store
from qcos.keys.certify import to_pem
from qcos.keys.live import LiveKeyring
from qcos.keys.model import KeyEntry, Signer
from qcos.keys.store import Published
from qcos.keys.trust import UNTIL_COVERED
from qcos.ledger import store as ledger
from qcos.ledger.append import append
from qcos.ledger.record import Record

_INSTALLATION: Final = "service:qcos-installation"
_UNTIL_KEPT: Final = dt.timedelta(minutes=1)  # a checkpoint signed at an instant is in its table by then
_PLACE: Final = ("version", "previous", "issued")

Draft = Callable[[Sequence[KeyEntry], Callable[[dt.datetime], int]], dict[str, Any]]  # Any: JSON
"""Returns the trust document that tells of some entries, without its place in the succession; asks for the ledger's size at instants."""

Change = Callable[[Sequence[KeyEntry]], Sequence[KeyEntry]]
"""Returns the registry's entries as they are after an act."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """What makes the installation's trust documents.

    Attributes:
        engine: As the application's role.
        keys: The keys in force.
        draft: Writes a document.
    """

    engine: sa.Engine
    keys: LiveKeyring
    draft: Draft


@dataclass(frozen=True, slots=True)
class Prepared:
    """A successor that was signed, to be kept in the scope of what changes the document.

    Attributes:
        entries: The registry's entries after the change.
        before: Version of the document it follows; 0: there was none.
        document: The successor; None when the change changes nothing in it.
        previous: Digest of the document it follows; None for the first.
    """

    entries: tuple[KeyEntry, ...]
    before: int
    document: Published | None
    previous: str | None = None


def prepare(issuer: Issuer, change: Change, at: dt.datetime) -> Prepared:
    """Sign the document that will tell of a change of the registry.

    Args:
        issuer: What makes it.
        change: The change.
        at: When it is made, UTC.

    Raises:
        Conflict, NotFound: What the change raises.
        Integrity: As `verify_step`, when what would be published does not follow what was: of another log, or without a key;
            ``trust.untold`` when somebody wrote to registry or documents past every act.
        Unavailable: A key that has to sign is not there.
    """
    with scope(issuer.engine, None) as connection:
        found = store.lock(connection).entries  # registry and document as one act left them
        newest = _newest(connection)
        entries = store.ordered(change(found))

        final = _final_sizes(newest, at) if newest is not None else {}

        def size(when: dt.datetime) -> int:
            # How much the ledger holds at an instant to come is not known yet: at least what it holds now.
            return final[when] if when in final else ledger.size_at(connection, min(when, at))

        def draft(of: Sequence[KeyEntry]) -> dict[str, Any]:  # Any: JSON
            return issuer.draft(of, size)

        before, content = newest or hold(draft(found)), draft(entries)
        if newest is not None:
            _demand_told(newest, found, draft(found))
            if _same(newest.document, content, entries, at):
                return Prepared(entries, newest.version, None)
    # A clock that was set back does not turn the succession round.
    issued = max(at, before.trust.issued or at)
    document = {**content, "version": before.version + 1, "issued": rfc3339(issued)}
    if before.version:
        document["previous"] = before.digest
    signers = _signers(issuer, found, tuple(due_signers(before.trust, hold(document).trust)))
    step = write_step(document, signers)
    after = verify_step(before, read_step(step))
    previous = before.digest if before.version else None
    return Prepared(entries, before.version, Published(after.version, issued, after.digest, step), previous)


def keep(connection: sa.Connection, prepared: Prepared) -> Record | None:
    """Keep a successor in the scope of its change, after the change; returns its record, if there is one.

    Raises:
        Conflict: ``trust.overtaken`` when registry or document are not those that were signed for: prepare it again.
    """
    registry = store.lock(connection)
    newest = store.newest_document(connection)
    version = newest.version if newest is not None else 0
    if version != prepared.before or _told(registry.entries) != _told(prepared.entries):
        raise Conflict(
            "trust.overtaken",
            "keys or trust document were changed in between",
            expected=f"version {prepared.before}",
            got=f"version {version}",
            hint="try again",
        )
    document = prepared.document
    if document is None:
        return None
    store.publish(connection, document)
    return Record(
        act="trust.issued",
        actor=_INSTALLATION,
        object=document.digest,
        details={"version": document.version, "previous": prepared.previous},
    )


def follow(issuer: Issuer) -> bool:
    """Keep a successor if what the document tells has changed by itself: settings at a start, the ledger's size at a revocation.

    Returns:
        Whether the newest document is true now; False before there is a tenant in whose ledger it is recorded.

    Raises:
        Conflict: ``trust.overtaken``: look again.
        Integrity, Unavailable: As `prepare`; ``ledger.backlog``.
    """
    with scope(issuer.engine, None) as connection:
        tenant = identity.first_tenant(connection)
    if tenant is None:  # asked each second: nothing is signed for it, perhaps by a key store
        return False
    prepared = prepare(issuer, tuple, now())
    if prepared.document is None:
        return True
    with scope(issuer.engine, tenant) as connection:
        record = keep(connection, prepared)
        if record is not None:
            append(connection, tenant, [record])
    return True


def present(connection: sa.Connection) -> dict[str, Any] | None:  # Any: JSON
    """Return the newest trust document; None before the first was kept."""
    newest = store.newest_document(connection)
    return _document_of(newest) if newest is not None else None


def held_of(document: Published) -> Held:
    """Return a document that was published, as it was signed."""
    return hold(_document_of(document))


def _document_of(document: Published) -> dict[str, Any]:  # Any: JSON
    payload = from_base64(document.step["payload"], "/payload")
    return dict(loads_strict(payload, subject="trust document")["predicate"])


def _newest(connection: sa.Connection) -> Held | None:
    """Return the newest document, after looking whether it is signed as a successor of the one before; None before the first.

    Who can write to the table as the application has no key: what he puts there is not signed on.
    """
    newest = store.newest_document(connection)
    if newest is None or newest.version == 1:
        return held_of(newest) if newest is not None else None
    former = store.documents(connection, newest.version - 2, 1)
    return verify_step(held_of(former[0]), read_step(newest.step))


def _final_sizes(newest: Held, at: dt.datetime) -> dict[dt.datetime, int]:
    """Return by instant how much the ledger had at revocations of authorities, as far as it was told for good.

    It is not read again: who adds to the ledger's tables as the application must not have later entries vouched for.
    """
    issued = newest.trust.issued
    revoked = [
        (one.revoked_at + UNTIL_COVERED, one.ledger_size)
        for one in newest.trust.authorities.values()
        if one.revoked_at is not None and one.ledger_size is not None
    ]
    return {
        covered: size
        for covered, size in revoked
        if issued is not None and issued >= covered and max(at, issued) >= covered + _UNTIL_KEPT
    }


def _demand_told(newest: Held, entries: Sequence[KeyEntry], content: Mapping[str, Any]) -> None:  # Any: JSON
    """Demand that the registry says of keys what the newest document says: acts alone change that, each with its document.

    Who can write to the registry as the application could put a key of his own in it: the true keys must not vouch for it.
    """
    if newest.trust.origin != content["origin"]:
        raise Integrity(
            "trust.origin",
            "the settings name another ledger than the newest trust document",
            expected=newest.trust.origin[:200],
            got=str(content["origin"])[:200],
            hint="set QCOS_ORIGIN as it was: verifiers follow no document of another ledger",
        )
    own = {
        to_pem(chain[0]) for entry in entries if entry.role == "tsa" for chain in (entry.chain, *entry.former)
    }
    known, found = (
        [
            document["evidence"],
            document["ledger"],
            [
                {name: value for name, value in one.items() if name != "ledgerSize"}
                for one in document["timestamp"]
                if one["certificate"] in own
            ],
        ]
        for document in (newest.document, content)
    )
    if known != found:
        raise Integrity(
            "trust.untold",
            "the registry of keys says what no act and no trust document told",
            subject=f"version {newest.version}",
            expected="the keys of the newest trust document",
            hint="restore the table of keys from a backup; if a process of an older release changed keys after the upgrade: "
            "see docs/reference/keys.md, Limits",
        )


def _same(
    document: Mapping[str, Any], content: Mapping[str, Any], entries: Sequence[KeyEntry], at: dt.datetime
) -> bool:  # Any: JSON
    """Return whether a document tells what it would tell now, but for sizes of the ledger that are not known yet."""
    still_open = {
        to_pem(chain[0])
        for entry in entries
        if entry.role == "tsa" and entry.revoked_at is not None and at < entry.revoked_at + UNTIL_COVERED
        for chain in (entry.chain, *entry.former)
    }

    def told(of: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
        authorities = [
            one | {"ledgerSize": None} if one["certificate"] in still_open else one for one in of["timestamp"]
        ]
        return {name: value for name, value in of.items() if name not in _PLACE} | {"timestamp": authorities}

    return told(document) == told(content)


def _told(entries: Sequence[KeyEntry]) -> dict[str, KeyEntry]:
    """Return what matters of entries here: that a key was announced changes no document."""
    return {entry.key_id: replace(entry, announced_at=None) for entry in entries}


def _signers(issuer: Issuer, entries: Sequence[KeyEntry], key_ids: Sequence[str]) -> list[Signer]:
    """Return the keys that have to sign, each opened by itself where they cannot be opened together.

    The one that cannot may be the very key that is being revoked, which does not sign.
    """
    try:
        keyring = issuer.keys.current()
    except Unavailable:
        opened: dict[str, Signer] = {}
    else:
        opened = {signer.key_id: signer for signer in (*keyring.evidence_signers, *keyring.ledger)}
    known = {entry.key_id: entry for entry in entries}
    signers: list[Signer] = []
    for key_id in key_ids:
        if key_id not in opened and key_id not in known:
            raise Integrity(
                "keys.missing",
                "the registry has lost a key that the newest trust document names",
                subject=key_id,
                hint="restore the table of keys from a backup",
            )
        signers.append(opened.get(key_id) or issuer.keys.stores.open(known[key_id]))
    return signers
