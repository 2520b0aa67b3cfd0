"""A monitor follows a log by its tiles and proves it when the log shows two histories."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcos.base.errors import Integrity, QcosError, Unavailable
from qcos.ledger.checkpoint import Checkpoint, decode
from qcos.ledger.edge import Edge
from qcos.ledger.files import LogFolder
from qcos.ledger.monitor import compare, demand_fresh, observe
from qcos.ledger.note import join, parse
from qcos.ledger.quorum import read_witnesses
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.tree import verify_consistency
from qcos.ledger.trust import LedgerTrust
from qcos.ledger.verify import verify_checkpoint
from qcos.ledger.witness_state import WitnessFolder

from .conftest import ORIGIN, make_signers
from .log import NOW, grow

SIGNERS = make_signers()
TRUST = LedgerTrust(SIGNERS.vkeys)
ENTRIES = [f"entry {n}".encode() for n in range(70_000)]


@pytest.mark.parametrize("entries", [False, True])
def test_it_follows_a_growing_log(tmp_path: Path, entries: bool) -> None:
    edge, kept, total = Edge(), None, 0
    for size in (0, 1, 5, 255, 256, 257, 700, 700, 1000):
        note = grow(tmp_path, edge, ENTRIES[total:size], SIGNERS)
        seen = observe(kept, note, TRUST, LogFolder(tmp_path), entries=entries)
        assert (seen.new.size, seen.old.size if seen.old else None) == (size, total if kept else None)
        assert seen.entries == (size - total if entries else 0)
        assert seen.time == NOW
        kept, total = note, size


@given(st.lists(st.integers(0, 600), min_size=2, max_size=5).map(sorted))
@settings(max_examples=30, deadline=None)
def test_it_follows_any_sizes(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    folder, edge, kept = tmp_path_factory.mktemp("log"), Edge(), None
    for size in sizes:
        note = grow(folder, edge, ENTRIES[edge.size : size], SIGNERS)
        kept = observe(kept, note, TRUST, LogFolder(folder), entries=True).note


def test_three_levels_of_tiles(tmp_path: Path) -> None:
    edge = Edge()
    kept = grow(tmp_path, edge, ENTRIES[:66_000], SIGNERS)
    note = grow(tmp_path, edge, ENTRIES[66_000:], SIGNERS)
    told: list[tuple[int, int]] = []
    seen = observe(
        kept,
        note,
        TRUST,
        LogFolder(tmp_path),
        entries=True,
        progress=lambda done, of: told.append((done, of)),
    )
    assert seen.entries == 4000 and told[-1] == (4000, 4000)


def history(folder: Path, parts: Sequence[Sequence[bytes]]) -> list[str]:
    edge = Edge()
    return [grow(folder, edge, part, SIGNERS) for part in parts]


@pytest.mark.parametrize(
    ("honest", "forked"),
    [(300, 300), (300, 301), (256, 300), (300, 600), (600, 300), (1, 1), (255, 70), (3, 4)],
)
def test_a_fork_is_found_and_proved_to_others(tmp_path: Path, honest: int, forked: int) -> None:
    """R5.5: two signed checkpoints of which neither continues the other, whichever is larger."""
    (kept,) = history(tmp_path / "a", [ENTRIES[:honest]])
    (note,) = history(tmp_path / "b", [[b"other", *ENTRIES[1:forked]]])
    larger = tmp_path / ("a" if honest > forked else "b")
    with pytest.raises(Integrity) as caught:
        observe(kept, note, TRUST, LogFolder(larger))
    assert caught.value.code == "ledger.split_view"
    proof = json.loads(json.dumps(caught.value.as_dict()))
    told = sorted(
        (verify_checkpoint(proof[name], SIGNERS.vkeys)[0] for name in ("old", "new")),
        key=lambda one: one.size,
    )
    assert {one.size for one in told} == {honest, forked}
    if honest == forked:
        assert told[0].root != told[1].root
        return
    # Anybody computes it: the hashes lead to the later root, and from the earlier tree to another root.
    hashes = [decode(value) for value in proof["hashes"]]
    with pytest.raises(Integrity) as proved:
        verify_consistency(told[0].size, told[1].size, hashes, told[0].root, told[1].root)
    assert "old root" in proved.value.message or "new root" in proved.value.message


def test_a_log_that_goes_back_is_found(tmp_path: Path) -> None:
    """An older checkpoint of the same history is no split view, but a monitor never takes it for news."""
    small, large = history(tmp_path, [ENTRIES[:100], ENTRIES[100:400]])
    with pytest.raises(Integrity) as caught:
        observe(large, small, TRUST, LogFolder(tmp_path))
    assert caught.value.code == "ledger.rolled_back"
    assert caught.value.details == {"old": large, "new": small}
    compare(large, small, LogFolder(tmp_path))


def test_a_log_that_went_back_with_its_files_is_found(tmp_path: Path) -> None:
    """Restored from an old copy, it has no tile of what it showed before: that is no reason to wait for it."""
    _, large = history(tmp_path / "now", [ENTRIES[:100], ENTRIES[100:400]])
    (small,) = history(tmp_path / "old copy", [ENTRIES[:100]])
    with pytest.raises(Integrity) as caught:
        observe(large, small, TRUST, LogFolder(tmp_path / "old copy"))
    assert caught.value.code == "ledger.rolled_back"
    assert caught.value.details == {"old": large, "new": small}


def test_damaged_files_are_no_split_view(tmp_path: Path) -> None:
    """Else a broken disk would accuse the log of fraud."""
    kept, note = history(tmp_path, [ENTRIES[:300], ENTRIES[300:600]])
    for path in (tmp_path / "tile/0/002.p/88", tmp_path / "tile/1/000.p/2"):
        good = path.read_bytes()
        path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
        for before in (None, kept):
            with pytest.raises(Integrity) as caught:
                observe(before, note, TRUST, LogFolder(tmp_path), entries=True)
            assert caught.value.code == "ledger.root"
        path.write_bytes(good)
    bundle = tmp_path / "tile/entries/001"
    good = bundle.read_bytes()
    bundle.write_bytes(good.replace(b"entry 400", b"entry 4o0"))
    observe(kept, note, TRUST, LogFolder(tmp_path))
    with pytest.raises(Integrity) as caught:
        observe(kept, note, TRUST, LogFolder(tmp_path), entries=True)
    assert caught.value.code == "ledger.root"
    bundle.unlink()
    with pytest.raises(Unavailable):
        observe(kept, note, TRUST, LogFolder(tmp_path), entries=True)


def test_signatures_come_first(tmp_path: Path) -> None:
    (note,) = history(tmp_path, [ENTRIES[:10]])
    text, lines = parse(note)
    stranger = make_signers().sign(Checkpoint(ORIGIN, 10, b"\0" * 32), NOW)
    for wrong in (join(text, lines[:2]), note.replace("\n10\n", "\n11\n"), stranger, "nonsense", ""):
        with pytest.raises(Integrity):
            observe(None, wrong, TRUST, LogFolder(tmp_path))


def test_another_log_is_not_compared(tmp_path: Path) -> None:
    (note,) = history(tmp_path, [ENTRIES[:10]])
    other = make_signers("other.example").sign(Checkpoint("other.example", 10, b"\0" * 32), NOW)
    with pytest.raises(Integrity) as caught:
        observe(other, note, TRUST, LogFolder(tmp_path))
    assert caught.value.code == "ledger.origin"


def test_age_is_what_cosignatures_state(tmp_path: Path, signers: LedgerSigners) -> None:
    (note,) = history(tmp_path, [ENTRIES[:10]])
    seen = observe(None, note, TRUST, LogFolder(tmp_path))
    demand_fresh(seen, 60, NOW + 59)
    with pytest.raises(Unavailable) as caught:
        demand_fresh(seen, 60, NOW + 61)
    assert caught.value.code == "ledger.stale"


def test_where_witnesses_are_demanded_the_logs_own_word_on_its_age_is_none(tmp_path: Path) -> None:
    """It could sign an old tree again at any time; witnesses would not cosign it again."""
    (note,) = history(tmp_path / "log", [ENTRIES[:10]])
    text, lines = parse(note)
    keys = [WitnessFolder(tmp_path / name).open_or_create(f"{name}.example") for name in ("a", "b")]
    members = [{"vkey": str(key.vkeys[0])} for key in keys]
    policy = read_witnesses({"quorum": 2, "keys": members})
    stale, fresh = (key.cosign(text, at) for key, at in zip(keys, (NOW - 500, NOW), strict=True))
    seen = observe(
        None,
        join(text, [*lines, *stale, *fresh]),
        LedgerTrust(TRUST.vkeys, policy),
        LogFolder(tmp_path / "log"),
    )
    demand_fresh(seen, 60, NOW)
    demand_fresh(seen, 600, NOW, policy)
    with pytest.raises(Unavailable) as caught:
        demand_fresh(seen, 60, NOW, policy)
    assert caught.value.code == "ledger.stale"


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_hostile_files_are_errors_of_ours(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    kept, note = history(folder, [ENTRIES[:3], ENTRIES[3:9]])
    (folder / "tile/0/000.p/9").write_bytes(data)
    (folder / "tile/entries/000.p/9").write_bytes(data)
    with pytest.raises(QcosError):
        observe(kept, note, TRUST, LogFolder(folder), entries=True)
    with pytest.raises(QcosError):
        observe(kept, base64.b64encode(data).decode(), TRUST, LogFolder(folder))
