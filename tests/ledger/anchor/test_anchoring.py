"""Anchoring as a duty: begun once, brought to its end, recorded; a chain that fails holds up nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ledger.conftest import ORIGIN, make_signers, record_acts
from qcos.administration.anchor import Anchoring
from qcos.administration.installation import create_tenant
from qcos.base.clock import now
from qcos.base.errors import Unavailable
from qcos.db.engine import scope
from qcos.ledger import store as ledger
from qcos.ledger.anchor import store
from qcos.ledger.anchor.model import Anchored
from qcos.ledger.files import LogFolder
from qcos.ledger.sequence import Sequencer


class Chain:
    """A chain that confirms a commitment the second time it is looked at, and counts what it costs."""

    kind = "ethereum"

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.prepared = 0
        self.away = False

    def prepare(self, digest: bytes) -> Mapping[str, Any]:
        self._answer()
        self.prepared += 1
        return {"raw": f"{digest.hex()}-{self.prepared}"}

    def advance(self, digest: bytes, work: Mapping[str, Any]) -> Anchored:
        self._answer()
        if work["raw"] in self.sent:
            return Anchored(work, {"in": "a block"}, now())
        self.sent.add(work["raw"])
        return Anchored(work)

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("anchor.unavailable", "away")


class Site:
    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.tenant = create_tenant(engine, "bank").tenant
        self.sequencer = Sequencer(engine, folder, make_signers(), ORIGIN)
        self.chain = Chain()

    def grow(self) -> int:
        record_acts(self.engine, self.tenant, 3)
        return self.sequencer.step().size

    def anchoring(self, interval_s: float = 3600, *chains: Chain) -> Anchoring:
        return Anchoring(self.engine, LogFolder(self.folder), chains or (self.chain,), interval_s)  # type: ignore[arg-type]

    def anchors(self) -> list[store.Anchor]:
        with scope(self.engine, None) as connection:
            return store.page(connection, None, 100)

    def recorded(self) -> list[str]:
        with scope(self.engine, self.tenant) as connection:
            return [
                str(p.record["object"])
                for p in ledger.search(connection, self.tenant, act="ledger.anchored").items
            ]


@pytest.fixture
def site(engine: sa.Engine, tmp_path: Path) -> Site:
    return Site(engine, tmp_path)


def test_a_checkpoint_is_anchored_once_and_recorded(site: Site) -> None:
    """R5.7."""
    size = site.grow()
    anchoring = site.anchoring()
    assert anchoring.round() == []
    (done,) = anchoring.round()
    assert (done.size, done.proof) == (size, {"in": "a block"})
    assert anchoring.round() == []
    assert site.recorded() == [f"checkpoint:{size}"]
    assert [anchor.proof for anchor in site.anchors()] == [{"in": "a block"}]


def test_the_next_one_waits_for_its_time(site: Site) -> None:
    site.grow()
    site.anchoring().round()
    site.grow()
    site.anchoring().round()
    assert len(site.anchors()) == 1
    site.anchoring(0.0).round()
    assert len(site.anchors()) == 2


def test_nothing_new_is_not_anchored_again(site: Site) -> None:
    site.grow()
    for _ in range(3):
        site.anchoring(0.0).round()
    assert site.chain.prepared == 1


def test_an_intent_outlives_a_crash_before_anything_was_sent(site: Site) -> None:
    """What was kept is what is sent: not a second transaction."""
    site.grow()

    class Dying(Chain):
        def advance(self, digest: bytes, work: Mapping[str, Any]) -> Anchored:
            raise KeyboardInterrupt

    dying = Dying()
    with pytest.raises(KeyboardInterrupt):
        site.anchoring(3600, dying).round()
    (kept,) = site.anchors()
    site.anchoring().round()
    assert site.chain.prepared == 0
    assert site.chain.sent == {kept.work["raw"]}


def test_two_at_once_begin_one(site: Site) -> None:
    site.grow()
    other = Chain()
    first, second = site.anchoring(), site.anchoring(3600, other)
    first.round()
    second.round()
    first.round()
    assert other.prepared == 0
    assert len(site.anchors()) == 1
    assert len(site.recorded()) <= 1


def test_a_chain_that_is_away_holds_up_no_other(site: Site) -> None:
    size = site.grow()
    away, here = Chain(), Chain()
    away.away, here.kind = True, "opentimestamps"
    anchoring = site.anchoring(3600, away, here)
    anchoring.round()
    (done,) = anchoring.round()
    assert (done.kind, done.size) == ("opentimestamps", size)


def test_an_answer_nobody_expected_holds_up_neither_another_chain_nor_what_is_behind_it(site: Site) -> None:
    """A node without a method answers null; that is a defect of one chain's, not of all."""
    site.grow()

    class Odd(Chain):
        def advance(self, digest: bytes, work: Mapping[str, Any]) -> Anchored:
            if work["raw"].endswith("-1"):
                raise TypeError("int() of None")
            return super().advance(digest, work)

    odd, here = Odd(), Chain()
    here.kind = "opentimestamps"
    anchoring = site.anchoring(0.0, odd, here)
    anchoring.round()
    size = site.grow()
    anchoring.round()
    assert {(done.kind, done.size) for done in anchoring.round()} == {
        (kind, size) for kind in ("ethereum", "opentimestamps")
    }


def test_a_finished_anchor_never_changes(site: Site) -> None:
    site.grow()
    anchoring = site.anchoring()
    anchoring.round()
    (done,) = anchoring.round()
    with scope(site.engine, None) as connection:
        assert not store.move(connection, done)
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            connection.exec_driver_sql("update qcos.ledger_anchor set note = 'x'")
