"""Tile names, widths, bundles, and the growing edge against the recursive definition."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qcos.base.errors import Integrity, Invalid, NotFound
from qcos.ledger.edge import Edge
from qcos.ledger.tile import (
    ENTRIES,
    Address,
    Pyramid,
    pack_entries,
    parse_path,
    split_hashes,
    tiles_of,
    unpack_entries,
    width_of,
)

from . import reference
from .test_tree import entries_of


@pytest.mark.parametrize(
    ("address", "path"),
    [
        (Address(0, 0), "tile/0/000"),
        (Address(0, 1000), "tile/0/x001/000"),
        (Address(1, 1234067), "tile/1/x001/x234/067"),  # the example of C2SP tlog-tiles
        (Address(0, 273, 112), "tile/0/273.p/112"),
        (Address(ENTRIES, 273, 1), "tile/entries/273.p/1"),
    ],
)
def test_paths_of_tlog_tiles(address: Address, path: str) -> None:
    assert address.path == path
    assert parse_path(path) == address


@given(st.integers(ENTRIES, 7), st.integers(0, 2**55), st.integers(1, 256))
def test_every_path_reads_back(level: int, n: int, width: int) -> None:
    address = Address(level, n, width)
    assert parse_path(address.path) == address


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/../../etc/passwd",
        "tile/00/000",
        "tile/0/0",
        "tile/0/x000/000",
        "tile/8/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "/tile/0/000",
        "tile/0/000\n",
        "tile/entries/000/",
        "tile/0/٠٠٠",
        "tile/0/" + "x001/" * 90 + "000",
    ],
)
def test_other_spellings_are_no_tiles(path: str) -> None:
    with pytest.raises(NotFound):
        parse_path(path)


@given(st.text(max_size=80))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        assert parse_path(text).path == text
    except NotFound as error:
        assert error.code == "ledger.no_tile"


def test_the_tiles_of_seventy_thousand_entries() -> None:
    """The example of C2SP tlog-tiles."""
    assert tiles_of(70_000) == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert [width_of(0, n, 70_000) for n in (0, 272, 273, 274)] == [256, 256, 112, 0]
    assert tiles_of(0) == []


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundles_read_back(entries: list[bytes]) -> None:
    assert unpack_entries(pack_entries(entries)) == entries


@given(st.binary(max_size=3000))
def test_any_bytes_are_a_bundle_or_refused(data: bytes) -> None:
    try:
        assert pack_entries(unpack_entries(data)) == data
    except Integrity as error:
        assert error.code == "ledger.bundle"


def test_bundles_have_bounds() -> None:
    assert unpack_entries(pack_entries([b"x" * 65_535])) == [b"x" * 65_535]
    with pytest.raises(Invalid):
        pack_entries([b"x" * 65_536])
    with pytest.raises(Integrity, match="too many"):
        unpack_entries(b"\0\0" * 257)
    for data in (b"", b"x" * 33, b"x" * (257 * 32)):
        with pytest.raises(Integrity):
            split_hashes(data)


@given(st.lists(st.integers(0, 400), max_size=6))
@example([65_536 + 300])
@example([255, 1, 256, 65_024, 1])
def test_the_edge_grows_into_the_tree_of_the_definition(steps: list[int]) -> None:
    """Root, tiles, bundles and nodes after any growth are what RFC 6962 and tlog-tiles define."""
    edge, entries, kept = Edge(), entries_of(sum(steps)), {}
    for count in steps:
        before = edge.size
        growth = edge.extend(entries[before : before + count])
        assert (growth.old, growth.new) == (before, before + count)
        kept |= dict(growth.tiles)
        for node in growth.nodes:
            width = 256**node.level
            assert node.hash == reference.mth(entries[node.index * width : (node.index + 1) * width])
    kept |= dict(edge.partials())
    assert edge.root() == reference.mth(entries)
    for level, full, width in tiles_of(len(entries)):
        addresses = [Address(level, n) for n in range(full)] + (
            [Address(level, full, width)] if width else []
        )
        for address in addresses if level else addresses[-3:]:
            start = address.n * 256
            leaves = 256**level
            hashes = [
                reference.mth(entries[i * leaves : (i + 1) * leaves])
                for i in range(start, start + address.width)
            ]
            assert split_hashes(kept[address]) == hashes
            if level == 0:
                bundle = kept[Address(ENTRIES, address.n, address.width)]
                assert unpack_entries(bundle) == entries[start : start + address.width]


@given(st.integers(0, 1500), st.lists(st.integers(0, 1500), max_size=5))
def test_partial_tiles_of_earlier_sizes_are_given_where_they_lie_in_the_last_tile(
    size: int, earlier: list[int]
) -> None:
    edge = Edge()
    edge.extend(entries_of(size))
    found = dict(edge.partials(earlier))
    for one in [s for s in earlier if s <= size] + [size]:
        then = Edge()
        then.extend(entries_of(one))
        for address, data in then.partials():
            if width_of(address.level, address.n, size) < 256:
                assert found[address] == data


def test_an_edge_that_fits_no_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="not the edge"):
        Edge(5, [b"a"])
    with pytest.raises(ValueError, match="not the edge"):
        Edge(256, [], [[]])


def test_a_narrow_tile_has_no_more_nodes_than_its_hashes_give() -> None:
    with pytest.raises(Integrity):
        Pyramid([bytes(32)] * 3).node(1, 1)
