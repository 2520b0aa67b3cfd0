"""An installation's keys, its trust documents and the signed steps between them, without a server."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qcos.base.clock import parse_rfc3339, rfc3339
from qcos.evidence.succession import Held, due_signers, hold, write_step
from qcos.keys.file import FileKeyring
from qcos.keys.make import make_keys
from qcos.keys.model import KeyEntry, Role, Signer
from qcos.keys.open import FileStore, KeyStores
from qcos.keys.protect import Protection
from qcos.keys.signer import PublicKey
from qcos.keys.store import ordered
from qcos.keys.trust import trust_document
from qcos.ledger.sign import vkey_of

ORIGIN = "qcos.test/ledger"
START = parse_rfc3339("2027-01-01T00:00:00Z")


@dataclass
class Site:
    """An installation's keys, its documents and the steps between them."""

    folder: Path
    origin: str = ORIGIN
    at: dt.datetime = START
    entries: tuple[KeyEntry, ...] = ()
    documents: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.entries:
            made = FileKeyring(self.folder).open_or_create().entries
            self.entries = tuple(replace(entry, not_before=START) for entry in made)

    @property
    def stores(self) -> KeyStores:
        return KeyStores({"file": FileStore(self.folder, Protection())})

    def content(self, **more: Any) -> dict[str, Any]:
        vkeys = [
            vkey_of(self.origin, entry.algorithm, PublicKey.load(entry.spki).raw)
            for entry in self.entries
            if entry.role == "ledger"
        ]
        return trust_document(self.entries, self.origin, vkeys, ledger_size=lambda at: 7) | more

    def drafted(self, **more: Any) -> dict[str, Any]:
        """Return the next document as it would be."""
        self.at += dt.timedelta(days=1)
        made = self.content() | {"version": len(self.documents) + 1, "issued": rfc3339(self.at)}
        if self.documents:
            made["previous"] = hold(self.documents[-1]).digest
        return made | more

    def signers(self, key_ids: Sequence[str]) -> list[Signer]:
        by_id = {entry.key_id: entry for entry in self.entries}
        return [self.stores.open(by_id[key_id]) for key_id in key_ids]

    def publish(self, before: dict[str, Any] | None = None, **more: Any) -> Held:
        """Sign the next document by the keys of the last one."""
        base = before or (self.documents[-1] if self.documents else self.content())
        document = self.drafted(**more)
        due = due_signers(hold(base).trust, hold(document).trust)
        self.steps.append(write_step(document, self.signers(list(due))))
        self.documents.append(document)
        return hold(document)

    def rotate(self, role: Role, *algorithms: Any) -> None:
        old = [e for e in self.entries if e.role == role and e.in_force and e.algorithm in algorithms]
        made = make_keys(self.stores, self.entries, role, algorithms, self.at)
        self.change({e.key_id: {"not_after": self.at + dt.timedelta(hours=1)} for e in old}, made)

    def change(self, told: dict[str, dict[str, Any]], made: Sequence[KeyEntry] = ()) -> None:
        kept = [replace(entry, **told.get(entry.key_id, {})) for entry in self.entries]
        self.entries = ordered([*kept, *made])

    def revoke(self, *key_ids: str) -> None:
        self.change({key_id: {"revoked_at": self.at, "reason": "stolen"} for key_id in key_ids})

    def key(self, role: str, algorithm: str) -> str:
        return next(
            e.key_id for e in self.entries if (e.role, e.algorithm) == (role, algorithm) and e.in_force
        )

    def branch(self) -> Site:
        """Return a second history of the same installation."""
        return Site(self.folder, self.origin, self.at, self.entries, list(self.documents), list(self.steps))
