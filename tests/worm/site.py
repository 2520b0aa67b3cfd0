"""An installation's ledger and evidence, and its archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from evidence.conftest import Instance, facts
from ledger.conftest import ORIGIN, make_signers, record_acts
from qcos.administration.archive import Archive
from qcos.administration.installation import create_tenant
from qcos.db.engine import scope
from qcos.evidence import store as evidence
from qcos.evidence.model import SealFacts
from qcos.evidence.store import StoredBundle
from qcos.ledger import store as ledger
from qcos.ledger.append import append
from qcos.ledger.files import LogFolder
from qcos.ledger.record import Record
from qcos.ledger.sequence import Sequencer
from qcos.worm.files import FileStore

SIGNERS = make_signers()


class Site:
    """An installation's ledger and evidence, and its archive."""

    def __init__(self, engine: sa.Engine, folder: Path, store: FileStore) -> None:
        self.engine, self.folder, self.store = engine, folder / "log", store
        self.tenant = create_tenant(engine, "bank").tenant
        self.sequencer = Sequencer(engine, self.folder, SIGNERS, ORIGIN, batch=1000)
        self.archive = Archive(engine, LogFolder(self.folder), store, days=30)

    def act(self, count: int) -> None:
        record_acts(self.engine, self.tenant, count)
        while self.sequencer.step().added:
            pass

    def seal(self, instance: Instance, job: str, given: SealFacts | None = None) -> StoredBundle:
        sealed = instance.seal(given or facts(job))
        with scope(self.engine, self.tenant) as connection:
            record = Record("evidence.sealed", "user:a", sealed.bundle_id, "p", details=sealed.ledger_details)
            (appended,) = append(connection, self.tenant, [record])
            row = StoredBundle.of(sealed, appended.record_id)
            row = replace(
                row, document=b"\x01" + sealed.document
            )  # as the spine seals it, for what is looked at here
            evidence.insert_bundles(connection, self.tenant, [row])
        return row

    def violations(self) -> list[str]:
        with scope(self.engine, self.tenant) as connection:
            found = ledger.search(connection, self.tenant, act="archive.violated")
        return [str(item.record["object"]) for item in found.items]


def statements(engine: sa.Engine, archive: Archive) -> list[str]:
    """Return what a round asks the database."""
    asked: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        asked.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    archive.round()
    sa.event.remove(engine, "before_cursor_execute", note)
    return asked
